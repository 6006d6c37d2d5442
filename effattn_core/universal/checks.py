"""The hidden cases of the exercises on loops."""

import torch

from effattn_core.exercises import exercise


@exercise("universal.budget", level="code")
def budget(function):
    for room, cache, state, layers, wanted in (
        (1000, 400, 50, 2, 6), (1099, 400, 50, 2, 6), (1100, 400, 50, 2, 7), (500, 400, 50, 2, 1), (499, 400, 50, 2, 0),
        (10, 400, 50, 2, 0), (1 << 30, 512 << 20, 2 << 20, 16, 16),
    ):  # fmt: skip
        got = function(room, cache, state, layers)
        given = f"{room:,} bytes, a cache of {cache:,}, {layers} layers with states of {state:,}"
        if got == wanted:
            continue
        if got == room // (cache + layers * state) and got < wanted:
            return f"With {given}: you paid for the cache in every loop. It is written once, after the last."
        if got == max(0, (room - cache) // state):
            return f"With {given}: each loop keeps a state for *every* layer in it."
        if got == max(0, room // (layers * state)):
            return f"With {given}: the cache itself needs room too."
        if got < 0:
            return f"With {given}: not even one loop fits, which is 0 loops; got {got}."
        if got == -(-(room - cache) // (layers * state)):
            return f"With {given}: {got} loops do not fit any more. Round down."
        return f"With {given}: {wanted} loops fit; got {got}."
    return None


def _block(weight):
    """A layer of one's own making: reads its state, adds to it, and tells by its output what it has read."""

    def block(hidden, state):
        state = 0.5 * state + hidden
        return hidden + weight * torch.tanh(state), state

    return block


def _in_loops(blocks, hidden, states, loops):
    kept = []
    for loop in range(loops):
        for number, block in enumerate(blocks):
            hidden, state = block(hidden, states[loop * len(blocks) + number])
            kept.append(state)
    return hidden, kept


@exercise("universal.loops", level="code")
def loops(function):
    generator = torch.Generator().manual_seed(0)
    for count, layers in ((3, 2), (2, 1), (4, 3), (1, 2)):
        blocks = [_block(0.3 + 0.2 * number) for number in range(layers)]
        states = [torch.randn(3, dtype=torch.float64, generator=generator) for _ in range(count * layers)]
        hidden = torch.randn(3, dtype=torch.float64, generator=generator)
        wanted, kept = _in_loops(blocks, hidden, states, count)
        got, found = function(blocks, hidden, list(states), count)
        case = f"With {count} loops of {layers} layers"
        if len(found) != count * layers:
            return f"{case}: {len(found)} states came back; each layer of each loop keeps its own, {count * layers}."
        if torch.allclose(got, wanted):
            pairs = enumerate(zip(found, kept, strict=True))
            wrong = [number for number, (ours, theirs) in pairs if not torch.allclose(ours, theirs)]
            if wrong:
                return f"{case}: the output is right, but state {wrong[0]} is not what that layer handed back."
            continue
        shared, stream = list(states[:layers]), hidden
        for _ in range(count):
            for number, block in enumerate(blocks):
                stream, shared[number] = block(stream, shared[number])
        if torch.allclose(got, stream):
            return f"{case}: a loop went on from the states of the loop before it. Each has its own."
        swapped, order = hidden, list(states)
        for number, block in enumerate(blocks):
            for loop in range(count):
                swapped, _ = block(swapped, order[loop * layers + number])
        if torch.allclose(got, swapped):
            return f"{case}: one layer ran {count} times before the next. A loop is all layers in turn."
        return f"{case}: the output is off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("universal.once", level="code")
def once(function):
    for count in (1, 2, 4):
        calls = []

        def below(hidden, calls=calls):
            calls.append("below")
            return hidden + torch.tanh(hidden)

        def write(hidden, calls=calls):
            calls.append("write")
            return hidden**2

        def above(hidden, cache, calls=calls):
            calls.append("above")
            return hidden + torch.sin(cache)

        hidden = torch.linspace(-1, 1, 5, dtype=torch.float64)
        deep = hidden
        for _ in range(count):
            deep = deep + torch.tanh(deep)
        got = function(below, write, above, hidden, count)
        case = f"With {count} loops"
        if calls.count("write") != 1:
            return f"{case}: the cache was written {calls.count('write')} times. Once is the point."
        if calls.count("above") != 1:
            return f"{case}: the cross-decoder ran {calls.count('above')} times; only the self-decoder is in the loop."
        if calls.count("below") != count:
            return f"{case}: the self-decoder ran {calls.count('below')} times."
        if calls.index("write") < count:
            return f"{case}: the cache was written before the last loop was done, from a stream that is not deep yet."
        if not torch.allclose(got, deep + torch.sin(deep**2)):
            return f"{case}: the calls are right, but what is passed on is not: does each get the last output?"
    return None
