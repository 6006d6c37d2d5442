"""Programs over the plays as a knowledge base: one executor, ten typed skeletons, and how arguments are drawn.

A triple (subject, relation, object) is a key and a value at once: a pattern with holes is a query that attends, without
softening, to each triple that matches it. A program is a skeleton with its arguments; its body is a list of patterns
that hold together (a join), its fold says what is made of the rows: the set of a variable's values, their count, the
value with the largest number, or the greater of two. After FlexKBQA (Li et al. 2023), whose knowledge base is Freebase.
"""

import functools
import random
from dataclasses import dataclass

from effattn_core.plays import plays

LEAST = 10  # speeches that make a speaker a character of the knowledge base


@dataclass(frozen=True)
class Skeleton:
    """A program without its arguments. types: of the arguments $0, $1, …; body: patterns; found: the variable asked."""

    types: tuple
    body: tuple
    found: str
    fold: str = "set"


@dataclass(frozen=True)
class Program:
    """A skeleton's name and its arguments, for instance Program("genre", ("HAMLET",))."""

    name: str
    arguments: tuple

    def __str__(self):
        return f"{self.name}({', '.join(self.arguments)})"


def _body(text):
    return tuple(tuple(each.split()) for each in text.split("; "))


SKELETONS = {
    "genre": Skeleton(("play",), _body("$0 genre ?x"), "?x"),
    "cast": Skeleton(("play",), _body("?p in $0"), "?p", "count"),
    "leader": Skeleton(("play",), _body("?p in $0; ?p speeches ?n; ?p who ?x"), "?x", "largest"),
    "plays": Skeleton(("person",), _body("?p who $0; ?p in ?x"), "?x"),
    "tally": Skeleton(("genre",), _body("?x genre $0"), "?x", "count"),
    "with": Skeleton(("person", "play"), _body("?p who $0; ?p in $1; ?p on ?s; ?q on ?s; ?q who ?x"), "?x"),
    "both": Skeleton(("play", "play"), _body("?p in $0; ?p who ?x; ?q who ?x; ?q in $1"), "?x"),
    "biggest": Skeleton(("genre",), _body("?x genre $0; ?x length ?n"), "?x", "largest"),
    "scenes": Skeleton(("person", "play"), _body("?p who $0; ?p in $1; ?p on ?s"), "?s", "count"),
    "more": Skeleton(
        ("person", "person", "play"),
        _body("?p who $0; ?p in $2; ?q in $2; ?q who $1; ?p speeches ?n; ?q speeches ?m"),
        "?x",
        "greater",
    ),
}


class KnowledgeBase:
    """Triples with three indices. types: the values of each type of argument, sorted."""

    def __init__(self, triples, types):
        self.triples, self.types = frozenset(triples), {name: tuple(sorted(each)) for name, each in types.items()}
        self.objects, self.subjects, self.pairs = {}, {}, {}
        for subject, relation, thing in sorted(self.triples, key=str):
            self.objects.setdefault((subject, relation), []).append(thing)
            self.subjects.setdefault((relation, thing), []).append(subject)
            self.pairs.setdefault(relation, []).append((subject, thing))

    def matches(self, subject, relation, thing):
        """(subject, object) of each triple that matches; None is a hole."""
        if subject is not None:
            return [(subject, each) for each in self.objects.get((subject, relation), ()) if thing in (None, each)]
        if thing is not None:
            return [(each, thing) for each in self.subjects.get((relation, thing), ())]
        return self.pairs.get(relation, [])


@functools.cache
def knowledge():
    """The 38 plays as a KnowledgeBase. A part is a person in a play: (part, who, name), (part, in, play), …"""
    triples, types = [], {"play": set(), "person": set(), "genre": set()}
    for play in plays():
        title, spoken, on = play.title, {}, {}
        for speech in play.speeches:
            spoken[speech.speaker] = spoken.get(speech.speaker, 0) + 1
            on.setdefault(speech.speaker, set()).add(f"{title} {speech.act}.{speech.scene}")
        triples += [(title, "genre", play.genre), (title, "length", len(play.speeches))]
        types["play"].add(title)
        types["genre"].add(play.genre)
        for name in (name for name, count in spoken.items() if count >= LEAST):
            part = f"{name} / {title}"
            triples += [(part, "who", name), (part, "in", title), (part, "speeches", spoken[name])]
            triples += [(part, "on", scene) for scene in on[name]]
            types["person"].add(name)
    return KnowledgeBase(triples, types)


def joined(body, binding, base=None):
    """Rows of each number of patterns: [rows after none, after one, …]. binding: names that are bound at the start."""
    base, steps = base or knowledge(), [[dict(binding)]]
    for left, relation, right in body:
        rows = []
        for row in steps[-1]:
            for subject, thing in base.matches(row.get(left), relation, row.get(right)):
                rows.append({**row, left: subject, right: thing})
        steps.append(rows)
    return steps


def bound(program):
    """The arguments of a program as a binding. Raises ValueError where they do not fit the skeleton's types."""
    if program.name not in SKELETONS:
        raise ValueError(f"there is no skeleton {program.name!r}; there are {', '.join(SKELETONS)}.")
    types, given = SKELETONS[program.name].types, program.arguments
    if len(given) != len(types) or any(
        each not in knowledge().types[kind] for each, kind in zip(given, types, strict=True)
    ):
        raise ValueError(f"{program.name} wants ({', '.join(types)}); it was given ({', '.join(map(str, given))}).")
    return {f"${place}": each for place, each in enumerate(given)}


def execute(program):
    """The answer of a program as a frozenset: empty where nothing matches. A count of nothing is {0}, not empty.

    Raises ValueError for an unknown skeleton, and for arguments of the wrong number or type.
    """
    skeleton, binding = SKELETONS.get(program.name), bound(program)
    return folded(skeleton, joined(skeleton.body, binding)[-1])


def folded(skeleton, rows):
    """What a skeleton's fold makes of the rows of its join, a frozenset."""
    arguments = {row[name] for row in rows for name in row if name.startswith("$")}
    if skeleton.fold == "count":
        return frozenset({len({row[skeleton.found] for row in rows})})
    if skeleton.fold == "greater":
        return frozenset(row["$0"] if row["?n"] > row["?m"] else row["$1"] for row in rows if row["?n"] != row["?m"])
    if skeleton.fold == "largest":
        top = max((row["?n"] for row in rows), default=None)
        return frozenset(row[skeleton.found] for row in rows if row["?n"] == top)
    return frozenset(row[skeleton.found] for row in rows) - arguments


def oracle(program):
    """The same answer by reading the plays from end to end, without triples, indices or joins."""
    (name, given), all_plays = (program.name, program.arguments), plays()
    bound(program)

    def parts(title):
        (speeches,) = (play.speeches for play in all_plays if play.title == title)
        said = [speech.speaker for speech in speeches]
        return {who: said.count(who) for who in set(said) if said.count(who) >= LEAST}

    def scenes(title, who):
        (speeches,) = (play.speeches for play in all_plays if play.title == title)
        return {(each.act, each.scene) for each in speeches if each.speaker == who}

    if name == "genre":
        return frozenset(play.genre for play in all_plays if play.title == given[0])
    if name == "cast":
        return frozenset({len(parts(given[0]))})
    if name == "leader":
        count = parts(given[0])
        return frozenset(who for who in count if count[who] == max(count.values()))
    if name == "plays":
        return frozenset(play.title for play in all_plays if given[0] in parts(play.title))
    if name in ("tally", "biggest"):
        length = {play.title: len(play.speeches) for play in all_plays if play.genre == given[0]}
        longest = frozenset(each for each in length if length[each] == max(length.values()))
        return longest if name == "biggest" else frozenset({len(length)})
    if name == "both":
        return frozenset(parts(given[0]).keys() & parts(given[1]).keys())
    count = parts(given[-1])
    if name == "scenes":
        return frozenset({len(scenes(given[1], given[0])) if given[0] in count else 0})
    if name == "with":
        mine = scenes(given[1], given[0]) if given[0] in count else set()
        return frozenset(who for who in count if who != given[0] and scenes(given[1], who) & mine)
    one, other = (count.get(each) for each in given[:2])
    if one is None or other is None or one == other:
        return frozenset()
    return frozenset({given[0] if one > other else given[1]})


def grounded(name, generator):
    """A program whose arguments are drawn one by one from the answers of the partial query, or None if abandoned.

    generator: a random.Random. A draw is uniform over the values that the patterns so far allow, not over programs.
    """
    skeleton, base = SKELETONS[name], knowledge()
    arguments = {}
    for reached, (left, _, right) in enumerate(skeleton.body, start=1):
        for hole in (each for each in (left, right) if each.startswith("$") and each not in arguments):
            seen = joined(skeleton.body[:reached], arguments, base)[-1]
            values = sorted({row[hole] for row in seen} - set(arguments.values()))
            if not values:
                return None
            arguments[hole] = generator.choice(values)
    program = Program(name, tuple(arguments[f"${place}"] for place in range(len(skeleton.types))))
    return program if execute(program) else None


def at_random(name, generator):
    """A program whose arguments are drawn independently from all values of their types, each once."""
    chosen = []
    for kind in SKELETONS[name].types:
        chosen.append(generator.choice([each for each in knowledge().types[kind] if each not in chosen]))
    return Program(name, tuple(chosen))


def share_that_executes(name, draw, count, seed=0):
    """The share of `count` draws, of `grounded` or `at_random`, that are programs with a non-empty answer."""
    generator = random.Random(seed)
    found = [draw(name, generator) for _ in range(count)]
    return sum(each is not None and bool(execute(each)) for each in found) / count
