"""Names that are mentioned in the plays, and who is meant: entity linking whose answers come with the plays.

An entity is a person of a play whose name is a single word. A mention is that name in a speech of somebody else of the
same play, so that the right answer is known. What describes an entity is taken from acts I and II, what is tested from
acts III to V. One caveat: persons who appear in several plays, such as Falstaff, are several entities.
"""

import functools
import re
from dataclasses import dataclass

from effattn_core.plays import plays, words

OWN_WORDS, CONTEXT = 150, 24  # words of an entity's own speeches; words on each side of a mention
# Words for an office, a trade or a group: in a speech they need not mean the person who is called so.
_COMMON = set(
    """
    ABBESS ALL ANOTHER ARCHBISHOP ATTENDANT BASTARD BISHOP BOTH BOY BROTHER CAPTAIN CARDINAL CHORUS CITIZEN CITIZENS
    CLERK CLOWN CONSTABLE COUNTESS COURT DAUGHTER DOCTOR DUCHESS DUKE FATHER FOOL FRENCHWOMAN FRIAR GAOLER GARDENER
    GENTLEMAN GENTLEMEN GHOST GOVERNOR GOWER GUARD HERALD HOST HOSTESS HUNTSMAN JEWELLER KING KNIGHTS LADY LAWYER
    LIEUTENANT LORD LORDS MARINER MAYOR MERCHANT MESSENGER MOTHER MUSICIAN MYRMIDONS NOBLEMAN NURSE OFFICER OUTLAWS
    PAGE PAINTER PANDAR PEDANT PLAYERS POET PORTER PRIEST PRINCE PRINCESS PROVOST PURSUIVANT QUEEN RUMOUR SAILOR SAY
    SCRIVENER SENATOR SENATORS SERVANT SERVANTS SERVING-MAN SEXTON SHEPHERD SHERIFF SOLDIER SOLDIERS SON STEWARD
    TAILOR TIME TRIBUNE TUTOR WATCH WATCHMAN WIDOW WIFE
    """.split()
)


@dataclass(frozen=True)
class Entity:
    """A person of a play. text: what describes it, words as a tuple: headings, who is with it, what it says."""

    name: str
    play: str
    text: tuple


@dataclass(frozen=True)
class Mention:
    """A name in a speech. entity: the number of who is meant; context: the words around it, the name left out."""

    name: str
    play: str
    act: int
    entity: int
    context: tuple


@functools.cache
def entities():
    """All entities, in the order of the plays, as a tuple of Entity."""
    found = []
    for play in plays():
        for name in sorted(play.speakers):
            if re.fullmatch("[A-Z]{3,}", name) and name not in _COMMON:
                found.append(Entity(name, play.title, _description(play, name)))
    return tuple(found)


def _description(play, name):
    early = [speech for speech in play.speeches if speech.act <= 2]
    scenes = dict.fromkeys((speech.act, speech.scene) for speech in early if speech.speaker == name)
    headings, beside, own = {}, {}, []
    for speech in early:
        if speech.speaker == name:
            own += speech.words
        elif (speech.act, speech.scene) in scenes:
            beside[speech.speaker] = None
        if (speech.act, speech.scene) in scenes:
            headings[speech.heading] = None
    return tuple([*words(" ".join(headings)), *words(" ".join(beside)), *own[:OWN_WORDS]])


@functools.cache
def mentions():
    """All mentions, in the order of the plays, as a tuple of Mention."""
    numbers = {(entity.name, entity.play): number for number, entity in enumerate(entities())}
    found = []
    for play in plays():
        names = {name.lower(): name for name, title in numbers if title == play.title}
        for speech in play.speeches:
            # A name is written with a capital; so is the first word of a line, and few names are ordinary words.
            said = re.findall(r"[A-Za-z]+(?:'[a-z]+)?", speech.text)
            for place, word in enumerate(said):
                name = names.get(word.removesuffix("'s").lower())
                if name and word[0].isupper() and name != speech.speaker:
                    around = [*said[max(0, place - CONTEXT) : place], *said[place + 1 : place + 1 + CONTEXT]]
                    context = tuple(each.lower() for each in around)
                    found.append(Mention(name, play.title, speech.act, numbers[name, play.title], context))
    return tuple(found)


def bearers(name):
    """The numbers of the entities of this name."""
    return [number for number, entity in enumerate(entities()) if entity.name == name]
