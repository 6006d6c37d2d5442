"""Programs first, questions second: FlexKBQA (Li et al. 2023) in small, on the knowledge base of the plays.

Programs are drawn, then put into words by two phrasings each: that is the synthetic training set. Users ask otherwise:
five phrasings each, which we wrote by hand and which no real user has seen. A student, a linear softmax over words and
pairs of words, chooses the skeleton; names are found in the question and go where their type fits. Self-training lets
it parse users' questions, keeps some of what it says (`FILTERS`), and trains on that too.
The paper's exact filter is not released: ours keeps what executes to a non-empty answer (a reconstruction).
"""

import random
import re
from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core.signals.programs import SKELETONS, Program, at_random, execute, grounded, knowledge
from effattn_core.signals.word_counts import WordCounts

NAME = "name"  # what a name becomes before the student reads: it is to learn the words around
# skeleton -> (two phrasings of the synthetic set, five of the users)
PHRASINGS = {
    "genre": (
        ("what genre does {0} belong to", "which genre is {0}"),
        ("is {0} sad or funny", "what kind of play is {0}", "what sort of drama is {0}",
         "on which shelf does {0} stand", "how would you file {0}"),
    ),
    "cast": (
        ("how many characters does {0} have", "what is the number of characters in {0}"),
        ("how big is the cast of {0}", "how many people speak in {0}", "how large a company does {0} need",
         "how many roles are there in {0}", "count the parts of {0}"),
    ),
    "leader": (
        ("which character has the largest number of speeches in {0}", "who has the most speeches in {0}"),
        ("who talks most in {0}", "whose is the longest part in {0}", "who is the lead of {0}",
         "who has most to say in {0}", "who dominates {0}"),
    ),
    "plays": (
        ("which plays contain the character {0}", "in which plays does the character {0} appear"),
        ("where do we meet {0}", "what is {0} from", "which dramas have {0} in them",
         "in what does {0} turn up", "name every piece with {0}"),
    ),
    "tally": (
        ("how many plays have the genre {0}", "what is the number of plays of genre {0}"),
        ("how many {0} did he write", "count the {0}", "how many of his pieces are {0}",
         "what number of {0} is there", "are there many {0}"),
    ),
    "with": (
        ("which characters share a scene with {0} in {1}", "who appears in the same scene as {0} in {1}"),
        ("whom does {0} meet in {1}", "in {1} who is on stage with {0}", "who keeps {0} company in {1}",
         "who could {0} talk to in {1}", "with whom is {0} seen in {1}"),
    ),
    "both": (
        ("which characters appear in both {0} and {1}", "which characters do {0} and {1} have in common"),
        ("who is in {0} and also in {1}", "do {0} and {1} share anybody", "who comes back from {0} in {1}",
         "whom do we know from {0} when we see {1}", "names that {0} has and {1} has too"),
    ),
    "biggest": (
        ("which play of genre {0} has the largest number of speeches", "what is the longest play of genre {0}"),
        ("which of the {0} is the longest", "the biggest of all {0}", "what takes most time among the {0}",
         "name the most talkative of the {0}", "of the {0} which has most to say"),
    ),
    "scenes": (
        ("in how many scenes of {1} does the character {0} appear", "what is the number of scenes with {0} in {1}"),
        ("how often is {0} on in {1}", "how many times do we see {0} in {1}", "how much stage time has {0} got in {1}",
         "how many entrances for {0} in {1}", "in {1} what part of the evening needs {0}"),
    ),
    "more": (
        ("does {0} or {1} have more speeches in {2}", "which character has more speeches in {2} {0} or {1}"),
        ("who talks more in {2} {0} or {1}", "{0} or {1} who has the bigger part in {2}",
         "in {2} whose role is longer {0} or {1}", "does {0} out talk {1} in {2}",
         "between {0} and {1} who says more in {2}"),
    ),
}  # fmt: skip
NAMES = tuple(SKELETONS)
FILTERS = ("keep all", "confidence", "executes", "best that executes")
SURE = 0.5  # probability that the filter "confidence" asks for


@dataclass(frozen=True)
class Question:
    """words: with names as they stand; masked: what the student reads; names: (type, name) as linked; truth: or None.

    truth: the Program that was asked, never shown to self-training; None where the question has no answer.
    """

    words: str
    masked: tuple
    names: tuple
    truth: Program | None


def asked(program, phrasing, answerable=True):
    """A Question from a program and a phrasing with {0}, {1}, …"""
    types = SKELETONS[program.name].types
    order = [int(each) for each in re.findall(r"\{(\d)\}", phrasing)]
    masked = re.sub(r"\{\d\}", NAME, phrasing).split()
    names = tuple((types[place], program.arguments[place]) for place in order)
    return Question(phrasing.format(*program.arguments), tuple(masked), names, program if answerable else None)


def drawn(count, users, generator, gold=True):
    """`count` Questions about grounded programs, skeletons in turn, in the users' phrasings or the synthetic ones."""
    found = []
    while len(found) < count:
        name = NAMES[len(found) % len(NAMES)]
        program = grounded(name, generator)
        if program is not None:
            found.append(asked(program, generator.choice(PHRASINGS[name][int(users)]), gold))
    return found


def unanswerable(count, generator):
    """Users' questions whose program has an empty answer: skeletons "with", "both" and "more" in turn."""
    found, kinds = [], ("with", "both", "more")
    while len(found) < count:
        program = at_random(kinds[len(found) % 3], generator)
        if not execute(program):
            found.append(asked(program, generator.choice(PHRASINGS[program.name][1]), answerable=False))
    return found


def parse(name, names):
    """The Program of a skeleton with the names of a question, each where its type fits, or None if they do not fit."""
    left, arguments = list(names), []
    for kind in SKELETONS[name].types:
        place = next((place for place, (given, _) in enumerate(left) if given == kind), None)
        if place is None:
            return None
        arguments.append(left.pop(place)[1])
    return None if left else Program(name, tuple(arguments))


def keep(program):
    """Whether a program executes to something: a count of 0 is an answer, an empty set is none."""
    return program is not None and len(execute(program)) > 0


class Student:
    """A linear softmax from the words of a question, one by one and in pairs, to the skeleton."""

    def __init__(self, questions, labels, decay=1e-3, steps=150):
        self.matrix = WordCounts(questions)
        matrix, target = self.matrix(questions), torch.tensor([NAMES.index(each) for each in labels])
        self.weight = torch.zeros(self.matrix.width, len(NAMES), requires_grad=True)
        optimizer = torch.optim.Adam([self.weight], lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = functional.cross_entropy(matrix @ self.weight, target) + decay * self.weight.square().sum()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def probabilities(self, questions):
        """p(skeleton | words), [questions, 10]."""
        return functional.softmax(self.matrix(questions) @ self.weight, -1)


def chosen(probabilities, question, constrained):
    """(Program or None, its probability): the likeliest skeleton, or the likeliest whose program executes."""
    for place in probabilities.argsort(descending=True).tolist():
        program = parse(NAMES[place], question.names)
        if keep(program) or not constrained:
            return program, probabilities[place].item()
    return None, 0.0


def kept(rule, student, questions):
    """(Question, Program) of each parse that a filter keeps. rule: one of FILTERS, else ValueError."""
    if rule not in FILTERS:
        raise ValueError(f"there is no filter {rule!r}; there are {', '.join(FILTERS)}.")
    pairs = []
    for question, probabilities in zip(questions, student.probabilities(questions), strict=True):
        program, sure = chosen(probabilities, question, constrained=rule == "best that executes")
        if rule == "keep all" and program is None:  # the student trains on skeletons: its guess stays one
            name = NAMES[probabilities.argmax()]
            pairs.append((question, Program(name, ())))
        elif rule == "confidence" and sure > SURE:
            pairs.append((question, program or Program(NAMES[probabilities.argmax()], ())))
        elif (rule == "keep all") or (rule in FILTERS[2:] and keep(program)):
            pairs.append((question, program))
    return pairs


def accuracy(student, questions, constrained=False):
    """The share of questions whose answer is right. constrained: whether decoding asks the executor too."""
    right = 0
    for question, probabilities in zip(questions, student.probabilities(questions), strict=True):
        program, _ = chosen(probabilities, question, constrained)
        right += program is not None and execute(program) == execute(question.truth)
    return right / len(questions)


@dataclass(frozen=True)
class Sets:
    """What a run draws: synthetic and a few gold pairs; users' questions without programs; those it is tested on."""

    synthetic: list
    gold: list
    unlabelled: list
    tested: list


def sets(seed, synthetic=400, gold=25, unlabelled=500, without=100, tested=500):
    """The Sets of a seed."""
    generator = random.Random(seed)
    knowledge()
    asked_by_users = drawn(unlabelled, True, generator) + unanswerable(without, generator)
    return Sets(
        drawn(synthetic, False, generator), drawn(gold, True, generator), asked_by_users, drawn(tested, True, generator)
    )


def trained(pairs):
    """A Student of (Question, Program) pairs."""
    return Student([question for question, _ in pairs], [program.name for _, program in pairs])


def with_truth(questions):
    """(Question, Program) pairs of questions whose program is given."""
    return [(question, question.truth) for question in questions]


def self_trained(rule, found, rounds=3):
    """(student, rows) of self-training from synthetic pairs: a row per round with purity and coverage of what is kept.

    purity: the share of kept pairs whose program is the one that was asked; coverage: the share of questions kept.
    """
    student, rows = trained(with_truth(found.synthetic)), []
    for number in range(1, rounds + 1):
        pairs = kept(rule, student, found.unlabelled)
        pure = sum(program == question.truth for question, program in pairs) / max(len(pairs), 1)
        rows.append({"round": number, "purity": pure, "coverage": len(pairs) / len(found.unlabelled)})
        student = trained(with_truth(found.synthetic) + pairs)
    return student, rows
