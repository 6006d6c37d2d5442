"""Costs: published sizes, exact sums, and formulas that agree with what is counted by brute force."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effattn_core import costs
from effattn_core.attention import visible

GIB = 2**30


def test_the_eight_billion_model_has_its_published_size_and_cache():
    model = costs.LLAMA_8B
    assert round(model.parameters / 1e9, 2) == 8.03
    assert costs.cache_bytes(model, 1) == 128 * 1024
    assert costs.cache_bytes(model, 131072) == 16 * GIB
    assert costs.cache_bytes(model, 131072, key_value_heads=32) == 64 * GIB
    assert costs.cache_bytes(model, 131072, dtype="float8") == 8 * GIB


def test_prefill_is_the_sum_of_its_decoded_tokens_but_for_the_heads_that_it_skips():
    model, context = costs.LLAMA_8B, 50
    head = 2 * model.vocabulary * model.width
    tokens = sum(costs.decode_flops(model, past) - head for past in range(context))
    assert costs.prefill_flops(model, context) == tokens + head


BLOCK = st.sampled_from([4, 8])


@given(st.integers(1, 60), BLOCK, BLOCK, st.none() | st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=60)
def test_flash_traffic_counts_each_key_that_a_query_block_sees_once(time, block_query, block_key, window, sinks):
    masks = dict(causal=True, window=window, sinks=sinks)
    got = costs.flash_traffic(1, 1, time, time, 8, **masks, block_query=block_query, block_key=block_key)
    seen = visible(torch.arange(time), torch.arange(time), **masks)
    keys = sum(int(block.any(0).sum()) for block in seen.split(block_query))
    assert got.loaded == 4 * 8 * (time + 2 * keys) and got.stored == time * (4 * 8 + 4)
    assert got.flops >= 4 * 8 * int(seen.sum())


def test_the_schedule_skips_masks_and_computes_whole():
    assert costs.block_schedule(8, 2, 2).tolist() == [[2, 0, 0, 0], [1, 2, 0, 0], [1, 1, 2, 0], [1, 1, 1, 2]]
    assert costs.block_schedule(8, 2, 2, window=2, sinks=1)[3].tolist() == [2, 0, 2, 2]
    assert costs.block_schedule(5, 2, 2)[2].tolist() == [1, 1, 2]


def test_flash_moves_less_than_naive_and_less_with_larger_blocks():
    shape = (1, 1, 4096, 4096, 64)
    small, large = (costs.flash_traffic(*shape, block_query=size, block_key=64).loaded for size in (32, 128))
    assert large < small < costs.naive_traffic(*shape).loaded


def test_roofline_names_what_sets_the_time():
    card = costs.HARDWARE["H100 SXM"]
    assert costs.roofline(989e12, 1, card) == (1.0, "compute")
    assert costs.roofline(1, 3.35e12, card) == (1.0, "memory")


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (17179869184, "16 GiB"), (1023, "1023 B"), (1536, "1.5 KiB")])
def test_bytes_are_written_in_binary_units(value, text):
    assert costs.format_bytes(value) == text


def test_operations_are_written_in_decimal_units():
    assert costs.format_flops(2.5e15) == "2.5 PFLOP" and costs.format_flops(999) == "999 FLOP"
