"""Retention as its released code normalises it: three forms, each with its own factor, equal only after the head norm.

What is described here was read in microsoft/torchscale (multiscale_retention.py and retnet.py, April 2024). All
functions take query, key: [batch, heads, time, key_dim], key already scaled; value; decay: [heads]; and return
[batch, heads, time, value_dim].
"""

import torch
from torch.nn import functional

from effattn_core.retention import chunkwise, decay_mask


def head_norm(output, epsilon=1e-6):
    """Root mean square norm of each token and head, without weights: any positive factor in front cancels."""
    return functional.rms_norm(output, output.shape[-1:], eps=epsilon)


def published_parallel(query, key, value, decay, *, share_mask=True, limit_rows=True):
    """The masked product with two factors per row.

    share_mask: the mask's row over the square root of its sum. limit_rows: the row over the sum of its absolute
    scores, held between 1 and 5e4, and kept out of the gradient.
    """
    mask = decay_mask(decay, query.shape[2])
    if share_mask:
        mask = mask / mask.sum(-1, keepdim=True).sqrt()
    scores = query @ key.mT * mask
    if limit_rows:
        scores = scores / scores.detach().abs().sum(-1, keepdim=True).clamp(1, 5e4)
    return scores @ value


def published_recurrent(query, key, value, decay):
    """One token at a time with a running scale: the same factor as `share_mask`, and no `limit_rows`."""
    decay, outputs = decay[:, None, None], []
    state, scale = 0.0, torch.zeros_like(decay)
    for token in range(query.shape[2]):
        now = slice(token, token + 1)
        grown = decay * scale + 1
        state = state * decay * (scale / grown).sqrt() + key[:, :, now].mT @ value[:, :, now] / grown.sqrt()
        scale = grown
        outputs.append(query[:, :, now] @ state)
    return torch.cat(outputs, 2)


def published_chunkwise(query, key, value, decay, chunk_size):
    """By chunks, scores and state limited separately: both parts are then divided by the larger of the two factors.

    time: whole chunks. Raises ValueError for a time that is not a multiple of chunk_size.
    """
    if query.shape[2] % chunk_size:
        raise ValueError(f"the released form takes whole chunks; {query.shape[2]} tokens are not {chunk_size} · n.")
    mask = decay_mask(decay, chunk_size)[:, None]  # [heads, 1, chunk, chunk]
    last, root = mask[:, :, -1], mask.sum(-1, keepdim=True).sqrt()
    total = last.sum(-1)[..., None, None]
    query, key, value = (each.unflatten(2, (-1, chunk_size)) for each in (query, key, value))
    scores = query @ key.mT * (mask / root)
    inner_scale = scores.detach().abs().sum(-1, keepdim=True).clamp(min=1)
    inner = scores / inner_scale @ value
    writes = key.mT @ (value * (last[..., None] / total))
    state, state_scale = torch.zeros_like(writes[:, :, 0]), torch.ones_like(writes[:, :, 0, :1, :1])
    states, scales = [], []
    for chunk in range(writes.shape[2]):
        states.append(state / state_scale)
        scales.append(state_scale)
        state = state * decay[:, None, None] ** chunk_size + writes[:, :, chunk]
        state_scale = state.detach().abs().sum(-2, keepdim=True).amax(-1, keepdim=True).clamp(min=1)
    cross_scale, power = torch.stack(scales, 2), torch.arange(1, chunk_size + 1, device=decay.device)
    entering = (decay[:, None] ** power)[:, None, :, None] * total / root
    cross = query * entering @ torch.stack(states, 2)
    common = torch.maximum(inner_scale, cross_scale)
    return (inner * inner_scale / common + cross * cross_scale / common).flatten(2, 3)


def slipped_chunkwise(query, key, value, decay, chunk_size):
    """Chunkwise retention with the slip between the paper's equation and its pseudo-code: the state *after* the chunk.

    The cross term reads a state that already holds the chunk: its earlier tokens count once more, and its later ones,
    which no token may see, count too. What stood before the chunk has faded by its tokens once too often.
    """
    outputs, state = [], None
    for start in range(0, query.shape[2], chunk_size):
        near = [each[:, :, start : start + chunk_size] for each in (query, key, value)]
        inner, _ = chunkwise(*near, decay, scale=1.0, chunk_size=chunk_size)
        _, state = chunkwise(*near, decay, scale=1.0, state=state, chunk_size=chunk_size)
        places = torch.arange(1, near[0].shape[2] + 1, device=decay.device)
        outputs.append(inner + near[0] * (decay[:, None] ** places)[..., None] @ state)
    return torch.cat(outputs, 2)
