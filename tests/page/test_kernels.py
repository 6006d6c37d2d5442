"""Each kernel that a page shows, the simplified ones of fifteen lines among them, gives there what Triton gives."""

import pytest
from lab_equality import launched, shown
from lab_shown import FAULTY, LAUNCHES

from kernels import runtime

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")


@pytest.mark.parametrize("name", sorted({*LAUNCHES, *shown()}))
def test_a_shown_kernel_on_the_page_and_in_triton(name, tmp_path):
    both = launched(name, tmp_path)
    apart, triton, here = both.most()
    print(f"{name}: {apart:.2f} roundings apart; from what is not rounded Triton is {triton:.2f}, the page {here:.2f}")
    assert apart <= 2
    found = [each for run in both.runs for each in run.findings]
    assert bool(found) == (name in FAULTY), found
