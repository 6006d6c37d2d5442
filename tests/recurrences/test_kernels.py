"""The recurrence kernels: against the float64 oracle, within twice what plain PyTorch loses; compiled; counted."""

import pytest
import torch
from support.placed import allowed
from torch.nn.functional import logsigmoid

from effattn_core import costs
from effattn_core.recurrences import RULES, gated_chunkwise, gated_recurrence, oracle, recurrence
from effattn_core.recurrences.costs import gated_traffic
from effattn_core.retention.costs import step_traffic
from kernels import inspect, runtime
from kernels.recurrences import MATRIX_KERNELS, choose, run_backward, run_forward
from kernels.recurrences.operators import gated_forward_operator
from kernels.retention.configurations import choose as choose_step
from kernels.trace import trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
NAMES = ("query", "key", "value", "log_gate", "state")
interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")


def tensors(dtype, vector, time, *, batch=1, heads=2, key_dim=32, value_dim=32, strided=False, strength=1.0):
    """query, key, value, log_gate, state that want gradients; the last two are float32."""
    generator = torch.Generator().manual_seed(time)
    shape, sizes = (batch, heads, time), (key_dim, key_dim, value_dim)
    made = [torch.randn(*shape, size, generator=generator).to(dtype) for size in sizes]
    made.append(strength * logsigmoid(torch.randn(*shape, *([key_dim] if vector else []), generator=generator)))
    made.append(torch.randn(batch, heads, key_dim, value_dim, generator=generator))
    if strided:  # [batch, time, heads, ...] in memory, as projections leave it; the state turned
        made = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in made[:4]] + [made[4].mT.contiguous().mT]
    return [each.to(DEVICE).requires_grad_() for each in made]


def by_kernel(query, key, value, log_gate, state):
    return gated_recurrence(query, key, value, log_gate, state=state, scale=0.3, implementation="triton")


def by_float32_chunks(query, key, value, log_gate, state):
    return gated_recurrence(query, key, value, log_gate, state=state, scale=0.3, implementation="torch")


def by_oracle(query, key, value, log_gate, state):
    rule = "gla" if log_gate.ndim == 4 else "gated"
    return oracle(query, key, value, rule=rule, log_gate=log_gate, state=state, scale=0.3)


def by_chunks(query, key, value, log_gate, state):
    """Chunks of 64 in plain PyTorch, differentiated by autograd: float32, or half precision by autocast.

    Autocast is what a reader would train with: products of half precision, sums, exponentials and states in float32.
    """
    with torch.autocast(DEVICE, dtype=HALF, enabled=value.dtype == HALF):
        return gated_chunkwise(query, key, value, log_gate, state=state, scale=0.3, chunk_size=64)


def results(function, inputs):
    """Output, final state, and the gradients of all inputs for fixed cotangents of both."""
    outputs, generator = function(*inputs), torch.Generator().manual_seed(9)
    cotangents = [torch.randn(each.shape, generator=generator).to(each) for each in outputs]
    return [*outputs, *torch.autograd.grad(outputs, inputs, cotangents)]


def compare(inputs, floor=0.0):
    """Assert that the kernels' errors lie within twice the chunkwise form's, or `floor` of the largest result."""
    exact = results(by_oracle, [each.detach().double().requires_grad_() for each in inputs])
    names = ("output", "final state", *(f"d {name}" for name in NAMES))
    for name, ours, theirs, wanted in zip(
        names, results(by_kernel, inputs), results(by_chunks, inputs), exact, strict=True
    ):
        error, lost = ((each.double() - wanted).abs().max().item() for each in (ours, theirs))
        budget = allowed(lost, wanted, inputs[0].dtype, floor)
        print(f"{name}: error {error:.2e}, budget {budget:.2e}")
        assert error <= budget, name


CASES = [dict(time=1), dict(time=63), dict(time=65, strided=True), dict(time=130, heads=1)]
CASES += [dict(time=65, heads=1, key_dim=32, value_dim=64), dict(time=65, heads=1, key_dim=64, value_dim=32)]
if DEVICE == "cuda":  # where the tiles of wide heads are others
    CASES += [dict(time=200, heads=1, key_dim=size, value_dim=size) for size in (64, 128)]


@pytest.mark.proves("oracle", "gated_*_kernel")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
def test_all_results_lose_at_most_twice_what_the_chunkwise_form_loses(vector, dtype, case, nan_filled):
    # One token is a product or two, and the chunkwise form loses next to nothing: there four roundings are allowed.
    floor = 4 * torch.finfo(dtype).eps if case["time"] == 1 else 0.0
    compare(tensors(dtype, vector, **case), floor)


@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
def test_larger_heads_do_too(vector, nan_filled):
    compare(tensors(torch.float32, vector, 40, heads=1, key_dim=128, value_dim=128))


@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
def test_gates_of_any_strength_stay_finite_and_right(vector, nan_filled):
    inputs = tensors(torch.float32, vector, 70, heads=1, strength=0.1)
    with torch.no_grad():
        inputs[3][:, :, 20:24], inputs[3][:, :, 40] = -50.0, -torch.inf
    exact = results(by_oracle, [each.detach().double().requires_grad_() for each in inputs])
    for ours, wanted in zip(results(by_kernel, inputs), exact, strict=True):
        # G reaches -400 here, where float32 is exact to 2e-5: so much may a neighbour's share be off.
        assert (ours.double() - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("rule", [name for name, row in RULES.items() if not row.erases])
def test_every_rule_that_only_fades_runs_on_the_kernels(rule, nan_filled):
    query, key, value, log_gate, state = (each.detach() for each in tensors(torch.float32, True, 66))
    gates = {"none": None, "constant": log_gate[0, :, 0, 0], "scalar": log_gate[..., 0], "vector": log_gate}
    given = dict(query=query, key=key, value=value, log_gate=gates[RULES[rule].gate], rule=rule)
    if RULES[rule].bonus:
        given["bonus"] = torch.rand(2, 32, device=DEVICE)
    if rule == "linear":
        state = torch.rand(1, 2, 32, 33, device=DEVICE)
    for carried in (None, state):
        ours = recurrence(**given, state=carried, implementation="triton")
        wanted = recurrence(**given, state=carried, implementation="oracle")
        for one, exact in zip(ours, wanted, strict=True):
            assert one.dtype == exact.dtype
            torch.testing.assert_close(one, exact, rtol=1e-4, atol=1e-5)


def test_a_constant_gate_learns_through_the_kernels():
    """The gate of a head is one number, expanded: its gradient is the sum over tokens, and no copy is made."""
    query, key, value, _, _ = tensors(torch.float32, False, 40)
    log_gate = torch.tensor([-0.1, -0.02], device=DEVICE, requires_grad=True)
    gradients = [
        torch.autograd.grad(
            recurrence(query, key, value, rule="retention", log_gate=log_gate, implementation=implementation)[0]
            .square().sum(),
            log_gate,
        )[0]
        for implementation in ("triton", "oracle")
    ]  # fmt: skip
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@interpreted
@pytest.mark.parametrize("time", [1, 65])
@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
def test_interpreted_kernels_compute_bfloat16_in_float32(vector, time):
    inputs = tensors(torch.bfloat16, vector, time, heads=1)
    for gate in (inputs[3], inputs[3].bfloat16()):
        given = [*inputs[:3], gate.detach().requires_grad_(), inputs[4]]
        pairs = zip(results(by_kernel, given), results(by_float32_chunks, given), strict=True)
        for name, (one, other) in zip(("output", "state", *NAMES), pairs, strict=True):
            assert one.dtype == other.dtype, name
            assert (one - other).abs().max() <= 2**-6 * other.abs().max(), name


def test_the_kernels_refuse_derivatives_that_they_do_not_have():
    query, gate = torch.randn(1, 2, 5, 32, device=DEVICE, requires_grad=True), -torch.rand(1, 2, 5, device=DEVICE)

    def summed(each):
        return recurrence(each, each, each, rule="gated", log_gate=gate, implementation="triton")[0].square().sum()

    with pytest.raises(ValueError, match="no forward-mode derivative"):
        torch.func.jvp(summed, (query.detach(),), (query.detach(),))
    (gradient,) = torch.autograd.grad(summed(query), query, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        gradient.sum().backward()


@pytest.mark.parametrize("shape", [(0, 2, 5, 32), (1, 2, 0, 32)])
def test_no_batch_or_no_time_gives_an_empty_output_and_the_state_unchanged(shape):
    query, state = torch.randn(shape, device=DEVICE), torch.randn(shape[0], 2, 32, 32, device=DEVICE)
    for rule, log_gate in (("gated", -torch.rand(shape[:3])), ("gla", -torch.rand(shape))):
        ours = recurrence(
            query, query, query, rule=rule, log_gate=log_gate.to(DEVICE), state=state, implementation="triton"
        )
        assert ours[0].shape == shape and torch.equal(ours[1], state)
    tensors_ = [each.to(DEVICE) for each in (query, query, query, log_gate, state)]
    output, final = run_forward(*tensors_, 1.0)
    for gradient, given in zip(run_backward(output, final, *tensors_, 1.0), tensors_, strict=True):
        assert gradient.shape == given.shape
    assert torch.equal(final, state)


def test_the_kernels_refuse_what_they_cannot_do_in_a_sentence():
    odd, gate = torch.randn(1, 1, 3, 48, device=DEVICE), -torch.rand(1, 1, 3, device=DEVICE)
    whole = torch.ones(1, 1, 3, 32, dtype=torch.float64, device=DEVICE)
    with pytest.raises(ValueError, match=r"key_dim and value_dim among \(32, 64, 128\); got 48 and 48"):
        recurrence(odd, odd, odd, rule="gated", log_gate=gate, implementation="triton")
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16; got torch.float64"):
        recurrence(whole, whole, whole, rule="gated", log_gate=gate, implementation="triton")


@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
def test_operators_pass_the_library_s_own_checks(vector):
    torch.library.opcheck(gated_forward_operator, (*tensors(torch.float32, vector, 5, heads=1), 0.2))


@pytest.mark.proves("traffic", "gated_*_kernel")
@interpreted
@pytest.mark.parametrize(
    ("dtype", "sizes", "time"),
    [
        (torch.float32, (32, 64), 1),
        (torch.float32, (32, 64), 65),
        (torch.float32, (64, 32), 40),
        (torch.float16, (64, 32), 65),
        (torch.float16, (32, 64), 130),
    ],
    ids=str,
)
@pytest.mark.parametrize("vector", [False, True], ids=["scalar", "vector"])
def test_both_passes_move_exactly_what_the_formula_says(vector, dtype, sizes, time):
    heads = 2 if time == 1 else 1
    shaped = tensors(dtype, vector, time, heads=heads, key_dim=sizes[0], value_dim=sizes[1])
    inputs, tiles = [each.detach() for each in shaped], {}
    for kernel in ("states", "outputs", "gradients"):
        chunk, row = choose(kernel, dtype, *sizes, vector)
        tiles[kernel] = row.block_key, row.block_value
    shape = dict(vector=vector, chunk=chunk, element=dtype.itemsize)
    with trace(query=inputs[0]) as traffic:
        output, final = run_forward(*inputs, 0.3)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    wanted = gated_traffic(1, heads, time, *sizes, **shape, states=tiles["states"], outputs=tiles["outputs"])
    if time == 1 and not vector:  # a decoded token takes the step of retention, its gate for a decay
        block_value = choose_step("step", dtype, *sizes)["BLOCK_VALUE"]
        wanted = step_traffic(1, heads, *sizes, block_value=block_value, element=dtype.itemsize)
    assert counted == wanted
    with trace() as traffic:
        run_backward(output, final, *inputs, 0.3)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == gated_traffic(1, heads, time, *sizes, **shape, **tiles)


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_steps_of_one_token_walk_a_text_as_the_oracle_does(dtype, nan_filled):
    """Batch, heads and gates that differ: a step that took another row's gate or state would show."""
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(2, 3, 12, 32, generator=generator).to(DEVICE, dtype) for _ in range(3))
    log_gate = (-torch.rand(2, 3, 12, generator=generator)).to(DEVICE)
    state, outputs = torch.zeros(2, 3, 32, 32, device=DEVICE), []
    for at in range(12):
        step = (each[:, :, at : at + 1] for each in (query, key, value, log_gate))
        output, state = gated_recurrence(*step, scale=0.3, state=state, implementation="triton")
        outputs.append(output)
    wide = [each.double() for each in (query, key, value)]
    exact, final = oracle(*wide, rule="gated", log_gate=log_gate.double(), state=None, scale=0.3)
    tolerance = 40 * torch.finfo(dtype).eps
    torch.testing.assert_close(torch.cat(outputs, 2).double(), exact, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(state.double(), final, rtol=1e-5, atol=1e-5)


def test_the_kernels_compile_without_a_spill_and_multiply_by_warp_groups():
    """One of the cases that test_inspect compiles for every topic, architecture, precision and head size."""
    found = inspect.reports("recurrences", 90, "bfloat16", 64)
    found = [report for report in found if report.kernel.startswith("gated_")]
    assert {report.kernel for report in found} == set(MATRIX_KERNELS)
    for report in found:
        assert report.spills == 0 and report.warps >= 4 and report.instructions["matrix"] > 0, report
