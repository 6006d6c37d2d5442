"""The kernel of the delta rules: against the float64 oracle, within twice what the plain loop loses; and counted."""

import pytest
import torch
from support.placed import DEVICE, times_lost
from support.rules import close, inputs, part
from torch.nn.functional import logsigmoid

from effattn_core import costs
from effattn_core.recurrences import chunkwise, oracle, recurrence, unit_keys
from effattn_core.recurrences.costs import delta_flops, delta_traffic
from effattn_core.recurrences.interface import WALKED
from kernels import runtime
from kernels.recurrences import choose, run_delta
from kernels.recurrences.operators import delta_operator
from kernels.trace import trace

HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
RULES = ("delta", "gated_delta")


def tensors(dtype, time, *, batch=1, heads=2, key_dim=32, value_dim=32, strided=False):
    """query, unit key, value, log_gate, beta, state; the last three are float32."""
    generator = torch.Generator().manual_seed(time)
    shape = batch, heads, time
    query, key, value = (torch.randn(*shape, size, generator=generator) for size in (key_dim, key_dim, value_dim))
    log_gate, beta = logsigmoid(torch.randn(shape, generator=generator)), 2 * torch.rand(shape, generator=generator)
    made = [query.to(dtype), unit_keys(key).to(dtype), value.to(dtype), log_gate, beta]
    made.append(torch.randn(batch, heads, key_dim, value_dim, generator=generator))
    if strided:  # [batch, time, heads, ...] in memory, as projections leave it; the state turned
        made = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in made[:5]] + [made[5].mT.contiguous().mT]
    return [each.to(DEVICE) for each in made]


CASES = [
    dict(time=1),
    dict(time=1, batch=2, heads=3, strided=True),
    dict(time=2, key_dim=64),
    dict(time=7, value_dim=64),
]
CASES += [dict(time=63, heads=1), dict(time=65, heads=1, key_dim=64, value_dim=128, strided=True)]
CASES += [dict(time=3, heads=1, key_dim=128, value_dim=128), dict(time=5, batch=2, heads=3, key_dim=128, strided=True)]


@pytest.mark.proves("oracle", "delta_step_kernel")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@pytest.mark.parametrize("rule", RULES)
def test_the_kernel_loses_at_most_twice_what_the_plain_loop_loses(rule, dtype, case, nan_filled):
    query, key, value, log_gate, beta, state = tensors(dtype, **case)
    given = dict(query=query, key=key, value=value, rule=rule, beta=beta, state=state, scale=0.3)
    given |= {"log_gate": log_gate} if rule == "gated_delta" else {}
    exact = recurrence(**{name: each.double() if torch.is_tensor(each) else each for name, each in given.items()})
    found = recurrence(**given, implementation="triton"), recurrence(**given, form="recurrent")
    for name, ours, loop, wanted in zip(("output", "state"), *found, exact, strict=True):
        error, lost = ((each.double() - wanted).abs().max().item() for each in (ours, loop))
        budget = max(times_lost(dtype) * lost, 4 * torch.finfo(ours.dtype).eps * wanted.abs().max().item())
        print(f"{name}: error {error:.2e}, budget {budget:.2e}")
        assert error <= budget, name
        assert ours.dtype == loop.dtype and ours.shape == loop.shape


@pytest.mark.parametrize("rule", RULES)
def test_steps_and_pieces_with_the_state_handed_on_are_the_whole_text(rule, nan_filled):
    made = {
        name: each.to(DEVICE) for name, each in inputs(rule, 24, key_dim=32, value_dim=32, dtype=torch.float32).items()
    }
    state, outputs = made["state"], []
    for begin, end in ((0, 1), (1, 9), (9, 10), (10, 10), (10, 24)):
        piece = part(made, rule, begin, end) | {"state": state}
        output, state = recurrence(**piece, rule=rule, implementation="triton")
        outputs.append(output)
    close((torch.cat(outputs, 2), state), oracle(**made, rule=rule, scale=32**-0.5), 1e-4)


def test_shut_gates_forget_all_and_nothing_becomes_nan(nan_filled):
    query, key, value, log_gate, beta, state = tensors(torch.float32, 9)
    log_gate[:, :, 4] = -torch.inf
    given = dict(rule="gated_delta", log_gate=log_gate, beta=beta, scale=0.3)
    ours = recurrence(query, key, value, state=state, implementation="triton", **given)
    close(ours, recurrence(query, key, value, state=state, implementation="oracle", **given), 1e-4)
    late = (each[:, :, 4:] for each in (query, key, value))
    alone = recurrence(
        *late, **given | {"log_gate": log_gate[:, :, 4:], "beta": beta[:, :, 4:]}, implementation="triton"
    )
    close((ours[0][:, :, 4:], ours[1]), alone, 1e-5)


def test_narrow_gates_and_betas_are_taken_as_they_are():
    query, key, value, log_gate, beta, state = tensors(HALF, 5)
    given = dict(rule="gated_delta", log_gate=log_gate.to(HALF), beta=beta.to(HALF), state=state)
    ours = recurrence(query, key, value, **given, implementation="triton")
    close(ours, recurrence(query, key, value, **given, implementation="oracle"), 4e-3)


@interpreted
def test_an_interpreted_bfloat16_is_computed_in_float32():
    query, key, value, log_gate, beta, state = tensors(torch.bfloat16, 5)
    given = dict(rule="gated_delta", log_gate=log_gate, beta=beta, state=state)
    ours = recurrence(query, key, value, **given, implementation="triton")
    assert ours[0].dtype == torch.bfloat16 and ours[1].dtype == torch.float32
    close(ours, recurrence(query, key, value, **given, form="recurrent"), 1e-2)


@pytest.mark.parametrize("shape", [(0, 2, 5, 32), (1, 2, 0, 32)])
def test_no_batch_or_no_time_gives_an_empty_output_and_the_state_unchanged(shape):
    query, state = torch.randn(shape, device=DEVICE), torch.randn(shape[0], 2, 32, 32, device=DEVICE)
    gate = -torch.rand(shape[:3], device=DEVICE)
    given = dict(rule="gated_delta", log_gate=gate, beta=-gate, state=state)
    for output, after in (
        recurrence(query, query, query, **given, implementation="triton"),
        run_delta(query, query, query, gate, -gate, state, 1.0),
    ):
        assert output.shape == shape and torch.equal(after, state)


def test_where_a_gradient_is_wanted_the_kernel_is_refused_and_not_chosen():
    query, key, value, log_gate, beta, state = tensors(torch.float32, 3)
    given = dict(rule="gated_delta", log_gate=log_gate, state=state)
    learning = beta.clone().requires_grad_()
    with pytest.raises(ValueError, match="'gated_delta' has no backward pass, and an input wants a gradient: use imp"):
        recurrence(query, key, value, beta=learning, implementation="triton", **given)
    output, _ = recurrence(query, key, value, beta=learning, **given)
    assert torch.autograd.grad(output.sum(), learning)[0].isfinite().all()
    with torch.no_grad():
        ours = recurrence(query, key, value, beta=learning, implementation="triton", **given)
    close(ours, recurrence(query, key, value, beta=beta, implementation="oracle", **given), 1e-4)


@pytest.mark.parametrize("call", [recurrence, chunkwise])
def test_left_open_a_gpu_walks_few_tokens_and_solves_many(call, monkeypatch):
    """Told that a GPU is here, and without one: the kernel is interpreted, and what it was given is seen."""
    seen, real = [], delta_operator

    def watched(query, *rest):
        seen.append(query.shape[2])
        return real(query, *rest)

    monkeypatch.setattr("effattn_core.recurrences.interface.operators.delta_operator", watched)
    choose_here = "effattn_core.calls.choose"
    monkeypatch.setattr(choose_here, lambda implementation, device, dtype, misfit="": "torch" if misfit else "triton")
    for time in (1, WALKED, WALKED + 1):
        query, key, value, log_gate, beta, state = tensors(torch.float32, time)
        call(query, key, value, rule="gated_delta", log_gate=log_gate, beta=beta, state=state, scale=1.0)
    assert seen == [1, WALKED]


def test_the_kernel_refuses_what_it_cannot_do_in_a_sentence():
    query, key, value, log_gate, beta, state = tensors(torch.float32, 3, key_dim=48, value_dim=48)
    given = dict(rule="gated_delta", log_gate=log_gate, beta=beta, implementation="triton")
    with pytest.raises(ValueError, match=r"key_dim and value_dim among \(32, 64, 128\); got 48 and 48"):
        recurrence(query, key, value, **given)
    with pytest.raises(ValueError, match=r"key_dim and value_dim among \(32, 64, 128\); got 48 and 48"):
        run_delta(query, key, value, log_gate, beta, state, 1.0)
    with pytest.raises(ValueError, match="form 'recurrent' is a loop in PyTorch"):
        recurrence(query, key, value, form="recurrent", **given)


def test_the_operator_passes_the_library_s_own_checks():
    query, key, value, log_gate, beta, state = tensors(torch.float32, 5, heads=1)
    torch.library.opcheck(delta_operator, (query, key, value, log_gate, beta, state, 0.2))


@pytest.mark.proves("traffic", "delta_step_kernel")
@interpreted
@pytest.mark.parametrize(
    ("dtype", "sizes", "time"),
    [(torch.float32, (32, 64), 1), (torch.float32, (64, 32), 5), (torch.float16, (32, 128), 3), (HALF, (128, 64), 1)],
    ids=str,
)
def test_the_kernel_moves_exactly_what_the_formula_says(dtype, sizes, time):
    made = tensors(dtype, time, batch=2, heads=3, key_dim=sizes[0], value_dim=sizes[1])
    with trace() as traffic:
        run_delta(*made, 0.3)
    block_value = choose("delta", dtype, *sizes, False)[1].block_value
    assert costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops) == delta_traffic(
        2, 3, time, *sizes, block_value=block_value, element=dtype.itemsize
    )


def test_a_step_s_operations_are_those_of_its_four_lines():
    """Fade: DE. Read by the key: DE products and sums. Write: an outer product, added. Read by the query."""
    assert delta_flops(3, 5) == 15 + 2 * 15 + 2 * 15 + 2 * 15
