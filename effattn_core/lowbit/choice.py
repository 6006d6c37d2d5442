"""Optimizer states in few bits beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import ITS_MODEL_S, Found, Method, Recall
from effattn_core.recordings import measured

RUN = "lowbit/training-cpu"


def _loss(name, beta1, rate=3e-3):
    return fmean(row["loss"] for row in measured(RUN, what="text", name=name, beta1=beta1, rate=rate))


def _two_bits():
    more = {beta1: _loss("SOLO 2/2", beta1) - _loss("AdamW", beta1) for beta1 in (0.5, 0.9)}
    return f"two bits cost {more[0.9]:+.3f} nats per letter at β1 0.9 and {more[0.5]:+.3f} at 0.5, against float32"


METHODS = [
    Method(
        topic="lowbit", name="SOLO, states in 4 and 2 bits", page="6-lowbit/lowbit", task="training", training="short",
        lines=lambda context: bill.lines("lowbit", context),
        recall=Recall(stated=ITS_MODEL_S, because="it changes the optimizer alone"),
        kernels=(("step", "lowbit.launch_step"),),
        loses=Found(RUN, _two_bits),
        seen=(("DeepSeek-V3, moments in bfloat16", "deepseekv3"), ("COAT", "coat")),
    )
]  # fmt: skip
