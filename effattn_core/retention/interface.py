"""`retention`: one call for every form and implementation, and the checks of its arguments."""

import torch

from effattn_core import calls
from effattn_core.retention.forms import Chunkwise, chunkwise, new_state, parallel, recurrent, step
from kernels.table import DIMS

operators = calls.operators("retention")
FORMS = ("parallel", "recurrent", "chunkwise")


def retention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    decay: torch.Tensor,
    *,
    scale: float | None = None,
    state: torch.Tensor | None = None,
    chunk_size: int | None = None,
    form: str = "chunkwise",
    implementation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Retention. query, key: [batch, heads, time, key_dim]; returns (output: [batch, heads, time, value_dim], state).

    decay: [heads] in (0, 1]. A gradient flows to it in the plain forms; the kernels refuse one that wants it.
    state: what a call before returned, [batch, heads, key_dim, value_dim] in float32 or float64, or None to start; it
    is returned in float32, or in float64 for inputs of float64.
    scale: defaults to key_dim ** -0.5. form: "parallel", "recurrent" or "chunkwise", which compute the same.
    chunk_size: of the chunkwise form in PyTorch; None chooses by length. The kernels take theirs from a table.
    implementation: "oracle" (the parallel form in float64), "torch", "triton" (the chunkwise form only, interpreted
    without a GPU); None: the kernels on a GPU where they take the call, the plain form elsewhere.
    A token does not reach the outputs before it nor their gradients, infinite or nan. On a GPU, where looking for one
    would wait, a value that is infinite or nan may reach both, and such a key their gradients: within its chunk, in the
    parallel form anywhere.
    Derivatives: of every order, backward, forward and by torch.func, in the plain forms; the kernels have the first,
    backward, and refuse others. Raises ValueError for shapes, dtypes, devices or settings that do not
    fit (decays are looked at on a CPU only), RuntimeError for "triton" where no kernel runs.
    """
    _check(query, key, value, decay, state, chunk_size, form)
    scale = calls.scale_of(scale, query.shape[3])
    misfit = _misfit(query, value, decay, chunk_size, form)
    chosen = calls.choose(implementation, query.device, query.dtype, misfit)
    if query.shape[2] == 0:  # nothing to read: the state is what it was
        return value.clone(), new_state(query, value) if state is None else state.to(calls.wide(value.dtype), copy=True)
    hidden = calls.first_overflow(key, value) if query.shape[2] > 1 else None
    if hidden is None:
        return _by(chosen, form, query, key, value, decay, state, scale, chunk_size)
    # A weight of 0 times an infinite product is nan: from there on token by token, where none sees a later one.
    outputs = []
    if hidden:
        early = (each[:, :, :hidden] for each in (query, key, value))
        output, state = _by(chosen, form, *early, decay, state, scale, chunk_size)
        outputs.append(output)
    late = (each[:, :, hidden:] for each in (query, key, value))
    output, state = _by(chosen if chosen == "oracle" else "torch", "recurrent", *late, decay, state, scale, None)
    return torch.cat([*outputs, output], 2), state


def _by(chosen, form, query, key, value, decay, state, scale, chunk_size):
    """(output, state) of one implementation and form."""
    if chosen == "oracle":
        definition = recurrent if form == "recurrent" else parallel
        output, state = calls.exactly(definition, query, key, value, decay, scale=scale, state=state)
        return output.to(value.dtype), state.to(calls.wide(value.dtype))
    if chosen == "triton":
        state = new_state(query, value) if state is None else state.float()
        return operators.retention_forward(query, key, value, decay, state, scale)
    if form == "parallel":
        return parallel(query, key, value, decay, scale=scale, state=state)
    if query.shape[2] == 1:  # a decoded token needs no chunk
        state = new_state(query, value) if state is None else state
        return step(query, key, value, decay, scale=scale, state=state)
    if form == "recurrent":
        return recurrent(query, key, value, decay, scale=scale, state=state)
    if calls.wants_gradient(decay) or calls.carries_tangents():  # which `Chunkwise` would lose
        return chunkwise(query, key, value, decay, scale=scale, state=state, chunk_size=chunk_size)
    return Chunkwise.apply(query, key, value, decay, state, dict(scale=scale, chunk_size=chunk_size))


def _misfit(query, value, decay, chunk_size, form):
    """Why the kernels do not take the call, as a clause; "" where they do."""
    if form != "chunkwise":
        return f"the kernels compute the chunkwise form; form is {form!r}"
    if chunk_size is not None:
        return f"the kernels take their chunk size from a table; chunk_size is {chunk_size}"
    if calls.wants_gradient(decay):
        return "the kernels give no gradient of decay, and it requires one"
    return calls.misfit_of_sizes(DIMS, key_dim=query.shape[3], value_dim=value.shape[3])


def _check(query, key, value, decay, state, chunk_size, form):
    """Raise ValueError with one sentence, what was given and what is wanted, unless the call makes sense."""
    calls.require_rank("batch, heads, time, size", query=query, key=key, value=value)
    calls.require_alike(query=query, key=key, value=value)
    if query.shape != key.shape or key.shape[:3] != value.shape[:3]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}.")
    calls.require_sizes(heads=query.shape[1], key_dim=query.shape[3], value_dim=value.shape[3])
    calls.require_device(query=query, decay=decay)
    if decay.shape != query.shape[1:2]:
        raise ValueError(f"decay must be [heads], ({query.shape[1]},); its shape is {tuple(decay.shape)}.")
    # On a GPU a look at numbers would wait for it, and a compiled graph has none to look at.
    if decay.device.type == "cpu" and not torch.compiler.is_compiling():
        for head, each in enumerate(decay.tolist()):
            if not 0 < each <= 1:
                raise ValueError(f"decay must lie in (0, 1]; head {head} has {each:g}.")
    calls.require_state(state, (*query.shape[:2], query.shape[3], value.shape[3]), query)
    if chunk_size is not None:
        calls.require_count("chunk_size", chunk_size)
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; it is {form!r}.")
