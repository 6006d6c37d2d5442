"""One decoded token over a pruned cache against a whole one: time, bytes read, and how far the next token's law moves.

python book/measurements/channels/bench.py      writes cpu.json or gpu-NAME.json beside this file

The model and its masks are those of run.py, read from .cache/runs or made. A text of each length is read once
with whole attention; every method then goes on from those keys and values. Before it is timed, the cache of each mask
must give the logits of masked attention over whole keys.

The model was trained on texts of 128 letters. `kl` is the divergence from the dense model on held-out texts of that
length. After 8,192 letters and more the model is a load with real keys and no longer a good reader, as its `loss` there
says; `kl_here` is the divergence after so many letters.
"""

import copy
import dataclasses
import functools
from pathlib import Path

import run
import torch

from effattn_core import reproducible
from effattn_core.channels import build_mask, deploy, masked, new_states
from effattn_core.channels.training import divergence
from effattn_core.data import Characters, shakespeare, split
from effattn_core.measurements import RUNS, once
from effattn_core.states import KeyValueCache, State, kept_bytes
from kernels import bench, runtime

CONTEXTS = (8192, 16384, 32768, 65536)
REGION = dict(sinks=4, recent=64, chunk=64)
LETTERS, REPEATS = 16, 21  # decoded for the divergence; timed
DENSE = "dense"


class Reference(State):
    """A state that decodes by masked attention over whole keys: what a pruned cache must give, at any length."""

    def __init__(self, cache, kept):
        self.cache, self.kept = cache, kept

    @property
    def length(self):
        return self.cache.length

    def attend(self, query, key, value):
        self.cache.append(key, value)
        return masked(query, self.cache.key, self.cache.value, self.kept, **REGION).output


def with_context(model, tokens):
    """A copy of the model whose states hold `tokens` tokens."""
    model = copy.deepcopy(model)
    model.sizes = dataclasses.replace(model.sizes, context=tokens)
    for block in model.blocks:
        block.mixer.sizes = model.sizes
    return model


@torch.no_grad()
def read(model, tokens):
    """The filled KeyValueCache of each layer after a text, read a stretch at a time."""
    states = model.new_states()
    for part in tokens[None].split(2048, 1):
        _, states = model(part, states)
    return states


def grown(cache, more):
    """A copy of a KeyValueCache with room for `more` tokens."""
    batch, heads, tokens, head_dim = cache.key.shape
    other = KeyValueCache(batch, heads, tokens + more, head_dim, dtype=cache.key.dtype, device=cache.key.device)
    other.append(cache.key, cache.value)
    return other


def start(caches, model, kept, more):
    """(model, states) of a method after the text: its heads permuted and its middle pruned, or dense for None."""
    if kept is None:
        return model, [grown(cache, more) for cache in caches]
    moved, plans = deploy(with_context(model, caches[0].length + more), kept)
    states = new_states(moved, plans, **REGION)
    for cache, state, plan in zip(caches, states, plans, strict=True):
        order = plan.order.to(cache.key.device)
        state.take_in(cache.key[:, order], cache.value[:, order])
    return moved, states


@torch.no_grad()
def logits_of(model, states, letters):
    """Logits after each of the letters, one decoded at a time: [letters, vocabulary]."""
    found = []
    for letter in letters:
        logits, states = model(letter.view(1, 1), states)
        found.append(logits[0, -1])
    return torch.stack(found)


def measure(model, caches, letters, masks, texts, repeats):
    """The rows of one length: dense first, then each mask, correctness before time. texts: of the trained length."""
    more = len(letters) + repeats + 8
    methods = {DENSE: None, **masks}

    def loss_of(log_probabilities):
        return -log_probabilities[:-1].gather(1, letters[1:, None]).mean().item()

    dense = logits_of(*start(caches, model, None, more), letters).log_softmax(-1)
    facts, candidates = {}, {}
    for name, kept in methods.items():
        moved, states = start(caches, model, kept, more)
        facts[name] = {"bytes": kept_bytes(states), "kl": 0.0, "kl_here": 0.0, "kept": 1.0, "loss": loss_of(dense)}
        if kept is not None:
            found = logits_of(moved, states, letters).log_softmax(-1)
            reference = [Reference(grown(cache, more), layer) for cache, layer in zip(caches, kept, strict=True)]
            error = (found - logits_of(model, reference, letters).log_softmax(-1)).abs().max().item()
            if not error < 1e-3:
                raise AssertionError(f"{name}: its log-probabilities are off by {error:.2g}: it is not timed")
            here = (dense.exp() * (dense - found)).sum(-1).mean().item()
            kl, _, _ = divergence(model, texts, kept, **run.REGION)
            facts[name] |= {"kl": kl, "kl_here": here, "kept": kept.double().mean().item(), "loss": loss_of(found)}
        candidates[name] = functools.partial(logits_of, *start(caches, model, kept, more), letters[:1])
    timings = bench.compare(candidates, checked=True, repeats=repeats, warmup=3, device=runtime.device())
    return [{"method": timing.name} | facts[timing.name] | row for timing, row in
            zip(timings, bench.rows_of({"what": "decode"}, timings), strict=True)]  # fmt: skip


def main(
    contexts=CONTEXTS, shares=run.SHARES, steps=run.STEPS, learn=run.LEARN,
    harden=run.HARDEN, letters=LETTERS, repeats=REPEATS, folder=RUNS, target=None,
):  # fmt: skip
    reproducible(0)
    text = shakespeare()
    alphabet = Characters(text)
    training, held_out = split(alphabet.encode(text))
    model = run.trained(0, alphabet, training, steps, folder)
    stages = functools.partial(run.importances, model, training, 0, learn=learn, harden=harden, shares=shares)
    found = once(folder / f"channels-0-{steps}-{learn}-{harden}-importance.pt", stages)
    device = runtime.device()
    masks = {f"channels, {1 - share:.0%} kept": build_mask(found[f"2 {share}"], share, run.ALIGN).to(device)
             for share in shares}  # fmt: skip
    length = run.SIZES["context"] + 1
    texts = held_out[: run.TEXTS * length].view(-1, length).to(device)
    kind = "gpu" if device.type == "cuda" else "cpu"
    path = target or bench.recording_path(Path(__file__).parent, kind)
    source = bench.provenance("make bench")
    rows = [] if target else bench.stored(path, source["commit"])
    done = {row["tokens"] for row in rows}
    for tokens in (each for each in contexts if each not in done):
        caches = read(with_context(model, tokens), held_out[:tokens].to(device))
        new = measure(model, caches, held_out[tokens : tokens + letters].to(device), masks, texts, repeats)
        rows += [{"tokens": tokens} | row for row in new]
        bench.write_measurement(path, source, rows)
        for row in new:
            print(f"{tokens:,} tokens, {row['method']}: {1e3 * row['median']:.2f} ms, loss {row['loss']:.2f}")


if __name__ == "__main__":
    main()
