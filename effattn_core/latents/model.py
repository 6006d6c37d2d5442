"""One causal model for words and continuous latents: any mixer of this book, a softmax for words, a head for latents.

Position i says what comes at i + 1: a word by the softmax, a latent by the diffusion head, whose condition is
c_i = W_c norm(h_i). Where a latent ends up is known, so a learnt place of it in its image is added to its input; the
paper has rotary positions alone.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from effattn_core.calls import require_count
from effattn_core.data import IGNORED
from effattn_core.latents.head import DiffusionHead
from effattn_core.latents.samplers import guided
from effattn_core.latents.schedule import (
    Schedule,
    clean_of,
    cosine,
    normal,
    random_times,
    require_prediction,
    target_of,
)
from effattn_core.latents.training import Average, fit
from effattn_core.model import Configuration, build
from effattn_core.states import require_sizes

DRAWS = 4  # times and noises per latent and pass of the backbone (LatentLM's released code)
DROPPED = 0.1  # the share of classes that training hides, so that the model knows the unguided law too


@dataclass(frozen=True)
class LatentSizes:
    """Sizes of a LatentModel. backbone: a Configuration, whose vocabulary counts all words, special ones too.

    latent: numbers of a latent; places: latents of an image; inner, blocks: of the head, whose width is the backbone's.
    prediction: what the head says, "v" or "eps".
    """

    backbone: Configuration
    latent: int = 8
    places: int = 16
    inner: int = 256
    blocks: int = 3
    prediction: str = "v"

    def __post_init__(self):
        require_sizes(latent=self.latent, places=self.places, inner=self.inner, blocks=self.blocks)
        require_prediction(self.prediction)


def latent_sizes(
    vocabulary, *, width=96, layers=3, heads=4, mixer="attention", context=64, latent=8, places=16, **more
):
    """LatentSizes of a small model: head sizes width / heads, feed-forward layers of 8/3 the width, in steps of 16.

    Raises ValueError for heads that do not divide the width.
    """
    require_count("heads", heads)
    if width % heads:
        raise ValueError(f"heads must divide the width of {width}; heads is {heads}.")
    inner = 16 * round(width / 6)
    backbone = Configuration(
        vocabulary, width=width, layers=layers, heads=heads, key_value_heads=heads, head_dim=width // heads,
        feed_forward=inner, context=context, mixer=mixer,
    )  # fmt: skip
    return LatentSizes(backbone, latent=latent, places=places, **{"inner": inner, **more})


@dataclass(frozen=True)
class Stream:
    """Words and latents in one order.

    words: int64 [batch, time], IGNORED where there is none (a latent, or padding at the end); latents: [batch, time,
    latent], zeros where there is none; continuous: bool [batch, time], whether a latent stands there.
    """

    words: torch.Tensor
    latents: torch.Tensor
    continuous: torch.Tensor

    def __len__(self):
        return len(self.words)

    @property
    def time(self):
        return self.words.shape[1]

    @property
    def places(self):
        """Of each latent its place in its image, from 0: int64 [batch, time]; 0 where there is none."""
        run = self.continuous.long().cumsum(1)
        before = torch.where(self.continuous, 0, run).cummax(1).values
        return torch.where(self.continuous, run - before - 1, 0)

    def __getitem__(self, rows):
        return Stream(self.words[rows], self.latents[rows], self.continuous[rows])


def stream(*parts):
    """A Stream of parts in order, each words (int64 [batch, time]) or latents (floating [batch, time, latent]).

    It lies where the latents lie. Raises ValueError if none of the parts is latents.
    """
    latent = next((part for part in parts if part.is_floating_point()), None)
    if latent is None:
        raise ValueError(f"a stream needs latents, a floating part; it got {[str(part.dtype) for part in parts]}.")
    words, latents, continuous = [], [], []
    for part in parts:
        shape = part.shape[:2]
        here = part.is_floating_point()
        words.append(torch.full(shape, IGNORED, device=latent.device) if here else part.to(latent.device))
        latents.append(part if here else latent.new_zeros(*shape, latent.shape[-1]))
        continuous.append(torch.full(shape, here, device=latent.device))
    return Stream(torch.cat(words, 1), torch.cat(latents, 1), torch.cat(continuous, 1))


def stacked(streams):
    """Streams of different lengths as one, padded at the end: nothing looks ahead, so padding is read by none."""
    longest = max(each.time for each in streams)

    def padded(each, fill):
        width = [0, 0] * (each.ndim - 2) + [0, longest - each.shape[1]]
        return functional.pad(each, width, value=fill)

    parts = [(padded(s.words, IGNORED), padded(s.latents, 0.0), padded(s.continuous, False)) for s in streams]
    return Stream(*(torch.cat(each) for each in zip(*parts, strict=True)))


class LatentModel(nn.Module):
    """A backbone that reads words and latents, its softmax, and a diffusion head."""

    def __init__(self, sizes: LatentSizes, schedule: Schedule | None = None):
        super().__init__()
        self.sizes, self.schedule = sizes, schedule or cosine()
        width = sizes.backbone.width
        self.backbone = build(sizes.backbone)
        self.input = nn.Linear(sizes.latent, width, bias=False)
        self.place = nn.Embedding(sizes.places, width)
        self.condition = nn.Linear(width, width, bias=False)
        self.head = DiffusionHead(sizes.latent, width, sizes.inner, sizes.blocks)
        nn.init.normal_(self.place.weight, std=0.02)

    @property
    def parameter_count(self):
        return sum(weight.numel() for weight in self.parameters())

    def new_states(self, batch=1):
        """An empty state for each layer, for decoding."""
        return self.backbone.new_states(batch)

    def embed(self, given: Stream):
        """What the backbone reads: [batch, time, width]. Padding is read as word 0, by nobody."""
        words = self.backbone.embedding(given.words.clamp(min=0))
        latents = self.input(given.latents) + self.place(given.places)
        return torch.where(given.continuous[..., None], latents, words)

    def read_words(self, words, states=None):
        """words: int64 [batch, time]. Returns (hidden [batch, time, width], states)."""
        return self._read(self.backbone.embedding(words), states)

    def read_latent(self, latent, place, states):
        """One latent [batch, latent] at its place in the image. Returns (hidden [batch, 1, width], states)."""
        return self._read((self.input(latent) + self.place.weight[place])[:, None], states)

    def _read(self, embedded, states):
        hidden, states = self.backbone.read(embedded, states)
        return self.backbone.norm(self.backbone.answer(hidden, states)), states

    def forward(self, given: Stream, states=None):
        """(hidden [batch, time, width], states): `backbone.head` makes words of it, `condition` what `head` takes."""
        return self._read(self.embed(given), states)

    def losses(self, given: Stream, draws=DRAWS, generator=None):
        """(cross-entropy in nats per word, squared error per number of the head's output): means over the batch.

        The backbone runs once; each latent gets `draws` times and noises of its own. A mean over none is 0. Raises
        ValueError for no draw.
        """
        require_count("draws", draws)
        hidden, _ = self(given)
        hidden, ahead = hidden[:, :-1], given.continuous[:, 1:]
        words, spoken = given.words[:, 1:], given.words[:, 1:] != IGNORED
        word_loss = hidden.new_zeros(())
        if spoken.any():
            word_loss = functional.cross_entropy(self.backbone.head(hidden[spoken]), words[spoken])
        if not ahead.any():
            return word_loss, hidden.new_zeros(())
        conditions = self.condition(hidden[ahead])
        return word_loss, self.head_loss(given.latents[:, 1:][ahead], conditions, draws, generator)

    def head_loss(self, latents, conditions, draws=DRAWS, generator=None):
        """Mean squared error of the head's output; latents [n, latent], conditions [n, width]; see `losses`."""
        latents, conditions = latents.repeat(draws, 1), conditions.repeat(draws, 1)
        time = random_times(self.schedule, (len(latents),), latents, generator)
        noise = normal(latents.shape, latents, generator)
        alpha, sigma = self.schedule.at(time, latents)
        output = self.head(alpha * latents + sigma * noise, time, conditions)
        return functional.mse_loss(output, target_of(self.sizes.prediction, latents, noise, alpha, sigma))

    def denoiser(self, conditions, weight=1.0):
        """What `samplers.sample` asks, for conditions [rows, width]; guided, of twice the rows, guided ones first."""
        condition, prediction = self.condition(conditions), self.sizes.prediction

        def denoise(noisy, time, alpha, sigma):
            doubled = noisy if len(noisy) == len(condition) else noisy.repeat(2, 1)
            output = self.head(doubled, torch.tensor(time, device=doubled.device), condition)
            if len(doubled) != len(noisy):
                output = guided(*output.chunk(2), weight)
            return clean_of(prediction, output, noisy, alpha, sigma)

        return denoise


def train_latent_model(
    model, given: Stream, *, steps, batch=64, rate=2e-3, seed=0, draws=DRAWS, hide=None, word_weight=1.0
):
    """Train it in place on the rows of a Stream, and put the average of its weights in. Returns the losses.

    hide: (Stream, generator) -> Stream, what a batch hides of its prompts; see `hidden_words`.
    """
    average = Average(model)

    def loss_of(places, generator):
        these = given[places]
        these = hide(these, generator) if hide else these
        words, latents = model.losses(these, draws, generator)
        return word_weight * words + latents

    losses = fit(model, loss_of, count=len(given), steps=steps, batch=batch, rate=rate, seed=seed, average=average)
    average.give(model)
    return losses


def chosen_rows(words, share, generator=None):
    """bool [batch], on the device of words: a drawn share of its rows."""
    place = words.device if generator is None else generator.device
    return (torch.rand(len(words), device=place, generator=generator) < share).to(words.device)


def hidden_words(first, last, word, share=DROPPED):
    """A `hide`: in a drawn share of the rows the words at first..last - 1 become `word`."""

    def hide(given, generator):
        rows = chosen_rows(given.words, share, generator)
        words = given.words.clone()
        words[rows, first:last] = word
        return Stream(words, given.latents, given.continuous)

    return hide
