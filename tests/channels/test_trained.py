"""LeanK's masks on SmolLM2: the recording is whole, and the figures draw and tell what it holds."""

import json
from functools import partial

import pytest
from support.house import ROOT
from support.legible import check_legible, check_states

from figures.channels import forms as channels
from figures.channels import trained as channels_trained

SHARES = [0.3, 0.5, 0.7]
RULES = {"learned, two stages", "learned, stage 1", "sizes of q and k", "random", "slowest pairs", "fastest pairs"}


def test_the_recording_is_whole_and_clean():
    content = json.loads((ROOT / "book" / "measurements" / f"{channels_trained.RUN}.json").read_text())
    assert "dirty" not in content["provenance"]["commit"] and channels_trained.shares() == SHARES
    wanted = {("dense", 0.0), *((rule, share) for rule in RULES for share in SHARES)}
    for what in ("mask", "text", "needle"):
        assert {(row["rule"], row["pruned"]) for row in channels_trained.rows(what)} == wanted, what
    assert {row["passage"] for row in channels_trained.rows("text")} == {0, 1, 2}
    for row in channels_trained.rows("mask"):
        counts = [count for layer in row["counts"] for count in layer]
        assert len(counts) == 90 and all(count % 16 == 0 for count in counts)
        assert row["kept"] == pytest.approx(sum(counts) / 5760, abs=1e-4)
        assert sum(row["eighths"]) / 8 == pytest.approx(row["kept"], abs=1e-3)


def test_the_figures_draw_the_recorded_masks_and_say_them():
    check_states(channels_trained.kept, channels_trained.kept_says, 250, pruned=SHARES)
    for share in SHARES:
        cells, bars, released = channels_trained.kept(share).data
        row = channels_trained.mask_row(share)
        assert list(bars.y) == row["eighths"] and len(cells.z) == 30 and len(cells.z[0]) == 32
        assert f"keeps {row['kept']:.0%}" in channels_trained.kept_says(share)


def test_errors_are_drawn_at_the_share_that_was_kept():
    tables = channels_trained.errors_tables()
    says = partial(channels.errors_says, tables, over="passages")
    assert len({says(task) for task in tables}) == len(tables) and "means over passages" in says("loss")
    for task, (rows, key, *_) in tables.items():
        figure = channels.errors(tables, task)
        check_legible(figure)
        assert {trace.name for trace in figure.data} == RULES - {"learned, stage 1"}
        line = next(trace for trace in figure.data if trace.name == "learned, two stages")
        assert sorted(line.x) == sorted(channels_trained.mask_row(share)["kept"] for share in SHARES)
        each = [row[key] for row in rows if (row["rule"], row["pruned"]) == ("learned, two stages", 0.7)]
        assert sum(each) / len(each) == pytest.approx(line.y[line.x.index(channels_trained.mask_row(0.7)["kept"])])
