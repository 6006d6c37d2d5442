"""Could a model that never shared its caches share them? SmolLM2's layers, compared, and read from each other's caches.

python book/measurements/yoco/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file

A passage that is done is kept in .cache/runs/yoco: an interrupted command goes on after the last.
"""

import torch
from torch.nn import functional

from effattn_core.attention import attention
from effattn_core.measurements import by_passage, record_pretrained
from effattn_core.pretrained import probe
from effattn_core.states import KeyValueCache

PASSAGES, LENGTH = 3, 1024


class LentCache(KeyValueCache):
    """A cache that is kept and not read: its layer reads `lender`, the cache of an earlier layer."""

    lender = None

    def look(self, query):
        source = self.lender or self
        return attention(query, source.key, source.value)


@torch.no_grad()
def loss_where(model, tokens, lent):
    """Nats per token where the layers in `lent`, layer -> earlier layer, read the other's cache."""
    states = probe.states_of(model, LentCache, context=len(tokens))
    for layer, other in lent.items():
        states[layer].lender = states[other]
    logits = model(tokens[None, :-1], states)[0][0]
    return functional.cross_entropy(logits.float(), tokens[1:]).item()


def likeness(one, other):
    """Linear CKA of two layers' keys, [batch, heads, time, head_dim]: 1 for equal up to rotation and scale.

    (Kornblith et al. 2019, eq. 3 with linear kernels, features centred)
    """
    one, other = (each[0].transpose(0, 1).flatten(1).double() for each in (one, other))
    one, other = (each - each.mean(0) for each in (one, other))
    across = (one.mT @ other).norm() ** 2
    return (across / ((one.mT @ one).norm() * (other.mT @ other).norm())).item()


def likeness_rows(model, tokens, passage):
    """CKA of the keys, and of the values, of each pair of layers: one row per layer."""
    states = probe.recorded(model, tokens[None])
    return [
        {"what": "likeness", "passage": passage, "layer": layer,
         "keys": [round(likeness(state.key, other.key), 4) for other in states],
         "values": [round(likeness(state.value, other.value), 4) for other in states]}
        for layer, state in enumerate(states)
    ]  # fmt: skip


def lending_rows(model, tokens, passage):
    """The loss where one layer reads the cache of the one before it, layer by layer, and where every second does."""
    layers, base = len(model.blocks), loss_where(model, tokens, {})
    rows = [{"what": "lent", "passage": passage, "layer": None, "loss": base}]
    for layer in range(1, layers):
        rows.append({"what": "lent", "passage": passage, "layer": layer,
                     "loss": loss_where(model, tokens, {layer: layer - 1})})  # fmt: skip
    pairs = {layer: layer - 1 for layer in range(1, layers, 2)}
    rows.append({"what": "lent", "passage": passage, "layer": "every second", "loss": loss_where(model, tokens, pairs)})
    print(f"passage {passage}: {base:.3f} nats per token, {rows[-1]['loss']:.3f} where every second lends", flush=True)
    return rows


def main(source="smollm2", passages=PASSAGES, length=LENGTH, folder=None, target=None):
    parts = by_passage(passages, length, likeness_rows, lending_rows)
    record_pretrained(__file__, parts, source=source, context=length, folder=folder, target=target)


if __name__ == "__main__":
    main()
