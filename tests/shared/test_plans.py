"""Plans: small numbers worked by hand, the chapters' formulas where they are the same, and what holds of any plan."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.house import ROOT

from effattn_core import costs, plan_parts, plans, served
from effattn_core.devices import DEVICES, own_device
from effattn_core.yoco import costs as yoco
from figures import plans as draw

H100 = DEVICES["H100 SXM"]
SMALL = costs.Model(
    name="small", layers=2, width=8, heads=4, key_value_heads=2, head_dim=2, feed_forward=12, vocabulary=10,
    source="this test",
)  # fmt: skip
FAST = own_device(bandwidth=100, flops=10, memory=1e4, link=50)
SPLIT = ("data", "tensor", "sequence", "expert")


def small(**changes):
    return plans.Plan(**(dict(model=SMALL, device=FAST, context=6) | changes))


# ---- by hand -------------------------------------------------------------------------------------------------------


def test_collectives_of_four_devices():
    assert plan_parts.all_reduce(100, 4) == 150  # a quarter in each of 2 · 3 steps
    assert plan_parts.all_gather(100, 4) == plan_parts.all_to_all(100, 4) == 75
    assert plan_parts.all_reduce(100, 1) == plan_parts.all_gather(100, 1) == plan_parts.all_to_all(100, 1) == 0


def test_the_memory_of_a_small_model_by_hand():
    # Per layer: query and output 2 · 8·8, key and value 2 · 8·4, feed-forward 3 · 8·12; norms 2 · 8.
    assert SMALL.parameters == 2 * (128 + 64 + 288 + 16) + 8 + 2 * 80
    found = plans.memory(small(weights="float32", batch=3))
    assert found == plans.Memory(4 * 1160, 3 * 2 * 2 * 2 * 2 * 6 * 2, 0)  # texts, key and value, layers, heads, size
    assert plans.memory(small(mixer="retention")) == plans.Memory(2 * 1160, 0, 2 * 4 * 2 * 2 * 4)
    assert plans.memory(small(mixer="window", window=4)).constant == 2 * 2 * 2 * 2 * 4 * 2
    assert plans.memory(small(mixer="window", window=99)).constant == plans.memory(small()).growing


def test_two_tensor_devices_by_hand():
    found = plans.decode(small(tensor=2, latency=0.5))
    # Of each device: 2 heads, 1 key head, 6 of the feed-forward, 5 words.
    matrices = 2 * (8 * 2 * (2 * 2 + 2 * 1) + 3 * 8 * 6)
    assert found.flops == 2 * matrices + 4 * 2 * 2 * 2 * 7 + 2 * 5 * 8
    assert found.moved == 2 * matrices + 2 * 5 * 8 + 2 * 2 * 1 * 2 * 6 * 2
    # Two all-reduces in each of 2 layers and one of the embeddings, of 8 numbers in 2 bytes; half of 10 logits.
    assert found.sent == 5 * 16 + 10 and found.calls == 6
    assert (found.compute, found.memory) == (found.flops / 10, found.moved / 100)
    assert found.communication == found.sent / 50 + 6 * 0.5
    assert found.seconds == found.compute + found.communication and found.bound == "compute"


def test_four_sequence_devices_by_hand():
    plan = small(context=8, sequence=4, batch=3)
    assert plans.memory(plan).growing == 3 * 2 * 2 * 2 * 2 * 2 * 2  # two tokens of each text
    assert plans.prompt(plan).sent == 3 / 4 * costs.cache_bytes(SMALL, 8, batch=3)
    # Each device sends to three others, per text, layer and head, two numbers and a log-sum-exp in float32.
    assert plans.decode(plan).sent == 3 * 2 * 3 * 4 * 3 * 4
    window = replace(plan, mixer="window", window=3)
    assert plans.prompt(window).sent == costs.cache_bytes(SMALL, 2, batch=3) and plans.decode(window).sent == 0
    states = replace(plan, mixer="retention")
    assert plans.prompt(states).sent == 3 * 3 * 2 * 4 * 2 * 2 * 4 and plans.decode(states).sent == 0


def test_two_expert_devices_by_hand():
    plan = small(batch=4, expert=2, experts=4, top_k=2)
    layer = 128 + 64 + 3 * 2 * 8 * 6 + 8 * 4  # two of four experts, each half as wide, and the whole router
    assert plans.memory(plan).weights == 2 * (2 * (layer + 16) + 8 + 160)
    found = plans.decode(plan)
    assert found.flops == 2 * (2 * 2 * (192 + 2 * 3 * 8 * 6 + 8 * 4) + 4 * 2 * 2 * 4 * 7 + 2 * 80)
    # Two texts' rows go to two experts each and come back, half of them over the link, in two layers.
    assert found.sent == 2 * 2 * (2 * 2 * 8 * 2) / 2 and found.calls == 4
    touched = 4 * (1 - (1 - 2 / 4) ** 4) / 2  # by the four texts of both devices, half of them here
    read = 2 * (192 + touched * 3 * 8 * 6 + 8 * 4) + 80
    assert found.moved == pytest.approx(2 * read + costs.cache_bytes(SMALL, 6, batch=2))


# ---- as the chapters have it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", plans.MODELS.values(), ids=str)
def test_one_device_costs_what_costs_says(model):
    plan = plans.Plan(model, H100, 5000, batch=3)
    assert plans.memory(plan).weights == costs.weight_bytes(model)
    assert plans.memory(plan).growing == costs.cache_bytes(model, 5000, batch=3)
    assert plans.prompt(plan).flops == costs.prefill_flops(model, 5000, batch=3)
    found = plans.decode(plan)
    assert found.flops == costs.decode_flops(model, 5000, batch=3)
    assert found.moved == costs.decode_bytes(model, 5000, batch=3)
    assert (found.seconds, found.bound) == costs.roofline(found.flops, found.moved, H100.hardware)


def test_a_yoco_costs_what_its_chapter_says():
    model = yoco.YOCO_3B
    plan = plans.Plan(model, H100, 8192, batch=2, mixer="yoco")
    norms = 2 * (2 * model.layers + 2) * model.width  # which the chapter's memory leaves out
    assert plans.memory(plan).total - norms == yoco.memory(model, 8192, plan_parts.YOCO, batch=2)
    assert plans.prompt(plan).flops == yoco.prefill_flops(model, 8192, plan_parts.YOCO, batch=2)
    assert plans.decode(plan).moved == yoco.decode_bytes(model, 8192, plan_parts.YOCO, batch=2)
    sizes = SimpleNamespace(
        layers=26, cross_layers=13, mixer="gated", heads=24, head_dim=128, value_dim=None, key_value_heads=8
    )
    assert plans.prompt(replace(plan, sequence=4)).sent == yoco.sent_bytes(sizes, 4, 8192, batch=2, element=2)


def test_sparse_decoding_that_reads_all_is_softmax():
    plan = plans.Plan(costs.LLAMA_8B, H100, 65536, batch=4, mixer="sparse", share=1.0, sequence=2)
    assert plans.report(plan) == plans.report(replace(plan, mixer="softmax"))
    eighth = replace(plan, share=0.125)
    assert plans.memory(eighth) == plans.memory(plan)
    saved = plans.decode(plan).moved - plans.decode(eighth).moved
    assert saved == 0.875 * plans.memory(plan).growing


# ---- of any plan ---------------------------------------------------------------------------------------------------


@st.composite
def plan(draw):
    """Any plan that can be made, of models small and large."""
    pick = lambda *values: draw(st.sampled_from(values))  # noqa: E731
    mixer = pick(*plans.MIXERS)
    experts, top_k = (1, 1) if mixer == "yoco" else pick((1, 1), (4, 2), (8, 1))
    expert = pick(1, 2) if experts > 1 else 1
    return plans.Plan(
        model=pick(SMALL, costs.LLAMA_8B, plans.LLAMA_70B), device=pick(*DEVICES.values()),
        context=pick(16, 4096, 1 << 20), batch=pick(4, 16, 64), mixer=mixer, weights=pick(*costs.BYTES),
        cache=pick(*costs.BYTES), experts=experts, top_k=top_k, window=pick(1, 5, 1024), share=pick(0.1, 1.0),
        data=pick(1, 2), tensor=pick(1, 2, 4), sequence=pick(1, 2, 8), expert=expert,
    )  # fmt: skip


made = plan().filter(lambda found: plans.refusal(found) is None)


def doubled(found, name):
    """The plan with twice as many devices in one way, or None where it cannot be split so."""
    changed = replace(found, **{name: 2 * getattr(found, name)})
    return None if plans.refusal(changed) else changed


@given(made)
def test_one_device_sends_nothing_and_each_way_of_splitting_alone_sends_its_own(found):
    alone = replace(found, data=1, tensor=1, sequence=1, expert=1)
    for step in (plans.prompt, plans.decode):
        assert step(alone).sent == step(alone).calls == step(alone).communication == 0
        assert step(replace(alone, data=4)).sent == 0  # data-parallel serving
    for name in SPLIT[1:]:
        more = doubled(alone, name)
        assert more is None or plans.prompt(more).sent > 0 or (found.mixer, found.window) == ("window", 1)


@given(made, st.sampled_from(SPLIT))
def test_more_devices_never_need_more_memory_each(found, name):
    more = doubled(found, name)
    if more is not None:
        had, has = plans.memory(found), plans.memory(more)
        assert has.weights <= had.weights and has.growing <= had.growing and has.constant <= had.constant
        assert plans.report(found)["fits"] <= plans.report(more)["fits"]


@given(made, st.sampled_from(SPLIT))
def test_more_devices_never_have_more_to_compute_or_to_read_each(found, name):
    more = doubled(found, name)
    if more is not None:
        for step in (plans.prompt, plans.decode):
            had, has = step(found), step(more)
            assert has.flops <= had.flops * (1 + 1e-12)
            assert has.moved <= had.moved * (1 + 1e-12)


@given(made)
def test_what_the_devices_keep_sums_to_the_whole_and_what_is_said_to_be_repeated(found):
    alone = replace(found, data=1, tensor=1, sequence=1, expert=1)
    whole, each = plans.memory(alone), plans.memory(found)
    tensor = min(found.tensor, found.model.key_value_heads)  # key heads beyond that are repeated
    texts = found.data * found.expert
    if tensor == found.tensor or found.mixer == "retention":
        assert each.growing * tensor * found.sequence * texts == pytest.approx(whole.growing, rel=1e-12)
        assert each.constant * found.tensor * texts == pytest.approx(whole.constant, rel=1e-12)
    if tensor == found.tensor and found.experts == 1:
        norms = (2 * found.model.layers + 1 + (found.mixer == "yoco")) * found.model.width
        padding = costs.cdiv(found.model.vocabulary, tensor) * tensor - found.model.vocabulary
        repeated = (tensor - 1) * norms + 2 * padding * found.model.width
        sum_of_all = whole.weights + repeated * costs.element_bytes(found.weights)
        assert each.weights * tensor == pytest.approx(sum_of_all, abs=tensor)


@given(made)
def test_a_longer_text_never_costs_less_and_a_state_costs_what_it_did(found):
    longer = replace(found, context=2 * found.context)
    assert plans.memory(longer).total >= plans.memory(found).total
    assert plans.prompt(longer).seconds > plans.prompt(found).seconds
    had, has = plans.decode(found), plans.decode(longer)
    assert has.seconds >= had.seconds
    if found.mixer == "retention":
        assert has == had and plans.memory(longer) == plans.memory(found)


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(batch=0), "batch must be a whole number of at least 1; it is 0"),
        (dict(context=2.5), "context must be a whole number of at least 1; it is 2.5"),
        (dict(mixer="linear"), "mixer must be one of softmax, window, retention, yoco, sparse; it is linear"),
        (dict(cache="int3"), "cache must be one of float32, .*; it is int3"),
        (dict(batch="8"), "batch must be a whole number of at least 1; it is not a number"),
        (dict(context=float("nan")), "context must be a whole number of at least 1; it is not a number"),
        (dict(context=1 << 60), r"context must be at most 9007199254740992; it is 1.15292e\+18"),
        (dict(share=0.0), "share must lie above 0 and be at most 1; it is 0"),
        (dict(latency=float("inf")), "latency must be a finite number of at least 0; it is infinite"),
        (dict(device=own_device(link=0.0)), "link must be a finite number above 0; it is 0"),
        (dict(tensor=3), r"the tensor degree must divide heads \(32\); it is 3"),
        (dict(sequence=3), r"the sequence degree must divide context \(4096\); it is 3"),
        (dict(data=2), r"data times expert degree \(2\) must divide batch \(1\)"),
        (dict(expert=2), r"the expert degree must divide experts \(1\); it is 2"),
        (dict(experts=8, top_k=2, mixer="yoco"), "yoco is priced without experts"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_with_the_reason(changes, reason):
    wrong = plans.Plan(**(dict(model=costs.LLAMA_8B, device=H100, context=4096) | changes))
    for price in (plans.memory, plans.prompt, plans.decode, plans.report):
        with pytest.raises(ValueError, match=reason):
            price(wrong)


def test_what_does_not_fit_is_priced_and_said():
    assert not plans.report(plans.Plan(plans.LLAMA_70B, H100, 4096))["fits"]
    assert plans.report(plans.Plan(plans.LLAMA_70B, H100, 4096, tensor=2))["fits"]


# ---- published rows ------------------------------------------------------------------------------------------------


def test_no_published_number_beats_the_peaks():
    assert len(served.ROWS) == 31 and len(served.rows(served.FAST)) == 14
    for row in served.ROWS:
        assert 0.2 < row.reached < 0.85, row
        assert plans.report(row.plan)["fits"] and plans.refusal(row.plan) is None


def test_a_row_is_estimated_for_its_own_unit():
    ttft, both = served.rows(what="prompt")[0], served.rows(what="both")[0]
    assert ttft.estimate == 1000 * plans.prompt(ttft.plan).seconds
    middle = plans.decode(replace(both.plan, context=128 + 64)).seconds
    assert both.estimate == pytest.approx(384 * 128 / (plans.prompt(both.plan).seconds + 128 * middle))


def test_two_fitted_numbers_come_near_the_rows_that_they_were_not_fitted_to():
    rows = served.rows(served.FAST)
    fitted = served.fitted(rows[0], rows[3])
    for row in (rows[0], rows[3]):
        assert served.predicted(row, *fitted) == pytest.approx(row.value)
    others = [served.predicted(row, *fitted) / row.value for row in rows[1:3] + rows[4:]]
    assert len(others) == 12 and 0.85 < min(others) and max(others) < 1.15


def test_a_row_of_a_prompt_is_estimated_in_its_unit_and_longer_texts_reach_less_on_the_laptop():
    cut, laptop = served.rows(served.CONTEXT), served.rows(served.LLAMA_CPP)
    assert cut[-1].estimate == plans.prompt(cut[-1].plan).seconds and cut[-1].plan.devices == 128
    assert laptop[0].estimate == pytest.approx(512 / plans.prompt(laptop[0].plan).seconds)
    for what in ("prompt", "decode"):
        shares = [row.reached for row in laptop if row.what == what]
        assert shares[0] == max(shares) and shares[-1] < 0.85 * shares[0]
    assert not plans.report(replace(cut[-1].plan, weights="bfloat16"))["fits"]


def test_the_devices_of_one_memory_are_ordered_as_their_names_and_the_plans_to_start_from_fit():
    h100, h200, b200 = (DEVICES[f"{name} SXM"] for name in ("H100", "H200", "B200"))
    assert h100.hardware.flops == h200.hardware.flops
    assert h100.hardware.bandwidth < h200.hardware.bandwidth < b200.hardware.bandwidth
    assert all(plans.report(plan)["fits"] for plan in draw.starts().values())


def test_the_recorded_cpu_is_a_device_and_reaches_less_than_its_own_rates():
    recording = json.loads((ROOT / "book" / "measurements" / "pretrained" / "cpu.json").read_text())
    device, rows = served.measured(recording["rows"])
    assert device.hardware.peak("float32") == max(
        row["median"] for row in recording["rows"] if row.get("name") == "multiplying"
    )
    assert [row.unit for row in rows] == ["ms", "tokens/s"] and all(0.1 < row.reached < 1 for row in rows)
    assert [row["timed"] for row in served.table_rows(rows)] == ["prompt of 1,024", "token after 1,024"]


# ---- the page's tables -----------------------------------------------------------------------------------------------


def test_the_tables_say_what_the_page_says_of_them():
    recording = json.loads((ROOT / "book" / "measurements" / "pretrained" / "cpu.json").read_text())
    rows = draw.table_rows(draw.ladder(served.measured(recording["rows"])[0]))
    assert [row["bound by"] for row in rows] == ["memory"] * len(rows)  # "wait for memory"
    assert max(row["devices"] for row in rows) == 128 and [row["fits"] for row in rows].count("no") == 1
    cut = {row["mixer"]: row for row in draw.cut_rows()}
    assert cut["retention, one state"]["token sent"] == cut["window"]["token sent"] == "0 B"
    softmax = plans.prompt(plans.Plan(costs.LLAMA_8B, H100, 1 << 20, sequence=8))
    assert softmax.compute > 100 * softmax.communication  # "the operations make this prompt long, not the link"
    ways = {way: plans.report(draw.split_plan(way)) for way in draw.WAYS}
    sent = {way: found["prompt"]["sent"] for way, found in ways.items()}
    assert ways["data"]["prompt"]["calls"] == ways["data"]["decode"]["calls"] == 0
    assert max(sent, key=sent.get) == min(ways, key=lambda way: ways[way]["memory"]["weights"]) == "tensor"
    assert min(ways, key=lambda way: ways[way]["decode"]["seconds"]) == "tensor"
    assert len({found["memory"]["growing"] for found in ways.values()}) == 1  # "their caches are alike"
    assert sum("fixed" in row["over published"] for row in draw.fitted_rows()) == 2
    assert draw.facts()["plan-weights"] == costs.format_bytes(costs.weight_bytes(plans.LLAMA_70B))


def test_the_sentence_of_the_figure_says_what_fits_and_what_stays():
    said = draw.over_context_says(8, 8)
    assert said.startswith(
        "A token of 8 texts on 8 devices, from 4K to 1M tokens: softmax, grouped heads 5.7 to 110 ms"
    )
    assert "retention, one state 5.4 ms throughout, fits" in said and "does not fit" in said


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0 µs"), (3.2e-5, "32 µs"), (0.0154, "15.4 ms"), (119, "119 s"), (372, "6.2 min"),
                         (7200, "2 h")]
)  # fmt: skip
def test_seconds_are_shown_in_the_unit_that_they_are_read_in(value, words):
    assert draw.seconds(value) == words
