"""What LatentLM is held against: a diffusion Transformer, which takes the noise off all latents at every step.

Its blocks are the head's with attention, looking both ways (DiT, Peebles and Xie 2022): norms modulated and branches
gated by time and class, zero at the start. It keeps no cache: every step computes every latent anew.
"""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.latents.head import EPSILON, FREQUENCIES, time_features
from effattn_core.latents.model import DROPPED, chosen_rows
from effattn_core.latents.samplers import LAST, grid, guided, sample
from effattn_core.latents.schedule import Schedule, clean_of, cosine, normal, random_times, target_of
from effattn_core.latents.training import Average, fit
from effattn_core.layers import SwiGLU


class WholeBlock(nn.Module):
    """Attention over all latents, then SwiGLU, each u + gate ⊙ branch(RMS(u) ⊙ (1 + scale) + shift)."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(width, 6 * width, bias=False)
        self.mixed, self.output = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.feed_forward = SwiGLU(width, inner)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, hidden, condition):
        """hidden: [batch, places, width]; condition: [batch, width], after silu. Returns the shape of hidden."""
        shift, scale, gate, later_shift, later_scale, later_gate = self.modulation(condition)[:, None].chunk(6, -1)
        hidden = hidden + gate * self.attend(modulated(hidden, shift, scale))
        return hidden + later_gate * self.feed_forward(modulated(hidden, later_shift, later_scale))

    def attend(self, hidden):
        query, key, value = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.mixed(hidden).chunk(3, -1)
        )
        return self.output(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def modulated(hidden, shift, scale):
    """RMS(u) ⊙ (1 + scale) + shift."""
    return functional.rms_norm(hidden, hidden.shape[-1:], eps=EPSILON) * (1 + scale) + shift


class WholeModel(nn.Module):
    """Noisy latents of a whole image, time and class in, v out. words: classes and what hides one."""

    def __init__(self, words, *, width=64, layers=2, heads=4, inner=176, latent=8, places=16, schedule=None):
        super().__init__()
        self.schedule: Schedule = schedule or cosine()
        self.input, self.place = nn.Linear(latent, width, bias=False), nn.Embedding(places, width)
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, width, bias=False), nn.SiLU(), nn.Linear(width, width, bias=False)
        )
        self.words = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(WholeBlock(width, heads, inner) for _ in range(layers))
        self.modulation = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, latent, bias=False)
        for each in (self.place, self.words, self.time[0], self.time[2]):
            nn.init.normal_(each.weight, std=0.02)
        for each in (self.modulation, self.output):
            nn.init.zeros_(each.weight)

    @property
    def parameter_count(self):
        return sum(weight.numel() for weight in self.parameters())

    def forward(self, noisy, time, words):
        """noisy: [batch, places, latent]; time: int64 [batch] or one for all; words: int64 [batch]. Returns v."""
        condition = functional.silu(self.words(words) + self.time(time_features(time).to(noisy.dtype)))
        hidden = self.input(noisy) + self.place.weight
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.output(modulated(hidden, *self.modulation(condition)[:, None].chunk(2, -1)))

    def loss(self, latents, words, generator=None):
        """Mean squared error of v, one time per image: all its latents are equally noisy."""
        time = random_times(self.schedule, (len(latents),), latents, generator)
        noise = normal(latents.shape, latents, generator)
        alpha, sigma = (each[..., None] for each in self.schedule.at(time, latents))
        output = self(alpha * latents + sigma * noise, time, words)
        return functional.mse_loss(output, target_of("v", latents, noise, alpha, sigma))


def train_whole_model(model, latents, labels, *, hidden, steps, batch=64, rate=2e-3, seed=0):
    """Train it in place; a share DROPPED of the labels becomes `hidden`. Returns the losses."""
    average = Average(model)

    def loss_of(places, generator):
        unknown = chosen_rows(places, DROPPED, generator).to(labels.device)
        return model.loss(latents[places], torch.where(unknown, hidden, labels[places]), generator)

    losses = fit(model, loss_of, count=len(latents), steps=steps, batch=batch, rate=rate, seed=seed, average=average)
    average.give(model)
    return losses


@torch.no_grad()
def draw_whole(model, words, *, without=None, weight=1.0, steps=20, sampler="2m", first=LAST, generator=None):
    """Draw all latents of images together: [batch, places, latent]. words, without: int64 [batch]; see `draw`."""
    if weight != 1 and without is None:
        raise ValueError(f"guidance by {weight} needs `without`, the class that hides; it is None.")
    asked = torch.cat((words, without)) if weight != 1 else words

    def denoise(noisy, time, alpha, sigma):
        doubled = noisy.repeat(2, 1, 1) if weight != 1 else noisy
        output = model(doubled, torch.tensor([time], device=doubled.device), asked)
        if weight != 1:
            output = guided(*output.chunk(2), weight)
        return clean_of("v", output, noisy, alpha, sigma)

    shape = len(words), model.place.num_embeddings, model.output.out_features
    start = normal(shape, model.output.weight, generator)
    return sample(denoise, start, grid(model.schedule, steps, first), sampler=sampler, generator=generator)
