"""The other way to predict an image one token at a time: codes of a book, by a softmax, on the same backbone."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.latents.model import DROPPED, chosen_rows
from effattn_core.latents.samplers import guided
from effattn_core.latents.training import Average, fit
from effattn_core.model import build


class CodeModel(nn.Module):
    """Classes and codes in, logits of the next code out. Words: the classes, then the hidden class, then the codes.

    sizes: a Configuration whose vocabulary is classes + 1 + codes; places: codes of an image, each with a learnt place,
    as a LatentModel's latents have.
    """

    def __init__(self, sizes, places, classes=10):
        super().__init__()
        self.classes, self.backbone, self.place = classes, build(sizes), nn.Embedding(places, sizes.width)
        nn.init.normal_(self.place.weight, std=0.02)

    @property
    def parameter_count(self):
        return sum(weight.numel() for weight in self.parameters())

    def forward(self, words, first=0, states=None):
        """words: int64 [batch, time], of which the one at 0 is a class. Returns (logits of codes, states)."""
        embedded = self.backbone.embedding(words)
        places = torch.arange(first, first + words.shape[1], device=words.device) - 1
        embedded = embedded + torch.where(places[:, None] >= 0, self.place(places.clamp(min=0)), 0.0)
        hidden, states = self.backbone.read(embedded, states)
        logits = self.backbone.head(self.backbone.norm(self.backbone.answer(hidden, states)))
        return logits[..., self.classes + 1 :], states


def train_code_model(model, codes, labels, *, steps, batch=64, rate=2e-3, seed=0):
    """Train it in place on codes, int64 [count, places], a share DROPPED of the classes hidden. Returns the losses."""
    average = Average(model)

    def loss_of(places, generator):
        first = torch.where(chosen_rows(places, DROPPED, generator).to(labels.device), model.classes, labels[places])
        words = torch.cat((first[:, None], codes[places, :-1] + model.classes + 1), 1)
        return functional.cross_entropy(model(words)[0].flatten(0, 1), codes[places].flatten())

    losses = fit(model, loss_of, count=len(codes), steps=steps, batch=batch, rate=rate, seed=seed, average=average)
    average.give(model)
    return losses


@torch.no_grad()
def draw_codes(model, labels, *, weight=1.0, generator=None):
    """Codes int64 [batch, places] for labels [batch], guided on the logits, at temperature 1."""
    words = torch.cat((labels, torch.full_like(labels, model.classes)))[:, None]
    states, found = model.backbone.new_states(len(words)), []
    for place in range(model.place.num_embeddings):
        logits, states = model(words, place, states)
        logits = guided(*logits[:, -1].chunk(2), weight)
        found.append(torch.multinomial(logits.softmax(-1), 1, generator=generator))
        words = found[-1].repeat(2, 1) + model.classes + 1
    return torch.cat(found, 1)
