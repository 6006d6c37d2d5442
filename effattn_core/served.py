"""What others measured while serving, beside what the planner says: one Row per published number, with where it is.

gpt-fast: README.md, "Benchmarks" and "Tensor Parallelism" (read at commit 32971d3): 8 A100 80GB, each limited to 330 W,
bfloat16, batch 1, a prompt of 5 tokens; generate.py writes 200 tokens unless told otherwise, so that 105 are kept in
the mean. TensorRT-LLM: docs/source/performance.md (read at commit 138f96d): A100, float16; "Low Latency", the first
token of a prompt at batch 1 (v0.5), and "Peak Throughput" of LLaMA 7B (v0.6.1), whose engines are of Llama 2.
llama.cpp: README.md of XiongjieDai/GPU-Benchmarks-on-LLM-Inference (read at commit 00dd2bd), "Apple Silicon", M1 Max
32-Core GPU 64GB, 8B F16: prompts (pp), and tokens written from an empty text (tg), of which the middle one is priced.
Context parallelism: Yang et al. 2024 (arXiv 2411.01783), of which the abstract was read: the longest and the shortest
prompt of Llama 3 405B on up to 128 H100s in 16 nodes. That both took all 128, eight per node for one share of the text,
and that weights took a byte each are our reading: in two bytes each they would not fit.
"""

from dataclasses import dataclass, replace

from effattn_core import plans
from effattn_core.devices import DEVICES, Device, own_device

DEVICE = DEVICES["A100 80GB SXM"]
FAST, TENSORRT, LLAMA_CPP, CONTEXT = "gpt-fast", "TensorRT-LLM", "llama.cpp", "context parallelism"
PER_SECOND = {"s": 1, "ms": 1000}  # units of a time


@dataclass(frozen=True)
class Row:
    """A published number beside the planner's. what: "decode", "prompt" or "both"; value: in `unit`.

    written: tokens written per text where both are timed together.
    """

    source: str
    what: str
    plan: plans.Plan
    value: float
    unit: str
    written: int = 0

    @property
    def estimate(self):
        """The planner's number for the same unit."""
        if self.what == "prompt":
            seconds = plans.prompt(self.plan).seconds
            timed = self.unit in PER_SECOND
            return PER_SECOND[self.unit] * seconds if timed else self.plan.batch * self.plan.context / seconds
        if self.what == "decode":
            return plans.report(self.plan)["tokens_per_second"]
        middle = replace(self.plan, context=self.plan.context + self.written // 2)
        seconds = plans.prompt(self.plan).seconds + self.written * plans.decode(middle).seconds
        return self.plan.batch * self.written / seconds

    @property
    def reached(self):
        """Published over estimated speed: 1 if nothing but what the planner counts took time, less in practice."""
        return self.estimate / self.value if self.unit in PER_SECOND else self.value / self.estimate


def _decoded(model, tensor, value, weights="bfloat16"):
    plan = plans.Plan(model, DEVICE, 105, tensor=tensor, weights=weights)
    return Row(FAST, "decode", plan, value, "tokens/s")


def _first(model, tensor, context, value):
    plan = plans.Plan(model, DEVICE, context, tensor=tensor, weights="float16", cache="float16")
    return Row(TENSORRT, "prompt", plan, value, "ms")


def _both(batch, context, written, value):
    plan = plans.Plan(plans.LLAMA_2_7B, DEVICE, context, batch=batch, weights="float16", cache="float16")
    return Row(TENSORRT, "both", plan, value, "tokens/s", written)


def _on_laptop(what, context, value):
    plan = plans.Plan(plans.costs.LLAMA_8B, DEVICES["M1 Max, a laptop"], context, weights="float16", cache="float16")
    return Row(LLAMA_CPP, what, plan, value, "tokens/s")


def _cut(context, value):
    plan = plans.Plan(plans.LLAMA_405B, DEVICES["H100 SXM"], context, weights="float8", tensor=8, sequence=16)
    return Row(CONTEXT, "prompt", plan, value, "s")


_BIG = replace(plans.LLAMA_70B, name="Llama 3.1 70B")
_SMALL = replace(plans.costs.LLAMA_8B, name="Llama 3.1 8B")
ROWS = (
    *(_decoded(plans.LLAMA_2_7B, tensor, value)
      for tensor, value in ((1, 104.9), (2, 168.84), (4, 254.02), (8, 328.43))),
    *(_decoded(_SMALL, tensor, value) for tensor, value in ((1, 93.83), (2, 149.10), (4, 217.21), (8, 276.01))),
    *(_decoded(plans.LLAMA_2_70B, tensor, value) for tensor, value in ((2, 21.32), (4, 38.01), (8, 62.50))),
    *(_decoded(_BIG, tensor, value) for tensor, value in ((2, 16.03), (4, 37.45), (8, 58.78))),
    *(_first(plans.LLAMA_2_7B, 1, context, value) for context, value in ((128, 16), (2048, 133))),
    *(_first(plans.LLAMA_2_70B, 4, context, value) for context, value in ((128, 47), (2048, 377))),
    *(_both(*each) for each in ((384, 128, 128, 5586), (60, 128, 2048, 1928), (52, 2048, 128, 591))),
    *(_on_laptop("prompt", context, value)
      for context, value in ((512, 517.34), (1024, 418.77), (4096, 374.09), (8192, 351.46))),
    *(_on_laptop("decode", written // 2, value)
      for written, value in ((512, 18.75), (1024, 18.43), (4096, 16.33), (8192, 15.03))),
    *(_cut(context, value) for context, value in ((1 << 17, 3.8), (1 << 20, 77))),
)  # fmt: skip


def rows(source=None, what=None):
    """The rows of a source, of a kind, or all."""
    return [row for row in ROWS if source in (None, row.source) and what in (None, row.what)]


def fitted(share_of, latency_of):
    """(share, latency): of its peaks that one device reaches in a Row, and seconds of a collective that a second adds.

    What the second Row takes beyond the estimate at that share is laid on its collectives.
    """
    step = plans.decode(latency_of.plan)
    return share_of.reached, (1 / latency_of.value - step.seconds / share_of.reached) / step.calls


def predicted(found, share, latency):
    """Tokens per second of a decoding Row from the two fitted numbers."""
    step = plans.decode(found.plan)
    return found.plan.batch / (step.seconds / share + step.calls * latency)


def measured(rows):
    """(device, Rows) of the recording "pretrained/cpu": SmolLM2 in float32 on a device with the rates measured there.

    The device's memory and link were not measured: they are round numbers.
    """
    rate = {
        name: max(row["median"] for row in rows if row["what"] == "rate" and row["name"] == name)
        for name in ("copying", "multiplying")
    }
    own = own_device(bandwidth=rate["copying"], flops=rate["multiplying"])
    source = "book/measurements/pretrained/cpu.json; memory and link are round numbers"
    device = Device(replace(own.hardware, name="2 CPU threads, as recorded", source=source), own.link, source)
    timed = {row["what"]: row for row in rows if row["what"] in ("prompt", "token") and row["name"] == "this book"}
    plan = plans.Plan(plans.costs.SMOLLM2, device, timed["token"]["tokens"], weights="float32", cache="float32")
    return device, [
        Row("this book", "prompt", plan, 1000 * timed["prompt"]["median"], "ms"),
        Row("this book", "decode", plan, 1 / timed["token"]["median"], "tokens/s"),
    ]


def table_rows(found):
    """Rows for a table: what was published, what the planner says, and the share of its speed that was reached."""
    words = {"decode": "token after {:,}", "prompt": "prompt of {:,}", "both": "{:,} read, {:,} written"}
    return [
        {"model": row.plan.model.name, "devices": row.plan.devices, "batch": row.plan.batch,
         "timed": words[row.what].format(row.plan.context, row.written),
         "published": f"{row.value:,.5g} {row.unit}", "planner": f"{row.estimate:,.4g}",
         "reached": round(row.reached, 2)}
        for row in found
    ]  # fmt: skip
