"""Votes: exp(log_sum_exp) · output is a sum, and a mean forgets how many agreed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from support.house import assert_named, assert_solved, driver, never

from effattn_core.coattention.votes import (
    agreement,
    averaged,
    competence,
    crowd,
    gathered,
    log_odds,
    methods,
    oracle,
    precision,
    tri_attention,
    votes,
)
from effattn_core.recordings import measured


@given(some.lists(some.integers(0, 3), min_size=1, max_size=9), some.integers(0, 99))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_the_sum_over_those_who_agree_is_output_times_exp_log_sum_exp(answers, seed):
    answers = torch.tensor(answers)
    able = 0.1 + 0.8 * torch.rand(len(answers), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(votes(answers, log_odds(able, 4)), oracle(answers, able, 4), rtol=1e-12, atol=1e-12)
    counts = votes(answers, torch.ones_like(able))
    assert counts.round().tolist() == [answers.tolist().count(each) for each in answers.tolist()]
    torch.testing.assert_close(averaged(answers, torch.ones_like(able)), torch.ones_like(able))  # divided away


def test_scores_are_the_logarithm_of_what_bayes_says_of_each_class_but_for_a_constant():
    answers, able = torch.tensor([2, 0, 2, 1]), torch.tensor([0.6, 0.9, 0.4, 0.25], dtype=torch.float64)
    likelihood = torch.ones(4, dtype=torch.float64)
    for truth in range(4):
        for answer, sure in zip(answers.tolist(), able.tolist(), strict=True):
            likelihood[truth] *= sure if answer == truth else (1 - sure) / 3
    scores = votes(answers, log_odds(able, 4))
    torch.testing.assert_close(scores, (likelihood / likelihood[3]).log()[answers])  # nobody says 3: the constant
    assert scores[3].item() == pytest.approx(0)  # who guesses evenly says nothing


def test_a_mean_prefers_one_expert_to_three_who_agree_and_the_sum_does_not():
    answers = torch.tensor([7, 7, 7, 1])
    weight = log_odds(torch.tensor([0.6, 0.6, 0.6, 0.7], dtype=torch.float64), 10)
    assert votes(answers, weight).argmax() < 3 and averaged(answers, weight).argmax() == 3


def test_a_row_that_sees_nothing_gets_nothing_and_a_missing_graph_is_refused():
    output, log_sum_exp = gathered(torch.ones(3, 1), torch.zeros(2, 3, dtype=torch.bool))
    assert output.tolist() == [[0], [0]] and log_sum_exp.tolist() == [-math.inf] * 2
    with pytest.raises(ValueError, match="mask or a bias"):
        gathered(torch.ones(3, 1))


def test_competence_is_the_mean_of_the_past_for_a_wide_kernel_and_the_nearest_for_a_narrow_one():
    past, right = torch.tensor([[0.0], [1.0], [3.0]]).double(), torch.tensor([1.0, 0.0, 1.0]).double()
    question = torch.tensor([[0.9]]).double()
    assert competence(question, past, right, math.inf) == pytest.approx(2 / 3)
    assert competence(question, past, right, 0.05) == pytest.approx(0)
    distance = ((question - past[:, 0]) ** 2)[0]
    torch.testing.assert_close(competence(question, past, right, 1.3), torch.softmax(-distance / 2 / 1.3**2, 0) @ right)
    with pytest.raises(ValueError, match="above 0"):
        competence(question, past, right, 0.0)


def test_the_three_attentions_follow_the_answers_wherever_they_stand():
    draw = torch.Generator().manual_seed(0)
    question, answers, histories = (torch.randn(*shape, 4, generator=draw).double() for shape in ((6,), (3, 5), (3, 7)))
    weights = [torch.randn(*shape, generator=draw).double() for shape in ((4, 4), (8, 4), (8, 4))]
    order = torch.tensor([2, 0, 1])
    plain = tri_attention(question, answers, histories, *weights)
    moved = tri_attention(question, answers[order], histories[order], *weights)
    for one, other in zip(plain, moved, strict=True):
        torch.testing.assert_close(one[order], other)
    assert (plain[0][0] - tri_attention(question, answers[:1], histories[:1], *weights)[0][0]).abs().max() > 1e-3


def test_who_is_right_more_often_counts_for_more_in_the_crowd():
    found = crowd(0, 300)
    told = methods(found, (3.0,))
    assert told["true competence, sum"] > told["count"] > told["mean, 3"] + 0.2
    assert torch.equal(agreement(found.answers), found.answers[:, :, None] == found.answers[:, None])
    scores = torch.tensor([[1.0, 1.0, 0.0]])
    assert precision(scores, torch.tensor([[3, 4, 4]]), torch.tensor([3])) == pytest.approx(0.5)  # a draw


def ballot(answers, weight):
    nothing = torch.zeros(len(answers), 1, dtype=torch.float64)
    return nothing, nothing, weight[:, None], None, answers[:, None] == answers


def _with(**changes):
    def wrong(answers, weight):
        told = dict(zip(("query", "key", "value", "bias", "mask"), ballot(answers, weight), strict=True))
        return tuple((told | {name: make(answers, weight) for name, make in changes.items()}).values())

    return wrong


MISTAKES = [
    (_with(value=lambda answers, weight: torch.ones(len(answers), 1).double()), "counts heads"),
    (_with(mask=lambda answers, weight: torch.ones(len(answers), len(answers)).bool()), "Everybody"),
    (_with(mask=lambda answers, weight: (answers[:, None] == answers) & ~torch.eye(len(answers)).bool()), "himself"),
    (_with(bias=lambda answers, weight: -agreement(answers).double().sum(1).log()[:, None]), "divided"),
    (_with(query=lambda answers, weight: weight[:, None], key=lambda answers, weight: weight[:, None]), "scores must"),
    (_with(mask=lambda answers, weight: None), "must stand somewhere"),
]


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES)
def test_each_known_mistake_on_the_ballot_is_named(mistake, sentence):
    assert_solved("coattention.ballot", ballot)
    assert_named("coattention.ballot", mistake, sentence)


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("coattention/run_graphs")
    dry = dict(seeds=(0, 1), questions=40, plays=8, sliced=2, held=3, sentences=12, steps=2, shares=(None, 0.5))
    run.main(tmp_path, store=tmp_path / "store", **dry)
    (path,) = tmp_path.glob("*.json")
    text = path.read_text()
    for name in [each for each in vars(run) if each.endswith("_rows")]:
        monkeypatch.setattr(run, name, never)
    monkeypatch.setattr(run.bench, "provenance", lambda command: {})
    run.main(tmp_path, store=tmp_path / "store", **dry)
    assert path.read_text().partition('"rows"')[2] == text.partition('"rows"')[2] != ""


def test_the_recording_has_every_arm_for_every_seed():
    run = driver("coattention/run_graphs")
    for mechanism in ("votes", "trees", "languages"):
        rows = measured("coattention/graphs-cpu", mechanism=mechanism)
        arms = {seed: [row["arm"] for row in rows if row["seed"] == seed] for seed in run.SEEDS}
        assert len({tuple(each) for each in arms.values()}) == 1 and sum(map(len, arms.values())) == len(rows) > 0
