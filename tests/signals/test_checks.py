"""The exercises on signals: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
from support.house import assert_named, assert_solved

from effattn_core.exercises import EXERCISES
from effattn_core.signals import checks, questions, tokens, weights


def joined(triples, patterns):
    rows = [{}]
    for left, relation, right in patterns:
        there = [(one, other) for one, between, other in triples if between == relation]
        rows = [
            row | {left: one, right: other}
            for row in rows for one, other in there
            if (left != right or one == other) and all(row.get(each, value if each.startswith("?") else each) == value
                   for each, value in ((left, one), (right, other)))
        ]  # fmt: skip
    return rows


def execute(triples, patterns, asked, fold):
    found = {row[asked] for row in joined(triples, patterns)}
    answer = {len(found)} if fold == "count" else found
    return answer, len(answer) > 0


def keeps_all(*given):
    return execute(*given)[0], True


def keeps_what_is_true(*given):
    return execute(*given)[0], any(execute(*given)[0])


def counts_nothing_as_empty(*given):
    answer, _ = execute(*given)
    return (answer, True) if any(answer) else (set(), False)


def counts_rows(triples, patterns, asked, fold):
    answer, keep = execute(triples, patterns, asked, fold)
    return ({len(joined(triples, patterns))} if fold == "count" else answer), keep


def binds_anew(triples, patterns, asked, fold):
    found = {row[asked] for pattern in patterns for row in joined(triples, [pattern]) if asked in row}
    answer = {len(found)} if fold == "count" else found
    return answer, len(answer) > 0


def one_key_per_pattern(triples, patterns, asked, fold):
    """Both ends in one dict: where a variable stands at both, the right one overwrites the left."""
    rows = [{}]
    for left, relation, right in patterns:
        ends = [{left: one, right: other} for one, between, other in triples if between == relation]
        rows = [
            row | each for row in rows for each in ends
            if all(row.get(key, value if key.startswith("?") else key) == value for key, value in each.items())
        ]  # fmt: skip
    found = {row[asked] for row in rows}
    answer = {len(found)} if fold == "count" else found
    return answer, len(answer) > 0


def viterbi(pairs, steps, backwards=False):
    best, ways = pairs[0], []
    for row in pairs[1:]:
        best, way = (best[:, None] + steps).max(0)
        best, ways = best + row, [*ways, way]
    path = [int(best.argmax())]
    for way in ways[::-1]:
        path.append(int(way[path[-1]]))
    return path if backwards else path[::-1]


def surest(question, probabilities, least=0.6):
    """The likeliest program that executes, if it has most of what all that execute have."""
    programs = [questions.parse(name, question.names) for name in questions.NAMES]
    allowed = torch.tensor([questions.keep(each) for each in programs])
    if not allowed.any():
        return None
    share = (probabilities * allowed) / (probabilities * allowed).sum()
    return programs[share.argmax()] if share.max() > least else None


def softmaxed(logits, position, bias):
    return (-(logits[:, position] + bias)).softmax(-1)


def clipped(usefulness):
    kept = usefulness.clamp(min=0)
    return kept / kept.sum().clamp(min=1e-30)


SOLVED = {
    "signals.executor": execute,
    "signals.scores": tokens.label_probabilities,
    "signals.bias": math.log(4),
    "signals.filter": surest,
    "signals.weights": weights.weights,
    "signals.alignment": 7 / 9,
    "signals.viterbi": viterbi,
}
MISTAKES = [
    ("signals.executor", keeps_all, "Do not keep it"),
    ("signals.executor", keeps_what_is_true, "which is an answer"),
    ("signals.executor", counts_nothing_as_empty, "the empty set is none"),
    ("signals.executor", counts_rows, "not the rows in which they stand"),
    ("signals.executor", one_key_per_pattern, "the same thing at both"),
    ("signals.executor", binds_anew, "yours is bound anew in each"),
    ("signals.executor", lambda *given: (execute(*given)[0], False), "keep it."),
    ("signals.executor", lambda *given: execute(*given)[0], "Return two things"),
    ("signals.executor", lambda *given: (sorted(execute(*given)[0]), True), "you gave a list"),
    ("signals.executor", lambda *given: ({"ANN"}, True), "you gave ['ANN']"),
    ("signals.scores", lambda *given: 1 - tokens.label_probabilities(*given), "The sign is turned"),
    ("signals.scores", softmaxed, "That is a softmax over the labels"),
    ("signals.scores", lambda z, at, b: (z[:, at] + b).softmax(-1), "That is a softmax, and of"),
    ("signals.scores", lambda z, at, b: 1 - (z[:, at] + b).softmax(-1), "That is a softmax over the labels"),
    ("signals.scores", lambda z, at, b: -(z[:, at] + b), "Those are logits"),
    ("signals.scores", lambda z, at, b: tokens.label_probabilities(z, at, 0 * b), "The bias of each label is missing"),
    ("signals.scores", lambda z, at, b: tokens.label_probabilities(z, at, -b), "here it is taken away"),
    ("signals.scores", lambda z, at, b: 1 - torch.sigmoid(z[:, -len(b) :] + b), "not those of the end"),
    ("signals.scores", lambda z, at, b: tokens.label_probabilities(z, at + 1, b), "the token behind each label's"),
    ("signals.scores", lambda z, at, b: tokens.label_probabilities(z, at, 2 * b), "It differs by"),
    ("signals.scores", lambda z, at, b: z, "Return one probability per text and label"),
    ("signals.bias", -math.log(4), "The sign is turned"),
    ("signals.bias", math.log(0.2), "a softmax's bias"),
    ("signals.bias", -math.log(0.2), "weighs π against 1 - π"),
    ("signals.bias", 4, "Those are the odds"),
    ("signals.bias", math.log10(4), "Natural logarithms"),
    ("signals.filter", 3, "A function is asked"),
    ("signals.filter", lambda question, row: row.argmax(), "return a Program, or None"),
    ("signals.filter", lambda question, row: questions.chosen(row, question, False)[0], "keep 60% or more"),
    ("signals.filter", lambda question, row: questions.chosen(row, question, True)[0], "Compare the probability"),
    ("signals.filter", lambda question, row: questions.Program("genre", ("Hamlet",)), "some have no answer at all"),
    ("signals.weights", lambda each, meta: (each @ meta).abs() / (each @ meta).abs().sum(), "abs() gives weight"),
    ("signals.weights", lambda each, meta: ((each @ meta) / (each @ meta).sum()).clamp(min=0), "Clip first"),
    ("signals.weights", lambda each, meta: clipped(-(each @ meta)), "The sign is turned"),
    ("signals.weights", lambda each, meta: (each @ meta).softmax(0), "Softmax gives everyone some weight"),
    ("signals.weights", lambda each, meta: (each @ meta).clamp(min=0), "not normalised"),
    ("signals.weights", lambda each, meta: (each @ meta).relu() / (each @ meta).relu().sum(), "0 / 0 is not a number"),
    ("signals.weights", lambda each, meta: meta, "Return one weight per example"),
    ("signals.weights", lambda each, meta: clipped(each @ meta + 1), "It differs by"),
    ("signals.alignment", 7 / 5, "clipped to 0 before the sum"),
    ("signals.alignment", 7 / 13, "absolute value of -4"),
    ("signals.alignment", 7, "divide by the sum"),
    ("signals.viterbi", lambda pairs, steps: pairs.argmax(1), "the steps between words count too"),
    ("signals.viterbi", lambda pairs, steps: viterbi(pairs, steps, True), "The path is turned round"),
    ("signals.viterbi", lambda pairs, steps: [0] * len(pairs), "Keep the best way per last state"),
    ("signals.viterbi", lambda pairs, steps: [0], "you gave 1"),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_every_exercise_has_its_solution_here():
    assert {name for name in EXERCISES if name.startswith("signals.")} == set(SOLVED)


def test_the_hidden_questions_keep_their_truth_to_themselves():
    seen = []
    checks.programs.kept_of(lambda question, row: seen.append(question.truth))
    assert len(seen) == 240 and set(seen) == {None}
