"""The rules that only fade, S = diag(exp(log_gate)) S + keyᵀ value, by chunks; and their gradients.

Inside a chunk G is the running sum of log gates. A token at n reads one at m ≤ n through exp(G_n - G_m), and every
exponential here is of a difference that is at most 0, so that no gate overflows: exp(G_n) / exp(G_m) would.
"""

import torch

from effattn_core.calls import wide

SEGMENT = 2048  # tokens that a CPU takes at once: enough to fill its cores, few enough for its cache

CHUNK = 64  # tokens of a chunk where none are given


def chunk_for(time):
    """Tokens of a chunk that `recurrence` takes: 32, and 64 for long texts; two CPU cores are slower with 16 or 128."""
    return 32 if time <= 1024 else 64


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

    In float64 where such a gate is found: beside it the running sum G would lose the digits of the others. Not looked
    for on a GPU or while compiling: there each one costs what later tokens of its chunk read a relative 1e-5.
    """
    strongest = -750.0 if log_gate.dtype == torch.float64 else -110.0
    if log_gate.device.type == "cpu" and not torch.compiler.is_compiling() and log_gate.numel():
        if log_gate.detach().amin() <= strongest:
            log_gate = log_gate.double()
    return log_gate.clamp(min=strongest)


def left(exponent, dtype):
    """exp(exponent), a share of what was, in `dtype`: differences of G are taken before they are rounded."""
    return exponent.to(dtype).exp()


def fading(total, dtype):
    """exp(G_n - G_m) for m ≤ n, else 0: [..., chunk, chunk] of G: [..., chunk, 1]. Masked before the exponential."""
    later = torch.ones(2 * total.shape[-2:-1], dtype=torch.bool, device=total.device).triu(1)
    return left((total - total.mT).masked_fill(later, -torch.inf), dtype)


def _within(query, key, value, total):
    """What each token reads from its own chunk: Σ over m ≤ n of (query_n · exp(G_n - G_m) · key_m) value_m.

    total: G, [..., chunk, 1] or [..., chunk, key_dim]. With a gate for each key dimension no single matrix of decays
    exists: the chunk is halved, its second half reads the first through G at the middle, and each half does the same.
    """
    dtype = value.dtype
    if total.shape[-1] == 1:  # a hidden score may be infinite: 0 is filled in, not multiplied
        return ((query @ key.mT) * fading(total, dtype)).tril_() @ value
    if query.shape[-2] == 1:
        return (query * key).sum(-1, keepdim=True) * value
    query, key, value, total = (each.unflatten(-2, (2, -1)) for each in (query, key, value, total))
    inside = _within(query, key, value, total)
    middle = total[..., 0, -1:, :]
    late = query[..., 1, :, :] * left(total[..., 1, :, :] - middle, dtype)
    early = key[..., 0, :, :] * left(middle - total[..., 0, :, :], dtype)
    across = (late @ early.mT) @ value[..., 0, :, :]
    return torch.cat([inside[..., 0, :, :], inside[..., 1, :, :] + across], -2)


def _within_backward(grad, query, key, value, total):
    """Gradients (query, key, value) of `_within`, diagonal excluded: a token's own term has no gate."""
    dtype = value.dtype
    if total.shape[-1] == 1:
        fade = fading(total, dtype)
        weight, grad_weight = ((query @ key.mT) * fade).tril_(-1), ((grad @ value.mT) * fade).tril_(-1)
        return grad_weight @ key, grad_weight.mT @ query, weight.mT @ grad
    if query.shape[-2] == 1:
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    grad, query, key, value, total = (each.unflatten(-2, (2, -1)) for each in (grad, query, key, value, total))
    grad_query, grad_key, grad_value = _within_backward(grad, query, key, value, total)
    middle = total[..., 0, -1:, :]
    to_late, to_early = left(total[..., 1, :, :] - middle, dtype), left(middle - total[..., 0, :, :], dtype)
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


def gated_step(query, key, value, log_gate, *, scale, state):
    """One token: state = exp(log_gate) · state + keyᵀ value, output = scale · query state. Shapes as below, time 1."""
    dtype = wide(value.dtype)
    gate = log_gate if log_gate.ndim == 4 else log_gate[..., None]
    state = torch.addcmul(gate.to(dtype).exp().mT * state.to(dtype), key.to(dtype).mT, value.to(dtype))
    return (scale * query.to(dtype) @ state).to(value.dtype), state


def gated_chunkwise(query, key, value, log_gate, *, scale, state, chunk_size=None):
    """The gated recurrence by chunks (eq. gated-chunk): products inside a chunk, one state from chunk to chunk.

    log_gate: [batch, heads, time] or [batch, heads, time, key_dim], at most 0, -inf included; other shapes as in
    `recurrence`. Half precision is computed in float32. Returns (output, state); differentiable. `Gated` is the same
    with `gated_backward`, which keeps nothing between the passes.
    """
    dtype, vector = wide(value.dtype), log_gate.ndim == 4
    log_gate, outputs, state = bounded(log_gate.to(dtype)), [value[:, :, :0]], state.to(dtype)
    log_gate = log_gate if vector else log_gate[..., None]
    for span, chunk in spans(query.shape[2], chunk_size or CHUNK, vector=vector):
        q, k, v = (chunks(each, span, chunk, dtype) for each in (query, key, value))
        total = chunks(log_gate, span, chunk, log_gate.dtype).cumsum(-2)  # G: [..., chunks, chunk, 1 or key_dim]
        last = total[..., -1:, :]
        before, state = _scan((k * left(last - total, dtype)).mT @ v, left(last, dtype).mT, state)
        output = _within(q, k, v, total) + (q * left(total, dtype)) @ before
        outputs.append((scale * output).flatten(2, 3)[:, :, : span.stop - span.start].to(value.dtype))
    return torch.cat(outputs, 2), state


def gated_backward(grad_output, grad_state, query, key, value, log_gate, state, *, scale, chunk_size=None):
    """Gradients (query, key, value, log_gate, initial state) of `gated_chunkwise` (eq. gated-backward).

    States are computed again, forwards; their gradients flow backwards. G enters as exp(G_n) beside query_n and as
    exp(-G_m) beside key_m, so dG = query · dquery - key · dkey, and the gate of a token gathers the dG of all later
    ones. Summed within a chunk, with what passes through the chunk's last state, nothing large cancels.
    """
    dtype, vector = wide(value.dtype), log_gate.ndim == 4
    gate_shape, gate_dtype = log_gate.shape, log_gate.dtype
    log_gate, state, grad_state = bounded(log_gate.to(dtype)), state.to(dtype), grad_state.to(dtype)
    log_gate = log_gate if vector else log_gate[..., None]
    grads = [torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in (query, key, value)]
    grad_log_gate = torch.empty(log_gate.shape, dtype=dtype, device=log_gate.device)
    steps = []
    for span, chunk in spans(query.shape[2], chunk_size or CHUNK, vector=vector):
        steps.append((span, chunk, state))
        k, v = (chunks(each, span, chunk, dtype) for each in (key, value))
        total = chunks(log_gate, span, chunk, log_gate.dtype).cumsum(-2)
        last = total[..., -1:, :]
        _, state = _scan((k * left(last - total, dtype)).mT @ v, left(last, dtype).mT, state)
    for span, chunk, state in reversed(steps):
        size = span.stop - span.start
        grad = chunks(grad_output, span, chunk, dtype) * scale
        q, k, v = (chunks(each, span, chunk, dtype) for each in (query, key, value))
        total = chunks(log_gate, span, chunk, log_gate.dtype).cumsum(-2)
        *found, grad_gate, grad_state = _segment_backward(grad, grad_state, q, k, v, total, state)
        for whole, part in zip([*grads, grad_log_gate], [*found, grad_gate], strict=True):
            whole[:, :, span] = part.flatten(2, 3)[:, :, :size]
    return *grads, grad_log_gate.reshape(gate_shape).to(gate_dtype), grad_state


def _segment_backward(grad, grad_state, query, key, value, total, state):
    """`gated_backward` for some whole chunks, the output's gradient already scaled: all five gradients."""
    dtype, last = value.dtype, total[..., -1:, :]
    entering, leaving, kept = left(total, dtype), left(last - total, dtype), left(last, dtype).mT
    before, _ = _scan((key * leaving).mT @ value, kept, state)
    reads = (query * entering).mT @ grad
    after, grad_state = _scan(reads.flip(2), kept.flip(2), grad_state)
    after = after.flip(2)  # the gradient of the state after each chunk
    read = (grad @ before.mT) * entering
    written = (value @ after.mT) * leaving
    grad_query, grad_key, grad_value = _within_backward(grad, query, key, value, total)
    inside, across, stored = query * grad_query - key * grad_key, query * read, key * written
    passing = (before * after).sum(-1)[..., None, :] * kept.mT  # [batch, heads, chunks, 1, key_dim]
    if total.shape[-1] == 1:
        inside, across, stored, passing = (each.sum(-1, keepdim=True) for each in (inside, across, stored, passing))
    later = (inside + across).flip(-2).cumsum(-2).flip(-2)
    grad_gate = later + stored.cumsum(-2) - stored + passing
    own = (query * key).sum(-1, keepdim=True)
    grad_own = (grad * value).sum(-1, keepdim=True)
    grad_query, grad_key = grad_query + read + grad_own * key, grad_key + written + grad_own * query
    return grad_query, grad_key, grad_value + own * grad + (key * leaving) @ after, grad_gate, grad_state


class Gated(torch.autograd.Function):
    """`gated_chunkwise` with `gated_backward`: nothing is kept between the passes but what was given.

    The backward is made of differentiable steps, so that a second derivative is right too.
    """

    @staticmethod
    def forward(query, key, value, log_gate, state, settings):
        return gated_chunkwise(query, key, value, log_gate, state=state, **settings)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad_output, grad_state):
        return *gated_backward(grad_output, grad_state, *ctx.saved_tensors, **ctx.settings), None
