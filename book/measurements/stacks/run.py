"""The named stacks, trained alike on Shakespeare by letters; what each keeps; and a decoded token as the text grows.

python book/measurements/stacks/run.py     writes training-cpu.json or training-gpu.json beside this file

A part that is done is kept in .cache/runs/stacks, one file each: an interrupted command goes on after the last. One
thread. A token of each stack meets as many parameters as one of the plain Transformer; `parameters` counts them all.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.lowbit.optimizer import state_bytes
from effattn_core.measurements import RUNS, once
from effattn_core.stack_models import LEARNING_RATE, parameters_met, reader_of
from effattn_core.stacks import PRESETS, make, optimizer_of, states_of
from effattn_core.states import kept_bytes
from effattn_core.train import evaluate, train
from kernels import bench, runtime

NAMES = tuple(PRESETS)
SEEDS = (0, 1, 2)
STEPS, BATCH, CONTEXT = 300, 4, 256
LENGTHS = (256, 1024, 4096, 16384, 65536, 131072)  # tokens that are kept when one more is decoded
MOST_READ = 16384  # of longer texts the caches are filled with random numbers, and no text is read
VOCABULARY, REPEATS, WARMUP, MARGIN = 80, 31, 5, 64


def text_rows(name, seed, steps=STEPS):
    """Held-out loss in nats per letter of one stack after training, and the bytes of its optimizer: one row."""
    stack, text = PRESETS[name], shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    model = make(stack, len(letters), seed, CONTEXT).to(runtime.device())
    optimizer = optimizer_of(stack, model)
    batches = Batches(training, BATCH, CONTEXT, seed)
    train(model, batches, steps=steps, learning_rate=LEARNING_RATE, optimizer=optimizer, progress=False)
    reader = reader_of(model.eval())
    loss = evaluate(reader, held_out[:32769])
    print(f"text {name}, seed {seed}: {loss:.3f}", flush=True)
    met = parameters_met(stack, len(letters), reader.sizes.feed_forward)
    return [{"what": "text", "name": name, "seed": seed, "steps": steps, "parameters": model.parameter_count,
             "met": round(met), "optimizer_bytes": state_bytes(optimizer), "loss": loss}]  # fmt: skip


@torch.no_grad()
def read(name, tokens):
    """(model, states, the last token) of a new stack after so many random tokens, the last of them decoded.

    Past MOST_READ the states are filled instead: what a token then takes does not depend on the numbers in them. At the
    shortest length, where each token reads all that is kept, the last must say what the whole text at once says. Raises
    AssertionError otherwise.
    """
    stack = PRESETS[name]
    model = reader_of(make(stack, VOCABULARY, 0, tokens + MARGIN)).to(runtime.device()).eval()
    given = torch.randint(VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(1)).to(runtime.device())
    states = states_of(stack, model, tokens + MARGIN)
    if tokens > MOST_READ:
        states = [filled(state, tokens - 1) for state in states]
    else:
        _, states = model.prefill(given[:, :-1], states, chunk=1024)
    logits, states = model(given[:, -1:], states)
    if tokens == min(LENGTHS):
        wanted = model(given)[0][:, -1:]
        error = ((logits - wanted).abs().max() / wanted.abs().max()).item()
        if not error <= 1e-4:
            raise AssertionError(f"{name}: a decoded token is off by {error:.2g} at {tokens} tokens: it is not timed")
    return model, states, given[:, -1:]


def filled(state, tokens):
    """A state as if it had taken in so many tokens."""
    if not state.grows:
        return replace(state, length=tokens)
    batch, heads, _, head_dim = state.key.shape
    state.append(*torch.randn(2, batch, heads, tokens, head_dim, device=state.key.device))
    return state


def _stepper(model, states, token):
    """Decodes a token at each call; the text grows by one, MARGIN times at most."""

    @torch.no_grad()
    def step():
        nonlocal states
        logits, states = model(token, states)
        return logits

    return step


def length_rows(tokens, names=NAMES, repeats=REPEATS):
    """What each stack keeps after a text of so many tokens, and the time of one more, all stacks by turns."""
    steps, rows = {}, []
    for name in names:
        model, states, token = read(name, tokens)
        rows.append({"what": "kept", "name": name, "tokens": tokens, "bytes": kept_bytes(states),
                     "filled": tokens > MOST_READ})  # fmt: skip
        steps[name] = _stepper(model, states, token)
    timings = bench.compare(
        steps, checked=True, repeats=repeats, warmup=WARMUP, device=runtime.device(), progress=False
    )  # fmt: skip
    rows += bench.rows_of({"what": "decode", "tokens": tokens}, timings)
    print(f"{tokens} tokens:", *(f"{each.name} {each.ratio:.2f}" for each in timings), sep="; ", flush=True)
    return rows


def main(
    seeds=SEEDS, names=NAMES, steps=STEPS, lengths=LENGTHS, repeats=REPEATS, folder=RUNS / "stacks", target=None
):  # fmt: skip
    reproducible(0, threads=1)
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    target = target or Path(__file__).with_name(f"training-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    for tokens in lengths:
        path = folder / f"length-{tokens}-{len(names)}-{repeats}-{runtime.mode}.pt"
        rows += once(path, partial(length_rows, tokens, names, repeats))
    for seed in seeds:
        for name in names:
            path = folder / f"text-{name}-{seed}-{steps}-{runtime.mode}.pt"
            rows += once(path, partial(text_rows, name, seed, steps))
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
