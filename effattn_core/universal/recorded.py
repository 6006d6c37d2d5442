"""The recorded training of looped models: its losses, as the chapter, its claims and its tests read them."""

from statistics import fmean

from effattn_core.recordings import measured

RUN = "universal/training-cpu"
DEEP = ("YOCO without loops", 1)  # as deep as four loops, and as many operations; no weights are shared


def held_out(name, loops, asked=None):
    """The rows, one per seed, of a model trained with `loops` and asked with `asked`, as many unless said."""
    return measured(RUN, what="held out", name=name, loops=loops, asked=asked or loops)


def losses(name, loops, asked=None):
    """{seed: held-out loss in nats per letter}; arguments as in `held_out`."""
    return {row["seed"]: row["loss"] for row in held_out(name, loops, asked)}


def loss(name, loops, asked=None, seeds=None):
    """The mean of `losses` over `seeds`, over all unless said."""
    found = losses(name, loops, asked)
    return fmean(found[seed] for seed in (found if seeds is None else seeds))


def flops(name, loops):
    """Operations per trained letter, forward and backward."""
    return held_out(name, loops)[0]["training_flops"]


def against(name, loops, base):
    """(difference in nats to the model `base`, how many seeds): over the seeds that both were trained with.

    base: (name, loops) of the other model. Below 0 is better.
    """
    seeds = losses(name, loops).keys() & losses(*base).keys()
    return loss(name, loops, seeds=seeds) - loss(*base, seeds=seeds), len(seeds)


def spreads():
    """By how much the two seeds of a YOCO-U differ, in nats per letter: of one loop, of two, of three, of four."""
    found = [losses("YOCO-U", loops).values() for loops in (1, 2, 3, 4)]
    return [max(each) - min(each) for each in found]


def first_over_later(loops=4):
    """Per seed: how long the stream is after the first loop, in steps of the later loops that training ran."""
    return [_first(row, loops) for row in measured(RUN, what="changes", name="YOCO-U", loops=loops)]


def _first(row, loops):
    return row["sizes"][0] / fmean(steps(row)[: loops - 1])


def steps(row):
    """How far each loop after the first moves the stream, over the embedding's length."""
    return [change * size for change, size in zip(row["changes"][1:], row["sizes"], strict=False)]
