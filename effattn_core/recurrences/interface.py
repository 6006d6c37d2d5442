"""`recurrence`: one call for every rule, form and implementation; and the checks of its arguments."""

import torch
from torch.nn.functional import pad

from effattn_core import calls
from effattn_core.calls import wide
from effattn_core.recurrences.delta import delta_chunkwise
from effattn_core.recurrences.gated import Gated, chunk_for, gated_chunkwise, gated_step
from effattn_core.recurrences.loop import features, gates, mean, normalised, oracle
from effattn_core.recurrences.rules import Rule, new_state, rule_named
from kernels.table import DIMS

operators = calls.operators("recurrences")
FORMS = ("chunkwise", "recurrent")
WALKED = 16  # tokens up to which a call that is left open takes the kernel of the delta rules: no system to solve


def recurrence(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    rule: str,
    log_gate: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    bonus: torch.Tensor | None = None,
    scale: float | None = None,
    state: torch.Tensor | None = None,
    chunk_size: int | None = None,
    form: str = "chunkwise",
    implementation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A state that fades, is written and is read, token by token, by any rule of `RULES`.

    query, key: [batch, heads, time, key_dim]; value: [batch, heads, time, value_dim], one floating dtype.
    log_gate: natural logarithm of what is kept, at most 0; None, [heads], [batch, heads, time] or
    [batch, heads, time, key_dim], as the rule's gate is "none", "constant", "scalar" or "vector".
    beta: [batch, heads, time] in [0, 2], for the delta rules only, whose keys should have length 1: see `unit_keys`.
    bonus: [heads, key_dim], for "rwkv6" only. Gates, beta and bonus have the inputs' dtype or float32.
    scale: of the queries, defaults to key_dim ** -0.5 (it cancels in "linear").
    state: what came before, [batch, heads, key_dim, value_dim] ("linear": value_dim + 1) in float32 or float64, or None
    for nothing.
    chunk_size: of the chunkwise form in PyTorch; None chooses by length. The kernels take theirs from a table.
    form: "chunkwise", or "recurrent" for the loop over tokens. A step of decoding is time 1 with the state carried.
    implementation: "oracle" (the loop in float64), "torch", "triton" (interpreted without a GPU; of the delta rules the
    outputs alone, token by token, without gradients); None: the kernels on a GPU where they take the call, those of
    the delta rules up to WALKED tokens, and the plain form elsewhere.

    Returns (output: [batch, heads, time, value_dim] in the inputs' dtype, state: float32, or float64 for float64).
    "linear" is 0 where nothing weighs anything: where every key seen is so negative that its features round to 0.
    A token does not reach the outputs before it, infinite or nan (on a GPU an infinite value may, within its chunk). A
    gate of -inf forgets all, as where a new text begins; in the kernels each one in a chunk costs what later tokens of
    the chunk read a relative 1e-5.
    Derivatives: of every order, backward, forward and by torch.func, in the plain forms; the kernels have the first,
    backward, and refuse others. Raises ValueError for bad input, RuntimeError where triton is asked for and cannot run.
    Values of gates and beta are checked on a CPU only, where reading them costs no wait.
    """
    rule = rule_named(rule)
    _check(query, key, value, rule, state, chunk_size, form)
    _check_gates(query, value, rule, log_gate, beta, bonus)
    scale = calls.scale_of(scale, query.shape[3])
    loop = f"form {form!r} is a loop in PyTorch and has no kernel" if form != "chunkwise" else ""
    misfit = loop or _misfit_of_rule(rule, implementation, query, key, value, log_gate, beta, state)
    chosen = _chosen(query, value, chunk_size, implementation, misfit)
    tensors = dict(log_gate=log_gate, beta=beta, bonus=bonus, scale=scale, state=state)
    if chosen == "oracle" or form == "recurrent":
        dtype = torch.float64 if chosen == "oracle" else wide(value.dtype)
        return oracle(query, key, value, rule=rule.name, **tensors, dtype=dtype)
    return chunkwise(query, key, value, rule=rule.name, **tensors, chunk_size=chunk_size, implementation=chosen)


def chunkwise(
    query, key, value, *, rule, log_gate=None, beta=None, bonus=None, scale, state=None,
    chunk_size=None, implementation=None,
):  # fmt: skip
    """Every rule by chunks: linear in time, vectorised, differentiable. Arguments as in `recurrence`, not checked.

    The rules that only fade are one computation; what differs between them is done before it and after it.
    """
    rule = rule_named(rule)
    state = new_state(query, value, rule=rule.name) if state is None else state.to(wide(value.dtype))
    if query.shape[2] == 0:
        return value.clone(), state.clone()
    gate = gates(log_gate, rule, query)
    gate = gate if rule.gate == "vector" else gate[..., 0]
    misfit = _misfit_of_rule(rule, implementation, query, key, value, log_gate, beta, state)
    chosen = _chosen(query, value, chunk_size, implementation, misfit)
    if chosen == "torch":
        chunk_size = chunk_size or chunk_for(query.shape[2])
    settings = dict(scale=scale, state=state, chunk_size=chunk_size)
    if rule.erases:
        return _erasing(query, key, value, gate, beta, implementation=chosen, **settings)
    settings["implementation"] = chosen
    if rule.bonus:
        return _read_before_write(query, key, value, gate, bonus, **settings)
    if rule.feature_map is None:
        return gated_recurrence(query, key, value, gate, **settings)
    by = _normalised_beside if settings["implementation"] == "triton" else _normalised_within
    return by(query, key, value, gate, rule, **settings)


def _erasing(query, key, value, log_gate, beta, *, scale, state, chunk_size, implementation):
    """The delta rules: by chunks, or token by token in the kernel, where no token reaches the outputs before it."""
    if implementation == "triton":
        return operators.delta_operator(query, key, value, log_gate, beta, state, scale)

    def form(query, key, value, log_gate, beta, state):
        if query.shape[2] == 1:  # a decoded token needs no system of equations
            gates_ = dict(log_gate=log_gate, beta=beta, scale=scale, state=state)
            return oracle(query, key, value, rule="gated_delta", **gates_, dtype=wide(value.dtype))
        return delta_chunkwise(query, key, value, log_gate, beta, scale=scale, state=state, chunk_size=chunk_size)

    return _hiding(form, "gated_delta", query, key, value, log_gate, beta, scale=scale, state=state)


def _read_before_write(query, key, value, log_gate, bonus, *, scale, state, **settings):
    """RWKV-6 from the gated recurrence: a token reads the state before it, so keys, values and gates shift by one."""
    late = (pad(each[:, :, :-1], (0, 0, 1, 0)) for each in (key, value, log_gate))
    output, before = gated_recurrence(query, *late, scale=scale, state=state, **settings)
    query, last_key, last_value = query.to(before), key[:, :, -1:].to(before), value[:, :, -1:].to(before)
    state = log_gate[:, :, -1].to(before).exp()[..., None] * before + last_key.mT @ last_value
    own = (query * bonus[:, None].to(before) * key).sum(-1, keepdim=True)
    return (output + scale * own * value).to(value.dtype), state


def _normalised_within(query, key, value, log_gate, rule, *, state, **settings):
    """Linear attention from the gated recurrence; the sum of weights is one more column of the value."""
    inputs = features(query.to(state), key.to(state), value.to(state), rule)
    output, state = gated_recurrence(*inputs, log_gate, state=state, **settings)
    return normalised(output, rule).to(value.dtype), state


def _normalised_beside(query, key, value, log_gate, rule, *, state, scale, **settings):
    """The same for the kernels, which take no such width: the weights are summed beside, as a running sum of keys.

    float16 becomes float32: features below 6e-8 would round to 0.
    """
    given, dtype = value.dtype, torch.float32 if value.dtype == torch.float16 else value.dtype
    query, key, _ = features(query.to(state), key.to(state), value, rule)
    query, key = query.to(dtype), key.to(dtype)
    weights = state[..., -1][:, :, None] + key.to(state).cumsum(2)  # [batch, heads, time, key_dim]
    before = state[..., :-1].contiguous()
    output, after = gated_recurrence(query, key, value.to(dtype), log_gate, scale=scale, state=before, **settings)
    total = (query.to(state) * weights).sum(-1, keepdim=True) * scale
    return mean(output.to(state), total).to(given), torch.cat([after, weights[:, :, -1, :, None]], -1)


def gated_recurrence(query, key, value, log_gate, *, scale, state, chunk_size=None, implementation=None):
    """The rules that only fade: S = diag(exp(log_gate)) S + keyᵀ value, output = scale · query S. Not checked.

    log_gate: [batch, heads, time] or [batch, heads, time, key_dim]; state a tensor; others as in `recurrence`.
    """
    chosen, state = _chosen(query, value, chunk_size, implementation), state.to(wide(value.dtype))
    if query.shape[2] == 0:
        return value.clone(), state.clone()

    def form(query, key, value, log_gate, state):
        if chosen == "triton":
            return operators.gated_forward_operator(query, key, value, log_gate, state, scale)
        if query.shape[2] == 1:  # a decoded token needs no chunk
            return gated_step(query, key, value, log_gate, scale=scale, state=state)
        settings = dict(scale=scale, chunk_size=chunk_size)
        if calls.carries_tangents():  # which `Gated` would lose
            return gated_chunkwise(query, key, value, log_gate, state=state, **settings)
        return Gated.apply(query, key, value, log_gate, state, settings)

    rule = "gla" if log_gate.ndim == 4 else "gated"
    return _hiding(form, rule, query, key, value, log_gate, scale=scale, state=state)


def _hiding(form, rule, query, key, value, *gates, scale, state):
    """form(query, key, value, *gates, state), and no token reaches the outputs before it.

    In a chunk a weight of 0 times an infinite product is nan: from the first such token on, the loop goes on instead.
    """
    place = calls.first_overflow(key, value) if query.shape[2] > 1 else None
    if place is None:
        return form(query, key, value, *gates, state)
    outputs, tensors = [], (query, key, value, *gates)
    if place:
        output, state = form(*(each[:, :, :place] for each in tensors), state)
        outputs.append(output)
    query, key, value, *late = (each[:, :, place:] for each in tensors)
    late = dict(zip(("log_gate", "beta"), late, strict=False))
    output, state = oracle(query, key, value, rule=rule, **late, scale=scale, state=state, dtype=wide(value.dtype))
    return torch.cat([*outputs, output], 2), state


def _chosen(query, value, chunk_size, implementation, misfit=""):
    """Who answers a call. misfit: what the call has against the kernels beside its sizes, as a clause."""
    sizes = calls.misfit_of_sizes(DIMS, key_dim=query.shape[3], value_dim=value.shape[3])
    return calls.choose(implementation, query.device, query.dtype, misfit or _misfit_of_chunks(chunk_size) or sizes)


def _misfit_of_rule(rule, implementation, query, *tensors):
    """Why the kernel of a delta rule does not take a call, as a clause; "" where it does, and for other rules."""
    if rule.erases and calls.wants_gradient(query, *tensors):
        return f"the kernel of the rule {rule.name!r} has no backward pass, and an input wants a gradient"
    if rule.erases and implementation != "triton" and query.shape[2] > WALKED:
        return f"the kernel of the rule {rule.name!r} takes one token after the other"
    return ""


def _misfit_of_chunks(chunk_size):
    if chunk_size is None:
        return ""
    return f"the kernels take their chunk size from a table; chunk_size is {chunk_size}"


def _check(query, key, value, rule, state, chunk_size, form):
    """Raise ValueError with one sentence, what was given and what is wanted, unless the call makes sense."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; it is {form!r}.")
    if chunk_size is not None:
        calls.require_count("chunk_size", chunk_size)
    calls.require_rank("batch, heads, time, head_dim", query=query, key=key, value=value)
    calls.require_alike(query=query, key=key, value=value)
    if query.shape != key.shape or query.shape[:3] != value.shape[:3]:
        raise ValueError(
            "query and key must agree, and value with them but for its last size; "
            f"got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}."
        )
    calls.require_sizes(heads=query.shape[1], key_dim=query.shape[3], value_dim=value.shape[3])
    columns = value.shape[3] + (rule.feature_map is not None)
    calls.require_state(state, (*query.shape[:2], query.shape[3], columns), query, f" for the rule {rule.name!r}")


def _check_gates(query, value, rule: Rule, log_gate, beta, bonus):
    """Raise ValueError for a gate, beta or bonus that the rule does not want, or of another shape, dtype or range."""
    batch, heads, time, key_dim = query.shape
    gate_shapes = {"none": None, "constant": (heads,), "scalar": (batch, heads, time), "vector": tuple(query.shape)}
    wanted = {
        "log_gate": (log_gate, gate_shapes[rule.gate]),
        "beta": (beta, (batch, heads, time) if rule.erases else None),
        "bonus": (bonus, (heads, key_dim) if rule.bonus else None),
    }
    for name, (tensor, shape) in wanted.items():
        if (tensor is None) != (shape is None) or (tensor is not None and tuple(tensor.shape) != shape):
            given = None if tensor is None else tuple(tensor.shape)
            raise ValueError(f"{name} must be {shape} for the rule {rule.name!r}; its shape is {given}.")
        if tensor is not None and tensor.dtype not in (value.dtype, torch.float32):
            raise ValueError(f"{name} must be {value.dtype}, as the value, or float32; it is {tensor.dtype}.")
        if tensor is not None:
            calls.require_device(**{"query": query, name: tensor})
    if query.device.type != "cpu" or torch.compiler.is_compiling() or query.numel() == 0:
        return
    if log_gate is not None and not (log_gate.detach() <= 0).all():
        raise ValueError(f"log_gate must be at most 0, the logarithm of a share; its largest is {log_gate.max():g}.")
    if beta is not None and not ((beta.detach() >= 0) & (beta.detach() <= 2)).all():
        raise ValueError(f"beta must lie in [0, 2]; it goes from {beta.min():g} to {beta.max():g}.")
