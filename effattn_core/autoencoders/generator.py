"""A small Transformer that makes an image's latents all at once, by flow matching: one for all tokenisers."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.autoencoders.blocks import Block, normed
from effattn_core.autoencoders.flow import (
    METHODS,
    SAMPLE_SHIFT,
    TRAIN_SHIFT,
    draw_times,
    flow_loss,
    guided_from,
    mixed,
    random_walk,
    time_grid,
    walk,
)
from effattn_core.calls import require_count
from effattn_core.latents.head import FREQUENCIES, time_features
from effattn_core.latents.training import Average, batches

DROPPED = 0.1  # the share of classes that training hides
TIME_SCALE = 1000  # times lie in [0, 1]; the features of a time are made for steps up to here


class FlowModel(nn.Module):
    """Noisy latents [batch, tokens, latent], their time and class, to a velocity of that shape.

    Blocks are modulated by time and class, and start as the identity; the first velocity is 0.
    """

    def __init__(self, tokens=16, latent=8, *, classes=10, width=64, layers=3, heads=4, inner=160):
        super().__init__()
        self.classes = classes
        self.input, self.places = nn.Linear(latent, width), nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width)  # the last hides the class
        self.blocks = nn.ModuleList(Block(width, heads, inner, modulated=True) for _ in range(layers))
        self.modulation, self.output = nn.Linear(width, 2 * width), nn.Linear(width, latent)
        nn.init.normal_(self.label.weight, std=0.02)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def parameter_count(self):
        return sum(weight.numel() for weight in self.parameters())

    def forward(self, noisy, time, labels):
        """time: float [batch]; labels: int64 [batch], `classes` for a hidden one."""
        condition = functional.silu(self.time(time_features(TIME_SCALE * time).to(noisy.dtype)) + self.label(labels))
        hidden = self.input(noisy) + self.places
        for block in self.blocks:
            hidden = block(hidden, condition)
        shift, scale = self.modulation(condition)[:, None].chunk(2, -1)
        return self.output(normed(hidden) * (1 + scale) + shift)

    def velocity(self, labels):
        """(x, t) -> velocity for these classes, as the walks of `flow` ask for it."""
        return lambda noisy, time: self(noisy, torch.full((len(noisy),), time), labels)


def train_flow(
    model, latents, labels, *, steps, batch=128, rate=1e-3, warmup=50, shift=TRAIN_SHIFT, seed=0, watch=None,
    average=0.995,
):  # fmt: skip
    """Train it in place on scaled latents [images, tokens, latent]; its weights end as their average. Returns losses.

    The rate is constant after the warm-up, so that one training is read at any step: watch is called (step, model)
    after each, the model with its averaged weights for that long. average: the most that the average keeps per step.
    Raises ValueError for steps or a batch that are no counts, and for labels that are not one per image.
    """
    require_count("steps", steps)
    require_count("batch", batch)
    if len(labels) != len(latents):
        raise ValueError(f"each image needs a label; there are {len(latents)} images and {len(labels)} labels.")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    kept, drawn, losses = Average(model, average), batches(len(latents), min(batch, len(latents)), generator), []
    model.train()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / warmup)
        places = next(drawn)
        hidden = torch.rand(len(places), generator=generator) < DROPPED
        named = torch.where(hidden, model.classes, labels[places])
        clean, time = latents[places], draw_times(len(places), shift, generator)
        noisy, wanted = mixed(clean, torch.randn(clean.shape, generator=generator), time)
        loss = flow_loss(model(noisy, time, named), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        kept.follow(model)
        losses.append(loss.item())
        if watch is not None:
            _watched(watch, step, model, kept)
    kept.give(model).eval()
    return losses


def _watched(watch, step, model, kept):
    """Call `watch` with the averaged weights in the model, then put its own back."""
    own = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    kept.give(model).eval()
    watch(step, model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(own[name])
    model.train()


@torch.no_grad()
def generate(
    model, labels, shape, *, sampler="euler", steps=25, weight=1.0, start=0.0, shift=SAMPLE_SHIFT, generator=None,
    first=None,
):  # fmt: skip
    """Scaled latents of these classes: one of `shape` for each of labels, int64 [count].

    sampler: "euler", "heun" or "random", the Euler-Maruyama walk, whose last of `steps` is the mean alone. weight:
    guidance, from time `start` on. first: the noise that is started from, instead of one drawn from `generator`.
    Raises ValueError for another sampler, and for fewer steps than it has: 1, or 2 of "random".
    """
    if sampler not in (*METHODS, "random"):
        raise ValueError(f"sampler must be one of {(*METHODS, 'random')}; it is {sampler!r}.")
    require_count("steps", steps, least=2 if sampler == "random" else 1)
    first = torch.randn(len(labels), *shape, generator=generator) if first is None else first
    velocity = guided_from(
        model.velocity(labels), model.velocity(torch.full_like(labels, model.classes)), weight, start
    )  # fmt: skip
    if sampler == "random":
        # From a step on: at the released first time, 1e-5, the first step leaves over a hundred times the noise.
        times = time_grid(steps - 1, shift, 1 / steps, 1 - 1 / steps)
        return random_walk(velocity, first, times, generator=generator)
    return walk(velocity, first, time_grid(steps, shift), sampler)
