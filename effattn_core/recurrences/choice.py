"""Gates, the gated delta rule, and a hybrid of it with attention, beside the other methods of the book."""

from dataclasses import replace
from statistics import fmean

from effattn_core import bill
from effattn_core.choices import Found, Method, Recall
from effattn_core.recordings import measured
from effattn_core.recurrences.costs import hybrid_kept
from effattn_core.retention.choice import RUN, recalled

HYBRID, EVERY, LAST = "recurrences/hybrid-cpu", 4, 3  # one layer of four attends; of the recording's four, the last


def _hybrid(name, layer, pairs=64):
    rows = measured(HYBRID, what="recall", name=name, layer=layer, pairs=pairs)
    return fmean(row["accuracy"] for row in rows)


def _letters(recording, name, **wanted):
    return fmean(row["loss"] for row in measured(recording, what="text", name=name, **wanted))


def _mixed(context):
    """Lines of the bill with attention in every fourth layer, a state in the others."""
    attending, states = (bill.lines(topic, context) for topic in ("attention", "recurrences"))
    cache, kept = hybrid_kept(context, EVERY)
    prompt = (attending["prefill"].text + (EVERY - 1) * states["prefill"].text) / EVERY
    explanation = "a cache in one layer of four, a state in the others"
    return attending | {
        "prefill": replace(states["prefill"], text=prompt, parts=("matrices", "mixing"), explanation=explanation),
        "cache": replace(states["cache"], text=cache + kept, explanation=explanation),
        "decode": replace(states["decode"], text=cache + kept, explanation=explanation),
    }


def _rewritten():
    adds, replaces = (recalled(rule, 16, rewritten=16) for rule in ("gla", "delta"))
    return f"facts written twice: {adds:.0%} of 16 named, by the delta rule {replaces:.0%}"


def _full():
    few, many = (_hybrid("gated_delta", None, pairs) for pairs in (8, 64))
    return f"many facts overfill its state: of 8 pairs it names {few:.0%}, of 64 {many:.0%}"


def _still_grows():
    rows = {row["name"]: row["bytes"] for row in measured(HYBRID, what="kept", tokens=4096, layer=LAST)}
    whole = measured(HYBRID, what="kept", name="softmax", tokens=4096)[0]["bytes"]
    share = rows["gated_delta"] / whole
    return f"its cache still grows with the text: after 4,096 tokens it kept {share:.0%} of softmax attention's"


METHODS = [
    Method(
        topic="recurrences", name="Gated linear attention", page="2-retention/recurrences", task="text",
        training="scratch", lines=lambda context: bill.lines("recurrences", context),
        recall=Recall(RUN, "32 pairs", lambda: recalled("gla"), lambda: recalled("softmax")),
        kernels=(("prompt", "recurrences.launch_outputs"), ("gradients", "recurrences.launch_gradients")),
        loses=Found(RUN, _rewritten),
        seen=(("RWKV-6 Finch", "rwkv6"),),
    ),
    Method(
        topic="recurrences", name="Gated delta rule", page="2-retention/delta", task="text", training="scratch",
        lines=lambda context: bill.lines("recurrences", context),
        recall=Recall(RUN, "32 pairs", lambda: recalled("gated_delta"), lambda: recalled("softmax")),
        kernels=(("prompt and token", "recurrences.launch_delta"),),
        loses=Found(HYBRID, _full),
        seen=(("Gated DeltaNet-2", "gateddelta2"),),
    ),
    Method(
        topic="recurrences", name="Hybrid, one layer of four attends", page="2-retention/delta", task="text",
        training="scratch", lines=_mixed,
        recall=Recall(HYBRID, "64 pairs", lambda: _hybrid("gated_delta", LAST), lambda: _hybrid("softmax", "all")),
        kernels=(("state", "recurrences.launch_delta"), ("attention", "attention.launch_forward")),
        loses=Found(HYBRID, _still_grows),
        seen=(("Kimi Linear", "kimilinear"), ("Olmo Hybrid", "olmohybrid")),
    ),
]  # fmt: skip
