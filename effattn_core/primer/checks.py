"""The hidden cases of the primer's exercises: two numbers, and four launchers of Triton kernels."""

import math

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import STRIDES, WIDE, Case, kernel_exercise, random
from kernels import runtime

EPSILON = 1e-6


def product_bytes(rows, inner, columns, block, element=4):
    """Bytes that `kernels.primer.product` loads: left once per column of tiles, right once per row of tiles."""
    tiles_down, tiles_across = -(-rows // block), -(-columns // block)
    return element * (rows * inner * tiles_across + inner * columns * tiles_down)


@exercise("primer.loaded_bytes", level="pencil")
def loaded_bytes(answer):
    """1,024³ in float32 and tiles of 64."""
    size = 1024
    return compare_number(
        answer,
        product_bytes(size, size, size, 64),
        [
            (product_bytes(size, size, size, 64) / 4, "That counts elements: a float32 has four bytes."),
            (product_bytes(size, size, size, 64) / 2, "That counts one factor: left and right are both loaded."),
            (2 * 4 * size**2, "That reads each factor once: but each column of tiles reads all of left again."),
            (2 * 4 * size**3, "That is the product without tiles, where each result reads a row and a column."),
        ],
    )


@exercise("primer.first_overflow", level="pencil")
def first_overflow(answer):
    """The smallest square matrix with an offset that 32 bits with a sign do not hold."""
    right = math.isqrt(2**31) + 1
    return compare_number(
        answer,
        right,
        [
            (65536, "That is where 2^32 is reached: one of the 32 bits is the sign."),
            (65537, "That is where 2^32 is reached: one of the 32 bits is the sign."),
            (2**31, "That is the number of elements; asked is the side of the square."),
            (right // 2, "Offsets count elements, not bytes."),
            (right - 1, "That one still fits: its last offset is 46,340² − 1 = 2,147,395,599, below 2^31."),
        ],
        within=1e-6,
    )


@kernel_exercise("primer.scale_add")
def scale_add():
    def case(size, block, steps=(1, 1), **says):
        first, second = steps
        left, right, factor = random(first * size)[::first], random(second * size + 1)[1:][::second], 3.0
        mistakes = [
            (factor * (left + right), "the factor multiplies right too."),
            (left + factor * right, "the factor multiplies right, not left."),
        ]
        what = f"{size} elements in blocks of {block}"
        if steps != (1, 1):
            what += f", strides of {first} and {second}"
            says = dict(stray=STRIDES) | says
        hint = "is it factor · left + right, at the same places?"
        arguments, right_sum = (left, right, factor, block), factor * left + right
        return Case(what, arguments, right_sum, hint=hint, mistakes=mistakes, block=block, **says)

    cases = [case(64, 64), case(256, 64), case(100, 64), case(1, 16), case(100, 16), case(100, 256)]
    return [*cases, *(case(100, 64, steps) for steps in ((2, 1), (1, 3), (2, 2)))]


ZERO = "masked lanes entered the sum: they must get other=0.0, which adds nothing."
SQUARES = "the squares overflow in float16, which ends at 65,504: convert with .to(tl.float32) after the load."
TINY = "the 10⁻⁶ is missing, or not under the root: in rows as small as these it counts."
LIKE = (
    "it is stored as if it lay row by row, and torch.empty_like keeps the strides of the transposed source: make the "
    "result by torch.empty(source.shape, dtype=source.dtype, device=source.device)."
)
AVERAGED = "is each row divided by the root of the mean of its squares, and times weight?"


@kernel_exercise("primer.rms_norm")
def rms_norm():
    def norm(source, weight, mean, under=EPSILON, beside=0.0):
        return (source.float() / ((mean + under).sqrt() + beside) * weight).to(source.dtype)

    def case(what, source, block, hint=AVERAGED, **says):
        rows, columns = source.shape
        weight, squares = 1 + random(columns), source.float().pow(2)
        padded, total = -(-columns // block) * block, squares.sum(1, keepdim=True)
        first = squares[:, :block].sum(1, keepdim=True)
        last = squares[:, (columns - 1) // block * block :].sum(1, keepdim=True)
        means = [
            (total, "this divides by the root of the sum; the mean was asked."),
            ((total / columns).pow(2), "the root is missing."),
            (first / columns, "only the first block enters the mean: walk the row and add the squares up."),
            (last / columns, "only the last block enters the mean: the sum starts anew in each block."),
            (total / padded, "the sum is divided by the padded length; divide by the number of columns."),
            ((total + padded - columns) / columns, ZERO),
        ]
        mistakes = [(norm(source, weight, mean), sentence) for mean, sentence in means]
        mistakes.append((norm(source, torch.ones_like(weight), total / columns), "the weight is left out."))
        if source.dtype == torch.float16:
            mistakes.append((torch.zeros_like(source), SQUARES))
        right, arguments = norm(source, weight, total / columns), (source, weight, block)
        if source.abs().max() < 0.1:
            mistakes += [(norm(source, weight, total / columns, 0.0, more), TINY) for more in (0.0, EPSILON)]
        if not source.is_contiguous() and source.mT.is_contiguous():
            mistakes.append((right.flatten().view(columns, rows).mT, LIKE))
        says = (
            dict(contiguous=True, tail="only the first block of each row is written: a second walk divides and stores.")
            | says
        )
        what = what if says.get("far") else f"{what} in blocks of {block}"
        return Case(what, arguments, right, hint=hint, mistakes=mistakes, block=block, **says)

    cases = [
        case("rows of 64", random(3, 64), 64),
        case("rows of 128", random(3, 128), 32),
        case("rows of 100", random(3, 100), 32, ZERO),
        case("rows of 20", random(3, 20), 32, ZERO),
        case("rows of values near a thousandth", 0.001 * random(3, 64), 32),
        case("every second column", random(3, 130)[:, ::2], 32, STRIDES, stray=STRIDES),
        case("a transposed view", random(40, 5).mT, 16, STRIDES, stray=STRIDES),
        case("float16 rows of values near 300", (300 * random(3, 64)).half(), 32, nan=SQUARES),
    ]
    near, what = random(3, 40).half(), "a tensor of more than 2^31 elements"
    return [*cases, case(what, near, 32, "the result differs from that of near rows.", stray=WIDE, far=True)]


ADDED = "is it max(0, left · right + bias), each block of the inner size added once?"
PADDED = "do all blocks of the inner size add up, with masked lanes zero?"


BY_ROW = "the bias is taken by row; it belongs to the columns: bias[None, :]."
EARLY = "the relu is taken inside the walk: the negative part of one block must meet the next. Take it after the loop."
FACTOR = "tl.dot takes the two factors first and what is added to their product last: tl.dot(left, right, total)."
OF_A_TILE = "tl.max folds a tile to its largest number; max(0, x) of each element is tl.maximum(x, 0.0)."


def _tiled(left, right, bias, block):
    """(result, sentence) of mistakes that are made tile by tile, where all tiles are whole."""
    whole, begun, clipped, summed, factored, turned = (left.new_zeros(len(left), len(bias)) for _ in range(6))
    tiles = [(slice(i, i + block), slice(j, j + block)) for i in range(0, len(left), block)
             for j in range(0, len(bias), block)]  # fmt: skip
    for at in range(0, len(right), block):
        a, b = left[:, at : at + block], right[at : at + block]
        whole, begun = whole + a @ b, begun.relu() + a @ b
        clipped, summed = (clipped + a @ b).relu(), summed + (a @ b).relu()
        for rows, columns in tiles:
            factored[rows, columns] = a[rows] @ factored[rows, columns] + b[:, columns]
            turned[rows, columns] = turned[rows, columns] @ b[:, columns] + a[rows]
    by_row, largest = bias.expand_as(whole).clone(), whole + bias
    for tile in tiles:
        by_row[tile], largest[tile] = by_row[tile].mT.clone(), largest[tile].max()
    early = [(result, EARLY) for each in (begun, clipped, summed) for result in (each + bias, (each + bias).relu())]
    return early + [
        ((whole + by_row).relu(), BY_ROW),
        ((factored + bias).relu(), FACTOR),
        ((turned + bias).relu(), FACTOR),
        (largest, OF_A_TILE),
    ]


@kernel_exercise("primer.linear_relu")
def linear_relu():
    def case(rows, inner, columns, block, strided=False):
        left, right, bias = random(rows, inner), random(inner, columns), random(columns)
        ragged = any(size % block for size in (rows, inner, columns))
        what, says = f"{rows}×{inner} by {inner}×{columns} in blocks of {block}", dict(hint=PADDED if ragged else ADDED)
        if strided:
            left, right = random(rows, 2 * inner)[:, ::2], random(columns, inner).mT
            what, says = f"{what}, strided views", dict(hint=STRIDES, stray=STRIDES)
        first, last = slice(block), slice((inner - 1) // block * block, None)
        whole, steps = left @ right, -(-inner // block)
        sums = [
            (whole, "the bias is missing."),
            (whole + steps * bias, "the bias is added in each step of the walk: add it once, after the loop."),
            (left[:, first] @ right[first] + bias, "only the first block of the inner size is multiplied: walk it."),
            (left[:, last] @ right[last] + bias, "only the last block of the inner size is left: add the products up."),
        ]
        if rows == columns:
            sums.append((whole + bias[:, None], BY_ROW))
        mistakes = [(result.relu(), sentence) for result, sentence in sums]
        mistakes += [(whole + bias, "the relu is missing."), (whole.relu() + bias, "the bias is added after the relu.")]
        if not ragged and steps > 1:
            mistakes += _tiled(left, right, bias, block)
        arguments, right_result = (left, right, bias, block), (whole + bias).relu()
        return Case(what, arguments, right_result, mistakes=mistakes, tiled=True, block=block, **says)

    cases = [case(32, 32, 32, 16), case(48, 32, 16, 16), case(33, 65, 17, 16), case(40, 16, 70, 32), case(5, 5, 5, 16)]
    return [*cases, case(33, 40, 17, 16, strided=True)]


TWICE_READ = (
    "the scores are loaded {times:g} times: one walk is asked, in which the maximum, the total and the sums are kept."
)
WEIGHED = "is each row the average of the values, weighed by the softmax of its scores?"
LOWEST = 'masked lanes have score 0, which is a weight: they must get other=float("-inf").'
OVERFLOW = "exp overflows: subtract the running maximum before it."
EMPTY = (
    "a block holds only -inf, so the maximum is -inf, and -inf − (-inf) is nan: subtract 0 where it is, "
    'tl.where(larger == float("-inf"), 0.0, larger).'
)


@kernel_exercise("primer.row_attention")
def row_attention():
    def case(what, scores, block, value=None, hint=WEIGHED, **says):
        keys = scores.shape[1]
        value = random(keys, 16) if value is None else value
        blocks = list(zip(scores.split(block, 1), value.split(block), strict=True))
        (early, early_value), (late, late_value) = blocks[0], blocks[-1]
        padding = scores.new_zeros(len(scores), -keys % block)
        both = "with a larger maximum: multiply both by exp(old maximum − new maximum)."
        mistakes = [
            ((scores - scores.amax(1, keepdim=True)).exp() @ value, "the division by the total is missing."),
            (_walk(blocks, total=True), f"the total shrinks and the accumulator does not, {both}"),
            (_walk(blocks, accumulator=True), f"the accumulator shrinks and the total does not, {both}"),
            (_walk(blocks), f"what was gathered before must shrink {both}"),
            (late.softmax(1) @ late_value, "only the last block is in the result: what came before is thrown away."),
            (early.softmax(1) @ early_value, "only the first block is in the result: walk all the keys."),
            (torch.cat([scores, padding], 1).softmax(1)[:, :keys] @ value, LOWEST),
        ]
        arguments, right = (scores, value, block), scores.softmax(1) @ value
        what = f"{what} in blocks of {block}"
        says = dict(once=(0,), again=TWICE_READ) | says
        return Case(what, arguments, right, hint=hint, mistakes=mistakes, block=block, **says)

    def rising(rows, keys):
        return random(rows, keys) + torch.linspace(0, 6, keys, device=runtime.device())

    hidden = rising(3, 100)
    hidden[:, :40] = -torch.inf
    cases = [
        case("32 keys", rising(3, 32), 32),
        case("128 keys", rising(3, 128), 32),
        case("100 keys", rising(3, 100), 32),
        case("7 keys", rising(3, 7), 16),
        case("scores of a thousand", 300 * rising(3, 96), 32, nan=OVERFLOW),
        case("40 hidden keys at the start", hidden, 32, nan=EMPTY),
        case("strided scores", rising(3, 130)[:, ::2], 32, hint=STRIDES, stray=STRIDES),
        case("strided values", rising(3, 65), 32, random(65, 32)[:, ::2], hint=STRIDES, stray=STRIDES),
    ]
    return cases


def _walk(blocks, total=False, accumulator=False):
    """The softmax average of blocks of (scores, values) where only what is named is rescaled as the maximum grows."""
    maximum = torch.full_like(blocks[0][0][:, :1], -torch.inf)
    gathered, weights = 0, 0
    for scores, value in blocks:
        larger = torch.maximum(maximum, scores.amax(1, keepdim=True))
        shrink, weight = (maximum - larger).exp(), (scores - larger).exp()
        weights = weights * (shrink if total else 1) + weight.sum(1, keepdim=True)
        gathered = gathered * (shrink if accumulator else 1) + weight @ value
        maximum = larger
    return gathered / weights
