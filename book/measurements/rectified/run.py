"""How far a sparsely decoded cache drifts, what rectifying it is worth, and which blocks it reads: one trained model.

python book/measurements/rectified/run.py      writes training-cpu.json or training-gpu.json beside this file

The model reads the source of Python's own library by letters: names come back after hundreds of letters, so that far
reads matter. Training goes on from its checkpoint in .cache/runs when it was interrupted; a part that is done is kept
there too. One thread, about five minutes.
"""

import hashlib
import statistics
import sysconfig
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from effattn_core import reproducible
from effattn_core.attention import attention_part
from effattn_core.data import Batches, Characters, split
from effattn_core.measurements import RUNS, curve, finished, once
from effattn_core.model import Configuration, LanguageModel
from effattn_core.rectified import Choice, block_attention, choose_blocks
from effattn_core.rectified.cache import (
    RectifiedCache,
    RewindableCache,
    follow,
    kl_divergence,
    relative_error,
    states_of,
)
from effattn_core.train import evaluate
from kernels import bench, runtime

STEPS, BATCH, CONTEXT, PROMPT, TEXTS = 600, 4, 384, 128, 12
PERIODS, LEAST = (0, 128, 32, 8, 1), (2, 4)
WATCHED = (0.1, 0.2, 0.4)  # active ratios whose reads are written down, of one text
BLOCK_SIZE, ACTIVE = 8, 0.1


def library_source(most=3_000_000):
    """The modules at the top of Python's library as one text of plain letters, in the order of their names' hashes.

    By name, what is held out would be the end of the alphabet, where a few odd modules lie.
    """
    paths = Path(sysconfig.get_path("stdlib")).glob("*.py")
    paths = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())
    text = "\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in paths)
    return text.encode("ascii", "ignore").decode().replace("\t", "    ").replace("\r", "")[:most]


def sizes(vocabulary):
    return Configuration(
        vocabulary, width=96, layers=4, heads=6, key_value_heads=2, head_dim=16, feed_forward=256, context=CONTEXT
    )


def trained(training, vocabulary, *, steps=STEPS, folder):
    """The model, trained or gone on from its checkpoint; and its losses."""
    torch.manual_seed(0)
    model = LanguageModel(sizes(vocabulary)).to(runtime.device())
    path = folder / f"rectified-{steps}-{BATCH}.pt"
    losses = finished(model, Batches(training, BATCH, CONTEXT, 0), path, steps=steps)
    return model.eval(), losses


def texts_of(tokens, count=TEXTS):
    """Windows of CONTEXT + 1 letters, spread evenly over the text."""
    starts = torch.linspace(0, len(tokens) - CONTEXT - 1, count).long()
    return torch.stack([tokens[start : start + CONTEXT + 1] for start in starts]).to(runtime.device())


def exact_cache(model, tokens):
    """The states of a model that read all of `tokens` densely, and the logits."""
    states = states_of(model, len(tokens), RewindableCache)
    with torch.no_grad():
        logits, states = model(tokens, states)
    return states, logits


def drift_rows(model, texts, least, period):
    """One cell of the table, and the drift of the cache after every step: two rows."""
    tokens = texts[:, :-1]
    exact, dense = exact_cache(model, tokens)
    choice = Choice(block_size=BLOCK_SIZE, active=ACTIVE, least=least)
    states, saw = states_of(model, len(tokens), RectifiedCache, choice=choice), []

    def measure(position, decoder):
        now = []
        for kept, true in zip(decoder.states[1:], exact[1:], strict=True):
            error = (kept.value - true.value[:, :, : kept.length]).norm() / true.value[:, :, : kept.length].norm()
            now.append(f"{error.item():.4f}")
        saw.append(now)

    sparse = follow(model, tokens, states, prompt=PROMPT, period=period, each=measure)
    each = kl_divergence(dense[:, PROMPT:], sparse).mean(1).tolist()
    errors = [[relative_error(getattr(kept, name), getattr(true, name))[:, PROMPT:].mean().item()
               for kept, true in zip(states, exact, strict=True)] for name in ("key", "value")]  # fmt: skip
    loss = functional.cross_entropy(sparse.flatten(0, 1), texts[:, PROMPT + 1 :].flatten()).item()
    shared = {"least": least, "period": period, "active": ACTIVE, "block_size": BLOCK_SIZE}
    return [
        {"what": "table", **shared, "kl": statistics.fmean(each), "kl_texts": [round(kl, 5) for kl in each],
         "key_error": errors[0], "value_error": errors[1], "loss": loss},
        {"what": "drift", **shared, "first": PROMPT,
         "value_error": [" ".join(layer) for layer in zip(*saw, strict=True)]},
    ]  # fmt: skip


class Watched(RectifiedCache):
    """Notes which blocks each token read, and the share of dense attention's mass that they caught."""

    def __init__(self, *shape, **settings):
        super().__init__(*shape, **settings)
        self.seen = []

    def look(self, query):
        self.blocks = choose_blocks(self.scores(query), self.choice)
        part = block_attention(query, self.key, self.value, self.blocks, block_size=self.choice.block_size)
        whole = attention_part(query, self.key, self.value)
        caught = torch.exp(part.log_sum_exp - whole.log_sum_exp)[0, :, 0]
        self.seen.append((self.blocks[0].tolist(), caught.unflatten(0, (self.blocks.shape[1], -1)).mean(1).tolist()))
        return part.output


def read_rows(model, text, letters, active):
    """Blocks read and mass caught, one row per layer: of one text, with rectification every 8 letters.

    blocks: for each list of a layer, a word a step, whose bits in hexadecimal are the blocks read; caught: per cent.
    """
    choice = Choice(block_size=BLOCK_SIZE, active=active, least=2)
    states = states_of(model, 1, Watched, choice=choice)
    follow(model, text[None, :-1], states, prompt=PROMPT, period=8)
    shared = {"what": "reads", "active": active, "block_size": BLOCK_SIZE, "first": PROMPT}
    return [
        {**shared, "layer": layer, "text": letters.decode(text[:-1].cpu()) if layer == 0 else None,
         "blocks": [" ".join(f"{sum(1 << block for block in step[each]):x}" for step, _ in state.seen)
                    for each in range(state.key.shape[1])],
         "caught": [" ".join(f"{100 * shares[each]:.0f}" for _, shares in state.seen)
                    for each in range(state.key.shape[1])]}
        for layer, state in enumerate(states)
    ]  # fmt: skip


def main(steps=STEPS, periods=PERIODS, least=LEAST, watched=WATCHED, texts=TEXTS, folder=RUNS, target=None):
    reproducible(0, threads=1)
    source = library_source()
    letters = Characters(source)
    training, held_out = split(letters.encode(source))
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    path = target or Path(__file__).with_name(f"training-{kind}.json")
    model, losses = trained(training, len(letters), steps=steps, folder=folder)
    chosen = texts_of(held_out, texts)
    rows = [
        {"what": "model", "parameters": model.parameter_count, "steps": steps, "letters": len(source),
         "sha256": hashlib.sha256(source.encode()).hexdigest(), "texts": texts, "prompt": PROMPT, "context": CONTEXT,
         "losses": curve(losses),
         "held_out": evaluate(model, held_out[: 64 * CONTEXT + 1])}
    ]  # fmt: skip
    tag = f"{steps}-{BATCH}-{texts}"
    for few in least:
        for period in periods:
            make = partial(drift_rows, model, chosen, few, period)
            rows += once(folder / f"rectified-drift-{tag}-{few}-{period}.pt", make)
    for active in watched:
        make = partial(read_rows, model, chosen[texts // 4], letters, active)
        rows += once(folder / f"rectified-reads-{tag}-{active}.pt", make)
    bench.write_measurement(path, bench.provenance("make runs"), rows)


if __name__ == "__main__":
    main()
