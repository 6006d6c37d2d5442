"""The exercises on low bits: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.lowbit import pack, philox, theory
from effattn_core.lowbit.levels import midpoints
from effattn_core.lowbit.packing import unpack


def packed(codes):
    rows = torch.nn.functional.pad(codes, (0, -len(codes) % 4)).view(-1, 4)
    return rows[:, 0] << 6 | rows[:, 1] << 4 | rows[:, 2] << 2 | rows[:, 3]


def from_low(codes):
    rows = torch.nn.functional.pad(codes, (0, -len(codes) % 4)).view(-1, 4)
    return rows[:, 3] << 6 | rows[:, 2] << 4 | rows[:, 1] << 2 | rows[:, 0]


def nearest(block, table):
    scale = block.abs().max()
    share = block / (scale if scale > 0 else 1)
    return torch.bucketize(share, midpoints(table.double()).float(), right=True), scale


def logarithm(share, slope, last, uniforms):
    upper = (torch.log2(share) / slope).clamp(0, last).floor().clamp(max=last - 1)
    high, low = torch.exp2(upper * slope), torch.exp2((upper + 1) * slope)
    return upper + (uniforms * (high - low) < high - share)


def biased(share, slope, last, uniforms):
    return (torch.log2(share) / slope + uniforms).floor().clamp(0, last)


def freezing(table, signals=(0.0, 1.0)):
    own, low, high = torch.arange(len(table)), 0.0, 1.0
    for _ in range(60):
        beta = (low + high) / 2
        codes = [torch.bucketize(beta * table + (1 - beta) * z, midpoints(table), right=True) for z in signals]
        low, high = (low, beta) if all(torch.equal(each, own) for each in codes) else (beta, high)
    return high


def compare(rows, other=0.5, seeds=(0, 1, 2)):
    loss = {(row["name"], row["beta1"], row["seed"]): row["loss"] for row in rows}
    return sum(loss["SOLO 2/2", 0.5, seed] - loss["AdamW", other, seed] for seed in seeds) / len(seeds)


@triton.jit
def unpack_kernel(packed_pointer, code_pointer, count, SIZE: tl.constexpr, MASKED: tl.constexpr):
    """Codes of two bits, the first element of a byte in its highest."""
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = place < (count if MASKED else tl.cdiv(count, SIZE) * SIZE)
    byte = tl.load(packed_pointer + place // 4, mask=inside, other=0)
    tl.store(code_pointer + place, (byte >> ((3 - place % 4) * 2).to(tl.uint8)) & 3, mask=inside)


def launch(given, count, masked=True):
    codes = torch.empty(count, dtype=torch.uint8, device=given.device)
    unpack_kernel[(triton.cdiv(count, 128),)](given, codes, count, 128, masked)
    return codes


def low_first(given, count):
    """The codes of each byte the other way round, before the same kernel."""
    return launch(sum((given >> shift & 3) << 6 - shift for shift in (0, 2, 4, 6)), count)


generator = torch.Generator()
SOLVED = {
    "lowbit.bytes": 0.5 + 4 / 64 + 0.25 + 8 / 64,
    "lowbit.traffic": 6 + 2 * 0.59375,
    "lowbit.momentum": 0.1213,
    "lowbit.pack": packed,
    "lowbit.nearest": nearest,
    "lowbit.logarithm": logarithm,
    "lowbit.freezing": freezing,
    "lowbit.place": philox.uniforms,
    "lowbit.compare": compare,
    "lowbit.launch": launch,
}
MISTAKES = [
    ("lowbit.bytes", 0.75, "the codes alone"),
    ("lowbit.bytes", 0.875, "a slope beside its scale"),
    ("lowbit.bytes", 0.84375, "blocks of 128"),
    ("lowbit.traffic", 6.59375, "they count twice"),
    ("lowbit.traffic", 13.1875, "in float32"),
    ("lowbit.momentum", 0.116, "three decimals"),
    ("lowbit.momentum", 0.112, "not of each level's nearer gap"),
    ("lowbit.pack", from_low, "0x39"),
    ("lowbit.pack", lambda codes: packed(codes[: len(codes) // 4 * 4]), "the last filled with zeros"),
    ("lowbit.nearest", lambda block, table: (nearest(block, table)[0], block.max()), "the largest magnitude"),
    ("lowbit.nearest", lambda block, table: (_down(block, table), block.abs().max()), "goes to the upper one"),
    ("lowbit.logarithm", biased, "the code is right in the mean, the value is not"),
    ("lowbit.freezing", lambda table: freezing(table, (1.0,)), "can be left downwards too"),
    ("lowbit.freezing", lambda table: 1 - (table.diff() / 2).median().item(), "its own distance to 0 and 1"),
    ("lowbit.place", lambda seed, first, count: torch.rand(count, generator=generator), "answers differently"),
    ("lowbit.place", lambda seed, first, count: philox.uniforms(seed, 0, count), "when drawing starts at it"),
    ("lowbit.compare", lambda rows: compare(rows, other=0.9), "the change of β1"),
    ("lowbit.compare", lambda rows: compare(rows, seeds=(0,)), "the first seed alone"),
    ("lowbit.launch", low_first, "read from its low bits"),
    ("lowbit.launch", lambda given, count: launch(given.flip(0), count), "in bits 7 and 6 of byte i"),
    ("lowbit.launch", lambda given, count: launch(given, count).int(), "must be of uint8; got int32"),
    ("lowbit.launch", lambda given, count: launch(given, count, masked=False), "reads outside packed_pointer"),
    ("lowbit.launch", lambda packed, count: unpack(packed, 2, count), "No Triton kernel was launched"),
]


def _down(block, table):
    scale = block.abs().max()
    return torch.bucketize(block / (scale if scale > 0 else 1), midpoints(table.double()).float())


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_the_reader_s_numbers_are_those_of_the_library():
    assert theory.momentum_rule(2) == pytest.approx(SOLVED["lowbit.momentum"], rel=1e-3)
    assert pack(torch.tensor([1, 2, 3, 0], dtype=torch.uint8), 2).tolist() == [0x6C]
