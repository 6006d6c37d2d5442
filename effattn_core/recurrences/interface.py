"""`recurrence`: one call for every rule, form and implementation; and the checks of its arguments."""

import math

import torch
from torch.nn.functional import pad

from effattn_core.recurrences.delta import delta_chunkwise
from effattn_core.recurrences.gated import gated_backward, gated_chunkwise
from effattn_core.recurrences.loop import features, gates, normalised, oracle
from effattn_core.recurrences.rules import new_state, rule_named, wide
from kernels.runtime import require_kernels

FORMS = ("chunkwise", "recurrent")


def _forward_on_cpu(query, key, value, log_gate, state, scale, chunk_size, implementation):
    if implementation == "triton":
        return run_forward(query, key, value, log_gate, state, scale, chunk_size, implementation)
    return gated_chunkwise(query, key, value, log_gate, scale=scale, state=state, chunk_size=chunk_size)


def _backward_on_cpu(grad_output, grad_state, query, key, value, log_gate, state, scale, chunk_size, implementation):
    tensors = grad_output, grad_state, query, key, value, log_gate, state
    if implementation == "triton":
        return run_backward(*tensors, scale, chunk_size, implementation)
    return gated_backward(*tensors, scale=scale, chunk_size=chunk_size)


try:  # where triton is not installed the chunkwise form serves alone, and autograd goes through it
    from kernels.recurrences import HEAD_DIMS
    from kernels.recurrences.operators import gated_backward_operator, gated_forward_operator, run_backward, run_forward
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    gated_forward_operator = None
else:
    gated_forward_operator.register_kernel("cpu")(_forward_on_cpu)
    gated_backward_operator.register_kernel("cpu")(_backward_on_cpu)


def recurrence(
    query, key, value, *, rule, log_gate=None, beta=None, bonus=None, scale=None, state=None,
    chunk_size=64, form="chunkwise", implementation=None,
):  # fmt: skip
    """A state that fades, is written and is read, a token at a time, by any rule of `RULES`.

    query, key: [batch, heads, time, key_dim]; value: [batch, heads, time, value_dim], one floating dtype.
    log_gate: natural logarithm of what is kept, at most 0; None, [heads], [batch, heads, time] or
    [batch, heads, time, key_dim], as the rule's gate is "none", "constant", "scalar" or "vector".
    beta: [batch, heads, time] in [0, 2], for the delta rules only, whose keys should have length 1: see `unit_keys`.
    bonus: [heads, key_dim], for "rwkv6" only. Gates, beta and bonus have the inputs' dtype or float32.
    scale: of the queries, defaults to key_dim ** -0.5 (it cancels in "linear").
    state: what came before, [batch, heads, key_dim, value_dim] ("linear": value_dim + 1), or None for nothing.
    chunk_size: of the chunkwise form in PyTorch; the kernels have their own.
    form: "chunkwise", or "recurrent" for the loop over tokens. A step of decoding is time 1 with the state carried.
    implementation: "oracle" (the loop in float64), "torch", "triton" (interpreted without a GPU; not for the delta
    rules), or None for what suits the device.

    Returns (output: [batch, heads, time, value_dim] in the inputs' dtype, state: float32, or float64 for float64).
    Raises ValueError for bad input, RuntimeError where triton is asked for and cannot run. Values of gates and beta are
    checked on a CPU only, where reading them costs no wait.
    """
    rule = rule_named(rule)
    check(query, key, value, rule, log_gate, beta, bonus, scale, state, chunk_size, form, implementation)
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    tensors = dict(log_gate=log_gate, beta=beta, bonus=bonus, scale=scale, state=state)
    if implementation == "oracle" or form == "recurrent":
        dtype = torch.float64 if implementation == "oracle" else wide(value.dtype)
        return oracle(query, key, value, rule=rule.name, **tensors, dtype=dtype)
    return chunkwise(query, key, value, rule=rule.name, **tensors, chunk_size=chunk_size, implementation=implementation)


def chunkwise(
    query, key, value, *, rule, log_gate=None, beta=None, bonus=None, scale, state=None,
    chunk_size=64, implementation=None,
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
    settings = dict(scale=scale, state=state, chunk_size=chunk_size)
    if rule.erases:
        return delta_chunkwise(query, key, value, gate, beta, **settings)
    settings["implementation"] = implementation
    if rule.bonus:
        return _read_before_write(query, key, value, gate, bonus, **settings)
    if rule.feature_map is not None:
        return _normalised(query, key, value, gate, rule, **settings)
    return gated_recurrence(query, key, value, gate, **settings)


def _read_before_write(query, key, value, log_gate, bonus, *, scale, state, **settings):
    """RWKV-6 from the gated recurrence: a token reads the state before it, so keys, values and gates come one late."""
    late = (pad(each[:, :, :-1], (0, 0, 1, 0)) for each in (key, value, log_gate))
    output, before = gated_recurrence(query, *late, scale=scale, state=state, **settings)
    query, last_key, last_value = query.to(before), key[:, :, -1:].to(before), value[:, :, -1:].to(before)
    state = log_gate[:, :, -1].to(before).exp()[..., None] * before + last_key.mT @ last_value
    own = (query * bonus[:, None].to(before) * key).sum(-1, keepdim=True)
    return (output + scale * own * value).to(value.dtype), state


def _normalised(query, key, value, log_gate, rule, *, state, **settings):
    """Linear attention from the gated recurrence; the sum of weights is one more column of the value.

    The kernels take no such width: for them the column is summed beside, as a running sum of keys.
    """
    given = value.dtype
    query, key, wider = features(query.to(state), key.to(state), value.to(state), rule)
    if not _by_kernel(query, value, settings["implementation"]):
        output, state = gated_recurrence(query, key, wider, log_gate, state=state, **settings)
        return normalised(output, rule).to(given), state
    query, key = query.to(given), key.to(given)
    weights = state[..., -1][:, :, None] + key.to(state).cumsum(2)  # [batch, heads, time, key_dim]
    output, state = gated_recurrence(query, key, value, log_gate, state=state[..., :-1].contiguous(), **settings)
    total = (query.to(state) * weights).sum(-1, keepdim=True) * settings["scale"]
    return (output.to(state) / total).to(given), torch.cat([state, weights[:, :, -1, :, None]], -1)


def gated_recurrence(query, key, value, log_gate, *, scale, state, chunk_size=64, implementation=None):
    """The rules that only fade: S = diag(exp(log_gate)) S + keyᵀ value, output = scale · query S. Not checked.

    log_gate: [batch, heads, time] or [batch, heads, time, key_dim]; state a tensor; others as in `recurrence`.
    Through the operator `effattn::gated_recurrence_forward` on a CPU, and on a GPU where the kernels serve.
    """
    if query.shape[2] == 0:  # an operator may not return what it was given
        return value.clone(), state.clone()
    if gated_forward_operator is None or not (query.device.type == "cpu" or _by_kernel(query, value, implementation)):
        return gated_chunkwise(query, key, value, log_gate, scale=scale, state=state, chunk_size=chunk_size)
    return gated_forward_operator(query, key, value, log_gate, state, scale, chunk_size, implementation or "device")


def _by_kernel(query, value, implementation):
    """Whether a call goes to the kernels: asked for by name, or left open, on a GPU, and of a shape that they take."""
    if implementation is not None or gated_forward_operator is None or query.device.type == "cpu":
        return implementation == "triton"
    return value.dtype != torch.float64 and {query.shape[3], value.shape[3]} <= set(HEAD_DIMS)


def check(query, key, value, rule, log_gate, beta, bonus, scale, state, chunk_size, form, implementation):
    """Raise ValueError with one sentence, what was given and what is wanted, unless the call makes sense."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}; it is {form!r}.")
    if implementation not in (None, "oracle", "torch", "triton"):
        raise ValueError(f"implementation must be 'oracle', 'torch', 'triton' or None; it is {implementation!r}.")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1; it is {chunk_size}.")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number; it is {scale}.")
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim != 4:
            raise ValueError(f"{name} must be [batch, heads, time, head_dim]; its shape is {tuple(tensor.shape)}.")
    if len({query.dtype, key.dtype, value.dtype}) > 1 or not query.is_floating_point():
        raise ValueError(
            f"query, key, value must share a floating dtype; got {query.dtype}, {key.dtype}, {value.dtype}."
        )
    if query.shape != key.shape or query.shape[:3] != value.shape[:3]:
        raise ValueError(
            "query and key must agree, and value with them but for its last size; "
            f"got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}."
        )
    batch, heads, time, key_dim = query.shape
    gate_shapes = {"none": None, "constant": (heads,), "scalar": (batch, heads, time), "vector": tuple(query.shape)}
    columns = value.shape[3] + (rule.feature_map is not None)
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
    if state is not None and tuple(state.shape) != (batch, heads, key_dim, columns):
        raise ValueError(
            f"state must be {(batch, heads, key_dim, columns)} for the rule {rule.name!r}; "
            f"its shape is {tuple(state.shape)}."
        )
    if state is not None and not state.is_floating_point():
        raise ValueError(f"state must be of a floating dtype; it is {state.dtype}.")
    devices = {tensor.device for tensor in (query, key, value, log_gate, beta, bonus, state) if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"all tensors must share a device; got {', '.join(sorted(map(str, devices)))}.")
    if implementation == "triton":
        if form == "recurrent":
            raise ValueError("form 'recurrent' is a loop in PyTorch and has no kernel: leave implementation open.")
        if rule.erases:
            raise ValueError(f"the rule {rule.name!r} has no kernel: use implementation='torch'.")
        if gated_forward_operator is None:
            require_kernels()
    if query.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(log_gate, beta)


def _check_values(log_gate, beta):
    """Raise ValueError for a gate above 0 or a beta outside [0, 2]."""
    if log_gate is not None and (log_gate > 0).any():
        raise ValueError(f"log_gate must be at most 0, the logarithm of a share; its largest is {log_gate.max():g}.")
    if beta is not None and ((beta < 0) | (beta > 2)).any():
        raise ValueError(f"beta must lie in [0, 2]; it goes from {beta.min():g} to {beta.max():g}.")
