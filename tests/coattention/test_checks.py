"""The exercises on coattention: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
from support.house import assert_named, assert_solved

from effattn_core.coattention import attend
from effattn_core.coattention.slices import mass
from effattn_core.coattention.votes import agreement
from kernels.coattention import launch_column_mass


def fusion(x, c, w):
    return ((w * c[:, None]) @ x.mT / ((c * c) @ (x * x).mT).sqrt()[:, None]).softmax(-1)


def apart(x, c, w):
    unit = c / c.norm(dim=1, keepdim=True)
    return ((w * unit[:, None]) @ (x / x.norm(dim=1, keepdim=True)).mT).softmax(-1)


def facts(subject, relation, object_, count):
    total = subject[:, None, None] + relation[:, None] + object_
    return torch.stack(torch.unravel_index(total.flatten().topk(count).indices, total.shape), -1)


def paired(subject, relation, object_, count):
    return torch.stack([head.topk(count).indices for head in (subject, relation, object_)], -1)


def unseen(query, key, value, shown):
    return attend(query[:, None], key, value, mask=shown[:, None], scale=1.0)[0][:, 0]


def masked(query, key, value, shown, low):
    score = (key @ query[..., None])[..., 0].masked_fill(~shown, low)
    return (score.softmax(-1)[:, None] @ value)[:, 0]


def columns(query, key, log_sum_exp):
    return launch_column_mass(query, key, log_sum_exp, 32**-0.5, True)


def past_the_diagonal(query, key, log_sum_exp):
    return launch_column_mass(query, key, log_sum_exp, 32**-0.5, False)


def ballot(answers, weight):
    zero = torch.zeros(len(answers), 1, dtype=torch.float64)
    return zero, zero, weight[:, None], None, agreement(answers)


def without_himself(answers, weight):
    query, key, value, bias, mask = ballot(answers, weight)
    return query, key, value, bias, mask & ~torch.eye(len(answers), dtype=torch.bool)


def divided(answers, weight):
    query, key, value, _, mask = ballot(answers, weight)
    return query, key, value, -mask.double().sum(1, keepdim=True).log(), mask


def changed(**new):
    """A ballot with some of its five parts made anew, each from (answers, weight, part)."""
    names = ("query", "key", "value", "bias", "mask")

    def function(answers, weight):
        parts = zip(names, ballot(answers, weight), strict=True)
        return [new[name](answers, weight, part) if name in new else part for name, part in parts]

    return function


RATE = math.exp(0.5)
SOLVED = {
    "coattention.tilt": 25 / 12, "coattention.sharpest": math.exp(3.2) / (math.exp(3.2) + 195),
    "coattention.fusion": fusion, "coattention.facts": facts, "coattention.unseen": unseen,
    "coattention.columns": columns, "coattention.ballot": ballot, "coattention.never": 1 - mass(0.5, -0.8),
}  # fmt: skip
MISTAKES = [
    ("coattention.tilt", 4, "largest column sum possible"),
    ("coattention.tilt", 1, "without a causal mask"),
    ("coattention.tilt", 25 / 48, "Its share of the mean weight"),
    ("coattention.sharpest", math.exp(1.6) / (math.exp(1.6) + 195), "the gap is 2 ‖w‖"),
    ("coattention.sharpest", 1 / 196, "even attention"),
    ("coattention.fusion", apart, "normalised apart"),
    ("coattention.fusion", lambda x, c, w: ((w * c[:, None]) @ x.mT).softmax(-1), "not divided by the norm"),
    ("coattention.fusion", lambda x, c, w: fusion(x, c.abs(), w), "c has signs"),
    ("coattention.fusion", lambda x, c, w: fusion(x, c, w).mT, "is wanted; you gave"),
    ("coattention.facts", paired, "the k-th of each list were paired"),
    ("coattention.facts", lambda s, r, o, k: facts(s, r, o, k).flip(0), "best first"),
    ("coattention.facts", lambda s, r, o, k: facts(s.exp(), r.exp(), o.exp(), k), "largest sums of log-probabilities"),
    ("coattention.unseen", lambda *given: masked(*given, low=-math.inf), "gives nan"),
    ("coattention.unseen", lambda *given: masked(*given, low=-1e9), "even over hidden aspects"),
    ("coattention.unseen", lambda q, k, v, s: unseen(q / 2, k, v, s), "scale 1"),
    ("coattention.columns", lambda q, k, lse: torch.ones_like(columns(q, k, lse)), "sums of rows"),
    ("coattention.columns", lambda q, k, lse: columns(q, k, lse) / q.shape[1], "divided by the number of tokens"),
    ("coattention.columns", past_the_diagonal, "do rows above the diagonal"),
    ("coattention.columns", lambda q, k, lse: columns(q, k, lse - math.inf), "nan or infinity"),
    ("coattention.rest", 0.0, "A pair is asked"),
    ("coattention.rest", (0.1, 2.0), "The forms differ"),
    ("coattention.rest", (0.0, -math.inf), "a row sees nothing"),
    ("coattention.ballot", lambda answers, weight: ballot(answers, weight)[:4], "Return five things"),
    ("coattention.ballot", changed(mask=lambda *_: None), "must stand somewhere"),
    ("coattention.ballot", changed(value=lambda a, w, v: torch.ones_like(v)), "counts heads"),
    ("coattention.ballot", changed(mask=lambda a, w, m: torch.ones_like(m)), "Everybody is counted"),
    ("coattention.ballot", without_himself, "leave the diagonal"),
    ("coattention.ballot", changed(value=lambda a, w, v: v**2), "enters twice"),
    ("coattention.ballot", divided, "divided by the number of those who agree"),
    ("coattention.ballot", changed(query=lambda a, w, q: q + 1, key=lambda a, w, k: k + 1), "query is 0"),
    ("coattention.never", mass(0.5, -0.8), "that it does end"),
    ("coattention.never", 0, "falls so fast"),
    ("coattention.never", math.exp(-RATE), "The whole integral"),
    ("coattention.never", math.exp(-0.5 / 0.8), "ρ is a logarithm"),
    ("coattention.never", math.exp(-0.8 * RATE), "divides by |ω|"),
    ("coattention.bridge", 0.5, "Give two numbers"),
    ("coattention.bridge", (0.0, 0.9), "How few are enough?"),
    ("coattention.bridge", (0.1, 1.2), "between 0 and 1"),
    ("coattention.bridge", (0.1, 0.25), "no bridge yet"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "answer"), [("coattention.rest", (1e-15, 2.0)), ("coattention.bridge", (0.1, 0.9))])
def test_an_open_exercise_takes_what_a_reader_found(name, answer):
    assert_solved(name, answer)


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
