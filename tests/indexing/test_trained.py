"""SmolLM2's layers asked for one list: the recording is whole, and the figures draw and tell what it holds."""

import json
from statistics import fmean

import pytest
from support.house import ROOT
from support.legible import check_legible, check_states

from figures.indexing import trained as draw

COUNTS = (32, 64, 128)


def test_the_recording_is_whole_and_clean():
    content = json.loads((ROOT / "book" / "measurements" / f"{draw.RUN}.json").read_text())
    assert "dirty" not in content["provenance"]["commit"]
    for what in ("agreement", "coverage", "loss", "distance"):
        assert {row["passage"] for row in draw.rows(what)} == {0, 1, 2}, what
    assert tuple(draw.counts()) == COUNTS and {row["layer"] for row in draw.rows("agreement")} == set(range(30))
    assert {row["name"] for row in draw.rows("coverage")} == set(draw.WAYS)
    assert draw.WAYS["first layer's"][0] == "one, layer 15's"  # of the upper 15 of 30
    assert {row["name"] for row in draw.rows("loss")} == {*draw.WAYS, "dense"} - {"per head"}
    assert all(len(row["covered"]) == dict(all=30, upper=15)[row["layers"]] for row in draw.rows("coverage"))


def test_a_list_chosen_by_what_is_covered_covers_most():
    for count in COUNTS:
        for layers in ("all", "upper"):
            head, own, mean = (fmean(draw.found("attention", name, count, layers))
                               for name in ("per head", "per layer", "shared oracle"))  # fmt: skip
            others = [fmean(each) for name in draw.WAYS if (each := draw.found("attention", name, count, layers))]
            assert head >= own >= mean and max(others) == head
    same = draw.alike()
    assert all(same[layer][layer] == 1 for layer in range(30)) and same[3][9] == pytest.approx(same[9][3], abs=2e-3)


def test_layers_go_together_or_their_own_way_as_the_caption_says():
    same = draw.alike()
    mean = [(sum(row) - 1) / 29 for row in same]
    assert sorted(sorted(range(30), key=mean.__getitem__)[:4]) == [1, 20, 23, 24]
    square = [same[one][other] for one in range(12, 20) for other in range(12, 20) if one != other]
    assert fmean(square) > fmean(mean) + 0.1 and fmean(square) > max(mean)


def test_the_figures_draw_the_means_over_passages_and_say_them():
    check_legible(draw.agreement())
    assert draw.agreement().data[0].z[4][7] == draw.alike()[4][7]
    assert f"{draw.apart(1):.0%} in common" in draw.agreement_says()
    check_states(draw.lists, draw.lists_says, 420, measure=list(draw.MEASURES), count=COUNTS)
    for measure in draw.MEASURES:
        traces = draw.lists(measure, 64).data
        names = [name for name in draw.WAYS if draw.found(measure, name, 64)]
        assert len(traces) == len(names) == len(draw.WAYS) - (measure == "loss")
        for trace, name in zip(traces, names, strict=True):
            each = draw.found(measure, name, 64)
            assert len(each) == 3 and trace.x[0] == fmean(each)
            assert trace.x[0] + trace.error_x.array[0] == pytest.approx(max(each))
    reading_all = {row["passage"]: row["loss"] for row in draw.rows("loss") if row["name"] == "dense"}
    row = next(row for row in draw.rows("loss") if (row["name"], row["count"], row["passage"]) == ("taught", 64, 1))
    assert row["loss"] - reading_all[1] in draw.found("loss", "taught", 64)
