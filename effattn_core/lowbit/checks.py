"""The hidden cases of the exercises on low-bit optimizer states."""

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise
from effattn_core.lowbit import theory
from effattn_core.lowbit.costs import Design, design, step_bytes
from effattn_core.lowbit.levels import levels, midpoints
from effattn_core.lowbit.packing import pack
from effattn_core.lowbit.quantisers import Quantiser
from kernels import runtime


@exercise("lowbit.bytes", level="pencil")
def bytes_kept(answer):
    """Bytes per parameter of SOLO 4/2 with blocks of 64."""
    return compare_number(
        answer,
        Design("", (4, 2), block=64, slopes=True).bytes_per_parameter,
        [
            (0.75, "Those are the codes alone: each block keeps numbers of four bytes too."),
            (0.875, "v keeps a slope beside its scale: three numbers per block, not two."),
            (0.84375, "That is with blocks of 128."),
            (0.84375 + 0.09375 / 2, "Three numbers of four bytes per 64 elements: float32, not bfloat16."),
        ],
        within=1e-3,
    )


@exercise("lowbit.traffic", level="pencil")
def traffic(answer):
    """Bytes per parameter that a step of SOLO 2/2 moves, weights and gradients in bfloat16."""
    kept = design("SOLO 2/2")
    return compare_number(
        answer,
        step_bytes(kept, 2),
        [
            (6 + kept.bytes_per_parameter, "States are read and written: they count twice."),
            (
                4 + 2 * kept.bytes_per_parameter,
                "The gradient is read too: three times two.",
            ),
            (step_bytes(kept, 4), "That is with weights and gradients in float32."),
        ],
        within=1e-3,
    )


@exercise("lowbit.momentum", level="pencil")
def momentum(answer):
    """β' that keeps the noise of β = 0.9 at 8 bits when the bits go down to 2, by exact radii."""
    wanted = theory.momentum_rule(2)
    rounded = theory.momentum_rule(2, radius=theory.PRINTED_RADII.get)
    return compare_number(
        answer,
        wanted,
        [
            (rounded, "That follows from radii of three decimals, as the paper's table does: take 0.00421875."),
            (0.1122, "The radius is the median of half the gaps, not of each level's nearer gap."),
            (wanted / (1 - wanted), "That is β'/(1 - β'): solve it for β'."),
        ],
        within=0.004,
    )


@exercise("lowbit.pack", level="code")
def packed(function):
    """`function(codes)`: uint8 codes below 4, any number of them, four per byte."""
    for given in ([1, 2, 3, 0], [3], [], [0, 1, 2, 3, 3, 2, 1]):
        codes = torch.tensor(given, dtype=torch.uint8)
        found, wanted = function(codes.clone()), pack(codes, 2)
        if not isinstance(found, torch.Tensor) or found.dtype != torch.uint8:
            return "Return a tensor of torch.uint8."
        if found.shape != wanted.shape:
            return f"{len(given)} codes take {len(wanted)} bytes, the last filled with zeros; got {tuple(found.shape)}."
        if not torch.equal(found, wanted):
            if given == [1, 2, 3, 0] and found.tolist() == [0x39]:
                return "1, 2, 3, 0 became 0x39: the first element belongs in the highest bits, which gives 0x6C."
            return (
                f"{given} should be {[hex(each) for each in wanted.tolist()]}; got {[hex(e) for e in found.tolist()]}."
            )
    return None


@exercise("lowbit.nearest", level="code")
def nearest(function):
    """`function(block, table)`: (codes, scale) by the nearest level, a tie up; a block of zeros has scale 0."""
    dice = torch.Generator().manual_seed(0)
    for kind, bits in (("exponent", 2), ("exponent", 4), ("linear_zero", 2), ("linear_zero", 4)):
        table = levels(kind, bits, signed=True).float()
        how = Quantiser(kind, bits, signed=True, block=64)
        blocks = {
            "normal numbers": torch.randn(64, generator=dice),
            "negative numbers": -torch.rand(64, generator=dice),
            "zeros": torch.zeros(64),
        }
        if kind == "linear_zero":  # its middles are exact in float32
            ties = midpoints(table)
            blocks["ties"] = torch.cat([ties, torch.ones(1), torch.zeros(63 - len(ties))])
        for what, block in blocks.items():
            codes, scale = function(block.clone(), table.clone())
            wanted, size, _ = how.to_codes(block[None], torch.tensor([64]))
            if not torch.allclose(torch.as_tensor(scale), size[0]):
                return f"Of {what} the scale is the largest magnitude, {size[0]:.4g}; got {float(scale):.4g}."
            if codes.shape != block.shape or not torch.equal(codes.to(torch.uint8), wanted[0]):
                if what == "zeros":
                    return "A block of zeros divides 0 by 0: its codes are those of the level zero."
                if what == "ties":
                    return "A share in the middle of two levels goes to the upper one."
                wrong = int((codes.to(torch.uint8) != wanted[0]).sum())
                return f"Of 64 {what} {wrong} have another code than the nearest level of value / scale."
    return None


@exercise("lowbit.logarithm", level="code")
def logarithm(function):
    """`function(share, slope, last, uniforms)`: codes of logarithmic levels 2**(k · slope), unbiased in the value."""
    slope, last, draws = -1.5, 3, 20000
    dice = torch.Generator().manual_seed(1)
    for share in (0.9, 0.5, 0.2, 0.06):
        uniforms = torch.rand(draws, generator=dice)
        codes = function(torch.full((draws,), share), slope, last, uniforms)
        if codes.min() < 0 or codes.max() > last:
            return f"Codes lie from 0 to {last}; a share of {share} got {int(codes.max())}."
        stored = torch.exp2(codes.double() * slope)
        mean, error = stored.mean().item(), stored.std().item() / draws**0.5
        if abs(mean - share) > 5 * error + 1e-3 * share:
            place = torch.log2(torch.tensor(share)) / slope
            biased = torch.exp2((place + uniforms).floor().clamp(0, last) * slope).mean().item()
            if abs(mean - biased) < 5 * error:
                return (
                    f"{share} is stored as {mean:.4f}: the code is right in the mean, the value is not. Take "
                    "the upper level with the share's fraction of the way between the two values."
                )
            return f"{share} is stored as {mean:.4f} in the mean."
    return None


@exercise("lowbit.freezing", level="code")
def freezing(function):
    """`function(table)`: the least β at which no level is left, signals of 0 and of the scale, nearest rounding."""
    for kind, bits in (("linear_zero", 2), ("linear", 3), ("exponent", 2), ("exponent", 4)):
        table = levels(kind, bits, signed=False)
        found, wanted = float(function(table.clone())), theory.freezing_threshold(kind, bits)
        if abs(found - wanted) > 1e-5:
            if abs(found - theory.sufficient_threshold(kind, bits)) < 1e-5:
                return "1 - the median half-gap is the paper's bound; each level has its own distance to 0 and 1."
            upward = theory.freezing_threshold(kind, bits, signals=(1.0,))
            if abs(found - upward) < 1e-5:
                return "That freezes against signals of the scale alone: a level can be left downwards too."
            return f"For {kind} levels of {bits} bits the threshold is {wanted:.5f}; got {found:.5f}."
    return None


@exercise("lowbit.place", level="code")
def place(function):
    """`function(seed, first, count)`: random numbers of the elements first, first + 1, … of a parameter."""
    whole = function(3, 0, 24)
    if not isinstance(whole, torch.Tensor) or whole.shape != (24,) or whole.min() < 0 or whole.max() >= 1:
        return "Return `count` numbers in [0, 1)."
    if len(whole.unique()) < 24:
        return "Two elements have the same number: each place draws its own."
    if torch.equal(whole, function(4, 0, 24)):
        return "Another seed gives the same numbers."
    if not torch.equal(whole, function(3, 0, 24)):
        return "Asked twice it answers differently: a generator with a state is in no checkpoint. Count instead."
    for first in (4, 5, 16):
        if not torch.equal(whole[first:], function(3, first, 24 - first)):
            return f"Element {first} has another number when drawing starts at it: cut otherwise, a run would differ."
    return None


@exercise("lowbit.compare", level="open")
def compare(function):
    """`function(rows)`: what two bits cost, in nats: SOLO 2/2 at β1 = 0.5 against float32, the mean over seeds."""
    rows = [
        {"name": name, "beta1": beta1, "seed": seed, "loss": loss + shift * seed}
        for seed in range(3)
        for name, beta1, loss, shift in (
            ("AdamW", 0.9, 2.30, 0.02), ("AdamW", 0.5, 2.20, 0.03), ("SOLO 2/2", 0.5, 2.26, 0.05),
            ("SOLO 2/2", 0.9, 2.52, 0.01),
        )
    ]  # fmt: skip
    found = float(function(rows))
    return compare_number(
        found,
        0.08,
        [
            (-0.01, "That is held against float32 at β1 = 0.9: what it shows is the change of β1."),
            (0.06, "That is the first seed alone: take the mean of the differences over all."),
            (-0.08, "The sign is turned: a cost is what SOLO's loss lies above."),
        ],
        within=1e-3,
    )


@kernel_exercise("lowbit.launch")
def launch():
    """`function(packed, count)`: the launcher of a kernel that unpacks codes of two bits, uint8 [count]."""

    def case(count):
        codes = torch.randint(4, (count,), generator=torch.Generator().manual_seed(count)).to(torch.uint8)
        packed = pack(codes, 2)
        from_low = torch.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], 1).reshape(-1)[:count]
        mistakes = [(from_low, "each byte is read from its low bits: element 4i stands in bits 7 and 6.")]
        hint = "element 4i stands in bits 7 and 6 of byte i, the next in bits 5 and 4."
        return Case(f"a count of {count}", (packed.to(runtime.device()), count), codes, mistakes=mistakes, hint=hint)

    return list(map(case, (1, 130, 517)))
