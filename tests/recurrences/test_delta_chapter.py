"""The chapter on the delta rule: its figures, what a hybrid keeps, and the recording that it reads."""

import pytest
import torch
from support.house import ROOT

from effattn_core import bill, costs
from effattn_core.recordings import measured
from effattn_core.recurrences import recurrence
from effattn_core.recurrences.claims import PAGES, on_page
from effattn_core.recurrences.costs import hybrid_kept
from effattn_core.retention.costs import state_bytes
from figures.recurrences import delta as draw

HYBRIDS = measured("recurrences/hybrid-cpu")


@pytest.mark.parametrize("leaning", draw.LEANINGS)
@pytest.mark.parametrize("beta", draw.RATES)
def test_the_path_in_the_plane_is_the_library_s(leaning, beta):
    keys = torch.tensor(draw.keys(leaning) * 2, dtype=torch.float64)[None, None]
    value = torch.tensor(draw.VALUES * 2, dtype=torch.float64)[None, None, :, None]
    rates = torch.full((1, 1, 4), beta, dtype=torch.float64)
    settings = {
        "delta": dict(rule="delta", beta=rates),
        "sum": dict(rule="retention", log_gate=torch.zeros(1).double()),
    }
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(1, 1, 4, dtype=torch.float64))
    for name, given in settings.items():
        written = value if name == "delta" else beta * value
        for step in range(1, draw.WRITES + 1):
            given_ = {what: each[:, :, :step] if what == "beta" else each for what, each in given.items()}
            _, state = recurrence(keys[:, :, :step], keys[:, :, :step], written[:, :, :step], scale=1.0, **given_)
            found = torch.tensor(draw.path(name, leaning, beta)[step], dtype=torch.float64)
            torch.testing.assert_close(found, state[0, 0, :, 0], rtol=0, atol=1e-12)


def test_a_whole_step_ends_on_the_line_of_its_key_and_right_angles_need_two():
    for leaning in draw.LEANINGS:
        for step in range(1, draw.WRITES + 1):
            key = (step - 1) % 2
            assert draw.reads("delta", leaning, 1.0, step)[key] == pytest.approx(draw.VALUES[key])
    assert draw.reads("delta", 0.0, 1.0, 2) == pytest.approx(draw.VALUES)
    figure = draw.plane()
    for trace, key, value in zip(
        figure.data[:2], draw.keys(0.6), draw.VALUES, strict=True
    ):  # the lines are those named
        for x, y in zip(trace.x, trace.y, strict=True):
            assert key[0] * x + key[1] * y == pytest.approx(value)
    assert (figure.data[3].x[-1], figure.data[3].y[-1]) == draw.path("delta")[2]
    assert "by the delta rule A reads 18.4 and B 20; by the sum A reads 22 and B 26" in draw.plane_says()
    assert draw.plane_says(0) == "Nothing is written yet, and both keys read 0." and draw.step_words(3) == "A, B, A"


@pytest.mark.parametrize("rule", ["gated_delta", "mamba2"])
def test_the_figure_of_hybrids_is_the_recording_s(rule):
    figure = draw.hybrid(HYBRIDS, rule, 2)
    wanted = [row["accuracy"] for row in HYBRIDS if row["what"] == "recall" and row["pairs"] == 64
              and (row["name"], row["layer"]) == (rule, 2)]  # fmt: skip
    assert len(wanted) == 3 and figure.data[2].y[-1] == pytest.approx(sum(wanted) / 3)
    assert figure.data[2].y[-1] + figure.data[2].error_y.array[-1] == pytest.approx(max(wanted))
    assert len(draw.hybrid(HYBRIDS, rule, "nowhere").data) == 2
    assert f"{sum(wanted) / 3:.0%} of 64" in draw.hybrid_says(HYBRIDS, rule, 2)
    assert draw.place_words(0) == "layer 1 of 4" and draw.place_words("nowhere") == "nowhere"


def test_what_a_hybrid_keeps_is_between_the_cache_and_the_states():
    whole = costs.cache_bytes(bill.MODEL, bill.CONTEXT)
    assert hybrid_kept(bill.CONTEXT, 1) == (whole, 0)
    assert hybrid_kept(bill.CONTEXT, None) == (0, bill.lines("recurrences")["cache"].value)
    cache, states = hybrid_kept(bill.CONTEXT, 4)
    assert cache == whole / 4 and states == state_bytes(24, 16, 256, 512)
    cache, states = hybrid_kept(4096, 4)
    assert states > cache, "the caption says so of 4K tokens"
    figure = draw.kept()
    assert [sum(each) for each in zip(*(trace.x for trace in figure.data), strict=True)] == [
        sum(hybrid_kept(131072, every)) / 2**30 for _, every in draw.DESIGNS
    ]
    assert "in one of four 4.19 GiB, 192 MiB of it states" in draw.kept_says()


def test_each_claim_of_the_topic_stands_on_one_of_its_two_pages():
    from effattn_core.ledger import ledger

    rows = ledger("recurrences")
    shown = {page: on_page(rows, page) for page in PAGES}
    assert sum(map(len, shown.values())) == len(rows)
    for page, file in (("gates", "recurrences"), ("delta", "delta")):
        assert f'on_page(ledger("recurrences"), "{page}")' in (ROOT / "book" / "2-retention" / f"{file}.md").read_text()
        assert shown[page]
