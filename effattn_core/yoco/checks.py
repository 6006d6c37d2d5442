"""The hidden cases of the YOCO chapter's exercises."""

import functools

import torch

from effattn_core.attention import attention
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random
from effattn_core.model import build, configuration
from effattn_core.positions import rotate
from effattn_core.yoco import costs as costs_yoco


class _Watched:
    """A cross-decoder that notes how many tokens it was given."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, hidden, states):
        self.seen.append(hidden.shape[1])
        return self.model.answer(hidden, states)


@exercise("yoco.prefill", level="code")
def prefill(function):
    for size, time in (("small-yoco", 40), ("small-yoco-gated", 7), ("small-yoco", 1)):
        torch.manual_seed(time)
        model = build(configuration(size, 20)).double().eval()
        hidden = model.embedding(torch.randint(20, (2, time)))
        cross = _Watched(model)
        with torch.no_grad():
            got = function(functools.partial(model.read, states=None), cross, hidden)
            whole = model.answer(*model.read(hidden, None))
        if not isinstance(got, torch.Tensor) or got.shape != whole[:, -1:].shape:
            given = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
            return f"Return what the cross-decoder makes of the last token, {tuple(whole[:, -1:].shape)}; got {given}."
        if not torch.allclose(got, whole[:, -1:], rtol=1e-10, atol=1e-12):
            first = model.answer(hidden[:, -1:], model.read(hidden, None)[1])
            if torch.allclose(got, first):
                return "The cross-decoder got the embedding of the last token, not what the self-decoder made of it."
            return f"For {time} tokens the answer is off by {(got - whole[:, -1:]).abs().max():.2g}."
        if sum(cross.seen) != 1:
            return f"Right, but not early: the cross-decoder was given {sum(cross.seen)} tokens of {time}; 1 is enough."
    return None


@exercise("yoco.cache", level="code")
def cache(function):
    for name in ("3B", "65B"):
        model = costs_yoco.SIZES[name]
        for context in (4096, 1 << 20):
            for architecture in ("grouped", "YOCO, window"):
                wanted = costs_yoco.kept(model, context, architecture).total
                got = function(model, context, architecture)
                if got == wanted:
                    continue
                what = f"{architecture!r} with {model.layers} layers at {context:,} tokens"
                if got == wanted / 2:
                    return f"{what}: half of it. Keys and values are two, and a number has two bytes."
                if architecture == "YOCO, window" and got == costs_yoco.kept(model, context, architecture).growing:
                    return f"{what}: the shared cache is right; the windows of the self-decoder are missing."
                if architecture == "YOCO, window" and got == costs_yoco.kept(model, context, "grouped").total:
                    return f"{what}: that is a cache for every layer; a YOCO keeps one."
                return f"{what}: {got:,} is not {wanted:,} bytes."
    return None


@exercise("yoco.ranks", level="code")
def ranks(function):
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 4):
        states = torch.randn(count, 2, 3, 3, dtype=torch.float64, generator=generator)
        log_decays = -torch.rand(count, 2, dtype=torch.float64, generator=generator)
        wanted, before = [], torch.zeros(2, 3, 3, dtype=torch.float64)
        for state, log_decay in zip(states, log_decays, strict=True):
            wanted.append(before)
            before = log_decay.exp()[:, None, None] * before + state
        wanted = torch.stack(wanted)
        got = torch.as_tensor(function(states, log_decays))
        if got.shape != wanted.shape:
            return f"{count} ranks enter with {count} states, {tuple(wanted.shape)}; got {tuple(got.shape)}."
        if got[0].abs().max() > 0:
            return "The first rank enters with nothing: its state is zero."
        if torch.allclose(got, wanted):
            continue
        if torch.allclose(got[1:], states[:-1].cumsum(0)):
            return "Nothing fades: a share of the text fades all that came before it by its own total decay."
        if count > 1 and torch.allclose(got[1], log_decays[0].exp()[:, None, None] * states[0]):
            return "A rank's own decay fades what came before it, not the state that it makes itself."
        return f"With {count} ranks the states are off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("yoco.crossover", level="pencil")
def crossover(answer):
    model, window = costs_yoco.YOCO_3B, costs_yoco.WINDOW
    group = model.heads // model.key_value_heads
    right = model.layers // 2 * window * group
    mistakes = [
        (2 * right, "Half of the layers have windows, not all of them."),
        (right // group, "As released a window keeps keys for all query heads; only the shared cache groups them."),
        (right // (model.layers // 2), "Each layer of the self-decoder has a window of its own."),
        (window, "That is the length of one window; compare bytes, of all windows and of the one cache."),
    ]
    return compare_number(answer, right, mistakes)


@exercise("yoco.uneven", level="pencil")
def uneven(answer):
    layers, readers = 32, 8
    mistakes = [
        (layers, "So much less is *kept*. Each layer of the cross-decoder reads the one cache."),
        (layers / (layers - readers), "The self-decoder's layers read no cache; those of the cross-decoder do."),
        (2, "That is an even split: here fewer layers read."),
        (readers / layers, "That is the share that is still read; the question is how many times less."),
    ]
    return compare_number(answer, layers / readers, mistakes)


@exercise("yoco.write", level="code")
def write(function):
    for kept, new in ((0, 5), (7, 1), (4, 3)):
        keys = torch.randn(1, 2, kept + new, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(new))

        def turn(rows, first):
            return rotate(rows, first, 10000.0)

        wanted, before = turn(keys, 0), turn(keys[:, :, :kept], 0)
        got = function(before.clone(), keys[:, :, kept:].clone(), turn)
        case = f"With {kept} keys in the cache and {new} new"
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            shape = tuple(getattr(got, "shape", [type(got).__name__]))
            return f"{case} the cache is {shape}; it must be {tuple(wanted.shape)}: the new ones come behind."
        if torch.allclose(got, wanted):
            continue
        fresh = keys[:, :, kept:]
        for rows, sentence in (
            ([before, turn(fresh, 0)], f"the first new key is turned by 0; it stands at position {kept}."),
            ([before, turn(fresh, kept + 1)], "positions count from 0: the first new key is turned one too far."),
            ([turn(before, 0), turn(fresh, kept)], "the keys in the cache are turned already; they are turned twice."),
            ([before, fresh], "the new keys are not turned."),
        ):
            if torch.allclose(got, torch.cat(rows, 2)):
                return f"{case} {sentence}"
        return f"{case} the keys are off by {(got - wanted).abs().max():.2g}."
    return None


@kernel_exercise("yoco.ring")
def ring():
    def case(window, length, dim):
        query, key, value = 3 * random(dim), random(dim + 1)[1:].clone(), random(dim + 2)[2:].clone()
        written = (random(2, window + length, dim) + 0.5).unbind()
        old = [torch.full((window, dim), 1e4, device=query.device) for _ in range(2)]
        for place in range(max(0, length - window), length):  # what earlier tokens have left
            for each, rows in zip(old, written, strict=True):
                each[place % window] = rows[place]

        def stored(place):
            rings = [each.clone() for each in old]
            rings[0][place], rings[1][place] = key, value
            return tuple(rings)

        def seen(keys, values, **settings):
            one = (each[None, None].double() for each in (query[None], keys, values))
            return attention(*one, causal=False, **settings)[0, 0, 0].float()

        place, filled = length % window, min(length + 1, window)
        others = {0, min(length, window - 1), (length - 1) % window, (length + 1) % window} - {place}
        new = stored(place)
        heads = [each[:filled] for each in new]
        right = seen(*heads)
        elsewhere = (
            f"the new key and value belong into row {place}, the token's number modulo the window, and nowhere else."
        )
        mistakes = [
            (
                (None, *(each.clone() for each in old)),
                "the rings hold what they held before: write the new key and value into them.",
            ),
            *(((None, *stored(other)), elsewhere) for other in sorted(others)),
            ((right, None, None), elsewhere),
        ]
        if length:
            before = seen(*(each[: min(length, window)] for each in old))
            own = "the token reads the ring as it was before: it sees its own key, in the place of the oldest."
            mistakes.append(((before, *new), own))
        if filled < window:
            count = f"rows that were never written count: {filled} of {window} hold a key."
            mistakes.append(((seen(*new), *new), count))
        mistakes.append(((seen(*heads, scale=1.0), *new), "the scores are not scaled by head_dim ** -0.5."))
        return Case(
            f"token {length} of a window of {window}",
            (query, key, value, *old, length),
            (right, *new),
            written=(3, 4),
            names=("output", "ring of keys", "ring of values"),
            mistakes=mistakes,
            hint="does the query read each row that holds a key, the new one too, and no other?",
        )

    return [case(*each) for each in ((16, 0, 16), (16, 5, 16), (16, 16, 32), (16, 41, 16), (64, 100, 32))]


@exercise("yoco.throughput", level="open")
def throughput(function):
    for weights, kept, read, memory, bandwidth in (
        (10, 4, 4, 40, 100.0), (6e9, 5e8, 6e9, 8e10, 3.35e12), (10, 7, 7, 12, 100.0), (10, 3, 3, 40, 60.0),
        (100, 10, 5, 80, 1000.0),
    ):  # fmt: skip
        texts = max(0, int((memory - weights) // kept))
        wanted = texts * bandwidth / (weights + texts * read)
        got = function(weights, kept, read, memory, bandwidth)
        case = f"With {weights:g} B of weights, {kept:g} kept and {read:g} read per text, in {memory:g} B"
        if texts == 0:
            if got == 0:
                continue
            return f"{case} no text fits beside the weights: the answer is 0."
        if abs(got - wanted) <= 1e-6 * wanted:
            continue
        whole = int(memory // kept)
        for batch, spent, sentence in (
            (whole, weights + whole * read, "the weights take memory too, so fewer texts fit."),
            (1, weights + read, "that is the rate of one text: as many as fit share one reading of the weights."),
            (texts, weights + read, "each text's cache is read: the batch multiplies it."),
            (1, weights + texts * read, "that is what one text gets; the batch writes a token for each of its texts."),
            (texts, weights + texts * kept, "a token reads the cache in each layer that has none: `read`, not `kept`."),
        ):
            if abs(got - batch * bandwidth / spent) <= 1e-6 * got:
                return f"{case} {sentence}"
        if abs(got - (memory - weights) / kept * bandwidth / (weights + (memory - weights) / kept * read)) < 1e-6 * got:
            return f"{case} a part of a text does not fit: round down."
        return f"{case} {got:g} is not {wanted:g} tokens per second."
    return None
