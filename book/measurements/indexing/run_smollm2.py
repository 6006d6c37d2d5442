"""Would one list of tokens serve SmolLM2's layers? Their best keys compared, shared lists, an indexer taught.

python book/measurements/indexing/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file

A part that is done is kept in .cache/runs/indexing: an interrupted command goes on after the last.
"""

import functools
import math

import torch
from torch.nn import functional

from effattn_core.indexing import choose_rows, hide_future, mask_of
from effattn_core.indexing.model import LightningIndexer, distillation
from effattn_core.measurements import RUNS, once, record_pretrained, rounded
from effattn_core.pretrained import probe
from effattn_core.states import KeyValueCache
from effattn_core.train import learning_rate_at

PASSAGES, LENGTH, LESSONS = 3, 1024, 5  # lessons: passages to learn from, for each one that is judged
COUNTS, AGREED = (32, 64, 128), 64  # tokens of a list; a sixteenth of what the last token of a passage sees
EVERY = 8  # of the second half's queries, how many apart those are whose attention is compared
GROUP = 4  # layers that share the list of the first of them: an index is kept in every fourth, as in IndexCache
INDEX, STEPS, RATE = dict(index_heads=8, index_dim=32), 300, 3e-3


class ListedCache(KeyValueCache):
    """A cache of which each query reads the tokens that `seen` allows it: bool [time, time]."""

    seen = None

    def look(self, query):
        key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in (self.key, self.value))
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=self.seen)


@torch.no_grad()
def watched(model, tokens, first=0):
    """(hidden before the upper half of the layers, the states of the layers from `first` on) of one text."""
    states, hidden = probe.states_of(model, probe.Recorder, context=len(tokens)), model.embedding(tokens[None])
    for number, block in enumerate(model.blocks):
        if number == len(model.blocks) // 2:
            middle = hidden
        hidden, _ = block(hidden, states[number])
    return middle, states[first:]


def weights_of(states):
    """Attention of each layer, the mean over its heads: [layers, time, time]."""
    return torch.cat([probe.attention_weights(state).mean(1) for state in states])


@torch.no_grad()
def lesson(model, tokens):
    """What an indexer is taught with: (hidden [1, time, width], mean attention of the upper half [1, time, time])."""
    hidden, states = watched(model, tokens, len(model.blocks) // 2)
    return hidden, weights_of(states).mean(0, keepdim=True)


def taught(model, texts, steps=STEPS):
    """The weights of an indexer, taught by KL to the mean attention of the layers above it (eq. clsa-distillation)."""
    torch.manual_seed(0)
    indexer = new_indexer(model)
    lessons = [lesson(model, text) for text in texts]
    optimizer = torch.optim.Adam(indexer.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, steps=steps, peak=RATE, warmup=max(1, steps // 20))
        hidden, teacher = lessons[step % len(lessons)]
        loss = distillation(teacher, indexer(hidden))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step} of {steps}: KL {loss.item():.3f}", flush=True)
    return indexer.state_dict()


def new_indexer(model):
    sizes = model.sizes
    return LightningIndexer(sizes.width, **INDEX, rotary_base=sizes.rotary_base).to(model.head.weight.device)


def lists(weights, count, scores=None):
    """name -> which tokens each query reads, bool [layers, time, time], the newest always: ways to choose `count`.

    weights: [layers, time, time], what the oracles choose by; scores: [1, time, time] of an indexer. The two controls
    know one thing, that heads look at the first token whatever it is: it is in their lists.
    """
    layers, time = len(weights), weights.shape[1]
    place = torch.arange(time, device=weights.device).float().expand(1, time, time).clone()
    dice = torch.rand(time, time, generator=torch.Generator().manual_seed(0))[None].to(weights.device)
    place[..., 0] = dice[..., 0] = math.inf
    leaders = torch.arange(layers, device=weights.device) // GROUP * GROUP
    given = {
        "per layer": weights,
        f"every {GROUP}th layer's": weights[leaders],
        "shared oracle": weights.mean(0, keepdim=True),
        "first layer's": weights[:1],
        "newest": place,
        "random": dice,
    }
    if scores is not None:
        given["taught"] = scores
    return {name: mask_of(choose_rows(hide_future(each), count), time).expand(layers, -1, -1)
            for name, each in given.items()}  # fmt: skip


def queries_of(time, every=EVERY, device=None):
    """The positions of the queries that are judged: of the second half, some apart."""
    return torch.arange(time // 2, time, every, device=device)


@torch.no_grad()
def agreement_rows(model, tokens, passage, count=AGREED):
    """Share of its best tokens, the first left out, that a layer has in common with each other one: a row per layer."""
    weights = weights_of(watched(model, tokens)[1])
    rows = queries_of(len(tokens), device=tokens.device)
    best = hide_future(weights)[:, rows].clone()
    best[..., 0] = -math.inf
    best = mask_of(best.topk(count).indices, len(tokens))
    newest = (rows[:, None] - torch.arange(len(tokens), device=rows.device)).clamp(min=-1)
    newest = ((newest >= 0) & (newest < count)).expand_as(best)
    same = torch.stack([(best & each).sum(-1).float().mean(-1) / count for each in best])
    near = (best & newest).sum(-1).float().mean(-1) / count
    first = weights[:, rows, 0].mean(-1)
    print(f"passage {passage}: neighbours share {same.diagonal(1).mean():.3f} of their best {count}", flush=True)
    return [
        {"what": "agreement", "passage": passage, "layer": layer, "count": count, "same": rounded(same[layer]),
         "newest": round(near[layer].item(), 4), "first": round(first[layer].item(), 4)}
        for layer in range(len(weights))
    ]  # fmt: skip


@torch.no_grad()
def coverage_rows(model, indexer, tokens, passage, counts=COUNTS):
    """The share of attention, all and beyond the first token, that lists hold, by layer; a row per list and count.

    Of all layers, and of the upper half, whose lists the taught indexer makes; and how far that is from its teacher.
    """
    half, (hidden, states) = len(model.blocks) // 2, watched(model, tokens)
    queries = queries_of(len(tokens), device=tokens.device)
    heads = torch.cat([probe.attention_weights(state, queries) for state in states])  # [layers, heads, queries, time]
    weights, scores, rows = weights_of(states), indexer(hidden), []
    for layers, first in (("all", 0), ("upper", half)):
        each = heads[first:]
        for count in counts:
            found = lists(weights[first:], count, scores if first else None)
            seen = {name: mask[:, None, queries].expand_as(each) for name, mask in found.items()}
            seen["per head"] = torch.zeros_like(each, dtype=torch.bool).scatter_(-1, each.topk(count).indices, True)
            for name, mask in seen.items():
                caught = (each * mask).sum(-1)
                beyond = (caught - (each * mask)[..., 0]) / (1 - each[..., 0]).clamp_min(1e-6)
                rows.append(
                    {"what": "coverage", "passage": passage, "layers": layers, "count": count, "name": name,
                     "covered": rounded(caught.mean((1, 2))), "beyond": rounded(beyond.mean((1, 2)))}
                )  # fmt: skip
    teacher = weights[half:].mean(0, keepdim=True)
    apart = torch.stack([distillation(layer[None], teacher.log()) for layer in weights[half:]]).mean()
    kl = distillation(teacher, scores)
    print(f"passage {passage}: the indexer is {kl:.3f} nats from the mean, layers are {apart:.3f} from it", flush=True)
    return [*rows, {"what": "distance", "passage": passage, "indexer": kl.item(), "layers": apart.item()}]


@torch.no_grad()
def loss_rows(model, indexer, tokens, passage, counts=COUNTS):
    """Nats per token of the second half where the upper half of the layers reads lists made in the dense pass."""
    half, time = len(model.blocks) // 2, len(tokens)
    hidden, states = watched(model, tokens, half)
    weights, scores, rows = weights_of(states), indexer(hidden), []
    causal = torch.ones(time, time, dtype=torch.bool, device=tokens.device).tril()
    ways = [(None, "dense", causal.expand(len(weights), -1, -1))]
    ways += [(count, name, mask) for count in counts for name, mask in lists(weights, count, scores).items()]
    for count, name, masks in ways:
        found = hidden
        reading = probe.states_of(model, ListedCache, context=time)[half:]
        for block, state, mask in zip(model.blocks[half:], reading, masks, strict=True):
            state.seen = mask
            found, _ = block(found, state)
        logits = model.head(model.norm(found[0, time // 2 : -1]))
        loss = functional.cross_entropy(logits.float(), tokens[time // 2 + 1 :]).item()
        rows.append({"what": "loss", "passage": passage, "count": count, "name": name, "loss": round(loss, 4)})
        print(f"passage {passage}, {count} by {name}: {loss:.3f} nats per token", flush=True)
    return rows


def main(source="smollm2", passages=PASSAGES, length=LENGTH, lessons=LESSONS, steps=STEPS, counts=COUNTS,
         agreed=AGREED, folder=None, target=None):  # fmt: skip
    folder = folder or RUNS / "indexing"

    def parts(model, tokenizer):
        each = lessons + 1
        texts = probe.passages(tokenizer, passages * each, length).to(model.head.weight.device)
        judged = texts[each // 2 :: each]
        learned = [text for number, text in enumerate(texts) if number % each != each // 2]

        @functools.cache
        def indexer():
            path = folder / f"smollm2-indexer-{len(learned)}-{length}-{steps}.pt"
            made = new_indexer(model)
            made.load_state_dict(once(path, lambda: taught(model, learned, steps)))
            return made

        for passage, text in enumerate(judged):
            yield f"agreement-{passage}-{length}", functools.partial(agreement_rows, model, text, passage, agreed)
        for passage, text in enumerate(judged):
            for make in (coverage_rows, loss_rows):
                yield (
                    f"{make.__name__}-{passage}-{length}-{steps}",
                    lambda make=make, text=text, passage=passage: make(model, indexer(), text, passage, counts),
                )

    record_pretrained(__file__, parts, source=source, context=length, folder=folder, target=target)


if __name__ == "__main__":
    main()
