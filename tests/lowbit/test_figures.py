"""The figures of low-bit states: their numbers are the library's, and every state is legible."""

import pytest
import torch
from support.legible import check_states, notes

from effattn_core.lowbit import Quantiser, costs, dequantise, quantise, theory
from effattn_core.recordings import measured
from figures import explore
from figures import lowbit as draw

# The grids of the chapter: name -> (builder, its sentence, the parameters).
GRIDS = {
    "levels": (
        draw.levels_over, draw.levels_says, dict(bits=draw.BITS, kind=list(draw.KINDS), tensor=list(draw.TENSORS)),
    ),
    "swamping": (
        draw.swamping, draw.swamping_says, dict(bits=draw.FROZEN_BITS, beta=draw.BETAS, rounding=list(draw.ROUNDINGS)),
    ),
    "variance": (draw.variance, draw.variance_says, dict(bits=draw.BITS, beta=draw.CHOSEN)),
    "memory": (draw.memory, draw.memory_says, dict(model=list(draw.MODELS), precision=list(draw.PRECISIONS))),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_is_legible_and_says_something_of_its_own(name):
    build, says, grid = GRIDS[name]
    check_states(build, says, 320, **grid)


def test_the_figures_stay_in_their_budgets():
    sizes = {
        name: len(explore.explore(build, name=name, caption="c", alt=says, **grid).html.encode())
        for name, (build, says, grid) in GRIDS.items()
    }
    print(", ".join(f"{name} {size / 1000:.0f} KB" for name, size in sizes.items()))
    assert max(sizes.values()) < 250_000, sizes


@pytest.mark.parametrize("kind", ["exponent", "linear"])
@pytest.mark.parametrize("bits", draw.BITS)
def test_what_a_block_is_stored_as_is_what_the_quantiser_keeps(kind, bits):
    for tensor in draw.TENSORS:
        share, offered, kept = draw.stored(tensor, bits, kind)
        library = dequantise(quantise(share.float(), Quantiser(kind, bits, signed=False)))
        assert torch.allclose(kept.float(), library)
        assert len(offered) == 2**bits and share[0] == 1 and len(share) == 128


def test_the_exponent_map_stores_most_of_a_real_block_as_zero_and_logarithmic_levels_none():
    tensor = next(iter(draw.TENSORS))
    share, _, kept = draw.stored(tensor, 2, "exponent")
    zeros = int((kept == 0).sum())
    assert zeros > 64 and f"stored as 0: {zeros} of 128" in notes(draw.levels_over(2, "exponent", tensor))[0]
    _, offered, kept = draw.stored(tensor, 2, "logarithmic")
    assert (kept > 0).all() and torch.allclose(offered[1:] / offered[:-1], offered[1] / offered[0])
    assert offered[0].item() == pytest.approx(share.float().quantile(0.1).item(), rel=1e-5)


def test_the_bars_count_every_element_of_the_recorded_block():
    for tensor in draw.TENSORS:
        assert sum(draw.levels_over(2, "linear", tensor).data[0].y) == 128
        assert measured("lowbit/training-cpu", what="block", tensor=tensor)


def test_stored_averages_freeze_where_the_threshold_says_and_dice_do_not():
    for bits in draw.FROZEN_BITS:
        for beta in draw.BETAS:
            kept = draw.swamping(bits, beta, "nearest").data[1].y
            if beta > theory.freezing_threshold("linear_zero", bits):
                assert min(kept) > 0.95 and "frozen" in notes(draw.swamping(bits, beta, "nearest"))[0]
            whole = draw.swamping(bits, beta, "dice").data
            assert abs(whole[1].y[-1] - whole[0].y[-1]) < 0.04
    assert draw.swamping(2, 0.7, "nearest").data[1].y[-1] < 0.8


def test_the_mark_of_the_rule_lies_where_the_noise_is_that_of_eight_bits():
    fair = theory.variance_factor(0.9, 8)
    for bits in draw.BITS:
        chosen, rule = draw.variance(bits, 0.8).data[-1].x
        assert chosen == 0.8 and theory.variance_factor(rule, bits) == pytest.approx(fair)


def test_bars_of_memory_are_the_library_s():
    for model in draw.MODELS:
        drawn = [[1e9 * x for x in trace.x] for trace in draw.memory(model, "bfloat16").data]
        for place, each in enumerate(costs.DESIGNS):
            kept = costs.training_memory(draw.MODELS[model], each)
            assert [bars[place] for bars in drawn] == pytest.approx([kept.weights, kept.gradients, kept.states])


def test_what_the_captions_say_in_words():
    """Two thirds with AdamW, about a sixth with SOLO, one card of 80 GB; thousands of times the noise, and 81."""
    for model in draw.MODELS.values():
        before, after = (costs.training_memory(model, costs.design(name)) for name in ("AdamW, float32", "SOLO 4/2"))
        assert before.states / before.total == pytest.approx(2 / 3)
        assert after.states / after.total == pytest.approx(1 / 6, abs=0.01)
    small = draw.MODELS["LLaMA 7B"]
    assert costs.training_memory(small, costs.design("AdamW, float32")).total > draw.CARD
    assert costs.training_memory(small, costs.design("SOLO 4/2")).total < draw.CARD
    assert theory.variance_factor(0.9, 2) / theory.variance_factor(0.9, 8) > 2000
    assert theory.variance_factor(0.9, 2) / theory.variance_factor(0.5, 2) == pytest.approx(81)
