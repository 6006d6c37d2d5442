"""Depth in loops beside the other methods of the book."""

from effattn_core import bill
from effattn_core.choices import NOT_MEASURED, Found, Method, Recall
from effattn_core.universal.recorded import DEEP, RUN, loss


def _unshared():
    seeds = (0,)  # the one that the stack without sharing has
    looped, deep = loss("YOCO-U", 4, seeds=seeds), loss(*DEEP, seeds=seeds)
    return f"four loops end at {looped:.2f} nats per letter, a stack as deep, unshared, at {deep:.2f} (one seed)"


METHODS = [
    Method(
        topic="universal", name="YOCO-U, four loops", page="3-yoco/universal", task="text", training="scratch",
        lines=lambda context: bill.lines("universal", context),
        recall=Recall(stated=NOT_MEASURED, because="no run of ours asks loops for facts"),
        kernels=(("prompt", "recurrences.launch_outputs"),),
        loses=Found(RUN, _unshared),
        seen=(("Huginn, loops alone", "recurrentdepth"), ("Ouro, loops alone", "ouro")),
    )
]  # fmt: skip
