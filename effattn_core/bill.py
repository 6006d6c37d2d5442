"""The bill: what one long conversation costs with a model of Llama 3 8B's sizes, and what each chapter makes of it.

A chapter declares a `Stage`, as STAGE in its topic's `costs.py`: the design that it changes, and the lines that differ.
Stages are found, not listed, and stand in the order of the chapters. All pages take their lines from here, so that one
design costs the same everywhere.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from effattn_core import costs, topic_modules

MODEL, CONTEXT = costs.LLAMA_8B, 131072


@dataclass(frozen=True)
class Line:
    """One line. weights, text: what the model's weights cause of it, and what the text that it reads causes.

    unit: "FLOP" or "B"; parts: the names of the two, one of them empty where the line has only the other.
    """

    key: str
    name: str
    unit: str
    weights: float
    text: float
    parts: tuple[str, str]
    explanation: str

    @property
    def value(self):
        return self.weights + self.text

    def amount(self, value=None):
        """The line's value in words, or another value in its unit."""
        value = self.value if value is None else value
        return costs.format_flops(value) if self.unit == "FLOP" else costs.format_bytes(value)

    @property
    def split(self):
        """The two parts in words, for a line that has both; else an empty string."""
        if not all(self.parts):
            return ""
        amounts = self.amount(self.weights), self.amount(self.text)
        return " + ".join(f"{name} {amount}" for name, amount in zip(self.parts, amounts, strict=True))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one chapter does to the bill.

    place: its part and its number in it, which order the stages. method: as named beside a line. design: the model that
    it prices. on: the topic whose design it changes, None for the one that the book starts from. changes: from that
    design's lines (key -> Line) and a context to those that differ (key -> Line). cost: a sentence, what was paid.
    brings: from that design's lines and a context to lines (key -> Line) that only this kind of model has, as they are
    before the chapter's method; None for a model of the same kind.
    """

    topic: str
    place: tuple[int, int]
    method: str
    design: str
    on: str | None
    changes: Callable
    cost: str
    brings: Callable | None = None


def start(context=CONTEXT, *, key_value_heads=None, dtype="bfloat16"):
    """The lines (key -> Line) that the book starts from: a key head for each query head, and every score stored.

    key_value_heads, dtype: of the cache. The model has as many weights whatever its key heads: what they take, its
    feed-forward gives (32 heads: 12,288 wide; 8 heads, as Llama 3 8B has: 14,336).
    """
    heads = MODEL.heads if key_value_heads is None else key_value_heads
    attention = costs.attention_flops(MODEL, context)
    cache = costs.cache_bytes(MODEL, context, dtype=dtype, key_value_heads=heads)
    read = costs.decode_bytes(MODEL, 0)
    rows = [
        Line("prefill", "Operations to read the prompt", "FLOP", costs.prefill_flops(MODEL, context) - attention,
             attention, ("matrices", "attention"), "every matrix for every token, and attention over every pair"),
        Line("scores", "Scores stored meanwhile", "B", 0, costs.score_bytes(MODEL, context), ("", "scores"),
             "one layer's scores, a number per pair of tokens and head"),
        Line("weights", "Weights kept", "B", costs.weight_bytes(MODEL), 0, ("weights", ""),
             "all weights, embedding and head too, in two bytes"),
        Line("cache", "Cache kept", "B", 0, cache, ("", "cache"), "keys and values per token, layer and key head"),
        Line("decode", "Read per decoded token", "B", read, cache, ("weights", "cache"),
             "all weights but the embedding, and the whole cache"),
        Line("head", "Of which the output head", "B", costs.head_bytes(MODEL), 0, ("head", ""),
             "one row per word of the vocabulary"),
        Line("optimizer", "Optimizer state in training", "B", costs.optimizer_bytes(MODEL), 0, ("moments", ""),
             "AdamW's two float32 moments per weight"),
    ]  # fmt: skip
    return {line.key: line for line in rows}


@functools.cache
def stages():
    """Every chapter's Stage, in the order of the chapters: looked for once."""
    found = [module.STAGE for module in topic_modules("costs") if hasattr(module, "STAGE")]
    return sorted(found, key=lambda each: each.place)


def stage(topic):
    """The Stage of a topic. Raises ValueError for a topic that declares none."""
    found = {each.topic: each for each in stages()}
    if topic not in found:
        raise ValueError(f"topic must be one with a stage of the bill ({', '.join(found)}); it is {topic!r}.")
    return found[topic]


def path(topic):
    """The stages that lead from the start to a topic's design, the topic's own last."""
    found = [stage(topic)]
    while found[0].on is not None:
        found.insert(0, stage(found[0].on))
    return found


def lines(topic=None, context=CONTEXT):
    """The lines (key -> Line) of a topic's design after `context` tokens; None: of the design the book starts from."""
    if topic is None:
        return start(context)
    found = before(topic, context)
    return found | stage(topic).changes(found, context)


def before(topic, context=CONTEXT):
    """The lines (key -> Line) that a topic's chapter changes: those of the design it stands on, and what it brings."""
    found = stage(topic)
    stood = lines(found.on, context)
    return stood | (found.brings(stood, context) if found.brings else {})


def first(topic, context=CONTEXT):
    """The lines (key -> Line) that a topic's design is held against: the start's, and what its chapters brought."""
    brought = [before(each.topic, context) for each in path(topic)]
    return {key: line for found in reversed(brought) for key, line in found.items()} | start(context)


def lowers(found, key, context=CONTEXT):
    """Whether a stage makes a line smaller than it is in the design that it changes."""
    was, now = before(found.topic, context), lines(found.topic, context)
    return key in now and now[key].value < was[key].value


def moved(topic, context=CONTEXT):
    """The lines that a topic's chapter changes, as pairs (before, after): those whose shown values differ."""
    was, after = before(topic, context), lines(topic, context)
    return [(was[key], after[key]) for key in after if was[key].amount() != after[key].amount()]


def moves(topic, context=CONTEXT):
    """`moved` in words: cache kept 16 GiB → 256 MiB; …"""
    found = (f"{new.name.lower()} {old.amount()} → {new.amount()}" for old, new in moved(topic, context))
    return "; ".join(found) or "no line"


def overview(context=CONTEXT):
    """Rows for a table, a chapter each: its method, the design it prices, what it moves, and what is paid for that."""
    rows = []
    for found in stages():
        on = "the start" if found.on is None else stage(found.on).design
        rows.append(
            {"method": found.method, "model": f"{found.design}, after {on}", "moves": moves(found.topic, context),
             "paid for it": found.cost}
        )  # fmt: skip
    return rows


def lowered_lines():
    """The names of the lines that some chapter lowers, and of those that none does."""
    begun = lines()
    fallen = [key for key in begun if any(lowers(found, key) for found in stages())]
    return [begun[key].name for key in fallen], [line.name for key, line in begun.items() if key not in fallen]


def lowered_by(topic, key, context=CONTEXT):
    """The stages on the way to a topic's design that lowered a line, in order."""
    return [each for each in path(topic) if lowers(each, key, context)]


def lowered_elsewhere(topic, key, context=CONTEXT):
    """The first stage off the way to a topic's design that lowers a line: a later chapter's, else an earlier one's."""
    way = [each.topic for each in path(topic)]
    others = [each for each in stages() if each.topic not in way and lowers(each, key, context)]
    later = [each for each in others if each.place > stage(topic).place]
    return next(iter(later or others), None)
