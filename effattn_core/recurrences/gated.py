"""The rules that only fade, S = diag(exp(log_gate)) S + keyᵀ value, by chunks; and their gradients.

Inside a chunk G is the running sum of log gates. A token at n reads one at m ≤ n through exp(G_n - G_m), and every
exponential here is of a difference that is at most 0, so that no gate overflows: exp(G_n) / exp(G_m) would.
"""

import torch

from effattn_core.recurrences.rules import wide

SEGMENT = 2048  # tokens that a CPU takes at once: enough to fill its cores, few enough for its cache


def spans(time, chunk_size, *, vector=False):
    """(slice, chunk size) of each stretch computed at once: segments of whole chunks, then the ragged rest.

    vector: chunks are halved again and again, so their size is rounded up to a power of two.
    """
    if vector:
        chunk_size = 1 << (chunk_size - 1).bit_length()
    whole = time // chunk_size * chunk_size
    stride = max(1, SEGMENT // chunk_size) * chunk_size
    for begin in range(0, whole, stride):
        yield slice(begin, min(begin + stride, whole)), chunk_size
    if whole < time:
        rest = time - whole
        yield slice(whole, time), 1 << (rest - 1).bit_length() if vector else rest


def chunks(tensor, span, chunk, dtype):
    """The span of [batch, heads, time, size] as [batch, heads, chunks, chunk, size] in `dtype`, zeros past the end."""
    part = tensor[:, :, span].to(dtype)
    missing = -part.shape[2] % chunk
    if missing:
        part = torch.nn.functional.pad(part, (0, 0, 0, missing))
    return part.unflatten(2, (-1, chunk))


def bounded(log_gate):
    """Gates no stronger than one that already gives exp(gate) = 0: -inf would make -inf - -inf, which is nan.

    A chunk's running sum past such a gate is as large as the bound, so later gates are rounded to that: texts packed
    into one row by gates of -inf lose up to 3e-5 in float32 (gradients 2e-4), where the loop over tokens loses 1e-6.
    """
    return log_gate.clamp(min=-750.0 if log_gate.dtype == torch.float64 else -110.0)


def fading(total):
    """exp(G_n - G_m) for m ≤ n, else 0: [..., chunk, chunk] of G: [..., chunk, 1]. Masked before the exponential."""
    later = torch.ones(2 * total.shape[-2:-1], dtype=torch.bool, device=total.device).triu(1)
    return (total - total.mT).masked_fill(later, -torch.inf).exp()


def _within(query, key, value, total):
    """What each token reads from its own chunk: Σ over m ≤ n of (query_n · exp(G_n - G_m) · key_m) value_m.

    total: G, [..., chunk, 1] or [..., chunk, key_dim]. With a gate for each key dimension no single matrix of decays
    exists: the chunk is halved, its second half reads the first through G at the middle, and each half does the same.
    """
    if total.shape[-1] == 1:
        return ((query @ key.mT) * fading(total)) @ value
    if query.shape[-2] == 1:
        return (query * key).sum(-1, keepdim=True) * value
    query, key, value, total = (each.unflatten(-2, (2, -1)) for each in (query, key, value, total))
    inside = _within(query, key, value, total)
    middle = total[..., 0, -1:, :]
    late = query[..., 1, :, :] * (total[..., 1, :, :] - middle).exp()
    early = key[..., 0, :, :] * (middle - total[..., 0, :, :]).exp()
    across = (late @ early.mT) @ value[..., 0, :, :]
    return torch.cat([inside[..., 0, :, :], inside[..., 1, :, :] + across], -2)


def _within_backward(grad, query, key, value, total):
    """Gradients (query, key, value) of `_within`, diagonal excluded: a token's own term has no gate."""
    if total.shape[-1] == 1:
        fade = fading(total).tril(-1)
        weight, grad_weight = (query @ key.mT) * fade, (grad @ value.mT) * fade
        return grad_weight @ key, grad_weight.mT @ query, weight.mT @ grad
    if query.shape[-2] == 1:
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    grad, query, key, value, total = (each.unflatten(-2, (2, -1)) for each in (grad, query, key, value, total))
    grad_query, grad_key, grad_value = _within_backward(grad, query, key, value, total)
    middle = total[..., 0, -1:, :]
    to_late, to_early = (total[..., 1, :, :] - middle).exp(), (middle - total[..., 0, :, :]).exp()
    late, early = query[..., 1, :, :] * to_late, key[..., 0, :, :] * to_early
    grad_weight = grad[..., 1, :, :] @ value[..., 0, :, :].mT
    grad_query[..., 1, :, :] += (grad_weight @ early) * to_late
    grad_key[..., 0, :, :] += (grad_weight.mT @ late) * to_early
    grad_value[..., 0, :, :] += (late @ early.mT).mT @ grad[..., 1, :, :]
    return grad_query.flatten(-3, -2), grad_key.flatten(-3, -2), grad_value.flatten(-3, -2)


def _scan(writes, kept, state):
    """kept · state + write, chunk by chunk: (the state before each, stacked along dimension 2; the last state)."""
    before = []
    for write, share in zip(writes.unbind(2), kept.unbind(2), strict=True):
        before.append(state)
        state = share * state + write
    return torch.stack(before, 2), state


def gated_chunkwise(query, key, value, log_gate, *, scale, state, chunk_size=64):
    """The gated recurrence by chunks (eq. gated-chunk): products inside a chunk, one state from chunk to chunk.

    log_gate: [batch, heads, time] or [batch, heads, time, key_dim], at most 0, -inf included; other shapes as in
    `recurrence`. Half precision is computed in float32. Returns (output, state); differentiable.
    """
    dtype, vector = wide(value.dtype), log_gate.ndim == 4
    log_gate, outputs = bounded(log_gate.to(dtype)), [value[:, :, :0]]
    log_gate = log_gate if vector else log_gate[..., None]
    for span, chunk in spans(query.shape[2], chunk_size, vector=vector):
        q, k, v, gate = (chunks(each, span, chunk, dtype) for each in (query, key, value, log_gate))
        total = gate.cumsum(-2)  # G: [batch, heads, chunks, chunk, 1 or key_dim]
        last = total[..., -1:, :]
        before, state = _scan((k * (last - total).exp()).mT @ v, last.exp().mT, state)
        output = _within(q, k, v, total) + (q * total.exp()) @ before
        outputs.append((scale * output).flatten(2, 3)[:, :, : span.stop - span.start].to(value.dtype))
    return torch.cat(outputs, 2), state


def gated_backward(grad_output, grad_state, query, key, value, log_gate, state, *, scale, chunk_size=64):
    """Gradients (query, key, value, log_gate, initial state) of `gated_chunkwise` (eq. gated-backward).

    States are computed again, forwards; their gradients flow backwards. G enters as exp(G_n) beside query_n and as
    exp(-G_m) beside key_m, so dG = query · dquery - key · dkey, and the gate of a token gathers the dG of all later
    ones. Summed within a chunk, with what passes through the chunk's last state, nothing large cancels.
    """
    dtype, vector = wide(value.dtype), log_gate.ndim == 4
    gate_shape, gate_dtype = log_gate.shape, log_gate.dtype
    log_gate = bounded(log_gate.to(dtype))
    log_gate = log_gate if vector else log_gate[..., None]
    grads = [torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in (query, key, value)]
    grad_log_gate = torch.empty_like(log_gate)
    steps = []
    for span, chunk in spans(query.shape[2], chunk_size, vector=vector):
        steps.append((span, chunk, state))
        k, v, gate = (chunks(each, span, chunk, dtype) for each in (key, value, log_gate))
        total = gate.cumsum(-2)
        _, state = _scan((k * (total[..., -1:, :] - total).exp()).mT @ v, total[..., -1:, :].exp().mT, state)
    for span, chunk, state in reversed(steps):
        size = span.stop - span.start
        grad = chunks(grad_output, span, chunk, dtype) * scale
        q, k, v, gate = (chunks(each, span, chunk, dtype) for each in (query, key, value, log_gate))
        *found, grad_gate, grad_state = _segment_backward(grad, grad_state, q, k, v, gate, state)
        for whole, part in zip([*grads, grad_log_gate], [*found, grad_gate], strict=True):
            whole[:, :, span] = part.flatten(2, 3)[:, :, :size]
    return *grads, grad_log_gate.reshape(gate_shape).to(gate_dtype), grad_state


def _segment_backward(grad, grad_state, query, key, value, gate, state):
    """`gated_backward` for some whole chunks, the output's gradient already scaled: all five gradients."""
    total = gate.cumsum(-2)
    last = total[..., -1:, :]
    entering, leaving, kept = total.exp(), (last - total).exp(), last.exp().mT
    before, _ = _scan((key * leaving).mT @ value, kept, state)
    reads = (query * entering).mT @ grad
    after, grad_state = _scan(reads.flip(2), kept.flip(2), grad_state)
    after = after.flip(2)  # the gradient of the state after each chunk
    read = (grad @ before.mT) * entering
    written = (value @ after.mT) * leaving
    grad_query, grad_key, grad_value = _within_backward(grad, query, key, value, total)
    inside, across, stored = query * grad_query - key * grad_key, query * read, key * written
    passing = (before * after).sum(-1)[..., None, :] * last.exp()  # [batch, heads, chunks, 1, key_dim]
    if gate.shape[-1] == 1:
        inside, across, stored, passing = (each.sum(-1, keepdim=True) for each in (inside, across, stored, passing))
    later = (inside + across).flip(-2).cumsum(-2).flip(-2)
    grad_gate = later + stored.cumsum(-2) - stored + passing
    own = (query * key).sum(-1, keepdim=True)
    grad_own = (grad * value).sum(-1, keepdim=True)
    grad_query, grad_key = grad_query + read + grad_own * key, grad_key + written + grad_own * query
    return grad_query, grad_key, grad_value + own * grad + (key * leaving) @ after, grad_gate, grad_state
