"""The figures of drawn digits: what they show is what the model and the recording hold, and every state is legible."""

import pytest
import torch
from support.legible import check_states

from effattn_core.latents import recorded
from effattn_core.latents.digits import Digits
from effattn_core.latents.model import LatentModel, latent_sizes
from effattn_core.latents.quality import Classifier
from effattn_core.latents.tokenisers import LatentScale, Tokeniser
from figures.latents import digits as draw

CACHED = draw._drawing, draw._so_far, draw._read, draw._rows, draw._distances


@pytest.fixture
def drawn(monkeypatch):
    """A model that nobody trained, and rows as the driver writes them, in place of the recorded ones."""
    torch.manual_seed(0)
    small = latent_sizes(recorded.CLASSES + 1, width=32, layers=1, heads=2, inner=32, blocks=1)
    made = recorded.Trained(Tokeniser("sigma", width=8), LatentScale(1.0, 0.0), LatentModel(small), Classifier())
    for module in made.modules.values():
        module.eval().requires_grad_(False)
    images = torch.linspace(-1, 1, 20)[:, None, None].expand(20, 28, 28)
    rows = [
        dict(what="sampled", name=name, weight=weight, steps=1 if name == "codes" else steps, seed=0,
             sampler="softmax" if name == "codes" else "2m", first=None if name == "codes" else 999,
             images=recorded.packed(images))
        for name in ("main", "codes") for weight, steps in draw.SETTINGS.values()
    ]  # fmt: skip
    rows += [
        dict(what=what, steps=20, weight=weight, places=[size * weight * each for each in range(1, 17)])
        for weight in draw.WEIGHTS_OF_PLACES
        for what, size in (("places", 0.1), ("afresh", 0.05))
    ]
    held = Digits(images[:, None], torch.arange(20) % 10, images[:, None], torch.arange(20) % 10)
    monkeypatch.setattr(draw, "_trained", lambda: made)
    monkeypatch.setattr(draw, "data_of_digits", lambda: held)
    monkeypatch.setattr(draw, "measured", lambda run, **wanted: [row for row in rows if wanted.items() <= row.items()])
    for each in CACHED:
        each.cache_clear()
    yield made
    for each in CACHED:
        each.cache_clear()


def test_every_state_is_legible_and_says_something_of_its_own(drawn):
    check_states(draw.drawn, draw.drawn_says, 220, latent=[1, 8, 16], step=draw.STOPS, weight=draw.WEIGHTS)
    check_states(draw.samples, draw.samples_says, 220, setting=list(draw.SETTINGS))
    check_states(draw.places, draw.places_says, 220, weight=draw.WEIGHTS_OF_PLACES)


def test_a_latent_starts_from_its_own_noise_and_ends_where_the_model_draws_it(drawn):
    from effattn_core.latents.decoding import draw as draw_latents

    dice = torch.Generator().manual_seed(draw.SEED)
    words = torch.tensor([[draw.LABEL]])
    wanted, _ = draw_latents(drawn.model, words, steps=draw.SAMPLED, generator=dice)
    paths = draw._drawing(1.0)
    assert torch.equal(paths[:, -1], wanted[0])
    again = torch.Generator().manual_seed(draw.SEED)
    assert all(torch.equal(path[0], torch.randn(1, 8, generator=again)[0]) for path in paths)


def test_what_is_not_drawn_yet_is_blank_and_what_is_drawn_stays(drawn):
    levels = draw._so_far(draw.SAMPLED, 1.0)
    for place in range(16):
        patches = levels[place].view(4, 7, 4, 7).movedim(2, 1).flatten(0, 1).flatten(1)
        assert (patches[: place + 1] >= 0).all() and (patches[place + 1 :] == draw.BLANK).all()
    whole = draw._levels(recorded.images_of(drawn, draw._drawing(1.0)[None, :, -1])[0, 0])
    assert torch.equal(levels[-1], whole)


def test_the_pictures_are_the_recorded_ones_in_their_order(drawn):
    rows = dict(draw._rows("weight 1.5"))
    assert list(rows) == ["held out", "largest", "codes"]
    shades = [int(tile.float().mean().round()) for tile in rows["largest"].split(28, 1)]
    assert shades == sorted(set(shades)) and len(shades) == 10 and shades[0] == 0 and shades[-1] < 50  # the first ten
