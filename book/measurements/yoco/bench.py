"""Whole small models of equal parameters: reading a prompt, and one decoded token after it, as the text grows.

python book/measurements/yoco/bench.py      writes cpu.json or gpu-NAME.json beside this file

Weights are random: what is timed does not depend on them. Before anything is timed, what a model says after a prefill
must be what its whole forward pass says, at the shortest length.
"""

import functools
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.model import build, configuration
from effattn_core.states import kept_bytes
from kernels import bench, runtime

MODELS = {
    "Transformer": "small",
    "RetNet": "small-retention",
    "YOCO, window": "small-yoco",
    "YOCO, gated": "small-yoco-gated",
}
TIMES = (1024, 2048, 4096, 8192, 16384, 32768)
VOCABULARY, REPEATS, MARGIN = 80, 31, 64


def made(size, context, device):
    torch.manual_seed(0)
    return build(configuration(size, VOCABULARY, context=context + MARGIN)).to(device).eval()


def text(tokens, device):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCABULARY, (1, tokens), generator=generator).to(device)


@torch.no_grad()
def measure_prefill(tokens, device, *, checked):
    """The rows of one length: every model reads a prompt of so many tokens and says what follows."""
    given = text(tokens, device)
    models = {name: made(size, tokens, device) for name, size in MODELS.items()}

    def check(name, result):
        if checked:
            wanted = models[name](given)[0][:, -1:]
            error = ((result - wanted).abs().max() / wanted.abs().max()).item()
            if not error <= 1e-4:
                raise AssertionError(f"{name}: a prefill is off by {error:.2g} at {tokens} tokens: it is not timed")

    candidates = {name: functools.partial(_first, model, given) for name, model in models.items()}
    few = device.type == "cpu" and tokens > 4096
    timings = bench.compare(candidates, check=check, repeats=5 if few else 9, warmup=0 if few else 1, device=device)
    return bench.rows_of({"what": "prefill", "tokens": tokens}, timings)


def _first(model, given):
    return model.prefill(given)[0]


@torch.no_grad()
def measure_decoding(name, times, device):
    """The rows of one model: a decoded token after each length, in turns; and what it keeps, summed over tensors."""
    candidates, kept, shortest = {}, {}, min(times)
    for tokens in times:
        model, given = made(MODELS[name], tokens, device), text(tokens, device)
        _, states = model.prefill(given)
        kept[tokens] = kept_bytes(states)
        candidates[tokens] = _stepper(model, states, given[:, :1])
        if tokens == shortest:
            truth = model(torch.cat((given, given[:, :1]), 1))[0][:, -1:]

    def check(tokens, logits):
        error = (logits - truth).abs().max() / truth.abs().max() if tokens == shortest else 0.0
        if not error <= 1e-4:
            raise AssertionError(f"{name}: a decoded token is off by {error:.2g} at {tokens} tokens: it is not timed")

    rows = []
    for timing in bench.compare(candidates, check=check, repeats=REPEATS, warmup=5, device=device):
        case = {"what": "decode", "tokens": timing.name, "bytes": kept[timing.name]}
        rows += [row | {"name": name} for row in bench.rows_of(case, [timing])]
    return rows


def _stepper(model, states, token):
    """Decodes a token at each call; the text grows by one, MARGIN times at most."""

    def step():
        nonlocal states
        logits, states = model(token, states)
        return logits

    return step


def main(times=TIMES, folder=Path(__file__).parent):
    """Measure and store after each case; a run at the same commit goes on where the last one stopped."""
    reproducible(0)
    device = runtime.device()
    path = bench.recording_path(folder, "gpu" if device.type == "cuda" else "cpu")
    source = bench.provenance("make bench")
    rows = bench.stored(path, source["commit"])
    done = {(row["what"], row["tokens"]) for row in rows if row["what"] == "prefill"}
    for tokens in times:
        if ("prefill", tokens) not in done:
            rows += measure_prefill(tokens, device, checked=tokens == min(times))
            bench.write_measurement(path, source, rows)
            print("prefill", tokens, *(f"{row['name']} {row['ratio']:.2f}" for row in rows[-len(MODELS) :]), sep="; ")
    for name in MODELS:
        if not any(row["what"] == "decode" and row["name"] == name for row in rows):
            rows += measure_decoding(name, times, device)
            bench.write_measurement(path, source, rows)
            print("decode", name, *(f"{row['tokens']} {row['ratio']:.2f}" for row in rows[-len(times) :]), sep="; ")


if __name__ == "__main__":
    main()
