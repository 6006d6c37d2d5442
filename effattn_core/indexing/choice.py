"""One index for all layers beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import NOT_MEASURED, Found, Method, Recall
from effattn_core.recordings import measured

READ = "indexing/smollm2-cpu"


def _loss(name, count=64):
    return fmean(row["loss"] for row in measured(READ, what="loss", name=name, count=count))


def _shared_list():
    dense = _loss("dense", None)
    return (
        f"layers that disagree: on SmolLM2 one taught list of 64 tokens costs {_loss('taught') - dense:.2f} nats per "
        f"token, a list per layer {_loss('per layer') - dense:.2f}"
    )


METHODS = [
    Method(
        topic="indexing", name="CLSA", page="4-sparse/indexing", task="text", training="scratch",
        lines=lambda context: bill.lines("indexing", context),
        recall=Recall(stated=NOT_MEASURED, because="its recording has losses; the needles of its page are one run"),
        kernels=(("choice", "indexing.launch_select"), ("token", "indexing.launch_attention")),
        loses=Found(READ, _shared_list),
        seen=(("DeepSeek-V3.2, an index per layer", "dsa"), ("IndexCache", "indexcache")),
    )
]  # fmt: skip
