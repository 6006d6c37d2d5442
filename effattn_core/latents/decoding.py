"""Drawing latents and words one at a time, with states, from a LatentModel."""

import torch

from effattn_core.latents.model import stream
from effattn_core.latents.samplers import LAST, grid, sample


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
    Raises ValueError where guidance lacks its other prompt.
    """
    if weight != 1 and without is None:
        raise ValueError(f"guidance by {weight} needs `without`, the prompt whose class is hidden; it is None.")
    rows, double = len(words), weight != 1
    prompt = torch.cat((words, without)) if double else words
    line = grid(model.schedule, steps, first)
    count = model.sizes.places if count is None else count
    if use_cache:
        states = model.new_states(len(prompt)) if states is None else states
        hidden, states = model.read_words(prompt, states)
    latents = []
    for place in range(count):
        if not use_cache:
            hidden = _read_again(model, prompt, latents, double)
        start = torch.randn(rows, model.sizes.latent, generator=generator).to(hidden)
        trace = None if watch is None else []
        denoise = model.denoiser(hidden[:, -1], weight)
        latents.append(sample(denoise, start, line, sampler=sampler, generator=generator, trace=trace))
        if watch is not None:
            watch(place, torch.stack(trace))
        if use_cache:
            fed = latents[-1].repeat(2, 1) if double else latents[-1]
            hidden, states = model.read_latent(fed, place, states)
    return torch.stack(latents, 1), states


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
    written, ended = [], torch.zeros(len(words), dtype=torch.bool)
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
