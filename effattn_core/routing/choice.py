"""Experts routed by prices beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import ITS_MODEL_S, Found, Method, Recall
from effattn_core.recordings import measured

RUN = "routing/training-cpu"


def _decoding():
    """What prices of the text itself and prices of the past lose, as they train and as they decode."""
    own, past = (
        [fmean(row[when] for row in measured(RUN, what="bits", router=router)) for when in ("trained", "decoding")]
        for router in ("prices", "past_prices")
    )
    return (
        f"prices of the text itself read its future: random bits cost {own[0]:.2f} nats as trained and {own[1]:.2f} as "
        f"decoded; prices of the past {past[0]:.2f} and {past[1]:.2f}"
    )


METHODS = [
    Method(
        topic="routing", name="Experts: MaxScore, prices of the past", page="4-sparse/routing", task="training",
        training="scratch", lines=lambda context: bill.lines("routing", context),
        recall=Recall(stated=ITS_MODEL_S, because="its layers of attention are its model's"),
        kernels=(("products", "routing.launch_product"), ("gradients", "routing.launch_weights"),
                 ("sum", "routing.launch_combine")),
        loses=Found(RUN, _decoding),
        seen=(("DeepSeek-V3", "deepseekv3"), ("Mixtral", "mixtral"), ("OLMoE", "olmoe")),
    )
]  # fmt: skip
