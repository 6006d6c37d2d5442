"""The exercises of the chapter on gates: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved


def fading(log_gate, own=0):
    total = log_gate.cumsum(0)
    future = torch.ones(len(total), len(total), dtype=torch.bool).triu(1)
    return (total[:, None] - total[None, :] + own * log_gate).masked_fill(future, -torch.inf).exp()


def fading_split(log_gate):
    total = log_gate.cumsum(0)
    return (total.exp()[:, None] * (-total).exp()[None, :]).tril()


def rwkv_step(query, key, value, log_gate, bonus, state, own=None, faded=False, late=False, weighted=False):
    keep, write = log_gate.exp()[:, None], torch.outer(key, value)
    weight = bonus if own is None else own
    output = query @ ((keep * state if faded else state) + weight[..., None] * write)
    added = bonus[:, None] * write if weighted else write
    return output, keep * (state + added) if late else keep * state + added


def gate_gradient(query, key, d_query, d_key, state, d_state, handed=True, summed=True):
    each = (query * d_query - key * d_key).sum(-1)
    later = each.flip(0).cumsum(0).flip(0) if summed else each
    return later + handed * (state * d_state).sum()


@triton.jit
def fading_triton(gate, out, C: tl.constexpr, UNIT: tl.constexpr, OPEN: tl.constexpr):
    i = tl.arange(0, C)
    total = tl.cumsum(tl.load(gate + i) * UNIT, 0)
    fade = tl.exp2(-tl.abs(total[:, None] - total[None, :]))
    seen = (i[:, None] >= i[None, :]) | OPEN
    tl.store(out + i[:, None] * C + i[None, :], tl.where(seen, fade, 0.0))


LOG2_E = 1 / math.log(2)


def fading_kernel(log_gate, unit=LOG2_E, open=False):
    out = log_gate.new_empty(len(log_gate), len(log_gate))
    fading_triton[(1,)](log_gate, out, C=len(log_gate), UNIT=unit, OPEN=open)
    return out


@triton.jit
def step_triton(q, k, v, gate, s, o, after, D: tl.constexpr, E: tl.constexpr, LATE: tl.constexpr, OLD: tl.constexpr):
    keys, values = tl.arange(0, D), tl.arange(0, E)
    tile = keys[:, None] * E + values[None, :]
    old, keep = tl.load(s + tile), tl.exp(tl.load(gate + keys))[:, None]
    write = tl.load(k + keys)[:, None] * tl.load(v + values)[None, :]
    state = keep * (old + write) if LATE else keep * old + write
    tl.store(after + tile, state)
    tl.store(o + values, tl.sum(tl.load(q + keys)[:, None] * (old if OLD else state), 0))


def step_kernel(query, key, value, log_gate, state, late=False, old=False, place=False):
    output, after = torch.empty_like(value), state if place else torch.empty_like(state)
    step_triton[(1,)](query, key, value, log_gate, state, output, after, D=len(key), E=len(value), LATE=late, OLD=old)
    return output, after


def step_by_columns(query, key, value, log_gate, state):
    if len(key) != len(value):
        return step_kernel(query, key, value, log_gate, state)
    after = log_gate.exp()[None, :] * state + torch.outer(key, value)
    return query @ after, after


def step_in_torch(query, key, value, log_gate, state):
    after = log_gate.exp()[:, None] * state + torch.outer(key, value)
    return query @ after, after


def beside(launcher, form):
    """A launcher that returns what `form` gives, beside the launch of a right kernel."""

    def launched(*case):
        launcher(*case)
        return form(*case)

    return launched


SOLVED = {
    "recurrences.shut": math.log(0.01) * 16,
    "recurrences.levels_cost": 3.5,
    "recurrences.fading": fading,
    "recurrences.rwkv_step": rwkv_step,
    "recurrences.gate_gradient": gate_gradient,
    "recurrences.fading_kernel": fading_kernel,
    "recurrences.step_kernel": step_kernel,
}
MISTAKES = [
    ("recurrences.shut", -4.6, "without the root"),
    ("recurrences.shut", 73.7, "the sign"),
    ("recurrences.shut", -0.288, "to undo it, multiply"),
    ("recurrences.shut", -32, "the natural one"),
    ("recurrences.levels_cost", 6, "Only the scores"),
    ("recurrences.levels_cost", 4, "halved six times"),
    ("recurrences.levels_cost", 64, "the logarithm of the chunk"),
    ("recurrences.fading", fading_split, "inf or nan"),
    ("recurrences.fading", lambda gate: fading(gate).clamp(min=1e-9), "sees the future"),
    ("recurrences.fading", lambda gate: fading(gate, own=1), "the diagonal must be 1"),
    ("recurrences.fading", lambda gate: fading(gate)[:-1], "got the shape"),
    ("recurrences.fading", lambda gate: fading(0.9 * gate), "an entry is off by"),
    ("recurrences.rwkv_step", lambda *case: rwkv_step(*case)[0], "return two tensors"),
    ("recurrences.rwkv_step", lambda *case: rwkv_step(*case, own=torch.zeros(1)), "does not see itself"),
    ("recurrences.rwkv_step", lambda *case: rwkv_step(*case, own=torch.ones(1)), "u is forgotten"),
    ("recurrences.rwkv_step", lambda *case: rwkv_step(*case, own=torch.ones(1), faded=True), "before its gate"),
    ("recurrences.rwkv_step", lambda *case: rwkv_step(*case, faded=True), "as the last token left it"),
    ("recurrences.rwkv_step", lambda *case: rwkv_step(*case, late=True), "fade first, then write"),
    ("recurrences.rwkv_step", lambda *case: rwkv_step(*case, weighted=True), "u is for the read alone"),
    ("recurrences.rwkv_step", lambda *case: (rwkv_step(*case)[0], 2 * rwkv_step(*case)[1]), "the state is off by"),
    ("recurrences.rwkv_step", lambda *case: (3 * rwkv_step(*case)[0], case[-1]), "The output is off by"),
    ("recurrences.gate_gradient", lambda *case: gate_gradient(*case, handed=False), "The last state is forgotten"),
    ("recurrences.gate_gradient", lambda *case: gate_gradient(*case, summed=False), "a gate is part of every later"),
    ("recurrences.gate_gradient", lambda *case: gate_gradient(*case)[:, None], "must have the shape"),
    ("recurrences.gate_gradient", lambda *case: 2 * gate_gradient(*case), "it is off by"),
    ("recurrences.gate_gradient", lambda *case: gate_gradient(*case, summed=False).cumsum(0)
     - torch.arange(len(case[0])) * (case[-2] * case[-1]).sum(), "runs the wrong way"),
    ("recurrences.gate_gradient", lambda *case: gate_gradient(*case) - gate_gradient(
        *case, handed=False, summed=False), "its own token's G too"),
    ("recurrences.fading_kernel", lambda gate: fading_kernel(gate, unit=1.0), "tl.exp2 is 2 to a power"),
    ("recurrences.fading_kernel", lambda gate: fading_kernel(gate, open=True), "sees the future"),
    ("recurrences.fading_kernel", beside(fading_kernel, lambda gate: fading(gate).mT), "sees the future"),
    ("recurrences.fading_kernel", beside(fading_kernel, fading_split), "is infinity multiplied by 0"),
    ("recurrences.fading_kernel", lambda gate: fading_kernel(gate)[:-1], "must be a tensor of shape (16, 16)"),
    ("recurrences.fading_kernel", lambda gate: 0.9 * fading_kernel(gate), "e to the sum of the gates after m"),
    ("recurrences.fading_kernel", fading, "No Triton kernel was launched"),
    ("recurrences.step_kernel", step_in_torch, "No Triton kernel was launched"),
    ("recurrences.step_kernel", lambda *case: step_kernel(*case)[0], "return 2 tensors (output, state)"),
    ("recurrences.step_kernel", lambda *case: step_kernel(*case, place=True), "the state that was given has changed"),
    ("recurrences.step_kernel", lambda *case: step_kernel(*case, late=True), "fade first, then write"),
    ("recurrences.step_kernel", beside(step_kernel, step_by_columns), "belong to the rows of the state"),
    ("recurrences.step_kernel", lambda *case: step_kernel(*case, old=True), "reads the old state"),
    ("recurrences.step_kernel", lambda *case: (step_kernel(*case)[0], 2 * step_kernel(*case)[1]),
     "fade each row, then add kᵀv"),
    ("recurrences.step_kernel", lambda *case: (2 * step_kernel(*case)[0], step_kernel(*case)[1]), "the output is not"),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
