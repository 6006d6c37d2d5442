"""A sentence's vector from its attention: how much every token is looked at, and what a causal mask does to that."""

import math

import torch

from effattn_core.coattention.attend import attend

FORMS = ("sum", "log", "norm")


def column_weights(weight, form="sum"):
    """The weight of each token by the attention that it gets: [..., time], of sum 1     (eq. coattention-columns)

    weight: attention of a sentence's tokens over themselves, [..., time, time], rows of sum 1.
    form: "sum", the mean of a column; "log", that of ln(1 + time · weight), which damps what is large; "norm", the sum
    over the rows that can see a token, per such row, under a causal mask. Source: reading notes of the paper on MGH,
    which give neither norm nor logarithm: RECONSTRUCTION.
    Raises ValueError for another form, or a matrix that is not square.
    """
    time = weight.shape[-1]
    if form not in FORMS or weight.shape[-2] != time:
        raise ValueError(
            f"form is one of {', '.join(FORMS)} and the matrix square; got {form!r}, {list(weight.shape)}."
        )
    if form == "log":
        weight = torch.log1p(time * weight)
    total = weight.sum(-2)
    if form == "norm":
        total = total / torch.arange(time, 0, -1, dtype=total.dtype, device=total.device)
    return total / total.sum(-1, keepdim=True)


def pooled(query, key, hidden, mask=None, scale=None, form="sum"):
    """The sentence's vector Σ_j w_j h_j: [value_dim], heads averaged.    query, key: [heads, time, dim]; hidden: [time,
    value_dim]. The sum form is the mean over rows and heads of one more hop, attend(query, key, hidden)."""
    _, weight, _ = attend(query, key, hidden.expand(len(query), *hidden.shape), mask=mask, scale=scale)
    return column_weights(weight.mean(0), form) @ hidden


def column_mass(query, key, log_sum_exp, scale=None, causal=True):
    """c_j = Σ_i exp(score_ij - lse_i): [..., time], a key at a time; no matrix time × time is made.

    query, key: [..., time, dim]; log_sum_exp: [..., time], of a first pass.   Source: none, it is the kernel's oracle.
    """
    time, found = key.shape[-2], []
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    for j in range(time):
        rows = slice(j if causal else 0, time)
        score = scale * (query[..., rows, :] @ key[..., j, :, None])[..., 0]
        found.append(torch.exp(score - log_sum_exp[..., rows]).sum(-1))
    return torch.stack(found, -1)


def uniform_tilt(time):
    """Times the mean weight that each token gets if every row looks evenly at what it sees, causally: [time].

    Token j is seen by rows j … time, the i-th giving 1 / i: H_time - H_(j-1). The first gets H_time, the last 1 / time.
    """
    if time < 1:
        raise ValueError(f"a sentence has a token; got {time}.")
    return (1 / torch.arange(1, time + 1, dtype=torch.float64)).flip(0).cumsum(0).flip(0)


def gradient_shares(similarity, temperature, others=0, others_similarity=0.0):
    """Which share of the pull away from negatives each graded one has: p_l / (1 - p₊) of InfoNCE; the last is others'.

    similarity: of the graded negatives; others: how many more stand in the batch, at `others_similarity`. The
    positive's similarity cancels.   Returns [negatives + 1]. Raises ValueError for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"a temperature is positive; got {temperature}.")
    logit = torch.as_tensor(similarity, dtype=torch.float64) / temperature
    many = math.log(others) if others else -math.inf
    rest = torch.tensor([many + others_similarity / temperature], dtype=torch.float64)
    return torch.cat([logit, rest]).softmax(0)
