"""The hidden cases of the exercises on made-up signals: programs, label words, filters."""

import functools
import math
from dataclasses import replace

import torch

from effattn_core.exercises import compare_number, exercise, known_mistake
from effattn_core.signals import questions
from effattn_core.signals.programs import Program
from effattn_core.signals.tokens import label_probabilities

SHARE = 0.2  # of the label whose bias is asked
LEAST, PURER = 0.6, 0.05  # coverage, and purity above that of "best that executes", that the filter is asked for

# a small play: (part, who, name), (part, in, play), (part, on, scene)
TRIPLES = frozenset(
    (part, relation, thing)
    for part, who, play, scenes in (
        ("a", "ANN", "Storm", "1 2 4"), ("b", "BEN", "Storm", "2 3"), ("c", "ANN", "Calm", "5"),
        ("d", "CEL", "Calm", "5"), ("e", "CEL", "Storm", "2 4"),
    )
    for relation, things in (("who", who), ("in", play), ("on", scenes))
    for thing in things.split()
) | {("a", "knows", "b"), ("c", "knows", "c")}  # fmt: skip


def _patterns(text):
    return tuple(tuple(each.split()) for each in text.split("; "))


# (patterns, variable asked, fold, answer, whether to keep it)
CASES = [
    (_patterns("?p in Storm; ?p who ?x"), "?x", "set", {"ANN", "BEN", "CEL"}, True),
    (_patterns("?p who ANN; ?p in Storm; ?p on ?s; ?q on ?s; ?q who ?x"), "?x", "set", {"ANN", "BEN", "CEL"}, True),
    (_patterns("?p who BEN; ?p in Calm; ?p on ?s; ?q on ?s; ?q who ?x"), "?x", "set", set(), False),
    (_patterns("?p in Storm; ?p on ?s"), "?s", "count", {4}, True),
    (_patterns("?p who BEN; ?p in Calm; ?p on ?s"), "?s", "count", {0}, True),
    (_patterns("?p who ?x; ?p in Storm; ?q who ?x; ?q in Calm"), "?x", "set", {"ANN", "CEL"}, True),
    (_patterns("?x knows ?x"), "?x", "set", {"c"}, True),
]


@exercise("signals.executor", level="code")
def executor(function):
    """`function(triples, patterns, asked, fold)`: (answer as a set, whether to keep the program).

    patterns: (left, relation, right); left and right that begin with "?" are variables, a relation is a word; asked:
    one of the variables; fold: "set" or "count".
    """
    for patterns, asked, fold, wanted, keeps in CASES:
        said = "; ".join(" ".join(each) for each in patterns)
        found = function(TRIPLES, patterns, asked, fold)
        if not isinstance(found, tuple) or len(found) != 2:
            return "Return two things: the answer as a set, and whether to keep the program."
        answer, kept = found
        if not isinstance(answer, (set, frozenset)):
            return f"The answer is a set, of one number where it is a count; you gave a {type(answer).__name__}."
        if set(answer) != wanted:
            return _other_answer(set(answer), wanted, patterns, asked, fold, said)
        if bool(kept) != keeps:
            if wanted == {0}:
                return f"“{said}” counts 0, which is an answer: {{0}} is not an empty set. Ask for its length."
            if not wanted:
                return f"“{said}” has an empty set as answer: nothing says that it was asked so. Do not keep it."
            return f"“{said}” has the answer {sorted(map(str, wanted))}: keep it."
    return None


def _other_answer(answer, wanted, patterns, asked, fold, said):
    """The sentence for a wrong answer."""
    if any(left == right for left, _, right in patterns):
        return f"“{said}”: a variable at both ends of a pattern means the same thing at both."
    alone = set()
    for left, relation, right in patterns:
        for subject, between, thing in TRIPLES:
            fits = between == relation and all(
                each.startswith("?") or each == given for each, given in ((left, subject), (right, thing))
            )
            alone |= {value for each, value in ((left, subject), (right, thing)) if fits and each == asked}
    if fold == "count" and not answer:
        return f"“{said}” counts 0: a count of nothing is {{0}}, an answer; the empty set is none."
    if fold == "count" and answer and max(answer) > max(wanted) and answer != {len(alone)}:
        return f"“{said}”: count the different values of {asked}, not the rows in which they stand."
    if answer == (alone if fold == "set" else {len(alone)}):
        return f"“{said}”: a variable means the same in each pattern; yours is bound anew in each."
    return f"“{said}” has the answer {sorted(map(str, wanted))}; you gave {sorted(map(str, answer))}."


@exercise("signals.scores", level="code")
def scores(function):
    """`function(logits, position, bias)`: P(label) [batch, labels] of logits [batch, time] of "replaced"."""
    generator = torch.Generator().manual_seed(2)
    for batch, time, labels in ((3, 9, 4), (1, 6, 2)):
        logits = 2 * torch.randn(batch, time, dtype=torch.float64, generator=generator)
        position = torch.randperm(time - 1, generator=generator)[:labels]
        bias = torch.randn(labels, dtype=torch.float64, generator=generator)
        wanted = label_probabilities(logits, position, bias)
        found = function(logits.clone(), position.clone(), bias.clone())
        if not isinstance(found, torch.Tensor) or found.shape != wanted.shape:
            return f"Return one probability per text and label, {tuple(wanted.shape)}."
        if torch.allclose(found, wanted):
            continue
        raw = logits[:, position] + bias
        mistakes = (
            (1 - wanted, "The sign is turned: the logit is that of “replaced”, and a label that fits is original."),
            ((-raw).softmax(-1), "That is a softmax over the labels. Each has a loss of its own, so each a sigmoid."),
            (raw.softmax(-1), "That is a softmax, and of “replaced”: one minus a sigmoid per label is asked."),
            (1 - raw.softmax(-1), "That is a softmax over the labels. Each has a loss of its own, so each a sigmoid."),
            (-raw, "Those are logits; their order is right, but 1 - σ(z + b) is asked."),
            (1 - torch.sigmoid(logits[:, position]), "The bias of each label is missing."),
            (1 - torch.sigmoid(logits[:, position] - bias), "The bias is added to the logit; here it is taken away."),
            (1 - torch.sigmoid(logits[:, -labels:] + bias), "Read the logits at `position`, not those of the end."),
            (1 - torch.sigmoid(logits[:, position + 1] + bias), "That reads the token behind each label's."),
        )
        return (
            known_mistake(found, mistakes)
            or f"It differs by {(found - wanted).abs().max():.2g}: 1 - σ(z + b) at the labels' tokens."
        )
    return None


@exercise("signals.bias", level="pencil")
def bias(answer):
    """The best bias of a label of share 0.2 where all logits are 0: ln((1 - π) / π)."""
    return compare_number(
        answer,
        math.log((1 - SHARE) / SHARE),
        [
            (math.log(SHARE / (1 - SHARE)), "The sign is turned: P(label) is 1 - σ(b), so a rare label has b above 0."),
            (math.log(SHARE), "That is the log of a share, a softmax's bias; here each label has its own sigmoid."),
            (-math.log(SHARE), "That is -ln π: a sigmoid weighs π against 1 - π."),
            ((1 - SHARE) / SHARE, "Those are the odds; the bias is their logarithm."),
            (math.log10((1 - SHARE) / SHARE), "Natural logarithms, for σ is written with e."),
        ],
    )


@functools.cache
def _asked():
    """(users' questions without their truth, their truths, the student's probabilities) of a seed of its own."""
    found = questions.sets(17, synthetic=400, gold=0, unlabelled=200, without=40, tested=0)
    student = questions.trained(questions.with_truth(found.synthetic))
    hidden = [replace(each, truth=None) for each in found.unlabelled]
    return hidden, [each.truth for each in found.unlabelled], student.probabilities(hidden)


def kept_of(function):
    """(coverage, purity) of what `function(question, probabilities)` keeps of hidden users' questions.

    Raises ValueError where it returns neither a Program nor None.
    """
    asked, truths, probabilities = _asked()
    given = [function(each, row.clone()) for each, row in zip(asked, probabilities, strict=True)]
    for each in given:
        if each is not None and not isinstance(each, Program):
            raise ValueError(f"return a Program, or None to keep nothing; you gave a {type(each).__name__}.")
    kept = [(each, truth) for each, truth in zip(given, truths, strict=True) if each is not None]
    return len(kept) / len(given), sum(each == truth for each, truth in kept) / max(len(kept), 1)


@exercise("signals.filter", level="open")
def filter_of_your_own(function):
    """`function(question, probabilities)`: the Program to keep, or None; purer than "best that executes", at .6."""
    if not callable(function):
        return f"A function is asked, from a question and ten probabilities to a Program or None; got {function!r}."
    coverage, purity = kept_of(function)
    best, usual = kept_of(lambda asked, row: questions.chosen(row, asked, True)[0])
    if coverage < LEAST:
        return f"It keeps {coverage:.0%} of the questions, {purity:.0%} of them rightly: keep {LEAST:.0%} or more."
    if coverage == 1:
        return "It keeps a program for each question; some have no answer at all, and those must go."
    if purity < usual + PURER:
        return (
            f"It keeps {coverage:.0%}, {purity:.0%} of it right; the likeliest that executes: {best:.0%}, {usual:.0%}. "
            "Compare the probability of the best program that executes with that of the others that do."
        )
    return None
