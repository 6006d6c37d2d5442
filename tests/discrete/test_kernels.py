"""The kernels of discrete, interpreted: right, exact in what they move, and one graph under torch.compile."""

import pytest
import torch

from effattn_core.discrete import LAF, MILD, SHARP, costs, rules
from effattn_core.discrete.activations import hard_conjunction, total_violation
from kernels import discrete, runtime
from kernels.discrete import launch_slope, launch_sweep
from kernels.discrete.operators import rule_slope, rule_sums
from kernels.trace import trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16
SHAPES = [(1, 1, 1), (33, 37, 65), (64, 64, 64), (5, 130, 3), (0, 4, 4)]
SWEEP = dict(block_row=discrete.BLOCK_ROW, block_input=discrete.BLOCK_INPUT, block_node=discrete.BLOCK_NODE)
SLOPE = dict(block_row=32, block_input=discrete.SLOPE_INPUT, block_node=discrete.SLOPE_NODE)
watched = pytest.mark.skipif(runtime.mode != "interpreter", reason="the tracer watches the interpreter")


def drawn(rows, inputs, nodes, dtype=torch.float32):
    dice = torch.Generator().manual_seed(rows + inputs + nodes)
    violated = torch.rand(rows, inputs, generator=dice) < 0.2
    weight = (0.9 * torch.rand(inputs, 2 * nodes, generator=dice))[:, ::2]
    return violated.to(DEVICE, torch.uint8), weight.to(DEVICE, dtype)


@pytest.mark.proves("oracle", "sweep_kernel", "slope_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("activation", [LAF, MILD, SHARP], ids=lambda each: f"{each.kind} {each.beta}")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sum_slope_and_hard_answer_are_those_of_the_oracle(shape, activation, dtype, nan_filled):
    violated, weight = drawn(*shape, dtype)
    given = activation.alpha, activation.beta, activation.kind == "nlaf"
    total, hard = launch_sweep(violated, weight, *given)
    exact = weight.double().requires_grad_()
    wanted = total_violation(violated, exact, activation)
    grad = torch.randn(total.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    (wanted_slope,) = torch.autograd.grad(wanted, exact, grad.double())
    slope = launch_slope(violated, weight, grad, *given)
    assert torch.equal(hard.double(), hard_conjunction(1 - violated.double(), weight))
    assert slope.dtype == dtype and total.isfinite().all() and slope.isfinite().all()
    if total.numel():
        for found, right, eps in ((total, wanted, 1e-6), (slope, wanted_slope, 2 * torch.finfo(dtype).eps + 2e-6)):
            budget = max(eps, 2e-6) * max(right.abs().max().item(), 1e-6)
            error = (found.double() - right).abs().max().item()
            print(f"error {error:.2e}, budget {budget:.2e}")
            assert error <= budget


@watched
@pytest.mark.proves("traffic", "sweep_kernel", "slope_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_the_kernels_move_exactly_what_the_formula_says(shape, dtype):
    violated, weight = drawn(*shape, dtype)
    with trace() as moved:
        total, _ = launch_sweep(violated, weight, 0.9, 3.0, True)
    formula = costs.sweep_traffic(*shape, **SWEEP, element=weight.element_size())
    assert (moved.loaded_bytes, moved.stored_bytes, moved.flops) == (formula.loaded, formula.stored, formula.flops)
    with trace() as moved:
        launch_slope(violated, weight, total, 0.9, 3.0, True)
    formula = costs.slope_traffic(*shape, **SLOPE, element=weight.element_size())
    assert (moved.loaded_bytes, moved.stored_bytes, moved.flops) == (formula.loaded, formula.stored, formula.flops)


def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    violated, weight = drawn(9, 20, 6)
    weight.requires_grad_()
    torch.library.opcheck(rule_sums, (violated, weight, 0.9, 3.0, True))
    torch.library.opcheck(rule_slope, (violated, weight.detach(), torch.ones(9, 6, device=DEVICE), 0.9, 3.0, False))

    @torch.compile(fullgraph=True, backend="eager")
    def whole(inputs, weight):
        return rules(inputs, 1 * weight, implementation="triton")

    inputs, found = 1 - violated.float(), []
    for form in (whole, lambda *given: rules(*given, implementation="torch")):
        answer = form(inputs, weight)
        found.append((answer.detach(), torch.autograd.grad(answer.sum(), weight)[0]))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_what_the_kernels_do_not_take_is_refused_in_a_sentence():
    violated, weight = drawn(4, 5, 6)
    with pytest.raises(ValueError, match="violated must be uint8, 1 where a literal is false; got torch.float32"):
        launch_sweep(violated.float(), weight, 0.9, 3.0, True)
    with pytest.raises(ValueError, match="must share inputs"):
        launch_sweep(violated[:, :3], weight, 0.9, 3.0, True)
    with pytest.raises(ValueError, match="the kernels give no gradient to inputs"):
        rules(violated.float().requires_grad_(), weight, implementation="triton")
