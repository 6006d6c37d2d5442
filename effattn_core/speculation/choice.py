"""A drafter of frequent words beside the other methods of the book."""

from effattn_core import bill
from effattn_core.choices import ITS_MODEL_S, Found, Method, Recall
from effattn_core.recordings import measured

SPEED = "speculation/cpu"


def _slower():
    rows = measured(SPEED, what="speed", text="plays", temperature=0.0)
    speed = {row["way"]: row["speed_up"] for row in rows}
    head = max(value for way, value in speed.items() if way.startswith("trained head, chain"))
    return (
        f"dear drafters: on a CPU SmolLM2's first third gives {speed['first third']:.2f} times plain speed, a trained "
        f"head {head:.2f}, and looking words up in the text, untrained, {speed['lookup']:.2f}"
    )


METHODS = [
    Method(
        topic="speculation", name="FR-Spec", page="4-sparse/speculation", task="text", training="short",
        lines=lambda context: bill.lines("speculation", context),
        recall=Recall(stated=ITS_MODEL_S, because="every word obeys the law of the model that checks it"),
        kernels=(("head", "speculation.launch_head"), ("tree", "speculation.launch_tree")),
        loses=Found(SPEED, _slower),
        seen=(("EAGLE-3", "eagle3"),),
    )
]  # fmt: skip
