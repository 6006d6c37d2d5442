"""The kernel of a hop, interpreted: right, exact in what it moves, its own gradient, and one graph when compiled."""

import pytest
import torch

from effattn_core.graphs import Adjacency, costs, oracle, smooth
from kernels import graphs, runtime
from kernels.graphs import BLOCK_DIM, BLOCK_NEIGHBOUR
from kernels.graphs.operators import smooth_update
from kernels.trace import trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
watched = pytest.mark.skipif(runtime.mode != "interpreter", reason="the tracer watches the interpreter")


def symmetric(name):
    """An Adjacency of a case's neighbours: normalised by degree."""
    offsets, columns, _ = graphs.compressed(graphs.cases()[name])
    degree = offsets.diff().float()
    rows = torch.arange(len(degree)).repeat_interleave(offsets.diff())
    return Adjacency(offsets, columns, (degree[rows] * degree[columns]).rsqrt()).to(DEVICE)


def table(nodes, dim, dtype=torch.float32):
    return torch.randn(nodes, dim, generator=torch.Generator().manual_seed(nodes + dim)).to(DEVICE, dtype)


@pytest.mark.proves("oracle", "hop_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("name", graphs.cases())
@pytest.mark.parametrize("dim", [1, BLOCK_DIM + 3])
def test_the_kernel_loses_at_most_twice_what_plain_pytorch_loses(name, dim, dtype, nan_filled):
    adjacency = symmetric(name)
    step, direction = table(adjacency.nodes, dim, dtype).mT.contiguous().mT, table(adjacency.nodes, dim + 1, dtype)
    for layers, rescaled in ((0, False), (1, True), (3, False)):
        found = []
        for form in ("triton", "torch", "oracle"):
            given = (step.double() if form == "oracle" else step).detach().requires_grad_()
            output = smooth(given, adjacency, beta=0.9, layers=layers, rescaled=rescaled, implementation=form)
            (slope,) = torch.autograd.grad((output * direction[:, 1:].to(output.dtype)).sum(), given)
            found.append((output.detach(), slope))
        for ours, plain, wanted in zip(*found, strict=True):
            assert ours.dtype == dtype and ours.isfinite().all()
            error, lost = ((each.double() - wanted).abs().max().item() for each in (ours, plain))
            budget = max(2 * lost, torch.finfo(dtype).eps * wanted.abs().max().item())
            print(f"{layers} hops: error {error:.2e}, budget {budget:.2e}")
            assert error <= budget


@watched
@pytest.mark.proves("traffic", "hop_kernel")
@pytest.mark.parametrize("name", graphs.cases())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_kernel_moves_exactly_what_the_formula_says(name, dtype):
    adjacency = symmetric(name)
    for dim in (8, BLOCK_DIM, 2 * BLOCK_DIM + 1):
        step = table(adjacency.nodes, dim, dtype)
        for last in (False, True):
            out = dtype if last else torch.float32
            given = (step, step, adjacency.offsets, adjacency.columns, adjacency.values, 0.9, 1.0, out, last)
            with trace() as moved:
                graphs.launch_hop(*given)
            sizes = dict(block_dim=BLOCK_DIM, last=last, element=step.element_size(), out=out.itemsize)
            formula = costs.hop_traffic(adjacency.nodes, adjacency.entries, dim, **sizes)
            assert (moved.loaded_bytes, moved.stored_bytes) == (formula.loaded, formula.stored)


@watched
def test_a_whole_step_moves_what_the_page_says():
    adjacency = symmetric("a star")
    for layers in (1, 3):
        step = table(adjacency.nodes, BLOCK_DIM)
        with trace() as moved:
            smooth(step, adjacency, beta=0.9, layers=layers, implementation="triton")
        wanted = costs.smoothing_bytes(adjacency.nodes, adjacency.entries, BLOCK_DIM, layers)
        assert moved.loaded_bytes + moved.stored_bytes == wanted


def test_a_hop_adds_in_blocks_of_neighbours_and_leaves_none_out():
    found = symmetric("a star")
    assert max(found.offsets.diff()) > 2 * BLOCK_NEIGHBOUR and max(found.offsets.diff()) % BLOCK_NEIGHBOUR
    step = torch.ones(found.nodes, 1, device=DEVICE)
    after, _ = graphs.launch_hop(
        step, step, found.offsets, found.columns, torch.ones_like(found.values), 0.5, 1.0, torch.float32, False
    )
    assert after.flatten().tolist() == (0.5 * found.offsets.diff()).tolist()


def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    adjacency = symmetric("a pair and two alone")
    graph = adjacency.offsets, adjacency.columns, adjacency.values
    step = table(4, 6).requires_grad_()
    torch.library.opcheck(smooth_update, (step, *graph, 0.9, 2, True))
    torch.library.opcheck(smooth_update, (step.detach().to(HALF), *graph, 0.5, 1, False))

    @torch.compile(fullgraph=True, backend="eager")
    def whole(each):
        return smooth(2 * each, adjacency, beta=0.9, implementation="triton")

    torch.testing.assert_close(whole(step).detach(), oracle(2 * step.detach(), adjacency, 0.9, 3).float())


def test_bfloat16_is_computed_in_float32_where_kernels_are_interpreted():
    adjacency = symmetric("a star")
    step = table(adjacency.nodes, 8).bfloat16()
    found = smooth(step, adjacency, beta=0.9, implementation="triton")
    wanted = oracle(step, adjacency, 0.9, 3)
    assert found.dtype == torch.bfloat16
    assert (found - wanted).abs().max() <= torch.finfo(torch.bfloat16).eps * wanted.abs().max()


def test_float64_is_refused_by_the_kernel_in_a_sentence():
    with pytest.raises(ValueError, match="the kernels take float32, float16 or bfloat16; got torch.float64"):
        smooth(table(4, 2).double(), symmetric("a pair and two alone"), implementation="triton")
