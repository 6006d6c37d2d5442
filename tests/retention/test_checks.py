"""Retention's exercises: an unsolved stub fails, a solution passes, and each likely mistake is named."""

import math

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved


def step(query, key, value, decay, state):
    state = decay * state + torch.outer(key, value)
    return query @ state, state


def step_by(change):
    """A wrong step: `change` gives (output, state) from the token, the decay, the old and the right new state."""

    def wrong(query, key, value, decay, state):
        return change(query, torch.outer(key, value), decay, state)

    return wrong


def inside(query, key, value, decay):
    place = torch.arange(len(query))
    distance = place[:, None] - place[None, :]
    return (query @ key.T * torch.where(distance >= 0, decay**distance, 0.0)) @ value


def chunks(query, key, value, decay, size, *, late=False, power=1, keys=lambda decay, leaving: decay**leaving):
    """By chunks of `size` tokens; the settings spoil it."""
    state, outputs = torch.zeros(key.shape[1], value.shape[1], dtype=value.dtype), []
    for q, k, v in zip(*(each.split(size) for each in (query, key, value)), strict=True):
        place = torch.arange(len(q))[:, None]
        after = decay ** len(q) * state + (keys(decay, len(q) - 1 - place) * k).T @ v
        read = after if late else state
        outputs.append(inside(q, k, v, decay) + decay ** (place + power) * (q @ read))
        state = after
    return torch.cat(outputs)


def linear(query, key, value):
    state, total = torch.zeros(key.shape[1], value.shape[1], dtype=value.dtype), torch.zeros_like(key[0])
    outputs = []
    for q, k, v in zip(query, key, value, strict=True):
        state, total = state + torch.outer(k, v), total + k
        outputs.append(q @ state / (q @ total))
    return torch.stack(outputs)


@triton.jit
def step_kernel(query_pointer, key_pointer, value_pointer, state_pointer, output_pointer, after_pointer, decay,
                KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr):  # fmt: skip
    keys, values = tl.arange(0, KEY_DIM), tl.arange(0, VALUE_DIM)
    tile = keys[:, None] * VALUE_DIM + values[None, :]
    query, key, value = tl.load(query_pointer + keys), tl.load(key_pointer + keys), tl.load(value_pointer + values)
    state = decay * tl.load(state_pointer + tile) + key[:, None] * value[None, :]
    tl.store(after_pointer + tile, state)
    tl.store(output_pointer + values, tl.sum(query[:, None] * state, 0))


def launched_step(query, key, value, decay, state):
    output, after = torch.empty_like(value), torch.empty_like(state)
    step_kernel[(1,)](query, key, value, state, output, after, decay, KEY_DIM=len(key), VALUE_DIM=len(value))
    return output, after


@triton.jit
def ragged_kernel(query_pointer, key_pointer, value_pointer, output_pointer, state_pointer, log2_decay, time,
                  FADE_WHOLE: tl.constexpr, MASKED: tl.constexpr, D: tl.constexpr, C: tl.constexpr):  # fmt: skip
    place, dims = tl.arange(0, C), tl.arange(0, D)
    distance = place[:, None] - place[None, :]
    fade = tl.where(distance >= 0, tl.exp2(log2_decay * distance), 0.0)
    state = tl.zeros([D, D], tl.float32)
    for first in range(0, time, C):
        length = tl.minimum(C, time - first)
        there = ((place < length) | (not MASKED))[:, None]
        rows = (first + place)[:, None] * D + dims[None, :]
        query = tl.load(query_pointer + rows, mask=there, other=0.0)
        key = tl.load(key_pointer + rows, mask=there, other=0.0)
        value = tl.load(value_pointer + rows, mask=there, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * fade
        across = tl.dot(query, state, input_precision="ieee") * tl.exp2(log2_decay * (place + 1))[:, None]
        output = tl.dot(scores, value, input_precision="ieee") + across
        tl.store(output_pointer + rows, output, mask=(place < length)[:, None])
        if FADE_WHOLE:
            length = C
        left = key * tl.exp2(log2_decay * tl.maximum(length - 1 - place, 0))[:, None]
        state = state * tl.exp2(log2_decay * length) + tl.dot(tl.trans(left), value, input_precision="ieee")
    tl.store(state_pointer + dims[:, None] * D + dims[None, :], state)


def ragged(query, key, value, decay, fade_whole=False, time=None, masked=True):
    output, state = torch.zeros_like(value), torch.empty(16, 16, device=value.device)
    ragged_kernel[(1,)](
        query, key, value, output, state, math.log2(decay), time or len(query),
        FADE_WHOLE=fade_whole, MASKED=masked, D=16, C=16,
    )  # fmt: skip
    return output, state


SOLVED = {
    "retention.by_hand": 25.5,
    "retention.same_size": 512,
    "retention.even_chunk": 170.7,
    "retention.step": step,
    "retention.chunk": chunks,
    "retention.decays": lambda half_lives: [0.5 ** (1 / each) for each in half_lives],
    "retention.linear": linear,
    "retention.step_kernel": launched_step,
    "retention.ragged_kernel": ragged,
}
STEPS = [  # (output, state) of one token from the query, its kᵀv, the decay and the old state
    (lambda q, w, d, s: (q @ (s + w), s + w), "Nothing fades"),
    (lambda q, w, d, s: (q @ (d * (s + w)), d * (s + w)), "The new token has faded too"),
    (lambda q, w, d, s: (q @ (s + d * w), s + d * w), "The decay is on the new token"),
    (lambda q, w, d, s: (q @ (d * s), d * s), "never written"),
    (lambda q, w, d, s: (q @ s, d * s + w), "does not see itself"),
    (lambda q, w, d, s: (q @ (d * s), d * s + w), "does not see itself"),
    (lambda q, w, d, s: (q @ (d * s + w), s), "not the one that was read"),
    (lambda q, w, d, s: (2 * (q @ (d * s + w)), d * s + w), "The state is right, the output is not"),
    (lambda q, w, d, s: (q @ (d * s + w), (d * s + w).mT), "it is kᵀv, keys by values"),
    (lambda q, w, d, s: ((q @ (d * s + w))[:1], d * s + w), "The output is"),
    (lambda q, w, d, s: q @ (d * s + w), "Return two things"),
    (lambda q, w, d, s: (q @ (d * s + 3 * w), d * s + 3 * w), "The state is off by"),
]


def changed(query, key, value, decay, state):
    output, after = launched_step(query, key, value, decay, state)
    return output, state.copy_(after)


def in_torch(query, key, value, decay):
    state, outputs = torch.zeros(key.shape[1], value.shape[1]), []
    for token in zip(query, key, value, strict=True):
        output, state = step(*token, decay, state)
        outputs.append(output)
    return torch.stack(outputs), state


MISTAKES = [
    ("retention.by_hand", 36, "Nothing faded"),
    ("retention.by_hand", 12.75, "halved too"),
    ("retention.by_hand", 15, "before the third token was written"),
    ("retention.by_hand", 7.5, "third token is missing"),
    ("retention.by_hand", 8.5, "That is the state"),
    ("retention.same_size", 2048, "the opening's RetNet"),
    ("retention.same_size", 256, "four bytes per number"),
    ("retention.same_size", 1024, "count both"),
    ("retention.same_size", 128, "key-value heads"),
    ("retention.same_size", 16384, "layers cancel"),
    ("retention.same_size", 32, "as many states as heads"),
    ("retention.even_chunk", 85.3, "written once and read once"),
    ("retention.even_chunk", 341.3, "two operations"),
    ("retention.even_chunk", 128, "here E = 2D"),
    ("retention.chunk", lambda *case: chunks(*case, late=True), "from *before* the chunk"),
    ("retention.chunk", lambda *case: chunks(*case, power=0), "a step short"),
    ("retention.chunk", lambda *case: chunks(*case, keys=lambda d, leaving: d ** (leaving + 1)), "one step too many"),
    ("retention.chunk", lambda *case: chunks(*case, keys=lambda d, leaving: d ** (0 * leaving)), "have not faded"),
    ("retention.chunk", lambda *case: chunks(*case, keys=lambda d, leaving: d ** leaving.flip(0)), "the wrong way"),
    ("retention.chunk", lambda q, k, v, d, size: torch.cat([
        inside(*each, d) for each in zip(*(x.split(size) for x in (q, k, v)), strict=True)]), "does not see the first"),
    ("retention.chunk", lambda *case: chunks(*case)[1:], "it must be"),
    ("retention.chunk", lambda *case: 3 * chunks(*case), "from *before* the chunk"),
    ("retention.decays", lambda lives: [math.exp(-1 / each) for each in lives], "leaves 1/e"),
    ("retention.decays", lambda lives: [1 - 0.1 / each for each in lives], "is left, not one half"),
    ("retention.decays", lambda lives: [2.0 for _ in lives], "lies in (0, 1]"),
    ("retention.decays", lambda lives: [0.5], "2 half-lives give 2 decays"),
    ("retention.linear", lambda q, k, v: (q @ k.T).tril() @ v, "do not sum to one"),
    ("retention.linear", lambda q, k, v: q @ k.T @ v / (q @ k.sum(0))[:, None], "sees later ones"),
    ("retention.linear", lambda q, k, v: (q @ k.T).tril() @ v / (q @ k.sum(0))[:, None], "counts later tokens"),
    ("retention.linear", lambda q, k, v: (q @ k.T).tril() @ v / (q @ k.T)[-1].sum(), "One divisor serves all"),
    ("retention.linear", lambda q, k, v: linear(q, k, 2 * v), "are off by"),
    ("retention.step_kernel", lambda q, k, v, d, s: launched_step(q, k, v, 1.0, s), "nothing fades"),
    ("retention.step_kernel", lambda q, k, v, d, s: (launched_step(q, k, v, d, s)[0], s), "not the one that was read"),
    ("retention.step_kernel", lambda q, k, v, d, s: launched_step(q, k, 2 * v, d, s), "decay · state + kᵀv"),
    ("retention.step_kernel", lambda *case: launched_step(*case)[0], "return 2 tensors (output, state)"),
    ("retention.step_kernel", changed, "has changed"),
    ("retention.step_kernel", step, "No Triton kernel was launched"),
    ("retention.ragged_kernel", in_torch, "No Triton kernel was launched"),
    ("retention.ragged_kernel", lambda *case: ragged(*case, fade_whole=True), "steps too many"),
    ("retention.ragged_kernel", lambda q, k, v, d: ragged(q, k, v, d, time=len(q) // 16 * 16), "past the end masked"),
    ("retention.ragged_kernel", lambda *case: ragged(*case, masked=False), "reads outside query_pointer"),
    ("retention.ragged_kernel", lambda *case: (ragged(*case)[0], ragged(*case)[1].mT), "the last state is not"),
    ("retention.ragged_kernel", lambda q, k, v, d: ragged(q, k, v, d * d), "whole chunks are off"),
    *(("retention.step", step_by(change), sentence) for change, sentence in STEPS),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_likely_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
