"""Upcycling: SmolLM2's feed-forward layer copied into experts, which are trained for some steps beside the dense layer.

python book/measurements/routing/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file

One layer's SwiGLU becomes COPIES experts of its size, two per token, with weights that sum to 1: before the first step
the model is the dense one. Only that layer's matrices and its router are trained, all else is frozen, so that what lies
before it is read once. Two experts per token are twice the operations of the dense layer in this layer.
A part that is done is kept in .cache/runs/routing: an interrupted command goes on after the last. The rows, by `what`:

"identity"  router; off, decoding_off: the largest difference of a logit to the dense model's before the first step,
            routed as in training and as it decodes; dense: the largest logit.
"frozen"    loss: held-out, nats per token, of the model as it is.
"upcycled"  router ("dense" for the layer itself), seed, steps, loss: held-out, as it decodes; trained: the same, routed
            as in training; violation: MaxVio of the held-out text as it decodes; curve: training losses.
"""

from functools import cache
from statistics import fmean

import torch
from torch import nn
from torch.nn import functional

from effattn_core.measurements import RUNS, once, record_pretrained
from effattn_core.pretrained import probe
from effattn_core.routing import DECODES, MixtureOfExperts

LAYER, COPIES, TOP_K = 20, 4, 2
ROUTERS = ("dense", "top_k", "past_prices", "prices")
SEEDS, STEPS, BATCH, LENGTH, HELD_OUT, RATE = (0, 1), 32, 2, 256, 8, 5e-4


def upcycled(layer, router, seed, copies=COPIES):
    """A MixtureOfExperts whose experts are all the SwiGLU `layer`, with a router of its own; "dense" gives a copy."""
    width, inner = layer.gate.in_features, layer.gate.out_features
    torch.manual_seed(seed)
    if router == "dense":
        made = type(layer)(width, inner).to(layer.gate.weight)
        made.load_state_dict(layer.state_dict())
        return made
    made = MixtureOfExperts(width, inner, copies, TOP_K, router=router, normalised=True).to(layer.gate.weight)
    with torch.no_grad():
        for name in ("gate", "up", "down"):
            getattr(made, name).copy_(getattr(layer, name).weight.mT.expand(copies, -1, -1))
    return made


@torch.no_grad()
def read_before(model, texts, layer=LAYER, batch=4):
    """What the blocks before `layer` make of texts: [texts, time, width]."""
    parts = []
    for part in texts.split(batch):
        hidden = model.embedding(part)
        for block in model.blocks[:layer]:
            hidden, _ = block(hidden)
        parts.append(hidden)
    return torch.cat(parts)


def logits_after(model, hidden, feed_forward, layer=LAYER):
    """The logits of texts whose `hidden` went through the blocks before `layer`, with this feed-forward there."""
    block = model.blocks[layer]
    hidden = hidden + block.mixer(block.before_mixer(hidden))[0]
    hidden = hidden + feed_forward(block.before_feed_forward(hidden))
    for block in model.blocks[layer + 1 :]:
        hidden, _ = block(hidden)
    return model.head(model.norm(hidden))


def loss_of(model, hidden, texts, feed_forward, layer=LAYER):
    """Mean loss in nats per token of texts: [batch, time + 1], read up to the layer but for their last token."""
    logits = logits_after(model, hidden, feed_forward, layer)
    return functional.cross_entropy(logits.flatten(0, 1).float(), texts[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model, hidden, texts, feed_forward, layer=LAYER, batch=4):
    """(mean loss over texts, MaxVio of each batch's loads or None)."""
    losses, violations = [], []
    for part, words in zip(hidden.split(batch), texts.split(batch), strict=True):
        losses.append(loss_of(model, part, words, feed_forward, layer).item())
        if isinstance(feed_forward, MixtureOfExperts):
            violations.append(feed_forward.violation)
    return fmean(losses), fmean(violations) if violations else None


@torch.no_grad()
def identity_rows(model, hidden, routers, layer=LAYER):
    """How far each router's experts are from the dense model before the first step."""
    dense = logits_after(model, hidden, model.blocks[layer].feed_forward, layer)
    rows = []
    for router in routers:
        experts, off = upcycled(model.blocks[layer].feed_forward, router, 0), []
        for matched in (True, False):
            experts.eval()
            experts.matched = matched
            off.append((logits_after(model, hidden, experts, layer) - dense).abs().max().item())
        rows.append({"what": "identity", "router": router, "off": off[0], "decoding_off": off[1],
                     "dense": dense.abs().max().item()})  # fmt: skip
    return rows


def upcycled_rows(model, lessons, held_out, router, seed, steps, rate=RATE, layer=LAYER):
    """A training of one layer; lessons, held_out: (hidden, texts) of texts read up to the layer."""
    experts = upcycled(model.blocks[layer].feed_forward, router, seed)
    optimizer = torch.optim.AdamW(experts.parameters(), lr=rate, weight_decay=0.0)
    order = torch.randperm(len(lessons[0]), generator=torch.Generator().manual_seed(seed))
    losses = []
    experts.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 5) * (1 - 0.9 * step / steps)
        chosen = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(order)]
        loss = loss_of(model, *(each[chosen] for each in lessons), experts, layer)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(experts.parameters(), 1.0)
        optimizer.step()
        losses.append(round(loss.item(), 4))
    experts.eval()
    loss, quiet = held_out_loss(model, *held_out, experts, layer)
    experts.matched, trained = True, loss
    if router in DECODES:
        trained, _ = held_out_loss(model, *held_out, experts, layer)
    print(f"{router}, seed {seed}: {loss:.4f}", flush=True)
    return [{"what": "upcycled", "router": router, "seed": seed, "steps": steps, "loss": loss, "trained": trained,
             "violation": quiet, "curve": losses}]  # fmt: skip


def main(
    source="smollm2", routers=ROUTERS, seeds=SEEDS, steps=STEPS, length=LENGTH, held_out=HELD_OUT, layer=LAYER,
    folder=None, target=None,
):  # fmt: skip
    folder = folder or RUNS / "routing"

    def parts(model, tokenizer):
        model.requires_grad_(False)
        count = steps * BATCH + held_out
        texts = probe.passages(tokenizer, count, length + 1).to(model.head.weight.device)
        judged = torch.zeros(count, dtype=torch.bool)
        judged[torch.arange(held_out) * (count // held_out)] = True  # evenly spaced over all plays

        @cache
        def read():
            path = folder / f"smollm2-hidden-{count}-{length}-{layer}.pt"
            return once(path, lambda: {"hidden": read_before(model, texts[:, :-1], layer)})["hidden"]

        def of(which):
            return read()[which], texts[which]

        frozen = model.blocks[layer].feed_forward
        yield (
            f"frozen-{length}-{layer}",
            lambda: [{"what": "frozen", "loss": held_out_loss(model, *of(judged), frozen, layer)[0]}],
        )
        yield f"identity-{length}-{layer}", lambda: identity_rows(model, of(judged)[0][:2], routers[1:], layer)
        for seed in seeds:
            for router in routers:
                yield (
                    f"upcycled-{router}-{seed}-{steps}-{length}-{layer}",
                    lambda router=router, seed=seed: upcycled_rows(
                        model, of(~judged), of(judged), router, seed, steps, layer=layer
                    ),
                )

    record_pretrained(__file__, parts, source=source, context=length + 1, folder=folder, target=target)


if __name__ == "__main__":
    main()
