"""The capstone's form where a kernel answers: widgets that grey, train, stop and write."""

from dataclasses import asdict

import pytest
import torch

from effattn_core import stacks
from effattn_core.data import Batches
from effattn_core.exercises import grade
from effattn_core.stack_checks import break_even
from effattn_core.train import train
from figures import stack_live
from figures import stacks as draw


@pytest.fixture
def bench():
    return stack_live.Workbench(stacks.Stack())


def pressed(bench):
    """The chosen option of each part, by what its buttons show."""
    return {
        name: next(option for option, button in buttons.items() if button.icon == "check")
        for name, buttons in bench.options.items()
    }


def test_options_and_presets_choose_a_stack_and_grey_the_rest_with_its_reason(bench):
    assert pressed(bench) == asdict(stacks.Stack())
    for name, stack in stacks.PRESETS.items():
        bench.presets[name].click()
        assert bench.stack == stack and pressed(bench) == asdict(stack)
        reasons = stacks.reasons(stack)
        for part, buttons in bench.options.items():
            for option, button in buttons.items():
                assert button.disabled == (option in reasons.get(part, {}))
                assert button.tooltip == reasons.get(part, {}).get(option, stacks.CHOICES[part].options[option])
        assert draw.written(stack).replace('"', "&quot;") in bench.words.value
    bench.presets["YOCO"].click()
    bench.options["optimizer"]["SOLO 4/2"].click()
    assert bench.stack == stacks.Stack(mixer="gated", sharing="yoco", optimizer="SOLO 4/2")
    assert "SOLO" not in bench.greyed.value and "Drafts" in bench.greyed.value


def test_train_shows_its_progress_and_the_model_writes(bench, monkeypatch):
    monkeypatch.setattr(stack_live, "LETTERS", 20)
    bench.presets["YOCO"].click()
    bench.steps.value = 3
    bench.train.click()
    bench.thread.join(timeout=120)
    assert bench.bar.value == bench.bar.max == 3 and bench.history.finished
    assert "3 steps, loss" in bench.text.value and "KING HENRY" in bench.text.value
    assert not bench.train.disabled and bench.stop.disabled


def test_stop_ends_the_training_after_the_step_in_hand(bench, monkeypatch):
    monkeypatch.setattr(stack_live, "LETTERS", 1)
    bench.steps.value = 100_000
    heard = []

    def stop_at_the_second_step(change):
        heard.append(change["new"])
        if change["new"] == 2:
            bench.stop.click()

    bench.bar.observe(stop_at_the_second_step, "value")
    bench.train.click()
    assert bench.train.disabled and not bench.stop.disabled
    bench.thread.join(timeout=120)
    assert not bench.thread.is_alive() and len(bench.history.losses) == 2 == heard[-1]
    assert "2 steps" in bench.text.value


def test_what_goes_wrong_in_the_thread_is_told(bench, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no text <here>")

    monkeypatch.setattr(stack_live, "trained", broken)
    bench.train.click()
    bench.thread.join(timeout=60)
    assert bench.text.value == "<b>RuntimeError</b>: no text &lt;here&gt;" and not bench.train.disabled
    assert "no text <here>" in capsys.readouterr().err


def test_a_run_that_is_ended_from_outside_goes_on_from_its_checkpoint(tmp_path):
    tokens = torch.arange(400) % 16
    stack, kept = stacks.Stack(), []
    for name, ends in (("whole", 6), ("parts", 2), ("parts", 6)):
        model, batches = stacks.make(stack, 16, seed=0, context=16), Batches(tokens, 2, 16)
        history = train(
            model, batches, steps=6, progress=False, checkpoint=tmp_path / name,
            after=lambda history, ends=ends: len(history.losses) == ends,
        )  # fmt: skip
        kept.append(history)
    assert [len(each.losses) for each in kept] == [6, 2, 6] and [each.finished for each in kept] == [True, False, True]
    assert kept[0].losses == kept[2].losses


def test_the_form_refuses_what_is_no_stack():
    with pytest.raises(
        ValueError, match=r"the form starts from a Stack, as Stack\(mixer=\"gated\"\); it was given 'YOCO'"
    ):
        draw.form("YOCO")


def test_the_exercises_name_the_likely_mistake():
    assert grade("stack.break_even", break_even()).passed
    assert "the hybrid has one, too" in grade("stack.break_even", 0.75 * break_even()).reason
    assert "own quarter" in grade("stack.break_even", 3 * break_even()).reason
    assert "over that budget" in grade("stack.cheapest", lambda kept, states: stacks.Stack()).reason
    assert (
        "another reads"
        in grade(
            "stack.cheapest", lambda kept, states: stacks.Stack("gated", sharing="yoco", optimizer="SOLO 2/2")
        ).reason
    )
    assert "returned a str" in grade("stack.cheapest", lambda kept, states: "YOCO").reason
    assert "That is a preset" in grade("stack.own", lambda: stacks.BEST).reason
    assert "100% of the plain" in grade("stack.own", lambda: stacks.Stack(optimizer="SOLO 2/2")).reason
    assert "returned a NoneType" in grade("stack.own", lambda: None).reason
