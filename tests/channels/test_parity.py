"""The table of all that must be equal: inside their budgets, and red when a form or a formula is wrong."""

import math

import pytest
import torch

from effattn_core.channels import ChannelCache, needle, parity
from effattn_core.channels import costs as costs_channels
from effattn_core.channels.training import by_frequency
from kernels import runtime


def test_every_cache_is_one_mask_and_a_query_gathered_by_another_list_is_seen(monkeypatch):
    torch.manual_seed(0)
    rows = parity.through_caches(40)
    assert len(rows) == 3 and all(row["inside"] for row in rows)
    read = ChannelCache.read

    def misled(cache, query):
        channels, cache.channels = cache.channels, [each.flip(-1) for each in cache.channels]
        output = read(cache, query)
        cache.channels = channels
        return output

    monkeypatch.setattr(ChannelCache, "read", misled)
    grouped, *_ = parity.through_caches(40)
    assert not grouped["inside"]


def test_every_form_of_one_token_is_one_mask_and_a_wrong_scale_is_seen(monkeypatch):
    torch.manual_seed(0)
    rows = parity.through_kernels()
    assert [row["precision"] for row in rows] == ["float32"] * 2 + ["float16"] * 2
    assert all(row["inside"] for row in rows)
    decode = parity.decode
    monkeypatch.setattr(parity, "decode", lambda *given, **settings: decode(*given, scale=0.1, **settings))
    assert not any(row["inside"] for row in parity.through_kernels())


@pytest.mark.skipif(runtime.mode != "interpreter", reason="programs are watched where they are interpreted")
def test_a_launch_moves_what_both_formulas_say_and_a_wrong_formula_is_seen(monkeypatch):
    seen = parity.counted(37)
    assert seen.counted == seen.formula and seen.middle == seen.wanted == 4 * 37 * (72 + 4 * 32)
    monkeypatch.setattr(costs_channels, "relative_bytes", lambda kept, empty: (kept + 1) / 2)
    assert parity.counted(37).middle != parity.counted(37).wanted


def test_a_needle_is_compared_on_the_same_fresh_texts_for_every_rule():
    slowest = by_frequency((needle.HEADS, needle.HEAD_DIM))
    for row in needle.control([slowest], (0.3, 0.7), count=8):
        assert row["learned"] == pytest.approx(row["slowest pairs"]) and row["spread"] == 0
    (worse,) = needle.control([-slowest], (0.5,), count=8)
    assert worse["learned"] > worse["slowest pairs"] and worse["spread"] > 0


def test_the_mean_cosine_of_a_pair_is_that_over_all_places_of_the_needle():
    found = needle.mean_cosines(needle.HEAD_DIM // 2)
    distances = range(needle.REGION["recent"], needle.TOKENS - needle.REGION["sinks"])
    for pair in (0, 9, 31):
        speed = needle.BASE ** (-2 * pair / needle.HEAD_DIM)
        turns = [math.cos(speed * distance) for distance in distances]
        assert found[pair] == pytest.approx(sum(turns) / len(turns), abs=1e-4)
    assert found[31] > 0.99 and abs(found[0]) < 0.01
