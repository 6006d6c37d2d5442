"""A model built from a form: which parts there are, which of them fit together, and the stacks that have a name.

A Stack names one option of each part. `stack_models` builds, trains and decodes it small; `stack_bill` prices it at the
bill's sizes. Whether parts fit is asked of the code that would have to run them.
"""

import functools
import itertools
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace

from effattn_core.stack_bill import bill
from effattn_core.stack_models import LOOPS, make, optimizer_of, require, sizes, states_of, write

__all__ = [
    "BEST", "CHOICES", "PRESETS", "Part", "Stack", "bill", "every", "make", "optimizer_of", "reasons", "sizes",
    "states_of", "write",
]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One question of the form: its label, and its options, option -> words."""

    label: str
    options: dict


CHOICES = {
    "mixer": Part("What mixes tokens", {
        "attention": "softmax attention, grouped heads",
        "window": "softmax attention within a window",
        "retention": "retention, one fixed decay per head",
        "gated": "retention whose decay each token sets",
        "gated delta": "a delta rule with a gate: it writes over what it knew",
    }),
    "hybrid": Part("Attention among the layers", {
        "none": "all layers alike",
        "one in four": "every fourth layer is plain attention",
    }),
    "sharing": Part("What layers share", {
        "none": "each layer has its own weights and its own cache or state",
        "yoco": "YOCO: the upper half of the layers reads one cache",
        "loops": f"layers gone through {LOOPS} times, with a cache or state per loop",
        "yoco loops": f"YOCO-U: the lower half gone through {LOOPS} times, the upper reads one cache",
    }),
    "reading": Part("What a decoded token reads", {
        "whole": "all that is kept",
        "rectified": "ReSA: chosen blocks of the cache, rectified where errors would stay",
        "channels": "LeanK: keys with few of their channels",
        "index": "CLSA: rows that one index chose for all upper layers",
    }),
    "feed_forward": Part("Feed-forward", {
        "dense": "one layer for all tokens",
        "experts": "experts, routed by prices of the past (MaxScore)",
    }),
    "drafting": Part("Drafts", {
        "none": "one token per pass",
        "lookup": "what followed the same words before (prompt lookup)",
        "frequent words": "a small drafter of frequent words (FR-Spec); here the first layer, and letters",
    }),
    "stream": Part("What the stream holds", {
        "text": "text",
        "text and images": "text and images, as latents with a diffusion head (LatentLM)",
    }),
    "optimizer": Part("Optimizer", {
        "AdamW": "AdamW, two float32 moments",
        "AdamW 8-bit": "AdamW, moments in 8 bits",
        "SOLO 4/2": "SOLO, moments in 4 and 2 bits",
        "SOLO 2/2": "SOLO, moments in 2 bits each",
    }),
}  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """One option of each part of CHOICES; by default the plain Transformer.

    Raises ValueError for an option that there is not, and in a reader's sentence for parts that do not fit together.
    """

    mixer: str = "attention"
    hybrid: str = "none"
    sharing: str = "none"
    reading: str = "whole"
    feed_forward: str = "dense"
    drafting: str = "none"
    stream: str = "text"
    optimizer: str = "AdamW"

    def __post_init__(self):
        for part, given in vars(self).items():
            options = CHOICES[part].options
            if given not in options:
                raise ValueError(f"{part} must be one of {', '.join(options)}; it is {given!r}.")
        refusal = _refusal(self.mixer, self.hybrid, self.sharing, self.reading, self.drafting)
        if refusal:
            raise ValueError(refusal)


@functools.cache
def _refusal(mixer, hybrid, sharing, reading, drafting):
    """Why these parts do not fit, a sentence, or None. The other parts fit all of them, as a test holds."""
    try:
        require(
            SimpleNamespace(
                mixer=mixer, hybrid=hybrid, sharing=sharing, reading=reading, drafting=drafting, feed_forward="dense"
            )
        )
    except ValueError as error:
        return str(error)
    return None


def reasons(stack):
    """{part: {option: sentence}} of the options that would not fit the others that a stack has now."""
    found = {}
    for part, choice in CHOICES.items():
        for option in choice.options:
            try:
                replace(stack, **{part: option})
            except ValueError as error:
                found.setdefault(part, {})[option] = str(error)
    return found


@functools.cache
def every():
    """All stacks that can be built, in the order of CHOICES."""
    found = []
    names = [each.name for each in fields(Stack)]
    for options in itertools.product(*(CHOICES[name].options for name in names)):
        try:
            found.append(Stack(*options))
        except ValueError:
            continue
    return tuple(found)


# Stated before it was measured (see `book/measurements/stacks`): of the recorded rules a gated delta rule lost least on
# letters, one shared cache is the largest saving of the bill that needs no second model, blocks of that cache need no
# rectifying, and moments in 4 and 2 bits lost nothing that the seeds could tell.
BEST = Stack(mixer="gated delta", sharing="yoco", reading="rectified", optimizer="SOLO 4/2")

PRESETS = {
    "Plain Transformer": Stack(),
    "RetNet": Stack(mixer="retention"),
    "Hybrid, one in four": Stack(mixer="gated delta", hybrid="one in four"),
    "YOCO": Stack(mixer="gated", sharing="yoco"),
    "Universal YOCO": Stack(mixer="gated", sharing="yoco loops"),
    "Experts": Stack(feed_forward="experts"),
    "Best": BEST,
}
