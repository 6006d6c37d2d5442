"""Drawing latents and words one at a time, with states, from a LatentModel."""

import torch

from effattn_core.calls import require_count
from effattn_core.latents.model import stream
from effattn_core.latents.samplers import LAST, grid, sample
from effattn_core.latents.schedule import normal


@torch.no_grad()
def draw(
    model, words, *, without=None, weight=1.0, count=None, steps=20, sampler="2m", first=LAST, generator=None,
    use_cache=True, states=None, watch=None,
):  # fmt: skip
    """Draw an image's latents after a prompt. Returns (latents [batch, count, latent], states with all of them read).

    words: int64 [batch, time], the prompt; without: the same rows with their class or text hidden, for weight ≠ 1; the
    backbone then reads both, rows doubled, and a guided latent goes into both. count: None for a whole image.
    steps, sampler, first: of the head's grid. use_cache: False reads all of the past again for each latent; the states
    are None then.
    watch: called (place, latents after each step of the sampler [steps, batch, latent]).
    Raises ValueError where guidance lacks its other prompt, for no word in the prompt, for more latents than an image
    has, and for states that are not read.
    """
    rows, double = len(words), weight != 1
    prompt = _prompt(words, without, weight)
    line = grid(model.schedule, steps, first)
    count = model.sizes.places if count is None else count
    require_count("count", count)
    if count > model.sizes.places:
        raise ValueError(f"an image has {model.sizes.places} latents; count is {count}.")
    if words.shape[1] < 1:
        raise ValueError(f"the prompt must have a word; words are {tuple(words.shape)}.")
    if states is not None and not use_cache:
        raise ValueError("states are given and use_cache is False, which reads all of the past again: leave one out.")
    if use_cache:
        states = model.new_states(len(prompt)) if states is None else states
        hidden, states = model.read_words(prompt, states)
    latents = []
    for place in range(count):
        if not use_cache:
            hidden = _read_again(model, prompt, latents, double)
        start = normal((rows, model.sizes.latent), hidden, generator)
        trace = None if watch is None else []
        denoise = model.denoiser(hidden[:, -1], weight)
        latents.append(sample(denoise, start, line, sampler=sampler, generator=generator, trace=trace))
        if watch is not None:
            watch(place, torch.stack(trace))
        if use_cache:
            fed = latents[-1].repeat(2, 1) if double else latents[-1]
            hidden, states = model.read_latent(fed, place, states)
    return torch.stack(latents, 1), states


@torch.no_grad()
def redraw(
    model, words, latents, *, without=None, weight=1.0, steps=20, sampler="2m", first=LAST, start=None, generator=None
):
    """Each latent of images drawn once more, after the given ones before it: what no earlier error can have spoilt.

    words, without, weight, steps, sampler, first: as in `draw`; latents: [batch, count, latent]; start: the noise, of
    their shape. Returns [batch, count, latent]. Raises ValueError where guidance lacks its other prompt.
    """
    rows, count, size = latents.shape
    prompt = _prompt(words, without, weight)
    hidden, _ = model(stream(prompt, latents.repeat(1 + (weight != 1), 1, 1)))
    conditions = hidden[:, words.shape[1] - 1 :][:, :count].flatten(0, 1)
    start = normal(latents.shape, latents, generator) if start is None else start
    line = grid(model.schedule, steps, first)
    drawn = sample(model.denoiser(conditions, weight), start.flatten(0, 1), line, sampler=sampler, generator=generator)
    return drawn.view(rows, count, size)


def _prompt(words, without, weight):
    """What the backbone reads: the prompt, and for guidance below it the one whose class is hidden."""
    if weight == 1:
        return words
    if without is None:
        raise ValueError(f"guidance by {weight} needs `without`, the prompt whose class is hidden; it is None.")
    return torch.cat((words, without))


def _read_again(model, prompt, latents, double):
    if not latents:
        return model.read_words(prompt)[0]
    past = torch.stack(latents, 1)
    return model(stream(prompt, past.repeat(2, 1, 1) if double else past))[0]


@torch.no_grad()
def write(model, words, states, *, count, stop=None):
    """Go on in words, the likeliest each time: read `words` [batch, time] first. Returns int64 [batch, at most count].

    stop: a word that ends a row; all rows go on until each has had it, and what follows it is `stop` again.
    """
    require_count("count", count)
    written, ended = [], torch.zeros(len(words), dtype=torch.bool, device=words.device)
    for _ in range(count):
        hidden, states = model.read_words(words, states)
        words = model.backbone.head(hidden[:, -1:]).argmax(-1)
        if stop is not None:
            words = torch.where(ended[:, None], stop, words)
            ended |= words[:, 0] == stop
        written.append(words)
        if ended.all():
            break
    return torch.cat(written, 1)
