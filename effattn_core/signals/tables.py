"""Claims from tables whose verdict comes from a program: UCTR-ST (Li et al. 2022) in small, on characters of plays.

A table has a row per character of a play and three columns. A claim is a program with its arguments put into words; its
verdict is what the program returns. A refuted claim is a supported one with another row's name or a number off by one,
and is executed too, for it may be true by chance. A student, linear in words, gives p(program | words); a verdict is
the sum of p over the programs that return it. Self-training raises the probability of verdicts, not of programs.
Wordings are ours, two that are generated and five of "users": no corpus of templates stands behind them.
"""

import functools
import random
import re
from dataclasses import dataclass

import torch

from effattn_core.plays import plays
from effattn_core.signals.programs import LEAST
from effattn_core.signals.word_counts import WordCounts

COLUMNS = ("speeches", "words", "scenes")
ROWS = 12  # of a table: the characters with most speeches
# program -> (arguments beside table and column, two generated wordings, five of users); {0}, {1}: arguments
CLAIMS = {
    "most": ("name",
        ("{0} has the largest number of {c}", "the maximum of {c} is that of {0}"),
        ("nobody has more {c} than {0}", "{0} leads in {c}", "by {c} {0} comes first", "{0} tops the list of {c}",
         "all others are behind {0} in {c}")),
    "least": ("name",
        ("{0} has the smallest number of {c}", "the minimum of {c} is that of {0}"),
        ("nobody has fewer {c} than {0}", "{0} is last in {c}", "by {c} {0} comes at the end",
         "{0} ends the list of {c}", "all others are before {0} in {c}")),
    "second": ("name",
        ("{0} has the second largest number of {c}", "the second of {c} is {0}"),
        ("only one has more {c} than {0}", "{0} is runner up in {c}", "by {c} {0} comes next to the top",
         "one alone is before {0} in {c}", "{0} would lead in {c} but for one")),
    "above": ("name",
        ("{0} has a number of {c} above the average", "the mean of {c} is less than that of {0}"),
        ("{0} has more {c} than is usual here", "in {c} {0} beats the mean", "{0} is over par in {c}",
         "a typical one has fewer {c} than {0}", "{0} is rich in {c}")),
    "below": ("name",
        ("{0} has a number of {c} below the average", "the mean of {c} is greater than that of {0}"),
        ("{0} has fewer {c} than is usual here", "in {c} {0} does not reach the mean", "{0} is under par in {c}",
         "a typical one has more {c} than {0}", "{0} is poor in {c}")),
    "more": ("name name",
        ("{0} has a greater number of {c} than {1}", "the {c} of {0} are more than those of {1}"),
        ("{0} beats {1} in {c}", "{1} is behind {0} in {c}", "{0} outdoes {1} by {c}",
         "in {c} {1} cannot match {0}", "{0} leaves {1} standing in {c}")),
    "fewer": ("name name",
        ("{0} has a smaller number of {c} than {1}", "the {c} of {0} are less than those of {1}"),
        ("{0} loses to {1} in {c}", "{1} is ahead of {0} in {c}", "{0} falls short of {1} by {c}",
         "in {c} {1} is too much for {0}", "{0} trails {1} in {c}")),
    "twice": ("name name",
        ("{0} has at least twice the number of {c} of {1}", "the {c} of {0} are two times those of {1} or more"),
        ("{0} has double the {c} of {1}", "{1} has not half the {c} of {0}", "one {0} makes two of {1} in {c}",
         "put {1} down twice and {0} still has the {c}", "{0} is {1} doubled in {c}")),
    "exactly": ("name number",
        ("{0} has exactly {1} {c}", "the number of {c} of {0} is equal to {1}"),
        ("there are {1} {c} for {0}", "{0} gets {1} {c}", "count the {c} of {0} and find {1}",
         "{1} is what {0} has in {c}", "{0} with {1} {c}")),
    "reaches": ("name number",
        ("{0} has at least {1} {c}", "the number of {c} of {0} is not less than {1}"),
        ("{0} gets to {1} {c}", "{0} has {1} {c} or better", "there are {1} {c} for {0} if not more",
         "{0} makes it to {1} {c}", "no fewer than {1} {c} go to {0}")),
}  # fmt: skip
PROGRAMS = tuple(CLAIMS)


@dataclass(frozen=True)
class Table:
    """names: of its rows; cells: column -> numbers in the order of the names."""

    play: str
    names: tuple
    cells: dict

    def of(self, name, column):
        """A cell."""
        return self.cells[column][self.names.index(name)]


@dataclass(frozen=True)
class Claim:
    """words, as one reads them; masked: what the student reads; program: hidden from self-training; verdict: it."""

    table: Table
    column: str
    arguments: tuple
    program: str
    masked: tuple
    words: str
    verdict: bool


@functools.cache
def tables():
    """A Table per play, of its ROWS characters with most speeches."""
    found = []
    for play in plays():
        spoken = {}
        for speech in play.speeches:
            count = spoken.setdefault(speech.speaker, [0, 0, set()])
            count[0], count[1] = count[0] + 1, count[1] + len(speech.words)
            count[2].add((speech.act, speech.scene))
        names = [name for name in play.speakers if spoken[name][0] >= LEAST][:ROWS]
        cells = {"speeches": 0, "words": 1, "scenes": 2}
        cells = {
            column: tuple(len(count) if isinstance(count, set) else count for count in (spoken[n][at] for n in names))
            for column, at in cells.items()
        }
        found.append(Table(play.title, tuple(names), cells))
    return tuple(found)


def execute(program, table, column, arguments):
    """The verdict of a program: True or False, or None where the arguments are not of its kind.

    Raises ValueError for a program or a column that there is not.
    """
    if program not in CLAIMS or column not in table.cells:
        raise ValueError(f"wanted one of {', '.join(PROGRAMS)} over {', '.join(table.cells)}; got {program}, {column}.")
    if kinds(arguments) != CLAIMS[program][0]:
        return None
    cells, own = sorted(table.cells[column]), table.of(arguments[0], column)
    other = table.of(arguments[1], column) if kinds(arguments) == "name name" else (*arguments, None)[1]
    mean = sum(cells) / len(cells)
    return {
        "most": lambda: own == cells[-1],
        "least": lambda: own == cells[0],
        "second": lambda: sum(each > own for each in cells) == 1,
        "above": lambda: own > mean,
        "below": lambda: own < mean,
        "more": lambda: own > other,
        "fewer": lambda: own < other,
        "twice": lambda: own >= 2 * other,
        "exactly": lambda: own == other,
        "reaches": lambda: own >= other,
    }[program]()


def kinds(arguments):
    """The kinds of arguments, as `CLAIMS` has them: "name", "name name" or "name number"."""
    return " ".join("number" if isinstance(each, int) else "name" for each in arguments)


def supported(program, table, column, generator):
    """Arguments with which a program returns True, drawn from all there are, or None if there are none.

    Numbers: the cell for "exactly", the cell or a little less for "reaches".
    """
    if CLAIMS[program][0] == "name number":
        name = generator.choice(table.names)
        return name, table.of(name, column) - (generator.randrange(3) if program == "reaches" else 0)
    pairs = CLAIMS[program][0] == "name name"
    given = [(one, other) for one in table.names for other in table.names if one != other] if pairs else None
    true = [each for each in given or [(name,) for name in table.names] if execute(program, table, column, each)]
    return generator.choice(true) if true else None


def refuted(program, table, column, arguments, generator, executed=True):
    """Arguments that make of a supported claim a refuted one: another row's name, or a number off by one.

    executed: whether it is run and drawn again while it is true after all; without, this is the released recipe. None
    if no draw of fifty is false.
    """
    for _ in range(50):
        if kinds(arguments) == "name number":
            more = 1 + generator.randrange(3) if program == "reaches" else generator.choice((-1, 1))
            given = arguments[0], table.of(arguments[0], column) + more
        else:
            names = [name for name in table.names if name not in arguments]
            given = (generator.choice(names), *arguments[1:])
        if not executed or execute(program, table, column, given) is False:
            return given
    return None


def worded(program, table, column, arguments, wording):
    """A Claim with its verdict by execution. The student reads names as `name0`, `name1`, numbers as `number1`."""
    order = [int(each) for each in re.findall(r"\{(\d)\}", wording)]
    masks = [f"{kind}{order.index(place)}" for place, kind in enumerate(kinds(arguments).split())]
    masked = tuple(wording.format(*masks, c="column").split())
    words = wording.format(*arguments, c=column)
    return Claim(table, column, arguments, program, masked, words, execute(program, table, column, arguments))


def claims(count, generator, users=False, mixed=0.0, among=None):
    """`count` Claims, programs in turn, half of them refuted. users: in their wordings; mixed: the share of those that
    say it twice, in a user's wording and a generated one. among: the tables, else all."""
    found = []
    while len(found) < count:
        program, table = PROGRAMS[len(found) % len(PROGRAMS)], generator.choice(among or tables())
        column = generator.choice(COLUMNS)
        arguments = supported(program, table, column, generator)
        if arguments and generator.random() < 0.5:
            arguments = refuted(program, table, column, arguments, generator)
        if not arguments:
            continue
        wording = generator.choice(CLAIMS[program][1 + users])
        if users and generator.random() < mixed:
            wording = f"{wording} that is {generator.choice(CLAIMS[program][1])}"
        found.append(worded(program, table, column, arguments, wording))
    return found


def true_by_chance(column, draws=2000, seed=0):
    """The share of "another row" negatives of "most", "least" and "second" that are true in fact, for rows can tie.

    Over all tables, without executing the negative.
    """
    generator, true, made = random.Random(seed), 0, 0
    while made < draws:
        program, table = generator.choice(("most", "least", "second")), generator.choice(tables())
        arguments = supported(program, table, column, generator)
        if arguments:
            given = refuted(program, table, column, arguments, generator, executed=False)
            true, made = true + execute(program, table, column, given), made + 1
    return true / draws


def outcomes(found):
    """What each program returns on each claim: (fits, verdicts), bool [claims, programs] each."""
    rows = [[execute(each, claim.table, claim.column, claim.arguments) for each in PROGRAMS] for claim in found]
    return torch.tensor([[each is not None for each in row] for row in rows]), torch.tensor(
        [[bool(each) for each in row] for row in rows]
    )


def verdict_likelihood(logits, fits, verdicts, wanted):
    """log Σ_f p(f) · 1[f returns `wanted`], p the softmax over the programs that fit: float [claims].

    logits: [claims, programs]; fits, verdicts: bool, likewise; wanted: bool [claims]. It is a log_sum_exp over a mask,
    less another: attention's. Where no fitting program returns the wanted verdict it is minus infinity.
    """
    agree = fits & (verdicts == wanted[:, None])
    blocked = float("-inf")
    return logits.masked_fill(~agree, blocked).logsumexp(-1) - logits.masked_fill(~fits, blocked).logsumexp(-1)


class Student:
    """p(program | words), linear in the words of a claim, one by one and in pairs."""

    def __init__(self, claims, decay=1e-3):
        self.matrix, self.decay = WordCounts(claims), decay
        self.weight = torch.zeros(self.matrix.width, len(PROGRAMS), requires_grad=True)

    def logits(self, claims):
        """[claims, programs]."""
        return self.matrix(claims) @ self.weight

    def fit(self, synthetic, claims=(), verdicts=None, steps=200):
        """Trains on synthetic claims, whose programs are known, and on verdicts (bool) of others. Returns itself."""
        known, wanted = self.matrix(synthetic), torch.tensor([PROGRAMS.index(each.program) for each in synthetic])
        extra = ()
        if len(claims):
            fits, returned = outcomes(claims)
            possible = (fits & (returned == verdicts[:, None])).any(1)
            extra = self.matrix(claims)[possible], fits[possible], returned[possible], verdicts[possible]
        optimizer = torch.optim.Adam([self.weight], lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (
                torch.nn.functional.cross_entropy(known @ self.weight, wanted) + self.decay * self.weight.pow(2).sum()
            )
            if extra:
                loss = loss - verdict_likelihood(extra[0] @ self.weight, *extra[1:]).mean()
            loss.backward()
            optimizer.step()
        return self

    @torch.no_grad()
    def judged(self, claims):
        """(p(True), the likeliest program's number) of each claim, over the programs that fit."""
        (fits, verdicts), logits = outcomes(claims), self.logits(claims)
        weights = torch.softmax(logits.masked_fill(~fits, float("-inf")), -1)
        return (weights * verdicts).sum(-1), weights.argmax(-1)


def scored(student, claims):
    """Accuracy of verdicts, on true and on false claims alone, and of programs: a dict."""
    likely, programs = student.judged(claims)
    truth = torch.tensor([claim.verdict for claim in claims])
    right = (likely > 0.5) == truth
    named = torch.tensor([PROGRAMS.index(claim.program) for claim in claims]) == programs
    return {
        "accuracy": right.float().mean().item(),
        "true": right[truth].float().mean().item(),
        "false": right[~truth].float().mean().item(),
        "program": named.float().mean().item(),
        "wrong agree true": right[truth & ~named].float().mean().item(),
        "wrong agree false": right[~truth & ~named].float().mean().item(),
    }


def self_trained(synthetic, unlabelled, sure=0.0, rounds=3):
    """A Student after rounds of training on its own verdicts, those of a probability above `sure` alone."""
    student = Student([*synthetic, *unlabelled]).fit(synthetic)
    for _ in range(rounds):
        likely, _ = student.judged(unlabelled)
        some = (torch.maximum(likely, 1 - likely) > sure).nonzero()[:, 0].tolist()
        chosen = [unlabelled[each] for each in some]
        student = Student([*synthetic, *unlabelled]).fit(synthetic, chosen, likely[some] > 0.5)
    return student
