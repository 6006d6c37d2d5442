"""One bill for all pages: stages are found in the order of the chapters, and one design costs the same everywhere."""

import dataclasses
import html
import json

import pytest
from support.house import chapters, notebooks

from effattn_core import bill, costs
from effattn_core.retention import costs as retention
from effattn_core.universal import costs as universal
from effattn_core.yoco import costs as yoco
from figures import bill as pictures

TOPICS = [each.topic for each in bill.stages()]
KEYS = ["prefill", "scores", "weights", "cache", "decode", "head", "optimizer"]
BRINGS = {"routing": ["experts"], "latents": ["image"]}  # lines that only the models of a topic have


def values(topic=None, context=bill.CONTEXT):
    return {key: line.value for key, line in bill.lines(topic, context).items()}


def test_stages_stand_in_the_order_of_the_book():
    place = {name.split("/")[-1]: (int(name[0]), order) for order, name in enumerate(chapters()) if "/" in name}
    assert TOPICS == sorted(TOPICS, key=place.get)
    assert [each.place[0] for each in bill.stages()] == [place[topic][0] for topic in TOPICS]
    for each in bill.stages():
        assert [other.place for other in bill.path(each.topic)] == sorted(
            other.place for other in bill.path(each.topic)
        )
        assert each.cost.endswith(".") and list(bill.lines(each.topic)) == KEYS + BRINGS.get(each.topic, [])


def test_the_start_has_as_many_weights_as_llama_3_8b():
    many = dataclasses.replace(bill.MODEL, key_value_heads=32, feed_forward=12288)
    assert many.parameters == bill.MODEL.parameters == 8_030_261_248
    assert values()["cache"] == costs.cache_bytes(many, bill.CONTEXT) == 64 * 2**30
    assert values()["scores"] == 32 * 131072**2 * 2 == 2**40


@pytest.mark.parametrize("topic", [None, "attention", "retention", "recurrences", "rectified", "channels"])
def test_the_weights_of_an_eight_billion_model_are_15_gib_on_every_page(topic):
    weights = bill.lines(topic)["weights"]
    assert weights.amount() == "15 GiB" and weights.value == 2 * bill.MODEL.parameters
    assert bill.lines(topic)["optimizer"].amount() == "59.8 GiB"


@pytest.mark.parametrize("topic", ["yoco", "universal", "indexing"])
def test_a_yoco_of_these_sizes_has_its_own_weights_and_one_optimizer_on_every_page(topic):
    looped = universal.parameters(universal.llama_sized(1))
    assert yoco.parameters(bill.MODEL, "YOCO, gated") == looped
    assert values(topic)["weights"] == 2 * looped and values(topic)["optimizer"] == 8 * looped
    assert bill.lines(topic)["optimizer"].amount() == "63.9 GiB"


def test_each_design_costs_what_its_topic_s_formulas_say():
    for context in (4096, bill.CONTEXT, 1 << 20):
        found, sizes = values("yoco", context), universal.llama_sized(1, context)
        assert found["prefill"] == yoco.prefill_flops(bill.MODEL, context, "YOCO, gated")
        assert found["decode"] == yoco.decode_bytes(bill.MODEL, context, "YOCO, gated")
        assert found["cache"] == yoco.kept(bill.MODEL, context, "YOCO, gated").total
        assert found["prefill"] == universal.prefill_flops(sizes, context)
        assert found["decode"] == universal.decode_bytes(sizes, context)
        looped, sizes = values("universal", context), universal.llama_sized(universal.LOOPS, context)
        assert looped["prefill"] == universal.prefill_flops(sizes, context)
        assert looped["decode"] == universal.decode_bytes(sizes, context)
        assert looped["cache"] == universal.kept(sizes, context).total
        assert values("attention", context)["prefill"] == costs.prefill_flops(bill.MODEL, context)
        assert values("attention", context)["decode"] == costs.decode_bytes(bill.MODEL, context)
    assert values("retention")["cache"] == retention.state_bytes(32, 16, 256, 512) == values("retention", 4096)["cache"]


def test_what_is_read_is_weights_and_what_is_kept():
    for topic in ("attention", "retention", "recurrences", "channels"):
        found = bill.lines(topic)
        assert found["decode"].text == found["cache"].text
        assert found["decode"].weights == costs.decode_bytes(bill.MODEL, 0)


def test_a_line_is_lowered_by_those_on_its_way_and_named_after_others():
    assert [each.topic for each in bill.lowered_by("yoco", "cache")] == ["attention", "yoco"]
    assert bill.lowered_by("attention", "prefill") == [] and bill.moved("recurrences") == []
    assert bill.lowered_elsewhere("attention", "prefill").topic == "retention"
    assert bill.lowered_elsewhere("channels", "prefill").topic == "focus"
    assert bill.lowered_elsewhere("speculation", "prefill").topic == "retention"
    assert bill.lowered_elsewhere("attention", "head").topic == "speculation"
    assert bill.lowered_elsewhere("attention", "optimizer").topic == "lowbit"
    assert bill.lowered_elsewhere("attention", "weights") is None
    with pytest.raises(ValueError, match="topic must be one with a stage of the bill .*; it is 'primer'"):
        bill.stage("primer")


def test_a_line_that_a_chapter_brings_is_held_against_what_it_was_before_its_method():
    was, now = bill.before("routing")["experts"], bill.lines("routing")["experts"]
    flops = (
        6 * 2 * 4096 * 7168 * 32 * bill.CONTEXT
    )  # experts of half the width, two per token: those of the dense layer
    assert was.value == pytest.approx(1.81 * flops) and now.value == pytest.approx(0.16 * flops)
    assert bill.first("routing")["experts"] == was and "experts" not in bill.first("attention")
    assert [each.topic for each in bill.lowered_by("routing", "experts")] == ["routing"]
    assert "idle behind the fullest expert 2.67 PFLOP → 236 TFLOP" in bill.moves("routing")
    more = 32 * (3 * 4096 * (8 * 7168 - 14336) + 8 * 4096)
    assert values("routing")["weights"] - values("attention")["weights"] == 2 * more
    assert values("routing")["optimizer"] - values("attention")["optimizer"] == 8 * more
    router = 2 * 8 * 4096 * 32
    assert values("routing")["prefill"] - values("attention")["prefill"] == router * bill.CONTEXT
    assert values("routing")["decode"] - values("attention")["decode"] == router  # a token takes what it took
    names = [note for note in notes(pictures.after("routing")) if note.startswith("Idle")]
    assert names == ["Idle behind the fullest expert"]


def test_a_note_of_two_rows_has_room_where_weights_run_on():
    room = {key: pictures._height(line, 80 * 2**30) for key, line in bill.lines("routing").items()}
    assert bill.lines("routing")["optimizer"].value > 80 * 2**30 and room["optimizer"] == room["decode"] > room["head"]
    assert room["optimizer"] > pictures._height(bill.lines()["optimizer"], 80 * 2**30)


def test_the_first_page_says_which_lines_fall_and_what_each_chapter_moves():
    fallen, left = bill.lowered_lines()
    first = bill.lines()
    assert len(fallen) == 6 and sorted(fallen + left) == sorted(line.name for line in first.values())
    assert first["decode"].text > 4 * first["decode"].weights, "as the caption on the first page says"
    rows = {row["method"]: row for row in bill.overview()}
    assert len(rows) == len(TOPICS) and rows["Gates and the delta rule"]["moves"] == "no line"
    assert "cache kept 16 GiB → 544 MiB" in rows["YOCO"]["moves"] and "63.9 GiB" in rows["YOCO"]["moves"]
    assert rows["YOCO"]["model"] == "a gated YOCO, after grouped heads, scores in tiles"


def notes(figure):
    return [note.text for note in figure.layout.annotations]


def test_the_figure_colours_what_is_lowered_and_names_who_lowers_the_rest():
    figure = pictures.after("attention")
    assert "<b>16 GiB</b>, was 64 GiB" in notes(figure) and "<b>6.33 PFLOP</b>" in notes(figure)
    assert any(note.endswith("Retention will lower it") for note in notes(figure))
    assert any(note.endswith("Retention lowers it, in another model") for note in notes(pictures.after("speculation")))
    blue = [trace.x[0] for trace in figure.data if trace.marker.color in pictures.LOWERED and trace.x[0] is not None]
    assert sorted(blue) == [0, 16 * 2**30, 16 * 2**30]  # no scores, the cache, and the cache read
    assert "experts" not in " ".join(notes(figure)).lower()


@pytest.mark.parametrize("topic", TOPICS)
def test_every_bill_is_drawn_on_the_same_linear_scale(topic):
    figure, first = pictures.after(topic), pictures.conversation()
    for axis in ("xaxis", "xaxis2", "xaxis3"):
        assert figure.layout[axis].range == first.layout[axis].range and figure.layout[axis].type is None
    assert bill.stage(topic).cost in pictures.after_caption(topic)


def test_what_does_not_fit_runs_to_the_edge_and_says_how_far():
    long = pictures.conversation(1 << 20)
    assert max(trace.base[0] + trace.x[0] for trace in long.data if trace.base is not None) == 8e15
    assert any("runs on to 38 × this width" in note for note in notes(long)) and "▶" in notes(long)
    assert not any("runs on" in note for note in notes(pictures.conversation()))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_chapter_ends_with_this_bill_and_stores_its_lines(topic):
    path = next(each for each in notebooks() if each.stem == topic)
    assert f'bill.after("{topic}")' in path.with_suffix(".md").read_text()
    cells = json.loads(path.read_text())["cells"]
    outputs = (output for cell in cells for output in cell.get("outputs", []))
    stored = html.unescape("".join("".join(each.get("data", {}).get("text/html", [])) for each in outputs))
    for line in bill.lines(topic).values():
        assert f"{line.name} {line.amount()}" in stored, line.name


def test_a_name_that_would_meet_its_value_on_a_phone_is_shorter_there():
    figure = pictures.after("retention")
    names = [each.text for each in figure.layout.annotations]
    place = names.index("Operations to read the prompt")
    assert figure.layout.meta["narrow"][f"annotations.{place}.text"] == "Reading the prompt"
