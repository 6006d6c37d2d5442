"""The machine chapter: numbers follow from sizes and sources, figures say what they show, mistakes are named."""

import itertools
import re

import pytest
import torch
from support.house import ROOT, assert_named, assert_solved
from support.legible import check_states

from effattn_core import costs, machine
from effattn_core.machine import facts, levels
from effattn_core.machine.recorded import recorded_facts
from effattn_core.recordings import measured
from figures import machine as draw

H100 = costs.HARDWARE["H100 SXM"]
PAGE = (ROOT / "book" / "0-before" / "machine.md").read_text(encoding="utf-8")


def test_a_linear_layer_has_as_many_operations_per_byte_as_rows_while_they_are_few():
    for rows in (1, 4, 16):
        assert machine.linear(rows, 4096, 4096).intensity == pytest.approx(rows, rel=0.01)
    assert machine.linear(7, 3, 5, element=4) == machine.Work(2 * 7 * 3 * 5, 4 * (3 * 5 + 7 * (3 + 5)))
    with pytest.raises(ValueError, match="tokens must be at least 1; it is 0"):
        machine.linear(0)


def test_attention_of_decoding_has_two_operations_per_query_head_and_byte_whatever_the_length():
    for group, element, keys in itertools.product((1, 4, 8), (1, 2, 4), (1, 100, 131072)):
        work = machine.decode_attention(keys, heads=8 * group, key_value_heads=8, element=element)
        assert work.intensity == 2 * group / element


def test_the_least_bytes_of_reading_a_prompt_are_queries_keys_values_and_output_once():
    query, key = torch.empty(32, 100, 128, dtype=torch.bfloat16), torch.empty(8, 100, 128, dtype=torch.bfloat16)
    assert machine.prefill_attention(100).moved == 2 * query.nbytes + 2 * key.nbytes
    seen = sum(range(1, 101))
    assert machine.prefill_attention(100).flops == 32 * seen * 4 * 128


def test_a_whole_step_is_the_cost_model_s_and_a_batch_ends_at_its_caches():
    one = machine.decode(costs.LLAMA_8B, 8192)
    assert one == machine.Work(costs.decode_flops(costs.LLAMA_8B, 8192), costs.decode_bytes(costs.LLAMA_8B, 8192))
    many = machine.decode(costs.LLAMA_8B, 8192, texts=10**6)
    flops, cache = costs.decode_flops(costs.LLAMA_8B, 8192), costs.cache_bytes(costs.LLAMA_8B, 8192)
    assert many.intensity == pytest.approx(flops / cache, rel=1e-4) and many.intensity < machine.ridge(H100) / 10
    assert machine.prefill(costs.LLAMA_8B, 8192).intensity > 10 * machine.ridge(H100)


def test_the_roof_bends_at_the_ridge():
    point = machine.ridge(H100)
    assert machine.attainable(point, H100) == pytest.approx(H100.peak("bfloat16"))
    assert machine.attainable(point / 2, H100) == pytest.approx(H100.peak("bfloat16") / 2)
    assert machine.attainable(2 * point, H100) == H100.peak("bfloat16")


def test_every_level_has_a_source_and_levels_get_larger_and_slower():
    for found in machine.HIERARCHIES.values():
        assert all(level.source for level in found)
        rates = [level.bandwidth for level in found if level.bandwidth]
        assert rates == sorted(rates, reverse=True)
        waits = [level.cycles for level in found if level.cycles]
        assert waits == sorted(waits)
        assert found[-1].size == max(level.size for level in found)
    assert levels.H100[-1].bandwidth == H100.bandwidth and levels.H100[-1].size == H100.memory


def test_a_machine_is_measured_with_its_spread():
    found = machine.measure("cpu", repeats=3)
    for rate in (found.copied, found.multiplied):
        assert 0 < rate.lower_quartile <= rate.median <= rate.upper_quartile
    assert found.dtype == "float32" and found.ridge == found.multiplied.median / found.copied.median


GRIDS = {
    "roofline": (draw.roofline, draw.roofline_says, dict(tokens=draw.TOKENS, on=list(draw.MACHINES))),
    "hierarchy": (draw.hierarchy, draw.hierarchy_says, dict(data=list(draw.DATA), on=list(machine.HIERARCHIES))),
    "resident": (
        draw.resident,
        draw.resident_says,
        dict(registers=draw.REGISTERS, warps=[1, 4, 16], shared=draw.SHARED[::3]),
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_can_be_read_and_says_something_of_its_own(name):
    build, says, grid = GRIDS[name]
    check_states(build, says, 420, **grid)


def test_the_roofline_says_which_roof_each_kind_is_under():
    slope, roof = draw.roofline_says(1), draw.roofline_says(4096)
    assert slope.count("set by memory") == 4
    assert "linear layer 1,370, set by computing, at most 100 %" in roof
    assert "attention, writing one token 4, set by memory" in slope
    assert "attention, writing one token 4, set by memory" in roof
    reached = {trace.name: (trace.x[0], trace.y[0]) for trace in draw.roofline(4096).data if trace.name}
    assert reached["linear layer"][1] == H100.peak("bfloat16")
    assert reached["attention, writing one token"] == (4, 4 * H100.bandwidth)


def test_the_hierarchy_says_where_data_fits_and_how_long_reading_takes():
    said = draw.hierarchy_says("one 4096 × 4096 weight")
    assert "32 MiB" in said and "registers, L2 cache and HBM" in said and "from HBM takes 10 µs" in said
    assert "fit nowhere" in draw.hierarchy_says("the weights of a 70B model")
    marks = [note.text for note in draw.hierarchy("the KV cache of 8K tokens").layout.annotations]
    assert any("✓ <b>HBM" in mark for mark in marks) and any("✕ <b>L2" in mark for mark in marks)


def test_resident_warps_come_in_whole_programs():
    assert draw.resident_says(168, 8, 64) == (
        "With 168 registers per thread and 64 KiB of shared memory per program, 1 program of 8 warps fits: "
        "8 of 64 warps, an occupancy of 12%. The limit: registers."
    )
    assert "not even one program" in draw.resident_says(255, 16, 0)
    figure = draw.resident(32, 4, 0)
    assert sum(kind > 0 for row in figure.data[0].z for kind in row) == 64


def test_what_the_page_types_is_what_the_library_computes():
    """The feedback of its question names intensities: they are held here, for prose inside a box is not computed."""
    for rows, said in ((128, "about 120"), (256, "228 operations"), (512, "410 operations")):
        assert said in PAGE
        assert float(re.search(r"\d+", said)[0]) == pytest.approx(machine.linear(rows).intensity, rel=0.01)
    first = next(n for n in range(1, 999) if machine.linear(n).intensity > machine.ridge(H100))
    assert 256 < first < 512 and "at 256 it was short of it" in PAGE
    levels_with_rate = [level for level in levels.H100 if level.bandwidth]
    steps = list(itertools.pairwise(levels_with_rate))
    assert "a factor of two to four in\nrate, and one of 2.5 to 8 in waiting" in PAGE
    assert all(1.95 < near.bandwidth / far.bandwidth < 4 for near, far in steps)
    waits = sorted(far.cycles / near.cycles for near, far in steps)
    assert round(waits[0], 1) == 2.5 and 7.5 < waits[-1] < 8


def test_the_square_is_what_the_page_derives_and_the_caption_names_every_mark():
    n, heads, key_heads, size, element = 64, 32, 8, 128, 2
    assert "$2 H D n (n + 1)$ operations" in PAGE and "$2 b D n (H + H_{kv})$ bytes" in PAGE
    square = draw._works(n, "bfloat16")["attention, reading a prompt"]
    assert square == machine.Work(2 * heads * size * n * (n + 1), 2 * element * size * n * (heads + key_heads))
    caption = re.sub(r'"\s+"', "", PAGE[PAGE.index('caption="A roofline.') : PAGE.index("alt=draw.roofline_says")])
    for name, (_, symbol) in draw.LOOKS.items():
        assert f"{symbol.removesuffix('-up')}: {'a ' * (name[0] in 'lw')}{name.partition(', 8K')[0]}" in caption.lower()


def test_the_stored_prediction_follows_from_the_rates_stored_beside_it():
    """Stored times of a cell are kept while its source is unchanged: rates and what follows from them are one cell."""
    stored = (ROOT / "book" / "0-before" / "machine.ipynb").read_text(encoding="utf-8")
    rates = (re.search(rf"{name}: +([\d,.]+) G", stored)[1] for name in ("copying", "multiplying"))
    copied, multiplied = map(float, rates)
    predicted = float(re.search(r"so 64 rows take ([\d.]+) times", stored)[1])
    element = costs.element_bytes(re.search(r"per byte, in (\w+)", stored)[1])
    times = [max(2 * n * 4096**2 / multiplied, element * (4096**2 + 2 * n * 4096) / copied) for n in (1, 64)]
    assert predicted == pytest.approx(times[1] / times[0], rel=0.02)


def least_seconds(flops, moved, peak, bandwidth):
    computing, moving = flops / peak, moved / bandwidth
    return max(computing, moving), "computing" if computing > moving else "memory"


def tokens_at_ridge(inputs, outputs, element, point):
    weights, rows = inputs * outputs, inputs + outputs
    return -(-point * element * weights // (2 * weights - point * element * rows))


SOLVED = {
    "machine.linear_intensity": 15.9,
    "machine.decode_milliseconds": 4.8,
    "machine.resident_warps": 8,
    "machine.group_at_ridge": 295,
    "machine.least_seconds": least_seconds,
    "machine.tokens_at_ridge": tokens_at_ridge,
}
MISTAKES = [
    ("machine.linear_intensity", 32, "two bytes per number"),
    ("machine.linear_intensity", 8, "A multiply and an add"),
    ("machine.linear_intensity", 1, "serves all 16"),
    ("machine.decode_milliseconds", 0.0048, "in seconds"),
    ("machine.decode_milliseconds", 0.3205, "the cache alone"),
    ("machine.decode_milliseconds", 4.48, "the weights alone"),
    ("machine.decode_milliseconds", 0.0195, "the time of the arithmetic"),
    ("machine.resident_warps", 24, "the smallest number decides"),
    ("machine.resident_warps", 12, "admitted whole"),
    ("machine.resident_warps", 0.125, "a share"),
    ("machine.group_at_ridge", 147.6, "That takes b = 1"),
    ("machine.group_at_ridge", 590, "two operations"),
    ("machine.least_seconds", lambda f, m, p, b: (f / p + m / b, "memory"), "the longer one decides"),
    ("machine.least_seconds", lambda f, m, p, b: (m / b, "memory"), "the time is"),
    ("machine.least_seconds", lambda *all: (least_seconds(*all)[0], "memory"), "whichever takes longer"),
    ("machine.least_seconds", lambda *all: 1.0, "Return a pair"),
    ("machine.tokens_at_ridge", lambda i, o, b, p: -(-p * b // 2), "only the weight is moved"),
    ("machine.tokens_at_ridge", lambda *all: tokens_at_ridge(*all) - 1, "round up"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_an_exercise_is_failed_unwritten_and_passed_solved(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_a_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_what_the_page_quotes_is_there_and_nothing_else():
    found = facts.facts()
    recorded = recorded_facts(measured("pretrained/cpu"))
    assert set(re.findall(r"\{glue:text\}`([^`]+)`", PAGE)) == {*found, *recorded}
    assert found["ridge"] == "295" and found["times"] == "246" and found["batch"] == "345"
    assert float(found["under-way"].split()[0]) == pytest.approx(3.35 * 0.3745, rel=0.01)
