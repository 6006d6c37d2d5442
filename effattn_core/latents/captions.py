"""Streams of words and digits: "draw a seven", its latents between two marks, and what the image shows."""

import torch

from effattn_core.data import Characters
from effattn_core.latents.digits import NAMES
from effattn_core.latents.model import chosen_rows, stacked, stream

_PROMPTS = [f"draw a {name}" for name in NAMES]
_CAPTIONS = [f"a {name}" for name in NAMES]
LETTERS = Characters("".join(_PROMPTS + _CAPTIONS))
# Beside the letters: where an image begins and ends, the end of a caption, and what stands for a hidden prompt.
BEGIN, END, STOP, HIDDEN = range(len(LETTERS), len(LETTERS) + 4)
WORDS = len(LETTERS) + 4
LONGEST = max(map(len, _PROMPTS)) + 2 + max(map(len, _CAPTIONS)) + 1  # words of a stream


def prompt_of(label):
    """int64 [time]: "draw a seven" and the mark where the image begins."""
    return torch.cat((LETTERS.encode(_PROMPTS[label]), torch.tensor([BEGIN])))


def caption_of(label):
    """int64 [time]: the mark where the image ends, "a seven", the end."""
    return torch.cat((torch.tensor([END]), LETTERS.encode(_CAPTIONS[label]), torch.tensor([STOP])))


def hidden_prompt(label):
    """A prompt of the same length, every letter hidden: the image follows from nothing, the caption from it alone."""
    words = prompt_of(label)
    words[:-1] = HIDDEN
    return words


def captioned(latents, labels):
    """A Stream of prompt, latents [count, tokens, latent] and caption per row, padded to one length."""
    rows = [
        stream(prompt_of(label)[None], image[None], caption_of(label)[None])
        for image, label in zip(latents, labels.tolist(), strict=True)
    ]
    return stacked(rows)


def prompts_hidden(share):
    """A `hide` of `train_latent_model`: in a drawn share of the rows every letter of the prompt is hidden."""

    def hide(given, generator):
        rows = chosen_rows(given.words, share, generator)[:, None]
        before = (given.words == BEGIN).long().flip(1).cumsum(1).flip(1) - (given.words == BEGIN).long() > 0
        return type(given)(torch.where(rows & before, HIDDEN, given.words), given.latents, given.continuous)

    return hide


def read_caption(words):
    """The label that a written caption names, or None: int64 [time], from the letters after the mark on."""
    text = "".join(LETTERS.letters[each] for each in words.tolist() if each < len(LETTERS))
    return _CAPTIONS.index(text) if text in _CAPTIONS else None
