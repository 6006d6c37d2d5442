"""Each kernel that a page shows, the simplified ones of fifteen lines among them, gives there what Triton gives."""

import pytest
import torch
from _page import load_source, watched
from lab_shown import LAUNCHES, normal
from page.both import Copies, roundings
from page.cells import in_triton, shown

from kernels import runtime

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")
NOT_THERE = {"primer.atomic_kernel": "tl.atomic_add is not on the page"}
LOOSE = {}


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
