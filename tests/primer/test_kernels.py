"""The primer's kernels agree with PyTorch in float64, ragged and strided, move what the page says, refuse the rest."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import ROOT
from support.placed import by_the_pinned_compiler

from effattn_core.judging.watch import moved
from effattn_core.primer.checks import product_bytes
from kernels import inspect, primer, runtime
from kernels.sanitize import sanitize, scattered

pytestmark = pytest.mark.usefixtures("nan_filled")

PAGE = (ROOT / "book" / "0-before" / "primer.md").read_text(encoding="utf-8")
SHAPES = [(1, 1), (5, 33), (33, 65), (3, 257)]
DTYPES = [torch.float32, torch.float16]


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(runtime.device())


def views(rows, columns, dtype):
    """Contiguous, turned, and with gaps: [rows, columns] each."""
    yield random(rows, columns).to(dtype)
    yield random(columns, rows).to(dtype).mT
    yield scattered(rows, columns, dtype=dtype, device=runtime.device())


def assert_within_budget(got, source, form):
    """At most twice as far from the float64 form as PyTorch's own in the source's precision is, and a rounding."""
    exact = form(source.double())
    found, budget = (got.double() - exact).abs().max(), 2 * (form(source).double() - exact).abs().max()
    rounding = torch.finfo(got.dtype).eps * exact.abs().max().clamp(min=1)
    print(f"error {found:.1e}, budget {budget + rounding:.1e}")
    assert found <= budget + rounding


@pytest.mark.proves("oracle", "scale_kernel")
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65])
def test_scaling_any_number_of_elements(size):
    source = random(size)
    assert torch.equal(primer.scale(source, 3.0), 3.0 * source)


@pytest.mark.proves("oracle", "add_kernel")
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65])
def test_adding_any_number_of_elements(size):
    source = random(size)
    assert torch.equal(primer.add(source, 2 * source, block=16), source + 2 * source)


@pytest.mark.proves("oracle", "row_maximum_kernel", "transpose_kernel")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_row_maximum_and_the_transpose_honour_strides(shape, dtype):
    for view in views(*shape, dtype):
        assert torch.equal(primer.row_maximum(view), view.amax(1))
        assert torch.equal(primer.transpose(view, 16, 32), view.mT)


def causal(source):
    rows, columns = (torch.arange(size, device=source.device) for size in source.shape)
    return source.masked_fill(columns > rows[:, None], -torch.inf).softmax(1)


@pytest.mark.proves("oracle", "row_softmax_kernel", "causal_softmax_kernel", "log_sum_exp_kernel")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("magnitude", [1, 300])
def test_softmaxes_and_the_walk_are_as_near_as_pytorch(shape, dtype, magnitude):
    for view in views(*shape, dtype):
        view = magnitude * view
        assert_within_budget(primer.row_softmax(view), view, lambda scores: scores.softmax(1))
        assert_within_budget(primer.causal_softmax(view), view, causal)
        assert torch.equal(primer.causal_softmax(view, causal=False), primer.row_softmax(view))
        for block in (16, 64, 512):
            assert_within_budget(primer.log_sum_exp(view, block), view, lambda scores: scores.logsumexp(1))


@pytest.mark.proves("oracle", "product_kernel")
@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 65, 17), (16, 16, 16)])
@pytest.mark.parametrize("block", [16, 32])
def test_the_product_of_ragged_sizes(shape, block):
    rows, inner, columns = shape
    left, right = random(rows, inner), random(columns, inner).mT
    torch.testing.assert_close(primer.product(left, right, block), left @ right, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(runtime.mode != "interpreter", reason="traffic is counted where kernels are interpreted")
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 65), (5, 257)])
def test_each_kernel_moves_what_the_page_says(rows, columns):
    left, right = random(rows, columns), random(columns, 17)
    once, row = 4 * rows * columns, 4 * rows
    for call, formula in [
        (lambda: primer.scale(left, 2.0), (once, once)),
        (lambda: primer.add(left, left), (2 * once, once)),
        (lambda: primer.row_maximum(left), (once, row)),
        (lambda: primer.row_softmax(left), (once, once)),
        (lambda: primer.causal_softmax(left), (once, once)),
        (lambda: primer.log_sum_exp(left, 32), (once, row)),
        (lambda: primer.transpose(left), (once, once)),
        (lambda: primer.product(left, right, 16), (product_bytes(rows, columns, 17, 16), 4 * rows * 17)),
    ]:
        assert moved(call) == formula


@by_the_pinned_compiler
@pytest.mark.xdist_group("compiled primer 90")
def test_a_branch_is_compiled_away_and_tf32_brings_the_matrix_units_in():
    found = inspect.reports("primer", 90, "float32", 64)
    named = {(each.kernel, each.constants.get("CAUSAL"), each.constants.get("PRECISION")): each for each in found}
    plain, without = named["row_softmax_kernel", None, None], named["causal_softmax_kernel", False, None]
    assert plain.instructions == without.instructions and plain.registers == without.registers
    with_branch = named["causal_softmax_kernel", True, None]
    assert sum(with_branch.instructions.values()) > sum(plain.instructions.values())
    ieee, tf32 = (named["product_kernel", None, precision] for precision in ("ieee", "tf32"))
    assert ieee.instructions["matrix"] == 0 < tf32.instructions["matrix"]


@triton.jit
def careless_kernel(source_pointer, total_pointer, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = tl.sum(tl.load(source_pointer + places), 0)
    tl.store(total_pointer, tl.load(total_pointer) + mine)


@pytest.mark.skipif(runtime.mode != "interpreter", reason="the sanitizer watches interpreted kernels")
def test_the_careless_kernel_meets_as_often_as_the_page_says():
    """Four programs: three load what is written and store where was read, one line; the same three write twice."""
    source, total = torch.arange(32.0), torch.zeros(1)
    found = sanitize(lambda: careless_kernel[(4,)](source, total, BLOCK=8))
    assert [(each.kind, each.lanes) for each in found] == [("read and written", 6), ("written twice", 3)]
    assert "two lanes each, six in all. The three stores also\nmeet" in PAGE


def test_registers_are_full_when_the_places_are():
    """29 registers count as 32, and 64 warps of them fill a multiprocessor."""
    assert inspect.occupancy(29, 0, 4, 90) == inspect.occupancy(32, 0, 4, 90) == (1.0, "registers")
    assert inspect.occupancy(33, 0, 4, 90)[0] < 1 and inspect.occupancy(24, 0, 4, 90) == (1.0, "warps")
    assert 32 * 32 * 64 == inspect.LIMITS[90][0] and "29 count as 32, of which 64 warps take all 65,536" in PAGE


def test_what_does_not_fit_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="source must be contiguous; its strides are"):
        primer.scale(random(4, 4).mT, 1.0)
    with pytest.raises(ValueError, match="right must be contiguous; its strides are"):
        primer.add(random(4, 4), random(4, 4).mT)
    with pytest.raises(ValueError, match="left and right must have one shape; got"):
        primer.add(random(4), random(5))
    with pytest.raises(ValueError, match="inner sizes must agree; got"):
        primer.product(random(2, 3), random(4, 5))
    for launch in (primer.row_maximum, primer.row_softmax, primer.log_sum_exp, primer.transpose):
        with pytest.raises(ValueError, match=r"with at least one column; got \(3, 0\)"):
            launch(random(3, 0))
