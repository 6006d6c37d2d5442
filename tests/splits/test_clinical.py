"""Patients, prompts and leaks: every system answers the same people, and the driver runs dry."""

import json

import pytest
import torch
from support.house import assert_named, assert_solved, driver, never

from effattn_core.splits import clinical, comparison
from figures.splits import comparison as drawn


def test_every_system_answers_the_same_patients_and_no_patient_is_in_both_parts():
    training, test = clinical.split(3)
    assert len(test) == clinical.TEST and not set(training) & set(test) and len(training) + len(test) == 333
    found = clinical.systems(3)
    assert all(len(each) == len(test) and 0 <= each.min() <= each.max() <= 1 for each in found.values())
    assert len(found) == 6 and (clinical.verdicts(found["majority"], test) == ~clinical.patients()[1][test]).all()


def test_a_prompt_hides_the_answer_of_who_is_asked_and_turns_with_the_order():
    training, _ = clinical.split(0)
    shown = clinical.drawn_examples(training, 0)
    impaired = clinical.patients()[1]
    assert set(shown) <= set(training) and impaired[shown].sum() == clinical.EXAMPLES // 2
    first, second = (clinical.prompt(shown, order) for order in clinical.ORDERS)
    turned = first.replace("Answer: A", "Answer: *").replace("Answer: B", "Answer: A").replace("Answer: *", "Answer: B")
    assert turned.split("\n\n", 1)[1] == second.split("\n\n", 1)[1]
    assert clinical.described(5).endswith("Answer:") and first.count("Answer:") == clinical.EXAMPLES


class Letters:
    """A tokenizer of one token per letter."""

    def encode(self, text):
        return type("Coded", (), {"ids": [65] if text == " A" else [66] if text == " B" else [*map(ord, text)]})


def test_texts_that_are_filled_up_read_like_each_alone():
    from effattn_core.model import build, configuration

    torch.manual_seed(0)
    reader = clinical.Reader(build(configuration("tiny", 128, context=64)).eval(), Letters())
    texts = ["a", "much longer", "mid"]
    together = reader.logits("so ", texts)
    alone = torch.cat([reader.logits("so ", [each]) for each in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_best_cut_is_best_by_trying_all():
    scores, truth = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True])
    right = ((scores > clinical.best_threshold(scores, truth)) == truth).sum()
    assert right == max(((scores > cut / 100) == truth).sum() for cut in range(-10, 110))


def test_a_films_number_tells_nothing_where_films_are_held_out():
    rows, films = clinical.leaked(0, False), clinical.leaked(0, True)
    assert rows["film's number"] > rows["majority"] + 0.1
    assert films["film's number"] == films["majority"]


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("splits/run_comparison")
    dry = dict(seeds=(0,), splits=(0,), read=(), leaks=(0,), epochs=1, store=tmp_path)
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert {row["what"] for row in rows} == {"linking", "reranked", "prior", "system", "leak"}
    for row in rows:
        if row["what"] == "reranked":
            assert row["accuracy"] == pytest.approx(row["recall"] * row["normalised"], abs=2e-4)
    for name in ("linking_rows", "system_rows", "leak_rows"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows


def sizes(decimals):
    return comparison.sizes_that_fit(decimals)[0]


def wrong(*given):
    return comparison.winners(*given)["wrong"]


SOLVED = {"splits.sizes": sizes, "splits.mcnemar": comparison.mcnemar, "splits.one_way": 6, "splits.ceiling": 0.54}
MISTAKES = [
    ("splits.sizes", lambda each: comparison.sizes_that_fit(each[:1])[0], "a single number of cases"),
    ("splits.mcnemar", lambda a, b: comparison.mcnemar(a, b) / 2, "one tail"),
    ("splits.mcnemar", lambda a, b: comparison.mcnemar(a, b) if a + b else 1 / (a + b), "divides by 0"),
    ("splits.one_way", 5, "one tail alone"),
    ("splits.ceiling", 0.9, "was not retrieved"),
    ("splits.lucky", lambda *given: wrong(*given) + comparison.winners(*given)["tie"], "A tie is no win"),
]


@pytest.mark.parametrize("name", [*SOLVED, "splits.lucky"])
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED.get(name, wrong))


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_the_figure_of_comparisons_says_what_is_computed():
    assert f"{wrong(61, 0.03, drawn.DISAGREE):.3f}" in drawn.wrong_winner_says()
