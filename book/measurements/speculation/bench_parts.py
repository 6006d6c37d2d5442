"""What a cycle of drafting and verifying on SmolLM2 is made of: a pass over several rows, a drafting step, timed.

python book/measurements/speculation/bench_parts.py      writes parts-cpu.json beside this file

A pass is timed with the products of PyTorch's own order and with those of `quick`; both must say the same before they
are. A drafting step is a block and a head: their times do not depend on what the block was taught, so it is as it
begins. Nothing else may run on the machine.
"""

from pathlib import Path

import torch

from effattn_core import pretrained, reproducible
from effattn_core.speculation import Eagle, Head, Subset, chain_of, quick, tree_states
from effattn_core.speculation.training import new_extrapolator
from kernels import bench

ROWS, CONTEXT, REPEATS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16), 256, 25
KEPT = (128, 512, 2048, 8192, 32768)


def told(timing):
    """A timing in a measurement's words."""
    return {
        name: getattr(timing, name) for name in ("correct", "median", "lower_quartile", "upper_quartile", "repeats")
    }


@torch.inference_mode()
def pass_rows(models, rows=ROWS, context=CONTEXT, repeats=REPEATS):
    """Seconds of one pass over so many words after a text, by each way of multiplying."""
    states = {name: tree_states(model, context + max(rows)) for name, model in models.items()}
    tokens = torch.arange(context + max(rows))[None] % models["usual"].sizes.vocabulary
    for name, model in models.items():
        model.read(model.embedding(tokens[:, :context]), states[name])

    def one(name, count):
        model = models[name]
        hidden, _ = model.read(model.embedding(tokens[:, :count]), states[name])
        logits = model.head(model.norm(hidden))
        for state in states[name]:
            state.crop(context)
        return logits

    def check(key, logits):
        torch.testing.assert_close(logits, one("usual", key[1]), atol=2e-3, rtol=1e-3)

    candidates = {(name, count): lambda key=(name, count): one(*key) for count in rows for name in models}
    return [
        {"what": "pass", "products": timing.name[0], "rows": timing.name[1], "context": context} | told(timing)
        for timing in bench.compare(candidates, check=check, repeats=repeats)
    ]


@torch.inference_mode()
def step_rows(model, kept, context=CONTEXT, repeats=REPEATS):
    """Seconds of the parts of a drafting step: its block, and the head over each vocabulary with softmax and top-k."""
    words = model.sizes.vocabulary
    hidden, word = torch.randn(1, model.sizes.width), torch.tensor([1])
    drafter = Eagle(model, quick(new_extrapolator(model)), chain_of(1))
    drafter.begin(model, None)
    drafter.accept(torch.arange(context) % words, torch.randn(context, model.sizes.width))

    def block():
        drafter.accept(word, hidden)
        drafter.state.crop(context)

    def step(head):
        return head(hidden).float().log_softmax(-1).topk(4)

    subsets = {size: Subset(torch.arange(size) * (words // size), words) for size in kept} | {words: None}
    heads = {size: Head(model.head.weight, subset) for size, subset in subsets.items()}
    parts = {("block", None): block} | {("head", size): lambda head=head: step(head) for size, head in heads.items()}

    def check(key, _):
        part, size = key
        if part == "head" and size != words:  # its logits are those of the whole head, at its words
            kept_words = torch.arange(size) * (words // size)
            torch.testing.assert_close(heads[size](hidden), heads[words](hidden)[..., kept_words], atol=2e-3, rtol=1e-3)

    return [
        {"what": "step", "part": timing.name[0], "kept": timing.name[1]} | told(timing)
        for timing in bench.compare(parts, check=check, repeats=repeats)
    ]


def main(source="smollm2", rows=ROWS, context=CONTEXT, kept=KEPT, repeats=REPEATS, target=None):
    reproducible(0)
    made_by = bench.provenance("make bench", on="cpu")
    model, _ = pretrained.load(source, context=1024, dtype=torch.float32, device="cpu")
    model.requires_grad_(False)
    models = {"usual": model, "few rows": quick(model)}
    made = pass_rows(models, rows, context, repeats) + step_rows(models["few rows"], kept, context, repeats)
    bench.write_measurement(target or bench.recording_path(Path(__file__).parent, "cpu", "parts-"), made_by, made)


if __name__ == "__main__":
    main()
