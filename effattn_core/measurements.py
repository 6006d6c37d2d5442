"""Recorded measurements: reading one, and what the runs that make them share (parts that go on where they stopped)."""

import statistics
import sys
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from effattn_core import pretrained, reproducible
from effattn_core.data import Batches
from effattn_core.model import build, configuration
from effattn_core.pretrained import probe
from effattn_core.train import train
from kernels import bench, runtime
from kernels.cache import whole_file

STEPS, BATCH, CONTEXT, LONGEST = 400, 8, 256, 4096
EVERY = 20  # steps whose mean loss a curve holds
RUNS = Path(__file__).resolve().parents[1] / ".cache" / "runs"


def once(path, make):
    """What `make` returns, rows or tensors: read from `path` if an earlier run has stored it there."""
    if not path.exists():
        made = make()
        with whole_file(path) as aside:
            torch.save(made, aside)
        print(f"{path.stem}: done", flush=True)
    # Tensors come back where they were; without a GPU those that one has stored come to the CPU.
    return torch.load(path, weights_only=True, map_location=None if torch.cuda.is_available() else "cpu")


def rounded(value, digits=4):
    """Floats to so many decimals, however deep they lie in dicts, lists, tuples or a tensor; all else as it is."""
    if isinstance(value, torch.Tensor):
        return rounded(value.tolist(), digits)
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    return round(value, digits) if isinstance(value, float) else value


def finished(model, batches, path, *, steps, learning_rate=6e-3):
    """The losses of a training that goes on from its checkpoint if there is one; leaves the program if stopped."""
    history = train(model, batches, steps=steps, learning_rate=learning_rate, checkpoint=path)
    if not history.finished:
        sys.exit(f"stopped; the next run goes on from {path.name}")
    return history.losses


def trained(size, vocabulary, training, path, *, seed, steps=STEPS):
    """(model, losses) of a named size on the letters `training`."""
    torch.manual_seed(seed)
    model = build(configuration(size, vocabulary, context=CONTEXT)).to(runtime.device())
    return model, finished(model, Batches(training, BATCH, CONTEXT, seed), path, steps=steps)


def record_pretrained(driver, parts, *, source="smollm2", context=None, folder=None, target=None):
    """Record what a driver, the path of a `run_smollm2.py`, measures of a trained model, in JSON beside it.

    parts: from (model, tokenizer) to the pairs (name, function that makes rows): a part that is done is kept in
    `folder`, by default in .cache/runs/TOPIC, so that an interrupted command goes on after the last.
    source, context: as of `pretrained.load`; the model is float32. target: the file, by default smollm2-cpu.json or
    smollm2-gpu.json.
    """
    reproducible(0)
    driver, kind = Path(driver), "gpu" if runtime.mode == "gpu" else "cpu"
    topic = driver.parent.name
    made = bench.provenance(f"python book/measurements/{topic}/{driver.name}")
    model, tokenizer = pretrained.load(source, context=context, dtype=torch.float32)
    rows = []
    for name, make in parts(model, tokenizer):
        rows += once((folder or RUNS / topic) / f"smollm2-{name}-{runtime.mode}.pt", make)
    bench.write_measurement(target or driver.with_name(f"smollm2-{kind}.json"), made, rows)


def by_passage(passages, length, *makes):
    """Parts of `record_pretrained`: each of `makes`, from (model, tokens, passage) to rows, over passages of plays."""

    def parts(model, tokenizer):
        texts = probe.passages(tokenizer, passages, length).to(model.head.weight.device)
        for passage, tokens in enumerate(texts):
            for make in makes:
                yield f"{make.__name__}-{passage}-{length}", partial(make, model, tokens, passage)

    return parts


def curve(losses):
    """Mean losses of every EVERY steps, rounded: what a figure draws."""
    return [round(statistics.fmean(losses[at : at + EVERY]), 4) for at in range(0, len(losses), EVERY)]


@torch.no_grad()
def loss_by_position(model, tokens, longest=LONGEST, windows=16):
    """Mean held-out loss in nats per letter of the positions [start, stop), in windows of `longest` letters."""
    text = tokens[: windows * longest + 1].to(runtime.device())
    inputs, targets = text[:-1].view(windows, longest), text[1:].view(windows, longest)
    losses = [
        functional.cross_entropy(model(each[None])[0][0], target, reduction="none")
        for each, target in zip(inputs, targets, strict=True)
    ]
    mean, edges = torch.stack(losses).mean(0), [0, CONTEXT]
    while edges[-1] < longest:
        edges.append(2 * edges[-1])
    return {(start, stop): mean[start:stop].mean().item() for start, stop in zip(edges, edges[1:], strict=False)}
