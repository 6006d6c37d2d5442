"""Which key channels matter: learned on a frozen model in two stages (LeanK), beside rules that need no training.

An importance is a number in [0, 1] for every layer, key head and channel. `effattn_core.channels.build_mask` makes a
mask of it.
"""

import sys

import torch
from torch.nn import functional
from tqdm import tqdm

from effattn_core.channels import build_mask, masked
from effattn_core.positions import rotate
from effattn_core.states import State

PENALTY = 0.06  # of the mean importance in stage 1, the published value; stage 2 has none


class MaskedState(State):
    """A layer's state that keeps nothing: a whole text mixes under `factor`, its first `prompt` tokens without it.

    factor: [key_heads, head_dim], see `effattn_core.channels.masked`, as the other settings are.
    """

    length = 0

    def __init__(self, factor, *, prompt=0, sinks=4, recent=32, chunk=1, empty="zero"):
        self.factor, self.prompt = factor, prompt
        self.region = dict(sinks=sinks, recent=recent, chunk=chunk, empty=empty)

    def attend(self, query, key, value):
        """Attention of all tokens at once, [batch, heads, time, value_dim]."""
        mixed = masked(query, key, value, self.factor, **self.region).output
        if self.prompt == 0:
            return mixed
        whole = masked(query, key, value, torch.ones_like(self.factor), **self.region).output
        return torch.cat([whole[:, :, : self.prompt], mixed[:, :, self.prompt :]], 2)


def hidden_states(model, tokens, factors=None, **region):
    """What the output head reads, [batch, time, width], under a factor for each layer (None: dense)."""
    hidden = model.embedding(tokens)
    for number, block in enumerate(model.blocks):
        hidden, _ = block(hidden, None if factors is None else MaskedState(factors[number], **region))
    return model.norm(hidden)


def rate_at(step, steps, peak):
    """Up over the first fifth of the steps, down over the last, never under a tenth: the published schedule."""
    edge = max(1, steps // 5)
    return peak * max(0.1, min(1.0, (step + 1) / edge, (steps - step) / edge))


def descend(distance, importance, *, steps, learning_rate, penalty=0.0, pruned=None, align=1, progress=True):
    """Importances by gradient descent (eq. channels-loss): one stage of the two. Returns a tensor of the same shape.

    distance: (factors) -> how far from dense attention a batch comes out, differentiable; `penalty` times the mean
    importance is added. importance: where to start. Where `pruned` is a share, factors go through the mask that
    `build_mask` makes anew each step, and gradients straight through to all channels.
    """
    importance = importance.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([importance], lr=learning_rate, weight_decay=0.0)
    bar = tqdm(range(steps), unit="step", disable=not progress, mininterval=0.5, file=sys.stdout, ncols=78)
    for step in bar:
        optimizer.param_groups[0]["lr"] = rate_at(step, steps, learning_rate)
        factors = importance
        if pruned is not None:
            kept = build_mask(importance.detach(), pruned, align)
            factors = importance + (importance * kept - importance).detach()
        loss = distance(factors) + penalty * importance.abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            importance.clamp_(0, 1)
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return importance.detach()


def learn(
    model, batches, importance=None, *, steps=100, learning_rate=0.04, penalty=PENALTY, pruned=None, align=1,
    sinks=4, recent=32, progress=True,
):  # fmt: skip
    """`descend` on a frozen model: the mean squared distance of the last hidden states from the dense model's.

    Stage 1 (pruned None): all importances start at 1, with a penalty. Stage 2 (pruned a share, `importance` from stage
    1, penalty 0): through the mask. Returns importances, [layers, key_heads, head_dim].
    """
    sizes = model.sizes
    if importance is None:
        importance = torch.ones(sizes.layers, sizes.key_value_heads, sizes.head_dim)
    importance = importance.to(model.head.weight)

    def distance(factors):
        tokens = next(batches)[0].to(importance.device)
        ours = hidden_states(model, tokens, factors, sinks=sinks, recent=recent)
        return functional.mse_loss(ours, hidden_states(model, tokens))

    asked = [weight.requires_grad for weight in model.parameters()]
    model.requires_grad_(False)
    stage = dict(steps=steps, learning_rate=learning_rate, penalty=penalty, pruned=pruned, align=align)
    found = descend(distance, importance, **stage, progress=progress)
    for weight, wanted in zip(model.parameters(), asked, strict=True):
        weight.requires_grad_(wanted)
    return found


def by_frequency(shape, fastest=False):
    """Importances that keep the slowest rotary pairs, or the fastest: pair i is channels 2i and 2i + 1, slower with i.

    shape: (layers, key_heads, head_dim).
    """
    rank = torch.arange(1, shape[-1] + 1) / shape[-1]
    return (1 - rank if fastest else rank).expand(shape)


def by_norm(model, tokens):
    """Importances from the sizes that a dense pass over `tokens` shows: E[q²] · E[k²] of each channel, layer by layer.

    What a rule without training can see. tokens: [batch, time].
    """
    sizes, found = model.sizes, []
    hidden = model.embedding(tokens)
    for block in model.blocks:
        states = block.before_mixer(hidden)
        query, key = (
            projection(states).unflatten(-1, (-1, sizes.head_dim)).transpose(1, 2)
            for projection in (block.mixer.query, block.mixer.key)
        )
        query, key = (rotate(each, 0, sizes.rotary_base).square().mean((0, 2)) for each in (query, key))
        found.append(query.unflatten(0, (sizes.key_value_heads, -1)).mean(1) * key)
        hidden, _ = block(hidden)
    found = torch.stack(found)
    return found / found.amax((1, 2), keepdim=True)


@torch.no_grad()
def divergence(model, tokens, kept, *, prompt=0, sinks=4, recent=32, chunk=1, empty="removed"):
    """Mean KL(dense ‖ pruned), nats per token, of the next-token distributions, and both losses. tokens: [batch, time].

    Only tokens with a middle behind them count. kept: bool [layers, key_heads, head_dim]. Returns (KL, dense loss,
    pruned loss).
    """
    settings = dict(prompt=prompt, sinks=sinks, recent=recent, chunk=chunk, empty=empty)
    states = [MaskedState(layer, **settings) for layer in kept]
    first = max(prompt, sinks + recent)
    dense, pruned = (model(tokens[:, :-1], each)[0][:, first:].log_softmax(-1) for each in (None, states))
    difference = (dense.exp() * (dense - pruned)).sum(-1).mean().item()
    target = tokens[:, first + 1 :, None]
    return difference, *(-each.gather(-1, target).mean().item() for each in (dense, pruned))
