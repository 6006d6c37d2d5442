"""Ways of reading, judged by a trained model: figures and claims hold what was recorded, passage by passage."""

import math

import pytest

from effattn_core import recordings
from effattn_core.recordings import measured
from effattn_core.rectified import claims
from figures.rectified import judged

WAYS = {"ReSA": 0.1, "StreamingLLM": 0.0}  # what each pays beside its rows


def frontier_rows(lengths=(1024, 4096)):
    found = []
    for tokens in lengths:
        for passage in (0, 1):
            shared = dict(what="frontier", tokens=tokens, passage=passage, steps=48)
            found.append(shared | dict(name="dense", dial=1.0, share=1.0, kl=0.0, kl_error=0.0, loss=3.0 + passage))
            for name, extra in WAYS.items():
                for dial in (0.1, 0.2, 0.4):
                    kl = 0.04 * (1 + passage) / dial
                    found.append(shared | dict(name=name, dial=dial, share=dial + extra, kl=kl, kl_error=0.03 + passage,
                                               loss=3.0 + passage + kl))  # fmt: skip
    return found


def drift_rows():
    steady = {0: 0.8, 128: 0.7, 32: 0.6, 8: 0.4}
    return [
        dict(what="drift", passage=passage, tokens=1024, period=period, active=0.12, bucket=32,
             kl=[(kl + 0.1 * passage) * (1 + (0.1 * place if period == 0 else 0)) for place in range(16)])
        for passage in (0, 1) for period, kl in steady.items()
    ]  # fmt: skip


def needle_rows():
    return [dict(what="needle", name=name, dial=dial, tokens=tokens, found=found, asked=12)
            for tokens in (4096, 1024)
            for name, dial, found in (("dense", 1.0, 12), ("ReSA", 0.2, 5), ("ReSA", 0.1, 2))]  # fmt: skip


def test_points_are_means_over_passages_and_a_perplexity_is_over_that_of_the_same_passage():
    kl, times = (judged.points(frontier_rows(), 1024, measure)["ReSA"] for measure in judged.MEASURES)
    assert [share for share, *_ in kl] == pytest.approx([0.2, 0.3, 0.5])
    assert kl[0][1:] == pytest.approx((0.6, math.hypot(0.03, 1.03) / 2, math.hypot(0.03, 1.03) / 2))
    assert times[0][1] == pytest.approx(math.exp(0.6))
    assert times[0][1] - times[0][2] == pytest.approx(math.exp(0.4))
    assert times[0][1] + times[0][3] == pytest.approx(math.exp(0.8))
    with pytest.raises(ValueError, match="no row of the frontier has 99 tokens"):
        judged.points(frontier_rows(), 99)


@pytest.mark.parametrize("measure", judged.MEASURES)
def test_every_length_is_told_and_lines_lie_inside_the_same_axes(measure):
    rows = [row | dict(kl=row["kl"] * 1024 / row["tokens"], kl_error=0.01) for row in frontier_rows()]
    drawn = {tokens: judged.frontier(rows, tokens, measure) for tokens in judged.lengths(rows)}
    assert len({judged.frontier_says(rows, tokens, measure) for tokens in drawn}) == 2
    assert len({tuple(figure.layout.yaxis.range) for figure in drawn.values()}) == 1
    for figure in drawn.values():
        low, high = (10**edge if measure == judged.KL else edge for edge in figure.layout.yaxis.range)
        assert [trace.name for trace in figure.data] == list(WAYS)
        assert all(low < y < high for trace in figure.data for y in trace.y)


def test_between_two_points_a_share_is_read_off_a_straight_line_on_logarithmic_axes():
    rows = frontier_rows()
    assert judged.at_share(rows, 1024, "StreamingLLM", 0.2) == pytest.approx(0.3)
    assert judged.at_share(rows, 1024, "StreamingLLM", 0.25) == pytest.approx(0.06 / 0.25)  # 0.06 / share is straight
    assert judged.at_share(rows, 1024, "ReSA", 0.1) is None


def test_the_drift_is_drawn_as_means_of_neighbouring_stretches():
    figure = judged.drift(drift_rows())
    assert [trace.name for trace in figure.data] == [
        "never", "every 128 tokens", "every 32 tokens", "every 8 tokens"
    ]  # fmt: skip
    assert list(figure.data[3].y) == pytest.approx([0.45] * 8) and list(figure.data[3].x)[:2] == [32, 96]
    assert figure.data[0].y[0] == pytest.approx(0.85 * 1.05)
    assert "every 8 tokens from 0.45 to 0.45" in judged.drift_says(drift_rows())


def test_needles_are_counted_by_way_length_and_dial():
    assert judged.needles(needle_rows()) == [
        {"way": "dense", "1,024 tokens": "12", "4,096 tokens": "12"},
        {"way": "ReSA", "1,024 tokens": "2 · 5", "4,096 tokens": "2 · 5"},
    ]


def test_what_a_period_wins_back_is_of_the_whole_kl_and_its_error_that_of_pairs(monkeypatch):
    monkeypatch.setattr(recordings, "_rows", lambda recording: drift_rows())
    never = 0.85 * 1.75
    assert claims.won_back(8) == pytest.approx(1 - 0.45 / never)
    assert claims.won_back(8) > claims.won_back(32) > claims.won_back(128) and claims.won_back(0) == 0
    assert 0 < claims.won_error(8) < claims.won_back(8) and claims.won_error(0) == 0
    assert claims.drift_growth() == pytest.approx((0.85 * 2.35 - 0.45) / (0.85 * 1.15 - 0.45))
    assert claims.drift_growth_error() > 0


def test_the_recorded_run_is_whole():
    rows = measured("rectified/smollm2-cpu")
    names = {"dense", "ReSA", "Quest", "mean keys", "StreamingLLM"}
    assert judged.lengths(rows) == [1024, 2048, 4096, 7936]
    frontier = [row for row in rows if row["what"] == "frontier"]
    assert {row["name"] for row in frontier} == names and len(frontier) == 2 * 4 * 13
    assert all((row["kl"] == 0) == (row["name"] == "dense") for row in frontier)
    assert {row["period"]: len(row["kl"]) for row in rows if row["what"] == "drift"} == dict.fromkeys(
        (0, 8, 32, 128), 16
    )
    needles = [row for row in rows if row["what"] == "needle"]
    assert {row["tokens"] for row in needles} == {1024, 4096} and {row["asked"] for row in needles} == {12}
    assert len(needles) == 2 * 13
