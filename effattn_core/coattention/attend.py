"""Attention as the other fields use it: who asks, who answers, and how much evidence there was."""

import math

import torch


def attend(query, key, value, bias=None, mask=None, scale=None):
    """(output, weights, log_sum_exp) of softmax(scale · query keyᵀ + bias) value     (eq. coattention-attend)

    query: [..., asks, dim]   key: [..., answers, dim]   value: [..., answers, value_dim], floating.
    bias: log weights, distances or types, added to the scores; mask: True where a row sees a key: the graph. Both
    broadcast to [..., asks, answers]. scale: of the scores, dim^-½ if None; the bilinear scores of the papers have 1.
    Returns output [..., asks, value_dim], weights [..., asks, answers], log_sum_exp [..., asks]. A row that sees
    nothing has the output 0, weights 0 and log_sum_exp -inf. Raises ValueError where dims, numbers of keys or the
    dtype of the mask do not fit.
    """
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"query {list(query.shape)}, key {list(key.shape)} and value {list(value.shape)} do not fit: query and key "
            "must have the same dim, key and value the same number of rows."
        )
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"a mask is boolean, True where a row sees a key; this one is {mask.dtype}.")
    score = (query.shape[-1] ** -0.5 if scale is None else scale) * (query @ key.mT)
    if bias is not None:
        score = score + bias
    if mask is not None:
        score = score.masked_fill(~mask, -math.inf)
    log_sum_exp = score.logsumexp(-1, keepdim=True)
    # A row of -inf would give exp(-inf + inf); with 0 in its place each of its weights is exp(-inf) = 0.
    weight = torch.exp(score - log_sum_exp.masked_fill(log_sum_exp == -math.inf, 0.0))
    return weight @ value, weight, log_sum_exp.squeeze(-1)


def summed(query, key, value, bias=None, mask=None, scale=None):
    """Σ_j exp(score_ij) value_j, what the softmax divides away: exp(log_sum_exp) · output.     (eq. coattention-sum)

    Arguments and errors as of `attend`.   Returns [..., asks, value_dim]; a row that sees nothing gives 0.
    """
    output, _, log_sum_exp = attend(query, key, value, bias, mask, scale)
    return log_sum_exp.exp()[..., None] * output
