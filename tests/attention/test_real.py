"""SmolLM2 in the attention chapter: the recording, the figures drawn from it, the maps that the page stores."""

import json
import re
from statistics import fmean

import pytest
from support.house import MEASUREMENTS, ROOT, driver
from support.stored import explorables, state_of

from effattn_core.attention import sinks
from figures.attention import trained as draw
from figures.codec import decode

PAGE = ROOT / "book" / "1-attention" / "attention"
CHAPTER = " ".join(PAGE.with_suffix(".md").read_text(encoding="utf-8").split()).replace('" "', "")
ROWS = json.loads((MEASUREMENTS / "attention" / "smollm2-cpu.json").read_text())["rows"]
BARE, ONE, FOUR = "window of 256", "window of 255, 1 sink", "window of 252, 4 sinks"


def losses(name):
    """[passages][buckets], straight from the file."""
    return [row["losses"] for row in ROWS if row["what"] == "window" and row["name"] == name]


def test_the_recording_is_what_its_driver_reads():
    made, (bucket, readings) = driver("attention/run_smollm2"), sinks.recorded()
    assert bucket == made.BUCKET and sinks.kept() == made.WINDOW and list(readings) == list(made.READINGS)
    for name, seen in made.READINGS.items():
        reading = readings[name]
        assert {"window": reading.window, "sinks": reading.sinks} == {"window": None, "sinks": 0} | seen
        assert [list(each) for each in reading.passages] == losses(name) and len(reading.passages) == made.PASSAGES
        assert all(len(each) == made.LENGTH // made.BUCKET for each in reading.passages)
    for said in (
        f"reads {made.LENGTH:,} tokens of a play, each query through a window of {made.WINDOW} keys",
        f"{made.BUCKET} tokens per point; lines: means of three passages",
        f"Past its {made.WINDOW} tokens the window costs",
    ):
        assert said in CHAPTER, said


def test_what_is_lost_is_the_mean_past_the_window_and_sinks_give_a_share_back():
    past = {name: fmean(fmean(each[2:]) for each in losses(name)) for name in (sinks.WHOLE, BARE, ONE)}
    assert fmean(sinks.lost(BARE)) == pytest.approx(past[BARE] - past[sinks.WHOLE])
    assert sinks.given_back(ONE) == pytest.approx((past[BARE] - past[ONE]) / (past[BARE] - past[sinks.WHOLE]))
    assert sinks.given_back(BARE) == 0 and sinks.lost(sinks.WHOLE) == [0, 0, 0]


def test_the_figure_opens_where_the_window_hurts_from_the_moment_that_token_0_leaves():
    more = {name: sinks.dearer(name) for name in (BARE, ONE, FOUR)}
    *bands, bare, one, four = draw.leaving().data
    edge = draw.leaving().layout.shapes[0].x0
    assert edge == 256 and [line.name for line in (bare, one, four)] == list(more)
    for band, line in zip(bands, (bare, one, four), strict=True):
        buckets = list(zip(*more[line.name], strict=True))
        assert list(line.y) == pytest.approx([fmean(each) for each in buckets])
        assert list(band.y) == [*map(max, buckets), *map(min, reversed(buckets))]
        assert all(abs(y) < 1e-3 for x, y in zip(line.x, line.y, strict=True) if x < edge), "nothing is lost before"
    late = [at for at, x in enumerate(bare.x) if x > edge]
    assert bare.y[late[0]] == pytest.approx(fmean(bare.y[at] for at in late), rel=0.1), "at once all that it will cost"
    assert all(min(more[BARE][passage][at] for at in late) > 0.2 for passage in range(3))
    assert fmean(one.y[at] for at in late[:2]) < 0.05 < 0.15 < fmean(one.y[at] for at in late), "the rest comes slowly"
    assert fmean(one.y[at] for at in late) < fmean(bare.y[at] for at in late) / 3, "one sink mends most"
    assert all(abs(one.y[at] - four.y[at]) < 0.03 for at in late) and four.line.dash == "dot", "four mend no more"
    assert abs(sinks.given_back(ONE) - sinks.given_back(FOUR)) < 0.01


def test_the_other_view_shows_the_losses_themselves():
    lines = draw.leaving(draw.VIEWS[0]).data[4:]
    assert [line.name for line in lines] == [sinks.WHOLE, BARE, ONE, FOUR]
    for line in lines:
        assert list(line.y) == pytest.approx([fmean(each) for each in zip(*losses(line.name), strict=True)])
    after = fmean(fmean(each[2:]) for each in losses(BARE))
    assert f"{BARE} 4.06, then {after:.2f};" in draw.leaving_says(draw.VIEWS[0])
    with pytest.raises(ValueError, match="view must be one of nats per token, more than with every key; it is 'both'"):
        draw.leaving("both")


def test_heads_rest_on_the_first_token_as_recorded():
    rested = sinks.resting()
    assert len(rested) == 30 and all(len(layer) == 9 for layer in rested)
    for layer in (0, 12, 29):
        recorded = [row["first"] for row in ROWS if row["what"] == "sink" and row["layer"] == layer]
        assert rested[layer] == pytest.approx([fmean(each) for each in zip(*recorded, strict=True)])
    means = [fmean(layer) for layer in rested]
    assert max(means[:12]) < 0.06 < 0.25 < min(means[12:]), "from layer 12 on"
    queries = driver("attention/run_smollm2").ROWS
    assert min(queries) >= 1000 and "After a thousand tokens of the plays" in CHAPTER


# Two heads of one layer over three words, in percent.
WEIGHTS = [[[[100, 0, 0], [60, 40, 0], [20, 50, 30]], [[100, 0, 0], [90, 10, 0], [80, 5, 15]]]]


def test_a_map_shows_its_head_and_how_much_each_head_rests():
    grid, shares, mark = draw.head_map(WEIGHTS, ["The", "cat", "sat"], layer=0, head=1).data
    assert [list(row) for row in grid.z] == WEIGHTS[0][1] and [list(row) for row in shares.z] == [[40, 85]]
    assert (mark.x, mark.y) == ((1,), (0,))
    assert draw.head_map_says(WEIGHTS, ["The", "cat", "sat"], layer=0, head=0) == (
        "On average 40 % on “The”; elsewhere most: 50 %, “sat” (2) on “cat” (1)."
    )


def test_the_stored_maps_show_what_the_page_says_of_them():
    data = dict(explorables(PAGE.with_suffix(".ipynb")))["head-map"]
    assert [each["values"][each["start"]] for each in data["states"]] == ["17", "5"]

    def weights(layer, head):
        return decode(state_of(data, (layer, head))["figure"]["data"][0]["z"])

    words = state_of(data, (17, 5))["figure"]["layout"]["xaxis"]["ticktext"]
    assert re.findall(r'said = "(.*?)"', CHAPTER) == [" ".join(words).replace(" .", ".")] and len(words) == 14
    for layer in range(30):
        for head in range(9):
            each = weights(layer, head)
            assert abs(each.sum(1) - 100).max() <= 6, "each row is rounded, and sums to all"
            assert each[0, 0] == 100 and not each[0, 1:].any(), "causal"
    default = weights(17, 5)
    assert words[7] == "The" and default[1:8, 0].min() > 50, "up to the second The it rests"
    assert [words[at] for at in (9, 2, 3)] == ["sat", "sat", "on"] and default[9].argmax() == 3
    assert weights(16, 0).diagonal(-1).mean() > 75 and weights(18, 8)[:, 0].min() > 95
