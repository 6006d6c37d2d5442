"""The exercises on loops: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved


def budget(room, cache, state, layers):
    return max(0, (room - cache) // (layers * state))


def in_loops(blocks, hidden, states, loops):
    kept = []
    for loop in range(loops):
        for number, block in enumerate(blocks):
            hidden, state = block(hidden, states[loop * len(blocks) + number])
            kept.append(state)
    return hidden, kept


def with_one_set_of_states(blocks, hidden, states, loops):
    states = list(states)
    for _ in range(loops):
        for number, block in enumerate(blocks):
            hidden, states[number] = block(hidden, states[number])
    return hidden, states


def layer_by_layer(blocks, hidden, states, loops):
    for number, block in enumerate(blocks):
        for loop in range(loops):
            hidden, states[loop * len(blocks) + number] = block(hidden, states[loop * len(blocks) + number])
    return hidden, states


def once(below, write, above, hidden, loops):
    for _ in range(loops):
        hidden = below(hidden)
    return above(hidden, write(hidden))


def written_each_loop(below, write, above, hidden, loops):
    for _ in range(loops):
        hidden = below(hidden)
        cache = write(hidden)
    return above(hidden, cache)


def written_first(below, write, above, hidden, loops):
    cache = write(hidden)
    for _ in range(loops):
        hidden = below(hidden)
    return above(hidden, cache)


def all_of_it_in_the_loop(below, write, above, hidden, loops):
    cache = None
    for loop in range(loops):
        hidden = below(hidden)
        cache = write(hidden) if loop == 0 else cache
        hidden = above(hidden, cache)
    return hidden


def from_the_start(below, write, above, hidden, loops):
    deep = hidden
    for _ in range(loops):
        deep = below(deep)
    return above(hidden, write(deep))


@triton.jit
def chip_kernel(H, W, Out, loops, D: tl.constexpr, AGAIN: tl.constexpr):
    dims = tl.arange(0, D)
    tile = W + dims[:, None] * D + dims[None, :]
    hidden, weight = tl.load(H + dims), tl.load(tile)
    for _ in range(loops):
        if AGAIN:
            weight = tl.load(tile)
        column = tl.reshape(hidden, (D, 1))
        hidden += tl.maximum(tl.sum(column * weight, 0), 0.0)
    tl.store(Out + dims, hidden)


def on_chip(weight, hidden, loops, again=False):
    output = torch.empty_like(hidden)
    chip_kernel[(1,)](hidden, weight, output, loops, D=len(hidden), AGAIN=again)
    return output


def chip(form):
    """A launcher whose stream is `form`'s: what it returns is wrong, a kernel is launched all the same."""

    def launched(weight, hidden, loops):
        on_chip(weight, hidden, loops)
        return form(weight, hidden, loops)

    return launched


def repeated(step):
    def form(weight, hidden, loops):
        stream = hidden
        for _ in range(loops):
            stream = step(stream, weight, hidden)
        return stream

    return form


def enter(loop, hidden, first):
    if loop == 0:
        return hidden
    return hidden + first * (hidden.norm(dim=-1, keepdim=True) / first.norm(dim=-1, keepdim=True))


SOLVED = {
    "universal.budget": budget,
    "universal.loops": in_loops,
    "universal.once": once,
    "universal.even_text": 24576,
    "universal.tied_gradient": 12,
    "universal.weights_read": 2.5,
    "universal.on_chip": on_chip,
    "universal.enter": enter,
}
MISTAKES = [
    ("universal.even_text", 8192, "for one loop"),
    ("universal.even_text", 12288, "float32"),
    ("universal.even_text", 49152, "not 32"),
    ("universal.even_text", 6144, "8 key heads"),
    ("universal.even_text", 1536, "one layer's state"),
    ("universal.tied_gradient", 4, "one copy"),
    ("universal.tied_gradient", 8, "the output"),
    ("universal.tied_gradient", 6, "the two *other* copies"),
    ("universal.tied_gradient", 1, "by the two others"),
    ("universal.weights_read", 4, "read once"),
    ("universal.weights_read", 1, "read again"),
    ("universal.weights_read", 2, "four times and the upper once"),
    ("universal.weights_read", 5, "two halves"),
    ("universal.on_chip", lambda w, h, n: on_chip(w, h, n, again=True), "was loaded 2 times"),
    ("universal.on_chip", repeated(lambda x, w, h: x + (x @ w).relu()), "No Triton kernel was launched"),
    ("universal.on_chip", lambda w, h, n: on_chip(w, h, n)[:1], "the stream must be a tensor of shape (16,)"),
    ("universal.on_chip", lambda w, h, n: on_chip(w, h, n - 1), "0 loops were run"),
    ("universal.on_chip", lambda w, h, n: on_chip(w, h, n + 1), "2 loops were run"),
    ("universal.on_chip", lambda w, h, n: on_chip(w.mT.contiguous(), h, n), "the weight is turned"),
    ("universal.on_chip", chip(repeated(lambda x, w, h: x + x @ w)), "the ReLU is missing"),
    ("universal.on_chip", chip(repeated(lambda x, w, h: (x @ w).relu())), "*adds* to the stream"),
    ("universal.on_chip", chip(repeated(lambda x, w, h: h + (x @ w).relu())), "the first stream"),
    ("universal.on_chip", chip(lambda w, h, n: 3 * h), "as often as is asked"),
    ("universal.on_chip", lambda w, h, n: on_chip(w[1:], h, n), "reads outside W"),
    ("universal.enter", lambda loop, hidden, first: hidden + first, "as it is"),
    ("universal.enter", lambda loop, hidden, first: hidden, "Nothing enters loop number 1"),
    ("universal.enter", lambda loop, hidden, first: hidden + first * (loop > 0), "with its own length"),
    ("universal.enter", lambda loop, hidden, first: hidden * (1 + (loop > 0)), "does not point along"),
    ("universal.enter", lambda loop, h, f: h + (enter(loop, h, f) - h) / 2, "0.5 times as long"),
    ("universal.enter", lambda loop, h, f: h + f * (loop > 0) * h.norm() / f.norm(), "Not every token's"),
    ("universal.budget", lambda room, cache, state, layers: room // (cache + layers * state), "in every loop"),
    ("universal.budget", lambda room, cache, state, layers: max(0, (room - cache) // state), "for *every* layer"),
    ("universal.budget", lambda room, cache, state, layers: room // (layers * state), "needs room too"),
    ("universal.budget", lambda room, cache, state, layers: (room - cache) // (layers * state), "which is 0 loops"),
    ("universal.budget", lambda room, cache, state, layers: -(-(room - cache) // (layers * state)), "Round down"),
    ("universal.budget", lambda *given: 3, "6 loops fit; got 3"),
    ("universal.loops", with_one_set_of_states, "went on from the states of the loop before it"),
    ("universal.loops", layer_by_layer, "one layer ran 3 times before the next"),
    ("universal.loops", lambda b, h, s, n: (in_loops(b, h, s, n)[0], s), "not what that layer handed back"),
    ("universal.loops", lambda b, h, s, n: (in_loops(b, h, s, n)[0], s[: len(b)]), "each layer of each loop"),
    ("universal.loops", lambda b, h, s, n: (h, s), "the output is off"),
    ("universal.once", written_each_loop, "was written 2 times"),
    ("universal.once", written_first, "before the last loop"),
    ("universal.once", all_of_it_in_the_loop, "cross-decoder ran 2 times"),
    ("universal.once", lambda b, w, a, h, n: once(b, w, a, h, 1), "self-decoder ran 1 times"),
    ("universal.once", from_the_start, "what is passed on is not"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
