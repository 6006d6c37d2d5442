"""The exercises on loops: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
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


SOLVED = {"universal.budget": budget, "universal.loops": in_loops, "universal.once": once}
MISTAKES = [
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
