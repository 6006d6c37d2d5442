"""Rectified sparse attention beside the other methods of the book."""

from effattn_core import bill
from effattn_core.attention.choice import READ, found_of
from effattn_core.choices import Found, Method, Recall


def _guessing():
    ours, others = found_of("ReSA", 0.12), found_of("mean keys", 0.12)
    return (
        f"the choice still guesses: with an eighth of 4,096 tokens read it names {ours:.0%} of the hidden numbers, a "
        f"choice by mean keys {others:.0%}, dense reading {found_of('dense', 1.0):.0%}"
    )


METHODS = [
    Method(
        topic="rectified", name="ReSA", page="4-sparse/rectified", task="text", training="no",
        lines=lambda context: bill.lines("rectified", context),
        recall=Recall(READ, "numbers hidden in 4,096 tokens, a quarter of them read",
                      lambda: found_of("ReSA", 0.25), lambda: found_of("dense", 1.0)),
        kernels=(("choice", "rectified.launch_scores"), ("token", "rectified.launch_decode"),
                 ("rectifying", "rectified.launch_rectify")),
        loses=Found(READ, _guessing),
        seen=(("DeepSeek-V3.2-Exp, rows without rectifying", "dsa"),),
    )
]  # fmt: skip
