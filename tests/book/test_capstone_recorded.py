"""What the capstone says of its recording: the words follow from the rows."""

from statistics import fmean

import pytest

from effattn_core import recordings, stacks
from effattn_core import stack_recorded as recorded
from effattn_core.stack_recorded import BEST, PLAIN
from figures import stack_recorded as draw


def test_what_the_page_says_in_words_holds_in_the_recording():
    first, last = recorded.lengths()[0], recorded.lengths()[-1]
    assert recorded.names() == list(stacks.PRESETS)
    assert recorded.judged(BEST) == "less"
    assert all(recorded.kept(BEST, tokens) < recorded.kept(PLAIN, tokens) for tokens in (first, last))
    times = recorded.ratios(BEST)
    assert times[min(times)] > 1 > times[max(times)]
    gated = {name for name, stack in stacks.PRESETS.items() if stack.mixer.startswith("gated")}
    assert gated == {name for name in recorded.names() if recorded.judged(name) == "less"}
    assert recorded.judged("RetNet") == "open"


def test_every_stack_met_as_many_parameters_as_the_plain_one():
    plain = recorded.trained(PLAIN, "met")
    assert all(abs(recorded.trained(name, "met") / plain - 1) < 0.01 for name in recorded.names())


@pytest.fixture
def rows(monkeypatch):
    """A recording of two stacks, two seeds and two lengths; the second time of the slow one is scattered."""

    def decode(name, tokens, median, spread, ratio):
        low, high = median * (1 - spread / 2), median * (1 + spread / 2)
        return dict(what="decode", name=name, tokens=tokens, median=median, lower_quartile=low, upper_quartile=high,
                    ratio=ratio)  # fmt: skip

    found = [
        dict(what="text", name=name, seed=seed, loss=loss, met=10, parameters=10, optimizer_bytes=size, steps=1)
        for name, losses, size in ((PLAIN, (2.0, 2.2), 8), (BEST, (1.9, 2.08), 2))
        for seed, loss in enumerate(losses)
    ]
    found += [dict(what="kept", name=name, tokens=tokens, bytes=size * tokens)
              for name, size in ((PLAIN, 4), (BEST, 1)) for tokens in (8, 16)]  # fmt: skip
    found += [decode(PLAIN, 8, 1.0, 0.1, 1.0), decode(BEST, 8, 1.5, 0.2, 1.5),
              decode(PLAIN, 16, 2.0, 0.1, 1.0), decode(BEST, 16, 1.0, 0.9, 0.5)]  # fmt: skip
    monkeypatch.setattr(recordings, "_rows", lambda recording: found)
    return found


def test_differences_are_paired_by_seed_and_judged_by_their_own_noise(rows):
    mean, noise = recorded.beside(BEST)
    assert mean == pytest.approx(fmean([-0.1, -0.12])) and noise == pytest.approx(0.02)
    assert (recorded.judged(BEST), recorded.judged(PLAIN, BEST)) == ("less", "more")
    rows[3]["loss"] = 2.35  # of the second seed: now the two seeds disagree
    assert recorded.judged(BEST) == "open" and "do not tell from none" in recorded.verdict()


def test_the_verdict_names_loss_bytes_time_and_optimizer_and_no_time_that_scatters(rows):
    said = recorded.verdict()
    assert "-0.110 ± 0.020" in said and "so it is less" in said
    assert "25% of the bytes at 8 tokens and 25% at 16" in said and "1.50 times at 8 tokens." in said
    assert "25% as many bytes" in said and "16 tokens;" not in said
    assert recorded.ratios(BEST) == {8: 1.5}
    assert "1.50 at 8 tokens." in draw.times_says(BEST)


def test_a_stack_that_loses_is_said_to_lose(rows):
    rows[2]["loss"], rows[3]["loss"] = 2.1, 2.31
    assert recorded.judged(BEST) == "more" and "so it is more" in recorded.verdict()
    assert (
        recorded.least() == f"The least loss of all has the stack {PLAIN}: ours is +0.105 ± 0.010 from it, and it is "
        "behind by more than the seeds scatter."
    )
