"""Retention: a sum over the past that fades, in three forms that agree: parallel, recurrent, chunkwise.

Tensors are [batch, heads, time, size]; queries and keys have key_dim, values value_dim. Each head has one decay in
(0, 1], the share of its state that it keeps per step. The state is [batch, heads, key_dim, value_dim], kept in float32
or wider: Σ decay^(steps ago) · keyᵀ value over all tokens so far. (Sun et al. 2023, eqs. 5 to 7)
"""

import math

import torch

from effattn_core.calls import wide

SEGMENT = 8  # chunks that a CPU takes at once: enough to fill its cores, few enough to stay in its cache


def chunk_for(time):
    """Tokens per chunk of the chunkwise form where none is given: what two CPU cores are fastest with.

    From 512 tokens on 32 and 64 lie within 10 % of each other, and 16 and 128 behind them, for heads of 32 to 128.
    """
    return 32 if time <= 128 else 64


def decay_schedule(heads, variant="code"):
    """Decay of each head: float32 [heads]. Raises ValueError for no head or another variant.

    "code": 1 - 2^(-5-h) for head h, the default of Sun et al. 2023 (eq. 8) and of the released code. "paper": 1 - 2^-r
    with r spread evenly from 5 to 9, which the paper writes 1 - exp(linspace(log 1/32, log 1/512)) and uses for all
    model sizes of its experiments (section 3.1).
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
    log_decay = decay.to(wide(decay.dtype)).log().clamp(min=-1e4)  # of a decay that rounds to 0: -inf · 0 would be nan
    position = torch.arange(time, device=decay.device)
    distance = position[:, None] - position[None, :]
    # Masked before the exponential: a distance below 0 would grow without bound.
    return torch.where(distance >= 0, torch.exp(log_decay[:, None, None] * distance.clamp(min=0)), 0.0)


def parallel(query, key, value, decay, *, scale, state=None):
    """Retention as one masked product (eq. retention-parallel): obvious on purpose, every other form answers to it.

    query, key: [batch, heads, time, key_dim]   value: [batch, heads, time, value_dim]   decay: [heads]
    state: what came before, or None for nothing.   Returns (output, state after the last token).
    """
    given, dtype = value.dtype, wide(value.dtype)
    query, key, value = scale * query.to(dtype), key.to(dtype), value.to(dtype)
    mask = decay_mask(decay.to(dtype), query.shape[2])  # [heads, time, time]
    output = (query @ key.mT * mask).tril() @ value  # a hidden score may be infinite: 0 is filled in, not multiplied
    after = (key * mask[:, -1:].mT).mT @ value  # the last row of the mask: decay^(time - 1 - j)
    if state is not None:
        faded = mask[:, :, :1] * decay.to(dtype)[:, None, None]  # decay^(i + 1)
        output = output + (query * faded) @ state.to(dtype)
        after = after + faded[:, -1:] * state.to(dtype)
    return output.to(given), after


def step(query, key, value, decay, *, scale, state):
    """One token: state = decay · state + keyᵀ value, output = scale · query state (eq. retention-recurrent).

    Shapes as in `parallel`, time 1.
    """
    dtype = wide(value.dtype)
    state = torch.addcmul(decay.to(dtype)[:, None, None] * state.to(dtype), key.to(dtype).mT, value.to(dtype))
    return (scale * query.to(dtype) @ state).to(value.dtype), state


def recurrent(query, key, value, decay, *, scale, state=None):
    """Retention one token at a time, `step` after `step`. Shapes as in `parallel`."""
    state = new_state(query, value) if state is None else state.to(wide(value.dtype))
    outputs = [value[:, :, :0]]
    for token in range(query.shape[2]):
        row = (each[:, :, token : token + 1] for each in (query, key, value))
        output, state = step(*row, decay, scale=scale, state=state)
        outputs.append(output)
    return torch.cat(outputs, 2), state


def new_state(query, value):
    """A state of nothing: zeros [batch, heads, key_dim, value_dim], float32 or the values' wider dtype."""
    batch, heads, _, key_dim = query.shape
    return torch.zeros(batch, heads, key_dim, value.shape[3], dtype=wide(value.dtype), device=value.device)


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


def chunkwise(query, key, value, decay, *, scale, state=None, chunk_size=None):
    """Retention by chunks (eq. retention-chunk): products inside a chunk, one state from chunk to chunk.

    Shapes as in `parallel`; any time. Half precision is computed in float32. Linear in time and memory. Differentiable;
    `Chunkwise` is the same with `chunkwise_backward`, which keeps nothing between the passes.
    """
    dtype = wide(value.dtype)
    state = new_state(query, value) if state is None else state.to(dtype)
    output = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    fadings = {}
    for span, chunk in _spans(query.shape[2], chunk_size or chunk_for(query.shape[2])):
        fading = fadings.setdefault(chunk, Fading(decay, chunk, dtype))
        near_query, near_key, near_value = (_chunks(each, span, chunk, dtype) for each in (query, key, value))
        before, state = _states(near_key, near_value, fading, state)
        within = (near_query @ near_key.mT).mul_(fading.inner).tril_() @ near_value
        across = (near_query * fading.entering) @ before
        output[:, :, span] = within.add_(across).mul_(scale).flatten(2, 3)
    return output, state


def chunkwise_backward(grad_output, grad_state, query, key, value, decay, *, scale, state=None, chunk_size=None):
    """Gradients (query, key, value, initial state) of `chunkwise`, from those of its output and of its last state.

    The states are computed again, forwards; their gradients flow backwards, chunk by chunk (eq. retention-backward).
    """
    dtype = wide(value.dtype)
    state = new_state(query, value) if state is None else state.to(dtype)
    grad_query, grad_key, grad_value = (
        torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in (query, key, value)
    )
    steps = []
    for span, chunk in _spans(query.shape[2], chunk_size or chunk_for(query.shape[2])):
        steps.append((span, Fading(decay, chunk, dtype), state))
        near_key, near_value = (_chunks(each, span, chunk, dtype) for each in (key, value))
        if span.stop < query.shape[2]:
            _, state = _states(near_key, near_value, steps[-1][1], state)
    grad_state = grad_state.to(dtype)
    for span, fading, state in reversed(steps):
        chunk = fading.inner.shape[-1]
        near_query, near_key, near_value = (_chunks(each, span, chunk, dtype) for each in (query, key, value))
        grad = _chunks(grad_output, span, chunk, dtype) * scale
        before, _ = _states(near_key, near_value, fading, state)
        entering = near_query * fading.entering
        reads, after = entering.mT @ grad, torch.empty_like(before)
        for number in reversed(range(before.shape[2])):
            after[:, :, number] = grad_state
            grad_state = torch.addcmul(reads[:, :, number], grad_state, fading.whole)
        weight = (near_query @ near_key.mT).mul_(fading.inner).tril_()
        grad_weight = (grad @ near_value.mT).mul_(fading.inner).tril_()
        left = near_key * fading.leaving
        grad_value[:, :, span] = (weight.mT @ grad).add_(left @ after).flatten(2, 3)
        grad_key[:, :, span] = (
            (grad_weight.mT @ near_query).add_((near_value @ after.mT).mul_(fading.leaving)).flatten(2, 3)
        )
        grad_query[:, :, span] = (grad_weight @ near_key).add_((grad @ before.mT).mul_(fading.entering)).flatten(2, 3)
    return grad_query, grad_key, grad_value, grad_state


class Chunkwise(torch.autograd.Function):
    """`chunkwise` with `chunkwise_backward`: nothing is kept between the passes but what was given.

    No gradient of decay. The backward is made of differentiable steps, so that a second derivative is right too.
    """

    @staticmethod
    def forward(query, key, value, decay, state, settings):
        return chunkwise(query, key, value, decay, state=state, **settings)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad_output, grad_state):
        query, key, value, decay, state = ctx.saved_tensors
        settings = dict(state=state, **ctx.settings)
        *gradients, grad_initial = chunkwise_backward(grad_output, grad_state, query, key, value, decay, **settings)
        return *gradients, None, grad_initial if state is not None else None, None
