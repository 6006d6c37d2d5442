"""What the abstract on Universal YOCO says, and how this library measures it. No table of the paper was found."""

from statistics import fmean

from effattn_core.ledger import Claim
from effattn_core.measurements import measured
from effattn_core.universal import costs as costs_universal


def _bytes_kept(name, loops):
    """Measured, of the longest text that the run looked at."""
    rows = [row for row in measured("universal/training-cpu") if row["what"] == "kept" and row["name"] == name]
    longest = max(row["tokens"] for row in rows)
    return next(row["bytes"] for row in rows if row["loops"] == loops and row["tokens"] == longest)


def _growth_of_the_cache():
    return _bytes_kept("YOCO-U", 4) / _bytes_kept("YOCO-U", 1)


def _growth_without_sharing():
    return _bytes_kept("looped Transformer", 4) / _bytes_kept("looped Transformer", 1)


def _prefill_of_twice_the_text():
    sizes = costs_universal.llama_sized(4)
    return costs_universal.prefill_flops(sizes, 2 * 131072) / costs_universal.prefill_flops(sizes, 131072)


def held_out(name, loops):
    """Mean held-out loss over seeds, asked with the loops that the model was trained with."""
    return fmean(
        row["loss"]
        for row in measured("universal/training-cpu")
        if row["what"] == "held out" and (row["name"], row["loops"], row["asked"]) == (name, loops, loops)
    )


def _against_one_loop():
    return held_out("YOCO-U", 4) / held_out("YOCO-U", 1)


def _against_either_alone():
    return held_out("YOCO-U", 4) / min(held_out("YOCO-U", 1), held_out("looped Transformer", 4))


PAPER, SIZE = "Sun et al. 2026", "the small models of the chapter on letters of Shakespeare, recorded by make runs"

CLAIMS = [
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: the global cache stays constant",
        statement="Loops in the self-decoder leave what is kept for the text as large as it was.",
        published=None,
        unit="× the bytes of one loop, with four",
        measure=_growth_of_the_cache,
        agrees=lambda ours: ours < 1.05,
        conditions="tensors of real states summed after 4,096 letters; what is over 1 are each loop's windows",
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: with conventional loops the cache grows with depth",
        statement="Loops over all layers of a Transformer multiply what it keeps.",
        published=None,
        unit="× the bytes of one loop, with four",
        measure=_growth_without_sharing,
        agrees=lambda ours: ours > 3.9,
        conditions=(
            "as above, of the looped Transformer; the factor of four is ours to measure, the abstract names none"
        ),
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: prefill stays linear",
        statement="Reading twice the text takes twice the operations, whatever the loops.",
        published=None,
        unit="× the operations, 256K against 128K tokens",
        measure=_prefill_of_twice_the_text,
        agrees=lambda ours: ours < 2.01,
        conditions="by formula, four loops, sizes of Llama 3 8B, gated retention below, which is our choice",
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: depth by recursion",
        statement="More loops of the same weights model language better.",
        published=None,
        unit="× the held-out loss of one loop, with four",
        measure=_against_one_loop,
        agrees=lambda ours: ours < 1,
        conditions=f"{SIZE}, two seeds",
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: the combination beats either alone",
        statement="YOCO with loops is better than YOCO alone and than a looped Transformer.",
        published=None,
        unit="× the held-out loss of the better of the two",
        measure=_against_either_alone,
        agrees=lambda ours: ours < 1,
        conditions=f"{SIZE}, as many parameters, four loops of each, of the latter one seed; it spends more operations",
    ),
]
