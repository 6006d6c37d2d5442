"""What a cycle of drafting and verifying costs, where its optimum lies, and the published figures beside ours."""

import math
from dataclasses import dataclass, replace
from statistics import fmean

from effattn_core import costs
from effattn_core.bill import Stage
from effattn_core.speculation.forms import expected_tokens

SOURCE = "Zhao et al. 2025 (FR-Spec, arXiv 2502.14856): Llama 3 8B, A800, temperature 0, means over its tasks"
# kept: words that the drafter may propose; length: words per cycle; speed: words per second. The coverage is stated for
# a quarter of the words, of a billion words of SlimPajama.
PUBLISHED = (
    dict(kept=128256, length=3.89, speed=180.99),
    dict(kept=65536, length=3.80, speed=196.86),
    dict(kept=32768, length=3.63, speed=201.87, coverage=0.95),
    dict(kept=16384, length=3.40, speed=196.69),
    dict(kept=8192, length=3.13, speed=185.98),
)
PLAIN_SPEED = 89.11  # of the same model without drafts
DEPTH = 6  # times that the published drafter reads its head per cycle


def head_bytes(model, kept=None, *, steps=1, dtype="bfloat16"):
    """Bytes of the head that `steps` steps of a drafter read, of `kept` words, None for all (eq. speculation-bytes)."""
    kept = model.vocabulary if kept is None else kept
    if not 0 < kept <= model.vocabulary:
        raise ValueError(f"kept must lie in 1..{model.vocabulary}; it is {kept}.")
    return int(steps * kept * model.width * costs.element_bytes(dtype))


def drafter_parameters(model, kept=None):
    """Weights that one step of an EAGLE drafter reads: a block, the joining matrix, the head over `kept` words."""
    kept = model.vocabulary if kept is None else kept
    return model.matrix_parameters // model.layers + 2 * model.width**2 + kept * model.width


def head_share(model, kept=None):
    """The share of the head in the weights of an EAGLE drafter."""
    kept = model.vocabulary if kept is None else kept
    return kept * model.width / drafter_parameters(model, kept)


@dataclass(frozen=True)
class Cycle:
    """Seconds of the parts of one cycle; `speed` and `best` follow from them (eq. speculation-cycle).

    block: of a drafting step but for its head. word: of the head, per kept word. passes: seconds of a pass of the
    target over 1, 2, … rows, pairs (rows, seconds) in order; between them it is interpolated. other: once per cycle.
    """

    block: float
    word: float
    passes: tuple[tuple[int, float], ...]
    other: float = 0.0

    @classmethod
    def recorded(cls, rows, products="few rows"):
        """The Cycle of a recorded bench's rows: what = "pass" and "step". A head's time is a line over its words."""
        heads = [row for row in rows if row["what"] == "step" and row["part"] == "head"]
        fixed, word = line([dict(kept=row["kept"], length=row["median"], speed=1.0) for row in heads])
        (block,) = (row["median"] for row in rows if row["what"] == "step" and row["part"] == "block")
        passes = sorted((row["rows"], row["median"]) for row in rows
                        if row["what"] == "pass" and row["products"] == products)  # fmt: skip
        return cls(block + max(fixed, 0.0), word, tuple(passes))

    def verify(self, rows):
        """Seconds of a pass of the target over `rows` rows. Raises ValueError for more than were measured."""
        for (fewer, low), (more, high) in zip(self.passes, self.passes[1:], strict=False):
            if fewer <= rows <= more:
                return low + (high - low) * (rows - fewer) / (more - fewer)
        raise ValueError(f"passes are known of {self.passes[0][0]}..{self.passes[-1][0]} rows; {rows} were asked.")

    def seconds(self, kept, length):
        """Seconds of a cycle with a chain of `length` drafts out of `kept` words."""
        drafting = length * (self.block + self.word * kept)
        return drafting + self.verify(length + 1) + self.other * (length > 0)

    def speed(self, rate, kept, length):
        """Words per second, if each draft is taken with `rate`."""
        return expected_tokens(rate, length) / self.seconds(kept, length)

    def best(self, rates, lengths):
        """(words per second, kept, length) of the fastest cycle. rates: {kept: how likely a draft is taken}."""
        tried = ((self.speed(rate, kept, length), kept, length) for kept, rate in rates.items() for length in lengths)
        return max(tried, key=lambda each: each[0])


def tokens_spread(rate, length):
    """The standard deviation of a cycle's words where `expected_tokens` is their mean: how far chance takes one cycle.

    i drafts or more are taken with rate^i, so that the mean of their square is the sum of (2 i - 1) rate^i.
    """
    square = sum((2 * taken - 1) * rate**taken for taken in range(1, length + 1))
    return math.sqrt(square - (expected_tokens(rate, length) - 1) ** 2)


def speed_up(rate, price, length):
    """How many times faster than one word per pass: E / (1 + length · price) (eq. speculation-speed).

    price: a drafting step's cost over a pass of the target, which is taken to cost the same for any number of rows.
    """
    return expected_tokens(rate, length) / (1 + length * price)


def best_length(rate, price, most=64):
    """The chain with the highest `speed_up`: 0 where no draft pays."""
    return max(range(most + 1), key=lambda length: (speed_up(rate, price, length), -length))


def line(rows):
    """(seconds of a cycle without a head, seconds per word): least squares through length / speed over kept."""
    kept, cycles = [row["kept"] for row in rows], [row["length"] / row["speed"] for row in rows]
    middle, mean = fmean(kept), fmean(cycles)
    slope = sum((x - middle) * (y - mean) for x, y in zip(kept, cycles, strict=True))
    slope /= sum((x - middle) ** 2 for x in kept)
    return mean - slope * middle, slope


def kept_with_most(rows, key="speed"):
    """How many words the row keeps that has most of `key`."""
    return max(rows, key=lambda row: row[key])["kept"]


def interior(rows, key="speed"):
    """Whether the best of `key` lies inside: neither the fewest words nor all of them."""
    kept = sorted(row["kept"] for row in rows)
    return kept[0] < kept_with_most(rows, key) < kept[-1]


KEPT = 32768  # that the bill prices: the published best


def _changes(lines, context):
    """Per word that is said: the target's weights and the cache are read once per cycle, the drafter's six times."""
    row = next(each for each in PUBLISHED if each["kept"] == KEPT)
    length, head = row["length"], lines["head"].weights
    drafted = head_bytes(costs.LLAMA_8B, KEPT, steps=DEPTH)
    block = drafter_parameters(costs.LLAMA_8B, KEPT) - KEPT * costs.LLAMA_8B.width  # weights, the head aside
    cache = costs.cache_bytes(costs.LLAMA_8B, context)
    own = DEPTH * cache / costs.LLAMA_8B.layers  # the drafter's block has a cache of its own
    decode, prefill = lines["decode"], lines["prefill"]
    return {
        "prefill": replace(prefill, weights=prefill.weights + 2 * block * context,
                           text=prefill.text + costs.attention_flops(costs.LLAMA_8B, context) // costs.LLAMA_8B.layers,
                           explanation="every matrix for every token, and attention; the drafter's block too"),
        "weights": replace(lines["weights"], weights=lines["weights"].weights + 2 * block,
                           explanation="all weights, and a drafter of one block"),
        "cache": replace(lines["cache"], text=lines["cache"].text + cache / costs.LLAMA_8B.layers,
                         explanation="keys and values per token, layer and key head, and of the drafter's layer"),
        "decode": replace(
            decode, weights=math.ceil((decode.weights + 2 * DEPTH * block + drafted) / length),
            text=math.ceil((decode.text + own) / length),
            explanation=f"a pass and {DEPTH} drafting steps, shared by the {length} words of a cycle as published",
        ),
        "head": replace(lines["head"], weights=math.ceil((head + drafted) / length),
                        explanation=f"whole once per cycle, {KEPT:,} of its rows {DEPTH} times"),
    }  # fmt: skip


STAGE = Stage(
    topic="speculation",
    place=(4, 6),
    method="FR-Spec",
    design="grouped heads with a drafter of frequent words",
    on="attention",
    changes=_changes,
    cost="A drafter has to be trained and kept, refused words are computed for nothing, and a full batch has no idle "
    "arithmetic left for them.",
)
