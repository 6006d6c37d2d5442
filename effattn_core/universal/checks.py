"""The hidden cases of the exercises on loops."""

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random


@exercise("universal.even_text", level="pencil")
def even_text(answer):
    loops, layers, heads, size, row = 3, 16, 32, 128, 2 * 8 * 128 * 2
    wanted = loops * layers * heads * size * size * 4 // row
    mistakes = [
        (wanted // 3, "That is for one loop: each loop keeps states of its own."),
        (wanted // 2, "Half of it: a state is kept in float32, 4 bytes per number, the cache in 2."),
        (2 * wanted, "Twice what it is: 16 layers are in the loop, not 32, and a row holds a key and a value."),
        (wanted // 4, "A quarter: the cache has 8 key heads, not 32."),
        (wanted // layers, "That is one layer's state: all 16 in the loop keep one."),
    ]
    return compare_number(answer, wanted, mistakes)


@exercise("universal.tied_gradient", level="pencil")
def tied_gradient(answer):
    mistakes = [
        (4, "That is the gradient of one copy, w²: the shared weight gets those of all three."),
        (8, "That is the output, w³, not its gradient."),
        (6, "That is w + w + w: each copy's gradient is the product of the two *other* copies."),
        (1, "Each copy is multiplied by the two others, which are 2 as well."),
    ]
    return compare_number(answer, 12, mistakes)


@exercise("universal.weights_read", level="pencil")
def weights_read(answer):
    mistakes = [
        (4, "Only the lower half is in the loop: the cross-decoder's layers are read once."),
        (1, "Shared weights are stored once; for each loop they are read again, since they do not stay on the chip."),
        (2, "The lower half is read four times and the upper once: (4 + 1) / (1 + 1)."),
        (5, "That is in units of one half; a YOCO without loops reads two halves."),
    ]
    return compare_number(answer, 2.5, mistakes)


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


def _stream(hidden, loops, step):
    """What `loops` steps make of a first stream, in float32: step(stream, first stream)."""
    stream = hidden
    for _ in range(loops):
        stream = step(stream, hidden)
    return stream.float()


@kernel_exercise("universal.on_chip")
def on_chip():
    def case(width, loops):
        weight, hidden = random(width, width) / width**0.5, random(width)
        W, first = weight.double(), hidden.double()

        def after(loops, W=W):
            return _stream(first, loops, lambda stream, _: stream + (stream @ W).relu())

        others = loops - 1, loops + 1
        turned = "the weight is turned: number j of hidden @ weight sums over the *rows* of column j."
        bare = "the layer *adds* to the stream: hidden + relu(hidden @ weight)."
        restarted = "each loop adds to the first stream instead of the last one's."
        mistakes = [
            *((after(other), f"{other} {'loop was' if other == 1 else 'loops were'} run.") for other in others),
            (after(loops, W.mT), turned),
            (_stream(first, loops, lambda stream, _: stream + stream @ W), "the ReLU is missing."),
            (_stream(first, loops, lambda stream, _: (stream @ W).relu()), bare),
            (_stream(first, loops, lambda stream, first: first + (stream @ W).relu()), restarted),
        ]
        return Case(
            f"{loops} loop{'s' * (loops != 1)} over a weight of {width} × {width}",
            (weight, hidden, loops),
            after(loops),
            mistakes=mistakes,
            names=("stream",),
            hint="is it hidden + relu(hidden @ weight), as often as is asked?",
            kept="",  # the stream may be the tensor that was given
            once=(0,),
            again="the stream is right, and the weight was loaded {times:g} times: load it before the loop.",
        )

    return [case(*sizes) for sizes in ((16, 1), (32, 2), (64, 4), (16, 5))]


@exercise("universal.enter", level="open")
def enter(function):
    generator = torch.Generator().manual_seed(7)
    hidden, first = torch.randn(2, 2, 5, 8, dtype=torch.float64, generator=generator)
    hidden = 30 * hidden * (1 + torch.arange(5.0))[:, None]
    if not torch.equal(function(0, first, first), first):
        return "The first loop is given the embedding as it is: it has it already."
    for loop in (1, 3):
        added = function(loop, hidden, first) - hidden
        if torch.allclose(added, torch.zeros_like(added)):
            return f"Nothing enters loop number {loop}, counted from 0: from the second on the embedding does."
        if torch.allclose(added, first):
            return "The embedding enters with its own length: give it the stream's, token by token."
        if not torch.allclose(torch.cosine_similarity(added, first, -1), torch.ones(2, 5, dtype=first.dtype)):
            return "What is added does not point along the embedding: scale `first` and add it to `hidden`."
        share = added.norm(dim=-1) / hidden.norm(dim=-1)
        if torch.allclose(share, share[:1, :1]) and not torch.allclose(share, torch.ones_like(share)):
            return f"It enters {share[0, 0]:.2g} times as long as the stream; as long is asked."
        if not torch.allclose(share, torch.ones_like(share)):
            return "Not every token's is as long as its stream: take norms along the last axis, with keepdim=True."
    return None
