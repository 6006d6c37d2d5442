"""The primer's figures say what they show."""

import pytest

from effattn_core.primer.checks import product_bytes
from figures import primer as draw
from kernels import inspect


def test_the_blocks_of_all_programs_stand_in_one_row():
    assert draw.program_blocks_says(8, 20) == (
        "20 elements in blocks of 8: 3 programs; the last one has 4 lanes past the end, masked off."
    )
    (row,) = draw.program_blocks(8, 20).data[0].z
    assert len(row) == 24 and [row[place] for place in (0, 7, 8, 16, 19, 20, 23)] == [2, 2, 3, 4, 4, 1, 1]


def test_a_tile_lands_turned_and_its_edges_are_masked():
    source, target = draw.tiles(1, 2).data
    inside = [(i, j) for i, line in enumerate(source.z) for j, kind in enumerate(line) if kind == 3]
    assert inside == [(i, j) for i in range(4, 7) for j in (8, 9)]
    assert sorted((j, i) for i, line in enumerate(target.z) for j, kind in enumerate(line) if kind == 3) == inside
    assert draw.tiles_says(1, 2).endswith("; 10 of its 16 lanes are masked off.")
    assert draw.tiles_says(0, 0).endswith("columns and rows of the target.")


@pytest.mark.parametrize(
    ("step", "element", "lines", "fetched"),
    [(1, 4, 1, 128), (1, 2, 1, 64), (2, 4, 2, 256), (8, 4, 8, 1024), (32, 4, 32, 1024), (64, 4, 32, 1024)],
)
def test_lines_are_counted_from_addresses(step, element, lines, fetched):
    assert len(draw.warp_lines(step, element)) == lines
    assert sum(map(len, draw.warp_lines(step, element).values())) == 32
    assert f"{lines} line{'s' * (lines > 1)} of 128 bytes touched, {fetched:,} bytes" in draw.coalescing_says(
        step, element
    )
    heat = draw.coalescing(step, element).data[0].z
    assert len(heat) == lines and sum(kind == 3 for row in heat for kind in row) == 32
    assert sum(kind > 1 for row in heat for kind in row) * element == fetched


@pytest.mark.xdist_group("compiled primer 90")
def test_compilations_of_one_kernel_are_told_apart():
    rows = draw.compiled(inspect.reports("primer", 90, "float32", 64))
    assert {row["compiled with"] for row in rows} == {
        "–",
        "CAUSAL=False",
        "CAUSAL=True",
        "PRECISION=ieee",
        "PRECISION=tf32",
    }


def test_the_product_s_bytes_by_hand():
    # 2 × 2 tiles of 16: each of the 20 × 10 elements of left twice, each of the 10 × 30 of right twice.
    assert product_bytes(20, 10, 30, 16) == 4 * (2 * 200 + 2 * 300)
