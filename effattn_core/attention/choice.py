"""Softmax attention and its window with sinks, beside the other methods of the book."""

from dataclasses import replace
from statistics import fmean

from effattn_core import bill, costs
from effattn_core.attention import sinks
from effattn_core.choices import Found, Method, Recall
from effattn_core.recordings import measured

WINDOW, SINKS = 1024, 4  # tokens: the window that the bill's YOCO takes, and the sinks of the recording
HYBRID, READ, SMOLLM2 = "recurrences/hybrid-cpu", "rectified/smollm2-cpu", "attention/smollm2-cpu"


def _recalled(name, layer, pairs=64):
    rows = measured(HYBRID, what="recall", name=name, layer=layer, pairs=pairs)
    return fmean(row["accuracy"] for row in rows)


def _windowed(context):
    """The bill's grouped heads, every layer with a window and sinks."""
    lines, reach = bill.lines("attention", context), min(context, WINDOW + SINKS)
    cache = costs.cache_bytes(bill.MODEL, reach)
    pairs = reach * (reach + 1) // 2 + (context - reach) * reach
    per_pair = 4 * bill.MODEL.layers * bill.MODEL.heads * bill.MODEL.head_dim
    return lines | {
        "prefill": replace(lines["prefill"], text=per_pair * pairs, explanation="attention within the window"),
        "cache": replace(lines["cache"], text=cache, explanation=f"the last {WINDOW:,} tokens and {SINKS} sinks"),
        "decode": replace(lines["decode"], text=cache, explanation="all weights but the embedding, and the window"),
    }


def found_of(name, dial, tokens=4096):
    """The share of hidden numbers that SmolLM2 names when it reads its cache in a way, of the recording READ."""
    (row,) = measured(READ, what="needle", name=name, dial=dial, tokens=tokens)
    return row["found"] / row["asked"]


def _grows():
    rows = measured("attention/cpu", what="decode one token", name="this book")
    times = {row["tokens"]: row["median"] for row in rows}
    most, least = max(times), 1024
    slower = times[most] / times[least]
    return f"a token takes {slower:.0f} times as long after {most:,} tokens as after {least:,}, on a CPU"


def _lost():
    name = "window of 252, 4 sinks"
    return (
        f"SmolLM2 with {sinks.kept()} keys loses {fmean(sinks.lost(name)):.2f} nats per token past them, "
        f"{fmean(sinks.lost('window of 256')):.2f} without sinks"
    )


METHODS = [
    Method(
        topic="attention", name="Softmax attention, grouped", page="1-attention/attention", task="text", training="no",
        lines=lambda context: bill.lines("attention", context), baseline=True,
        recall=Recall(HYBRID, "64 pairs", lambda: _recalled("softmax", "all")),
        kernels=(("prompt", "attention.launch_forward"), ("gradients", "attention.launch_backward"),
                 ("token", "attention.launch_decode")),
        loses=Found("attention/cpu", _grows),
        seen=(("Llama 3", "llama3"), ("Gemma 3", "gemma3")),
    ),
    Method(
        topic="attention", name="Window and sinks", page="1-attention/attention", task="text", training="no",
        lines=_windowed,
        recall=Recall(READ, "numbers hidden in 4,096 tokens, a quarter of them read",
                      lambda: found_of("StreamingLLM", 0.25), lambda: found_of("dense", 1.0)),
        kernels=(("prompt", "attention.launch_forward"), ("gradients", "attention.launch_backward")),
        loses=Found(SMOLLM2, _lost),
        seen=(("Gemma 3, windows in five of six layers", "gemma3"),),
    ),
]  # fmt: skip
