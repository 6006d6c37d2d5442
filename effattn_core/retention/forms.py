"""Retention: a sum over the past that fades, in three forms that agree: parallel, recurrent, chunkwise.

Tensors are [batch, heads, time, size]; queries and keys have key_dim, values value_dim. Each head has one decay in
(0, 1], the share of the past that it keeps a step. The state is [batch, heads, key_dim, value_dim], kept in float32 or
wider: Σ decay^(steps ago) · keyᵀ value over all tokens so far. (Sun et al. 2023, eqs. 5 to 7)
"""

import math

import torch

from kernels.runtime import require_kernels

FORMS = ("parallel", "recurrent", "chunkwise")
SEGMENT = 8  # chunks that a CPU takes at once: enough to fill its cores, few enough to stay in its cache


def decay_schedule(heads, variant="code"):
    """Decay of each head: float32 [heads]. Raises ValueError for no head or another variant.

    "code": 1 - 2^(-5-h), as the released code has it and the paper's small models. "paper": 1 - 2^-r with r spread
    evenly between log2 32 and log2 512, as we recall the paper's larger models.
    """
    if heads < 1:
        raise ValueError(f"a decay schedule needs at least one head; got {heads}.")
    if variant == "code":
        powers = 5 + torch.arange(heads, dtype=torch.float64)
    elif variant == "paper":
        powers = torch.linspace(5, 9, heads, dtype=torch.float64)
    else:
        raise ValueError(f"variant must be 'code' or 'paper'; it is {variant!r}.")
    return (1 - 2.0**-powers).float()


def half_life(decay):
    """Tokens after which half of a memory is left: ln 2 / -ln decay; infinite for decay 1. A float or a tensor."""
    return math.log(2) / torch.log(torch.as_tensor(decay, dtype=torch.float64)).abs()


def decay_mask(decay, time):
    """decay^(i - j) for j ≤ i, else 0: [heads, time, time], in float64 or the wider of float32 and decay's dtype."""
    log_decay = decay.to(torch.promote_types(decay.dtype, torch.float32)).log()
    position = torch.arange(time, device=decay.device)
    distance = position[:, None] - position[None, :]
    # Masked before the exponential: a distance below 0 would grow without bound.
    return torch.where(distance >= 0, torch.exp(log_decay[:, None, None] * distance.clamp(min=0)), 0.0)


def parallel(query, key, value, decay, *, scale, state=None):
    """Retention as one masked product (eq. retention-parallel): obvious on purpose, every other form answers to it.

    query, key: [batch, heads, time, key_dim]   value: [batch, heads, time, value_dim]   decay: [heads]
    state: what came before, or None for nothing.   Returns (output, state after the last token).
    """
    time = query.shape[2]
    mask = decay_mask(decay.to(value.dtype), time).to(value.dtype)  # [heads, time, time]
    output = (scale * query @ key.mT * mask) @ value
    after = (key * mask[:, -1:].mT).mT @ value  # the last row of the mask: decay^(time - 1 - j)
    if state is not None:
        faded = mask[:, :, :1] * decay.to(value)[:, None, None]  # decay^(i + 1)
        output = output + (scale * query * faded) @ state.to(value.dtype)
        after = after + faded[:, -1:] * state.to(value.dtype)
    return output, after


def recurrent(query, key, value, decay, *, scale, state=None):
    """Retention one token at a time: state = decay · state + keyᵀ value, output = query state. Shapes as `parallel`."""
    wide = torch.promote_types(value.dtype, torch.float32)
    state = new_state(query, value) if state is None else state
    kept, outputs = decay.to(wide)[:, None, None], [value[:, :, :0].to(wide)]
    for token in range(query.shape[2]):
        now = slice(token, token + 1)
        state = kept * state + key[:, :, now].mT.to(wide) @ value[:, :, now].to(wide)
        outputs.append(scale * query[:, :, now].to(wide) @ state)
    return torch.cat(outputs, 2).to(value.dtype), state


def new_state(query, value):
    """A state of nothing: zeros [batch, heads, key_dim, value_dim], float32 or the values' wider dtype."""
    batch, heads, _, key_dim = query.shape
    wide = torch.promote_types(value.dtype, torch.float32)
    return torch.zeros(batch, heads, key_dim, value.shape[3], dtype=wide, device=value.device)


class Fading:
    """How much is left, for chunks of one size: factors of each head, every exponent at most 0 in log decay.

    inner: decay^(i - j) inside a chunk, [heads, 1, chunk, chunk]; entering: decay^(i + 1), what is left of the state
    before the chunk at position i; leaving: decay^(chunk - 1 - j), what is left of token j at the chunk's end; both
    [heads, 1, chunk, 1]; whole: decay^chunk, [heads, 1, 1].
    """

    def __init__(self, decay, chunk, dtype):
        inner = decay_mask(decay.to(dtype), chunk)
        self.inner = inner[:, None]
        self.entering = (inner[:, :, 0] * decay.to(inner)[:, None])[:, None, :, None]
        self.leaving = inner[:, -1, :][:, None, :, None]
        self.whole = self.entering[:, 0, -1:]


def _spans(time, chunk_size):
    """(slice, chunk size) of each stretch that is computed at once: segments of whole chunks, then the ragged rest."""
    whole = time // chunk_size * chunk_size
    for begin in range(0, whole, SEGMENT * chunk_size):
        yield slice(begin, min(begin + SEGMENT * chunk_size, whole)), chunk_size
    if whole < time:
        yield slice(whole, time), time - whole


def _chunks(tensor, span, chunk, dtype):
    """The span of [batch, heads, time, size] as [batch, heads, chunks, chunk, size] in `dtype`."""
    return tensor[:, :, span].to(dtype).unflatten(2, (-1, chunk))


def _states(key, value, fading, state):
    """State before each chunk: [batch, heads, chunks, key_dim, value_dim]; and the state after the last."""
    writes = (key * fading.leaving).mT @ value
    before = torch.empty_like(writes)
    for chunk in range(writes.shape[2]):
        before[:, :, chunk] = state
        state = torch.addcmul(writes[:, :, chunk], state, fading.whole)
    return before, state


def chunkwise(query, key, value, decay, *, scale, state=None, chunk_size=64):
    """Retention by chunks (eq. retention-chunk): products inside a chunk, one state from chunk to chunk.

    Shapes as in `parallel`; any time. Half precision is computed in float32. Linear in time and memory. Differentiable,
    but `retention` uses `chunkwise_backward`, which keeps nothing between the passes.
    """
    wide = torch.promote_types(value.dtype, torch.float32)
    state = new_state(query, value) if state is None else state.to(wide)
    output = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    fadings = {}
    for span, chunk in _spans(query.shape[2], chunk_size):
        fading = fadings.setdefault(chunk, Fading(decay, chunk, wide))
        near_query, near_key, near_value = (_chunks(each, span, chunk, wide) for each in (query, key, value))
        before, state = _states(near_key, near_value, fading, state)
        within = (near_query @ near_key.mT).mul_(fading.inner) @ near_value
        across = (near_query * fading.entering) @ before
        output[:, :, span] = within.add_(across).mul_(scale).flatten(2, 3)
    return output, state


def chunkwise_backward(grad_output, grad_state, query, key, value, decay, *, scale, state=None, chunk_size=64):
    """Gradients (query, key, value, initial state) of `chunkwise`, from those of its output and of its last state.

    The states are computed again, forwards; their gradients flow backwards, chunk by chunk (eq. retention-backward).
    """
    wide = torch.promote_types(value.dtype, torch.float32)
    state = new_state(query, value) if state is None else state.to(wide)
    grad_query, grad_key, grad_value = (
        torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in (query, key, value)
    )
    steps = []
    for span, chunk in _spans(query.shape[2], chunk_size):
        steps.append((span, Fading(decay, chunk, wide), state))
        near_key, near_value = (_chunks(each, span, chunk, wide) for each in (key, value))
        if span.stop < query.shape[2]:
            _, state = _states(near_key, near_value, steps[-1][1], state)
    grad_state = grad_state.to(wide)
    for span, fading, state in reversed(steps):
        chunk = fading.inner.shape[-1]
        near_query, near_key, near_value = (_chunks(each, span, chunk, wide) for each in (query, key, value))
        grad = _chunks(grad_output, span, chunk, wide) * scale
        before, _ = _states(near_key, near_value, fading, state)
        entering = near_query * fading.entering
        reads, after = entering.mT @ grad, torch.empty_like(before)
        for number in reversed(range(before.shape[2])):
            after[:, :, number] = grad_state
            grad_state = torch.addcmul(reads[:, :, number], grad_state, fading.whole)
        weight = (near_query @ near_key.mT).mul_(fading.inner)
        grad_weight = (grad @ near_value.mT).mul_(fading.inner)
        left = near_key * fading.leaving
        grad_value[:, :, span] = (weight.mT @ grad).add_(left @ after).flatten(2, 3)
        grad_key[:, :, span] = (
            (grad_weight.mT @ near_query).add_((near_value @ after.mT).mul_(fading.leaving)).flatten(2, 3)
        )
        grad_query[:, :, span] = (grad_weight @ near_key).add_((grad @ before.mT).mul_(fading.entering)).flatten(2, 3)
    return grad_query, grad_key, grad_value, grad_state


def _forward_on_cpu(query, key, value, decay, state, scale, chunk_size, implementation):
    if implementation == "triton":
        return run_forward(query, key, value, decay, state, scale, chunk_size, implementation)
    if query.shape[2] == 1:  # a decoded token needs no chunk
        return recurrent(query, key, value, decay, scale=scale, state=state)
    return chunkwise(query, key, value, decay, scale=scale, state=state, chunk_size=chunk_size)


def _backward_on_cpu(grad_output, grad_state, query, key, value, decay, state, scale, chunk_size, implementation):
    if implementation == "triton":
        return run_backward(grad_output, grad_state, query, key, value, decay, state, scale, chunk_size, implementation)
    settings = dict(scale=scale, state=state, chunk_size=chunk_size)
    return chunkwise_backward(grad_output, grad_state, query, key, value, decay, **settings)


try:  # where triton is not installed the plain forms serve, and autograd goes through them
    from kernels.retention.configurations import DIMS
    from kernels.retention.operators import retention_backward, retention_forward, run_backward, run_forward
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    retention_forward = None
else:
    retention_forward.register_kernel("cpu")(_forward_on_cpu)
    retention_backward.register_kernel("cpu")(_backward_on_cpu)


def retention(
    query, key, value, decay, *, scale=None, state=None, chunk_size=64, form="chunkwise", implementation=None
):
    """Retention. query, key: [batch, heads, time, key_dim]; returns (output: [batch, heads, time, value_dim], state).

    decay: [heads] in (0, 1], a constant: it gets no gradient. state: what a call before returned, or None to start.
    scale: defaults to key_dim ** -0.5. form: "parallel", "recurrent" or "chunkwise", which compute the same.
    chunk_size: of the chunkwise form in PyTorch; the kernels take theirs from a table.
    implementation: "oracle" (the parallel form), "torch", "triton" (the chunkwise form only, interpreted without a
    GPU); None lets the device pick. Raises ValueError for shapes, dtypes, devices or settings that do not fit (decays
    are looked at on a CPU only), RuntimeError for "triton" where no kernel runs.
    """
    _check(query, key, value, decay, scale, state, chunk_size, form, implementation)
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    if implementation == "triton" and retention_forward is None:
        require_kernels()
    if query.shape[2] == 0:  # nothing to read: the state is what it was
        return torch.empty_like(value), (new_state(query, value) if state is None else state.clone())
    if implementation == "oracle" or form == "parallel":
        return parallel(query, key, value, decay, scale=scale, state=state)
    if form == "recurrent":
        return recurrent(query, key, value, decay, scale=scale, state=state)
    if retention_forward is None or (query.device.type != "cpu" and not _kernels_fit(query, value, implementation)):
        return chunkwise(query, key, value, decay, scale=scale, state=state, chunk_size=chunk_size)
    state = new_state(query, value) if state is None else state
    settings = (scale, chunk_size, implementation or "device")
    return retention_forward(query, key, value, decay.detach(), state, *settings)


def _kernels_fit(query, value, implementation):
    """Whether a GPU call goes to the kernels: asked for by name, or left open and of a shape that they take."""
    return implementation == "triton" or (
        implementation is None and query.dtype != torch.float64 and {query.shape[3], value.shape[3]} <= set(DIMS)
    )


def _check(query, key, value, decay, scale, state, chunk_size, form, implementation):
    """Raise ValueError with one sentence, what was given and what is wanted, unless the call makes sense."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim != 4:
            raise ValueError(f"{name} must be [batch, heads, time, size]; its shape is {tuple(tensor.shape)}.")
    if len({query.dtype, key.dtype, value.dtype}) > 1 or not query.is_floating_point():
        raise ValueError(
            f"query, key, value must share a floating dtype; got {query.dtype}, {key.dtype}, {value.dtype}."
        )
    if len({each.device for each in (query, key, value, decay)}) > 1:
        raise ValueError(
            f"query, key, value, decay must share a device; got {query.device}, {key.device}, {value.device}, "
            f"{decay.device}."
        )
    if query.shape != key.shape or key.shape[:3] != value.shape[:3]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}.")
    if decay.shape != query.shape[1:2]:
        raise ValueError(f"decay must be one number a head, ({query.shape[1]},); its shape is {tuple(decay.shape)}.")
    # On a GPU a look at numbers would wait for it, and a compiled graph has none to look at.
    if decay.device.type == "cpu" and not torch.compiler.is_compiling():
        for head, each in enumerate(decay.tolist()):
            if not 0 < each <= 1:
                raise ValueError(f"decay must lie in (0, 1]; head {head} has {each:g}.")
    wanted = (*query.shape[:2], query.shape[3], value.shape[3])
    if state is not None and (state.shape != wanted or state.dtype != torch.promote_types(value.dtype, torch.float32)):
        raise ValueError(f"state must be {wanted} in float32 or wider; it is {tuple(state.shape)} {state.dtype}.")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1; it is {chunk_size}.")
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; it is {form!r}.")
    if implementation not in (None, "oracle", "torch", "triton"):
        raise ValueError(f"implementation must be 'oracle', 'torch', 'triton' or None; it is {implementation!r}.")
    if implementation == "triton" and form != "chunkwise":
        raise ValueError(f"the kernels compute the chunkwise form; form is {form!r}.")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number; it is {scale}.")
