"""Levels, packing, random numbers by counter, and quantisers: golden tables, exact round trips, stated means."""

import math

import hypothesis
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import strategies

from effattn_core.lowbit import (
    Quantiser,
    dequantise,
    levels,
    logarithmic_levels,
    pack,
    packed_bytes,
    philox,
    quantise,
    unpack,
)
from effattn_core.lowbit.levels import BITS, TABLES
from effattn_core.lowbit.quantisers import FLOOR, LOGARITHMIC, low_quantile
from effattn_core.lowbit.theory import logarithm_bias
from kernels import runtime

SIGNED = {
    2: [-0.55, 0, 0.55, 1],
    3: [-0.775, -0.325, -0.055, 0, 0.055, 0.325, 0.775, 1],
    4: [-0.8875, -0.6625, -0.4375, -0.2125, -0.0775, -0.0325, -0.0055, 0,
        0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875, 1],
}  # fmt: skip
UNSIGNED = {
    2: [0, 0.325, 0.775, 1],
    3: [0, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875, 1],
    4: [0, 0.00325, 0.00775, 0.02125, 0.04375, 0.06625, 0.08875, 0.15625,
        0.26875, 0.38125, 0.49375, 0.60625, 0.71875, 0.83125, 0.94375, 1],
}  # fmt: skip
QUANTISERS = [
    Quantiser(kind, bits, signed=signed, stochastic=stochastic)
    for kind in TABLES for bits in BITS for signed in (True, False) for stochastic in (False, True)
]  # fmt: skip
QUANTISERS += [Quantiser(kind, bits, signed=False) for kind in LOGARITHMIC for bits in BITS]


def close(found, wanted):
    return torch.allclose(found, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bits", SIGNED)
def test_the_exponent_map_is_the_published_table(bits):
    assert close(levels("exponent", bits, signed=True), SIGNED[bits])
    assert close(levels("exponent", bits, signed=False), UNSIGNED[bits])


def test_the_exponent_map_of_eight_bits_has_the_published_ends():
    signed, unsigned = (levels("exponent", 8, signed=each) for each in (True, False))
    assert close(signed[[0, 128, -2]], [-0.99296875, 5.5e-7, 0.99296875]) and close(unsigned[1], 3.25e-7)
    assert signed[127] == 0 and unsigned[0] == 0 and signed[-1] == unsigned[-1] == 1


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_has_two_to_the_bits_rising_levels_that_end_at_one_in_float32_too(kind, bits, signed):
    table = levels(kind, bits, signed=signed).float()
    assert len(table) == 2**bits and (table.diff() > 0).all() and table[-1] == 1
    assert Quantiser(kind, bits, signed=signed).has_zero == (table == 0).any()


def test_linear_levels_are_those_of_the_sources():
    assert close(levels("linear", 2, signed=False), [0.25, 0.5, 0.75, 1])
    assert close(levels("linear", 2, signed=True), [-1, -1 / 3, 1 / 3, 1])
    assert close(levels("linear_zero", 2, signed=False), [0, 1 / 3, 2 / 3, 1])
    assert close(levels("linear_zero", 2, signed=True), [-0.5, 0, 0.5, 1])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 8, 9, 1001])
def test_all_codes_come_back_and_take_the_bytes_that_are_said(bits, count):
    codes = (torch.arange(count) * 7 % 2**bits).to(torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (packed_bytes(count, bits),) == (math.ceil(count * bits / 8),)
    assert torch.equal(unpack(packed, bits, count), codes)


def test_the_order_in_a_byte_is_the_first_element_highest():
    def packed(codes, bits):
        return pack(torch.tensor(codes, dtype=torch.uint8), bits).tolist()

    assert packed([1, 2, 3, 0], 2) == [0x6C] and packed([1, 2], 4) == [0x12] and packed([9], 4) == [0x90]
    # 001 010 01|1 100 101 1|10 111 000
    assert packed([1, 2, 3, 4, 5, 6, 7, 0], 3) == [0b00101001, 0b11001011, 0b10111000]
    assert packed([7], 3) == [0b11100000] and packed([200], 8) == [200]


def test_a_scalar_and_any_shape_are_packed_as_they_lie():
    assert pack(torch.tensor(3, dtype=torch.uint8), 2).tolist() == [0b11000000]
    codes = torch.arange(12, dtype=torch.uint8).view(3, 4)
    assert torch.equal(pack(codes.T, 4), pack(codes.T.contiguous().view(-1), 4))


@pytest.mark.skipif(runtime.mode != "interpreter", reason="the bits are compared where no GPU is needed")
@pytest.mark.parametrize(("seed", "start"), [(0, 0), (3, 5), (2**63 - 1, 2**33 + 7)])
def test_random_words_are_those_of_triton(seed, start):
    @triton.jit
    def draw(word, unit, seed, start, SIZE: tl.constexpr):
        """Four words per call, and the uniform of the first."""
        lane = tl.arange(0, SIZE)
        first, second, third, fourth = tl.randint4x(seed, lane.to(tl.int64) + start)
        tl.store(word + 4 * lane, first)
        tl.store(word + 4 * lane + 1, second)
        tl.store(word + 4 * lane + 2, third)
        tl.store(word + 4 * lane + 3, fourth)
        tl.store(unit + lane, tl.rand(seed, lane.to(tl.int64) + start))

    word, unit = torch.empty(128, dtype=torch.int32), torch.empty(32)
    draw[(1,)](word, unit, seed, start, 32)
    ours = philox.element_words(seed, 4 * start, 128)
    assert torch.equal(word.long() & philox.LOW, ours) and torch.equal(unit, philox.uniform(ours[::4]))
    assert unit.max() < 1 and unit.min() >= 0


def test_an_element_s_word_does_not_depend_on_where_drawing_starts():
    whole = philox.element_words(11, 2**33, 64)
    for first in range(9):
        assert torch.equal(philox.element_words(11, 2**33 + first, 20), whole[first : first + 20])
    rows = philox.element_words(torch.tensor([11, 12]), torch.tensor([2**33 + 8, 2**33]), 16, aligned=True)
    assert torch.equal(rows[0], whole[8:24]) and not torch.equal(rows[1], whole[:16])
    assert philox.element_words(11, 0, 0).shape == (0,)


def test_seeds_of_steps_streams_and_purposes_are_all_different():
    parts = [(step, stream, use) for step in range(20) for stream in range(20) for use in range(3)]
    found = {philox.derived(seed, *each) for seed in (0, 1) for each in parts}
    assert len(found) == 2 * len(parts) and all(0 <= each <= philox.LARGEST_SEED for each in found)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("signed", [True, False])
def test_nearest_rounding_is_nearest_for_every_value_and_a_tie_goes_up(kind, bits, signed):
    table = levels(kind, bits, signed=signed)
    grid = torch.linspace(-1 if signed else 0, 1, 2**13 + 1, dtype=torch.float64)
    ties = (table[:-1] + table[1:]) / 2
    values = torch.cat([grid, ties]).float()
    kept = quantise(torch.cat([values, torch.ones(1)]), Quantiser(kind, bits, signed=signed, block=2**14))
    codes = unpack(kept.codes, bits, len(values) + 1)[:-1].long()
    gaps = (values.double()[:, None] - table.float().double()).abs()
    chosen = gaps.gather(1, codes[:, None])[:, 0]
    assert (chosen <= gaps.min(1).values + 6e-8).all()
    assert torch.equal(codes[-len(ties) :], torch.arange(1, 2**bits))


@pytest.mark.parametrize("how", QUANTISERS, ids=lambda how: f"{how.kind}-{how.bits}-{how.signed}-{how.stochastic}")
def test_shapes_zeros_and_scales_keep_what_they_must(how):
    for shape in ((), (0,), (1,), (129,), (5, 77), (3, 0)):
        values = torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.01
        kept = quantise(values, how, seed=2)
        back = dequantise(kept)
        assert back.shape == values.shape and back.isfinite().all()
        assert kept.nbytes == how.state_bytes(values.numel())
        assert not values.numel() or back.max() == values.max()  # the scale is kept without loss
    none = dequantise(quantise(torch.zeros(300), how))
    assert (none == 0).all()


@pytest.mark.parametrize("how", QUANTISERS, ids=lambda how: f"{how.kind}-{how.bits}-{how.signed}-{how.stochastic}")
def test_a_power_of_two_changes_the_scale_alone(how):
    values = torch.randn(256, generator=torch.Generator().manual_seed(3))
    values = values if how.signed else values.square()
    one, other = quantise(values, how, seed=5), quantise(values * 2.0**-40, how, seed=5)
    assert torch.equal(one.codes, other.codes) and torch.equal(one.scale * 2.0**-40, other.scale)
    assert one.slope is None or torch.equal(one.slope, other.slope)


def test_permuting_blocks_permutes_codes_and_sign_is_kept_or_lost_but_never_turned():
    values = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    for bits in BITS:
        how, order = Quantiser("exponent", bits, signed=True), torch.tensor([2, 0, 3, 1])
        kept, moved = dequantise(quantise(values, how)), dequantise(quantise(values[order], how))
        assert torch.equal(moved, kept[order]) and (kept * values >= 0).all()


def test_a_negative_extreme_loses_what_the_missing_level_says_unless_its_sign_is_kept():
    values = torch.linspace(-1.0, 0.3, 128)
    for bits, lost in ((2, 0.45), (3, 0.225), (4, 0.1125), (8, 0.00703125)):
        how = Quantiser("exponent", bits, signed=True)
        kept = dequantise(quantise(values, how))
        assert kept[0].item() == pytest.approx(-(1 - lost), rel=1e-6)
        signed = Quantiser("exponent", bits, signed=True, signed_extreme=True)
        once = dequantise(quantise(values, signed))
        assert once[0] == -1 and torch.equal(dequantise(quantise(once, signed)), once)
        twice = dequantise(quantise(kept, how))
        assert twice.min() == pytest.approx(-((1 - lost) ** 2), rel=1e-6)  # so it shrinks at every step


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_kept_twice_is_kept_once_where_a_code_is_one(bits):
    values = torch.randn(256, generator=torch.Generator().manual_seed(7))
    values[::128] = values.abs().max() + 1
    for how in (Quantiser("exponent", bits, signed=True), Quantiser("linear", bits, signed=True)):
        once = dequantise(quantise(values, how))
        assert torch.equal(dequantise(quantise(once, how)), once)


def means(how, values, draws):
    """The mean of what is stored of `values` beside a 1 and a smallest element, over draws, and its standard error."""
    rows = values.float().repeat(draws, 1)
    counts = torch.full((draws,), rows.shape[1])
    drawn = philox.uniforms(9, 0, rows.numel()).view_as(rows)
    found = how.to_values(*how.to_codes(rows, counts, drawn)).double()
    return found.mean(0), found.std(0) / math.sqrt(draws)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("kind", TABLES)
def test_stochastic_rounding_of_a_table_is_right_in_the_mean(kind, bits):
    values = torch.linspace(0.3, 1.0, 16)
    mean, error = means(Quantiser(kind, bits, signed=False, block=16, stochastic=True), values, 40000)
    assert ((mean - values.double()).abs() <= 4 * error + 1e-7).all() and (error > 0).sum() >= 12
    variance, gap = error.square() * 40000, levels(kind, bits, signed=False).diff().max().item()
    assert variance.max() <= gap**2 / 4 * 1.01


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_logarithmic_rounding_is_right_in_the_logarithm_or_in_the_value_as_its_name_says(bits):
    values = torch.logspace(-2, 0, 16)
    lowest = torch.quantile(values.double(), 0.1).item()
    alpha = lowest ** (1 / (2**bits - 1))
    inside = values.double().clamp_min(lowest)
    fraction = (inside.log() / math.log(alpha)) % 1
    bias = torch.tensor([logarithm_bias(alpha, min(1.0, each)) for each in fraction.tolist()], dtype=torch.float64)
    settings = dict(bits=bits, signed=False, block=16)
    mean, error = means(Quantiser("logarithmic", **settings), values, 40000)
    assert ((mean - inside * bias).abs() <= 4 * error + 1e-5 * inside).all() and bias.max() > 1.005
    mean, error = means(Quantiser("logarithmic_unbiased", **settings), values, 40000)
    assert ((mean - inside).abs() <= 4 * error + 1e-5 * inside).all()


def test_logarithmic_levels_run_from_the_scale_to_the_quantile():
    values = torch.rand(128, generator=torch.Generator().manual_seed(4)).square()
    kept = quantise(values, Quantiser("logarithmic", 2, signed=False), seed=1)
    lowest = torch.quantile(values, 0.1)
    table = kept.scale * logarithmic_levels(kept.slope.item(), 2).float()
    assert table[0] == values.max() and torch.allclose(table[-1], lowest, rtol=1e-5)
    back = dequantise(kept)
    assert torch.allclose(back.unique(), table.flip(0), rtol=1e-6) and back.min() >= lowest * (1 - 1e-5)


def test_the_papers_example_has_its_alpha():
    values = torch.tensor([0.06, 0.08, 0.21, 0.22, 0.29, 0.54, 0.54, 0.58, 0.77, 0.90, 0.91])
    kept = quantise(values, Quantiser("logarithmic", 2, signed=False, quantile=0.1))
    assert 2 ** kept.slope.item() == pytest.approx(0.4446, abs=1e-4)


@pytest.mark.parametrize("quantile", [0.05, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("count", [1, 2, 11, 127, 128])
def test_the_low_quantile_is_torch_s(count, quantile):
    rows = torch.rand(3, 128, generator=torch.Generator().manual_seed(count))
    found = low_quantile(rows, torch.full((3,), count), quantile)
    assert torch.allclose(found, torch.quantile(rows[:, :count], quantile, dim=1), rtol=1e-6)


@pytest.mark.parametrize("kind", LOGARITHMIC)
def test_zeros_tiny_values_and_constant_blocks_stay_in_their_place(kind):
    how = Quantiser(kind, 2, signed=False)
    block = torch.rand(128, generator=torch.Generator().manual_seed(0)) + 0.5
    block[:20] = 0  # more zeros than the quantile: the released form turns the whole block into its largest value
    back = dequantise(quantise(block, how))
    assert back[:20].max() <= block.max() * FLOOR * 1.01 and back[20:].min() > 0
    tiny = block.clone() * 1e-14
    assert dequantise(quantise(tiny, how)).sum() == pytest.approx(1e-14 * back.sum().item(), rel=1e-4)
    assert (dequantise(quantise(block * 1e-32, how)) == 0).all()
    constant = torch.full((128,), 0.3)
    assert torch.equal(dequantise(quantise(constant, how)), constant)


@hypothesis.given(strategies.lists(strategies.floats(0, 2.0**99, width=32), min_size=1, max_size=40))
@hypothesis.settings(max_examples=60)
def test_whatever_is_kept_is_finite_and_within_the_block(values):
    for kind in ("exponent", "linear", *LOGARITHMIC):
        back = dequantise(quantise(torch.tensor(values), Quantiser(kind, 2, signed=False, block=8)))
        assert back.isfinite().all() and back.max() <= max(values) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: levels("exponent", 5, signed=True), "bits must be one of 2, 3, 4, 8; it is 5"),
        (lambda: levels("log", 4, signed=True), "kind must be one of exponent, linear, linear_zero; it is 'log'"),
        (lambda: logarithmic_levels(1.0, 2), "slope must be log2.alpha., at most 0; it is 1.0"),
        (lambda: pack(torch.tensor([4], dtype=torch.uint8), 2), "a code of 2 bits must be below 4; the largest is 4"),
        (lambda: pack(torch.tensor([1]), 2), "codes must be uint8; got torch.int64"),
        (lambda: unpack(torch.zeros(2, dtype=torch.uint8), 2, 3), "3 codes of 2 bits are .1. torch.uint8; got"),
        (lambda: packed_bytes(-1, 2), "count must be a whole number of at least 0"),
        (lambda: Quantiser("log", 2, signed=False), "kind must be one of exponent, linear"),
        (lambda: Quantiser("linear", 2, signed=False, block=12), "block must be a multiple of 8"),
        (lambda: Quantiser("logarithmic", 2, signed=True), "a signed state needs a table"),
        (lambda: Quantiser("linear", 2, signed=False, signed_extreme=True), "signed_extreme is for signed states"),
        (lambda: Quantiser("logarithmic", 2, signed=False, quantile=0.0), "quantile must lie between 0 and 1"),
        (lambda: quantise(torch.tensor([1]), Quantiser("linear", 2, signed=True)), "values must be floating"),
        (lambda: quantise(torch.tensor([math.nan]), Quantiser("linear", 2, signed=True)), "values must be finite"),
        (lambda: quantise(torch.tensor([-1.0]), Quantiser("linear", 2, signed=False)), "takes no negative values"),
        (lambda: quantise(torch.ones(1), Quantiser("linear", 2, signed=True), seed=-1), "seed must be a whole number"),
        (lambda: philox.derived(2**63, 0, 0, 0), "seed must be below 2..63"),
    ],
)  # fmt: skip
def test_bad_input_says_what_was_given_and_what_is_wanted(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
