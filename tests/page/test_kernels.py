"""Each kernel that a page shows, the simplified ones of fifteen lines among them, gives there what Triton gives."""

import pytest
import torch
from _page import load_source, watched
from page.both import Copies, roundings
from page.cells import in_triton, shown

from kernels import runtime

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")
NOT_THERE = {"primer.atomic_kernel": "tl.atomic_add is not on the page"}
LOOSE = {}


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def share(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def whole(*shape):
    """Small whole numbers, whose sums are exact: for a kernel that takes the bits of a score."""
    return (2 * normal(*shape)).round()


def blank(*shape, dtype=torch.float32):
    return torch.full(shape, float("nan") if dtype.is_floating_point else 7, dtype=dtype)


def order(size, dtype=torch.int64):
    return torch.randperm(size, generator=torch.Generator().manual_seed(size)).to(dtype)


def attention(rows, keys, dim):
    return normal(rows, dim), normal(keys, dim) / 2, normal(keys, dim), blank(rows, dim)


# page.kernel: (grid, arguments) of each launch.
LAUNCHES = {
    "primer.triple_kernel": [((3,), (normal(20), blank(20), 20, 8)), ((1,), (normal(5), blank(5), 5, 8))],
    "primer.peak_kernel": [((5,), (-share(5, 33), blank(5), 33, other, 64)) for other in (0.0, float("-inf"))],
    "primer.walk_kernel": [((4,), (3 * normal(4, 100), blank(4), 100, 32))],
    "primer.plain_product_kernel": [((2, 2), (normal(32, 32), normal(32, 32) + 1, blank(32, 32), 32, 16))],
    "primer.offset_kernel": [((3,), (blank(2, 3, dtype=torch.int64), 2**30))],
    "primer.careless_kernel": [((4,), (normal(32), torch.zeros(1), 8))],
    "primer.forgetful_kernel": [((3,), (normal(32), blank(20), 20, 8))],
    "attention.flash": [((time // 16,), (*attention(time, time, 16), time, 0.25, 16, 16)) for time in (16, 48)],
    "delta.delta_walk": [
        ((2,), (*attention(9, 9, 16)[:3], share(9), normal(16, 16), blank(9, 16), 9, 16, 16, 8))
    ],
    "recurrences.gated_kernel": [
        ((1,), (normal(48, 16), normal(48, 16) / 4, normal(48, 16), -share(48), blank(48, 16), 3, 16, 16))
    ],
    "retention.chunks_kernel": [
        ((1,), (normal(48, 16), normal(48, 16) / 4, normal(48, 16), blank(48, 16), -0.1, 3, 16, 16))
    ],
    "universal.step": [
        ((3,), (normal(3, 16), normal(3, 16), normal(3, 8), share(3), normal(2, 3, 16, 8), blank(3, 8), 1, 16, 8))
    ],
    "yoco.look": [((2,), (normal(8, 16), normal(64, 16) / 2, normal(64, 16), blank(8, 16), 32, 0.25, 4, 16, 16))],
    "channels.thin": [
        (
            (2,),
            (
                normal(2, 16), normal(64, 4), normal(64, 8), order(16)[:8].contiguous(), blank(2, 8), blank(2),
                32, 0.25, 16, 4, 8, 16,
            ),
        )
    ],
    "focus.behind": [
        ((2,), (normal(32, 16), normal(48, 16) / 2, normal(48, 16), blank(32, 16), 16, 0.25, 16, 16)),
    ],
    "indexing.index_kernel": [
        ((1,), (whole(4, 16), whole(32, 16), whole(4), blank(8, dtype=torch.int64), 32, 4, 16, 8)),
    ],
    "rectified.read_list": [
        ((1,), (normal(4, 16), normal(64, 16) / 2, normal(64, 16), order(4), blank(4, 16), 3, 0.25, 4, 16, 16)),
    ],
    "routing.add_rows": [((3,), (normal(6, 32), share(3, 2), order(6).view(3, 2), blank(3, 32), 32, 2))],
    "speculation.best_words": [
        (
            (2,),
            (
                normal(16), normal(32, 16), order(32), blank(2, 3), blank(2, 3, dtype=torch.int64), blank(2),
                16, 16, 3,
            ),
        )
    ],
    "autoencoders.tangent": [((2,), (normal(8, 32), normal(8, 32).flip(0), blank(8, 32), 32, 4))],
    "latents.block_of_head": [
        (
            (2,),
            (
                normal(32, 16), normal(32, 48) / 4, normal(32, 16).flip(0) / 4, normal(32, 16).flip(1) / 4,
                normal(16, 32) / 4,
                blank(32, 16), 16, 32,
            ),
        )
    ],
    "graphs.hop": [
        (
            (3,),
            (
                normal(3, 16), normal(3, 16), blank(3, 16), torch.tensor([0, 2, 2, 5]), torch.tensor([1, 2, 0, 1, 2]),
                share(5), 0.9, 16,
            ),
        )
    ],
    "lowbit.small_step": [
        ((2,), (normal(64), normal(64), order(256, torch.uint8)[:16].contiguous(), share(2), 0.1, 0.2, 32))
    ],
    "discrete.both": [
        (
            (2,),
            (
                (share(16, 32) > 0.5).to(torch.uint8), 0.9 * share(32, 32), blank(16, 32),
                blank(16, 32, dtype=torch.uint8), 32, 32, 16,
            ),
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted({*LAUNCHES, *shown()} - {*NOT_THERE}))
def test_a_shown_kernel_on_the_page_and_in_triton(name, tmp_path):
    cell, kernel = shown()[name], name.partition(".")[2]
    theirs, ours = in_triton(cell, tmp_path)[kernel], load_source(cell.text)[kernel]
    for grid, arguments in LAUNCHES[name]:
        arguments = [each.clone() if isinstance(each, torch.Tensor) else each for each in arguments]
        copied = Copies()(arguments)
        with watched() as run:
            ours[grid](*copied)
        theirs[grid](*arguments)
        apart = roundings(arguments, copied)
        print(f"{name}: {apart:.2f} roundings apart")
        assert apart <= LOOSE.get(name, 2)
        assert bool(run.findings) == (name == "primer.careless_kernel"), run.findings


@pytest.mark.parametrize("name", sorted(NOT_THERE))
def test_what_is_not_on_the_page_says_so(name):
    cell, kernel = shown()[name], name.partition(".")[2]
    with pytest.raises(AttributeError, match=NOT_THERE[name]):
        load_source(cell.text)[kernel][(1,)](*Copies()((normal(4), torch.zeros(1))))
