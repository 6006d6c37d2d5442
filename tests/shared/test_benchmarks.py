"""The page of benchmarks: every recording is on it, what loses is what the numbers say, a new device just appears."""

import json
import math
import re

import pytest
from support.house import ROOT

from effattn_core import benchmarks, published
from figures import benchmarks as seen

RECORDINGS = benchmarks.find()
PAGE = ROOT / "book" / "8-whole" / "benchmarks"
AGAIN = "execute the page again: make notebooks CHAPTER=benchmarks"


def outputs():
    """The plain text of each output of the stored page."""
    cells = json.loads(PAGE.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    found = [output.get("data", {}).get("text/plain", "") for cell in cells for output in cell.get("outputs", [])]
    return ["".join(text) for text in found]


def row(name, median, what="forward", **more):
    quartiles = {"lower_quartile": 0.9 * median, "upper_quartile": 1.1 * median, "repeats": 9}
    return {"what": what, "tokens": 1024, "name": name, "correct": True, "median": median} | quartiles | more


def stored(folder, rows, topic="attention", name="gpu-made-up.json", **more):
    made = {"command": "make bench", "date": "2026-11-20", "commit": "0a1b2c3", "device": "Made Up 9000",
            "processor": "x86_64", "python": "3.11.7", "torch": "2.13.0", "triton": "3.9.0", "seed": 0}  # fmt: skip
    path = folder / topic / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": made | more, "rows": rows}))
    return path


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_each_recording_of_a_bench_is_on_the_page_with_all_its_times(recording):
    page = "\n".join(outputs())
    made = recording.provenance
    assert re.search(rf"{re.escape(recording.name)} .*{re.escape(made['commit'])} +{made['date']}", page), AGAIN
    for each in recording.timed:
        assert seen.seconds(each) in page, (each, AGAIN)
    for pair in recording.pairs:
        assert seen.times(pair) in page, AGAIN


def test_the_recordings_are_those_whose_command_is_make_bench():
    files = {path: json.loads(path.read_text()) for path in (ROOT / "book" / "measurements").glob("*/*.json")}
    wanted = {path for path, content in files.items() if content["provenance"]["command"] == "make bench"}
    assert {each.path for each in RECORDINGS} == wanted and len(wanted) >= 14


def test_losing_shapes_are_exactly_those_with_a_ratio_below_one():
    """The medians of both rows, read again from the files, say which pairs lose; the page lists these and no other."""
    slow = []
    for recording in RECORDINGS:
        rows = json.loads(recording.path.read_text())["rows"]
        for pair in recording.pairs:
            assert pair.ours in rows and pair.theirs in rows
            assert all(pair.ours[field] == pair.theirs[field] == value for field, value in pair.shape)
            if pair.theirs["median"] < pair.ours["median"] + pair.ours.get("amortised", 0):
                slow.append(pair)
    lost = benchmarks.losing(RECORDINGS)
    assert sorted(map(id, lost)) == sorted(map(id, slow)) and all(pair.ratio < 1 for pair in lost)
    (table,) = [text for text in outputs() if text.startswith(f"All {len(lost)} losing pairs")]
    lines = table.splitlines()[3:]
    assert len(lines) == len(lost), AGAIN
    for line, pair in zip(lines, lost, strict=True):
        assert seen.times(pair) in line and benchmarks.name_of(pair.ours) in line, AGAIN


def test_each_topic_with_a_bench_has_rules_and_its_rows_meet_them():
    want = "a topic's bench needs a rule in effattn_core/benchmarks.py"
    assert set(benchmarks.drivers()) == set(benchmarks.RULES), want
    for recording in RECORDINGS:
        assert recording.compiled or recording.pairs, recording.name
        for rule in benchmarks.RULES[recording.topic]:
            whats = {each.get("what") for each in recording.timed}
            found = [pair for pair in recording.pairs if pair.what in whats]
            assert recording.compiled or found, (recording.name, rule.what)
    for topic, files in benchmarks.drivers().items():
        alone = all('on="cpu"' in path.read_text(encoding="utf-8") for path in files)
        assert (topic in benchmarks.CPU_ONLY) == alone, topic


def test_a_ratio_is_theirs_over_ours_and_its_interval_the_least_and_the_most_of_the_quartiles(tmp_path):
    stored(tmp_path, [row("PyTorch SDPA", 2.0), row("this book", 4.0), row("tiled", 1.0)])
    (recording,) = benchmarks.find(tmp_path)
    slow, fast = recording.pairs
    assert (slow.ratio, fast.ratio) == (0.5, 2.0) and slow.loses and not fast.loses
    assert math.isclose(slow.interval[0], 1.8 / 4.4) and math.isclose(slow.interval[1], 2.2 / 3.6)
    assert not slow.open and seen.times(fast) == "2 (1.64–2.44)" and benchmarks.losing([recording]) == [slow]
    stored(tmp_path, [row("PyTorch SDPA", 2.0), row("this book", 2.1)])
    (close,) = benchmarks.find(tmp_path)[0].pairs
    assert close.loses and close.open


def test_what_is_done_now_and_then_counts_with_its_share(tmp_path):
    rows = [row("dense", 2.0, "time of a token"), row("ReSA", 1.5, "time of a token", amortised=1.0)]
    stored(tmp_path, rows, "rectified")
    (pair,) = benchmarks.find(tmp_path)[0].pairs
    assert pair.ratio == 0.8 and pair.loses and seen.seconds(pair.ours).startswith("2,500 (")


def test_a_new_device_shows_up_without_a_change_of_code(tmp_path):
    old = row("PyTorch SDPA", 2.0), row("this book", 4.0)
    stored(tmp_path, old, name="cpu.json", device="CPU, 2 threads")
    before = benchmarks.find(tmp_path)
    (tmp_path / "attention" / "bench.py").write_text("")
    assert list(benchmarks.lacking(before, tmp_path)) == [
        ("attention", "a GPU", "python book/measurements/attention/bench.py")
    ]
    stored(tmp_path, [row("PyTorch SDPA", 1.0), row("this book", 0.5)])
    stored(tmp_path, [row("bitsandbytes 0.48, 8 bits", 1.0, "layers"), row("SOLO 4/2", 2.0, "layers")], "lowbit")
    stored(tmp_path, [row("anyone", 1.0)], "brand-new")
    after = benchmarks.find(tmp_path)
    assert len(after) == 4 and not list(benchmarks.lacking(after, tmp_path))
    pairs = benchmarks.pairs(after)
    assert "Made Up 9000" in str(seen.recording_table(after, "c")) and "CPU, 2 threads" in pairs[0].recording.device
    assert [pair.ratio for pair in pairs] == [0.5, 2.0, 0.5]
    assert "of 2 dots 1 lie left of 1" in seen.ratios_says(pairs, seen.ALL, "Made Up 9000")
    dots = [sorted(trace.x) for trace in seen.ratios(pairs, "lowbit", "Made Up 9000").data]
    assert dots == [[0.5], []]
    (new,) = [each for each in after if each.topic == "brand-new"]
    assert not new.pairs and "anyone" in str(seen.alone_table(new, "c"))


def test_what_is_no_recording_is_named(tmp_path):
    path = stored(tmp_path, [])
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"attention/gpu-made-up.json is no recording"):
        benchmarks.find(tmp_path)


def test_the_figure_has_one_dot_per_pair_and_its_sentence_counts_those_left_of_one():
    pairs = benchmarks.pairs(RECORDINGS)
    for topic in (seen.ALL, *benchmarks.RULES):
        figure, shown = seen.ratios(pairs, topic), seen.chosen(pairs, topic, None)
        dots = [x for trace in figure.data for x in trace.x]
        assert len(dots) == len(shown) and figure.layout.xaxis.type == "log"
        assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 1
        left = sum(x < 1 for x in dots)
        assert f"of {len(dots)} dots {left} lie left of 1" in seen.ratios_says(pairs, topic)
    assert seen.ratios_says(pairs, "attention", "Made Up 9000").endswith("nothing is recorded.")


def test_what_peers_publish_has_a_source_that_the_page_cites_and_a_place():
    bib = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    text, page = PAGE.with_suffix(".md").read_text(encoding="utf-8"), "\n".join(outputs())
    for each in published.published():
        assert f"{{{each.source}," in bib and f"{{cite}}`{each.source}`" in text
        assert each.hardware in page and f"{each.figure:,}" in page and each.place in page, AGAIN
    slow = {(what, shape): times for what, shape, times in published.slower(published.published())}
    assert math.isclose(slow["forward and backward", "batch 8, 2,048 tokens, 32 heads of 256"], 51.103 / 6.748)
    assert ("forward", "batch 1, 8,192 tokens, 96 heads of 128") not in slow
