"""What serving a model takes on one device or many: memory, time and bytes sent, by the formulas of the chapters.

A plan splits the work in four ways, and its devices are the product of the four degrees. Data: texts. Tensor: heads,
feed-forward and vocabulary. Sequence: the tokens of each text. Expert: the experts of a layer; these devices have
texts of their own too. `report` gives what one device of the plan does; `refusal` says why there is no such plan.

`book/_static/planner.js` holds the same formulas for the page; `tests/book/test_planner.py` holds the two together.
"""

import math
from dataclasses import asdict, dataclass, replace

from effattn_core import costs, plan_parts
from effattn_core.devices import Device
from effattn_core.plan_parts import MIXERS

# Sizes as in gpt-fast's model.py (transformer_configs), which was read; Llama 3 8B and SmolLM2 are the book's own.
LLAMA_70B = costs.Model(
    name="Llama 3 70B", layers=80, width=8192, heads=64, key_value_heads=8, head_dim=128, feed_forward=28672,
    vocabulary=128256, source="gpt-fast, model.py, llama-3.1-70b",
)  # fmt: skip
LLAMA_2_7B = costs.Model(
    name="Llama 2 7B", layers=32, width=4096, heads=32, key_value_heads=32, head_dim=128, feed_forward=11008,
    vocabulary=32000, source="gpt-fast, model.py, 7B",
)  # fmt: skip
LLAMA_2_70B = replace(LLAMA_70B, name="Llama 2 70B", vocabulary=32000, source="gpt-fast, model.py, 70B")
LLAMA_405B = costs.Model(
    name="Llama 3 405B", layers=126, width=16384, heads=128, key_value_heads=8, head_dim=128, feed_forward=53248,
    vocabulary=128256, source="gpt-fast, model.py, llama-3.1-405b",
)  # fmt: skip
MODELS = {
    model.name: model for model in (costs.SMOLLM2, LLAMA_2_7B, costs.LLAMA_8B, LLAMA_2_70B, LLAMA_70B, LLAMA_405B)
}


@dataclass(frozen=True)
class Plan:
    """A model, the devices that serve it, and how the work is split. Refused by `check`, not when it is made.

    context: tokens of each text; batch: texts, on all devices. weights, cache: dtypes kept (costs.BYTES); products are
    made in bfloat16, or in float32 if the weights have it. data, tensor, sequence, expert: degrees. experts, top_k: a
    layer's experts, each as wide as the feed-forward over top_k, so that a token computes as much as before. window:
    tokens, of mixer "window". share: of the cache that "sparse" decoding reads, choosing included. latency: seconds of
    each collective besides its bytes.
    """

    model: costs.Model
    device: Device
    context: int
    batch: int = 1
    mixer: str = "softmax"
    weights: str = "bfloat16"
    cache: str = "bfloat16"
    data: int = 1
    tensor: int = 1
    sequence: int = 1
    expert: int = 1
    experts: int = 1
    top_k: int = 1
    window: int = 1024
    share: float = 0.125
    latency: float = 0.0

    @property
    def devices(self):
        return self.data * self.tensor * self.sequence * self.expert

    @property
    def products(self):
        """The dtype of the products, and of activations that are sent."""
        return "float32" if self.weights == "float32" else "bfloat16"

    @property
    def inner(self):
        """The width of one expert, or of the feed-forward."""
        return self.model.feed_forward // self.top_k


WHOLE = ("context", "batch", "data", "tensor", "sequence", "expert", "experts", "top_k", "window")
LARGEST = 2**53  # up to here the page's numbers are exact
SIZES = ("layers", "width", "heads", "key_value_heads", "head_dim", "feed_forward", "vocabulary")


def refusal(plan):
    """Why there is no such plan, in a sentence; None where there is one. What does not fit the memory is no refusal."""
    return _sizes_refusal(plan) or _split_refusal(plan)


def _sizes_refusal(plan):
    for name, value in [(name, getattr(plan, name)) for name in WHOLE] + [
        (name, getattr(plan.model, name)) for name in SIZES
    ]:
        if not _is_finite(value) or value != int(value) or value < 1:
            return f"{name} must be a whole number of at least 1; it is {_shown(value)}."
        if value > LARGEST:
            return f"{name} must be at most {LARGEST}; it is {_shown(value)}."
    if plan.mixer not in MIXERS:
        return f"mixer must be one of {', '.join(MIXERS)}; it is {plan.mixer}."
    for name, dtype in (("weights", plan.weights), ("cache", plan.cache)):
        if dtype not in costs.BYTES:
            return f"{name} must be one of {', '.join(costs.BYTES)}; it is {dtype}."
    if not _is_finite(plan.share) or not 0 < plan.share <= 1:
        return f"share must lie above 0 and be at most 1; it is {_shown(plan.share)}."
    if not _is_finite(plan.latency) or plan.latency < 0:
        return f"latency must be a finite number of at least 0; it is {_shown(plan.latency)}."
    hardware = plan.device.hardware
    peaks = ("bandwidth", hardware.bandwidth), ("memory", hardware.memory), ("link", plan.device.link)
    for name, value in (*peaks, (f"{plan.products} flops", hardware.peak(plan.products))):
        if not _is_finite(value) or value <= 0:
            return f"{name} must be a finite number above 0; it is {_shown(value)}."
    return None


def _is_finite(value):
    return isinstance(value, (int, float)) and math.isfinite(value)


def _split_refusal(plan):
    """Each thing that is split must come out whole: nothing is padded but the vocabulary."""
    model, replicas = plan.model, plan.data * plan.expert
    rules = (
        (model.heads % model.key_value_heads,
         f"key_value_heads must divide heads ({model.heads}); it is {model.key_value_heads}."),
        (plan.experts < plan.top_k,
         f"top_k must be at most experts ({plan.experts}); it is {plan.top_k}."),
        (model.feed_forward % plan.top_k,
         f"top_k must divide the feed-forward ({model.feed_forward}); it is {plan.top_k}."),
        (plan.experts > 1 and plan.mixer == "yoco",
         "yoco is priced without experts: set experts to 1, or take another mixer."),
        (plan.mixer == "yoco" and model.layers < 2, f"yoco needs at least 2 layers; it has {model.layers}."),
        (plan.experts % plan.expert,
         f"the expert degree must divide experts ({plan.experts}); it is {plan.expert}."),
        (model.heads % plan.tensor,
         f"the tensor degree must divide heads ({model.heads}); it is {plan.tensor}."),
        (model.key_value_heads % plan.tensor and plan.tensor % model.key_value_heads,
         f"the tensor degree must divide key_value_heads ({model.key_value_heads}) or be a multiple; "
         f"it is {plan.tensor}."),
        (plan.inner % plan.tensor,
         f"the tensor degree must divide the width of a feed-forward ({plan.inner}); it is {plan.tensor}."),
        (plan.context % plan.sequence,
         f"the sequence degree must divide context ({plan.context}); it is {plan.sequence}."),
        (plan.batch % replicas,
         f"data times expert degree ({replicas}) must divide batch ({plan.batch}): each device has whole texts."),
    )  # fmt: skip
    return next((sentence for broken, sentence in rules if broken), None)


def _shown(value):
    """A number in a refusal: whole numbers in full, others with six digits, as the page's script shows them too."""
    if not isinstance(value, (int, float)) or math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite"
    return f"{value:.0f}" if value == int(value) and abs(value) <= LARGEST else f"{value:g}"


def check(plan):
    """Raise ValueError, with the reason, unless the plan can be made."""
    reason = refusal(plan)
    if reason:
        raise ValueError(reason)


@dataclass(frozen=True)
class Step:
    """What one device does for a prompt, or for one token of every text: operations, bytes, and seconds by the peaks.

    moved: bytes between its memory and its chip; sent: bytes over its link, in `calls` collectives.
    """

    flops: float
    moved: float
    sent: float
    calls: int
    compute: float
    memory: float
    communication: float

    @property
    def seconds(self):
        """The longer of computing and reading, which overlap (costs.roofline), and sending, which here waits for it."""
        return max(self.compute, self.memory) + self.communication

    @property
    def bound(self):
        """The longest of the three: "compute", "memory" or "communication"."""
        return max(("compute", "memory", "communication"), key=lambda name: getattr(self, name))


@dataclass(frozen=True)
class Memory:
    """Bytes that one device keeps: weights, caches that grow with the text, and windows or states that do not.

    Activations and the runtime's own room are left out.
    """

    weights: float
    growing: float
    constant: float

    @property
    def total(self):
        return self.weights + self.growing + self.constant


def memory(plan):
    """The Memory of one device. What grows is split by the sequence degree, what is constant is not."""
    check(plan)
    found = plan_parts.kept(plan)
    weights = int(plan_parts.parameters(plan) * costs.element_bytes(plan.weights))
    return Memory(weights, found.growing / plan.sequence, found.constant)


def prompt(plan):
    """The Step that reads every text's prompt of `context` tokens and gives its next token."""
    check(plan)
    return _step(plan, *plan_parts.prompt_work(plan), *plan_parts.prompt_sent(plan))


def decode(plan):
    """The Step that writes one token for each text, after `context` tokens."""
    check(plan)
    return _step(plan, *plan_parts.decode_work(plan), *plan_parts.decode_sent(plan))


def _step(plan, flops, moved, sent, calls):
    hardware = plan.device.hardware
    compute, memory = flops / hardware.peak(plan.products), moved / hardware.bandwidth
    return Step(flops, moved, sent, calls, compute, memory, sent / plan.device.link + calls * plan.latency)


def report(plan):
    """All of a plan as nested dicts of numbers, as the page's script gives them too."""
    kept, first, each = memory(plan), prompt(plan), decode(plan)
    return {
        "devices": plan.devices,
        "memory": asdict(kept) | {"total": kept.total},
        "fits": kept.total <= plan.device.hardware.memory,
        "prompt": asdict(first) | {"seconds": first.seconds},
        "decode": asdict(each) | {"seconds": each.seconds},
        "tokens_per_second": plan.batch / each.seconds,
    }


def settings(plan):
    """A plan as the page's script takes it: plain numbers and names, without the sources."""
    hardware = plan.device.hardware
    found = {name: getattr(plan, name) for name in (*WHOLE, "mixer", "weights", "cache", "share", "latency")}
    found["model"] = {name: getattr(plan.model, name) for name in (*SIZES, "tied")}
    found["device"] = {
        "bandwidth": hardware.bandwidth, "memory": hardware.memory, "flops": dict(hardware.flops),
        "link": plan.device.link,
    }  # fmt: skip
    return found
