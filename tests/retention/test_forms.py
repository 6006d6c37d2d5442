"""Retention: three forms that agree, kernels within twice what plain PyTorch loses, and the traffic of each launch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effattn_core import costs
from effattn_core.retention import chunkwise, decay_mask, decay_schedule, half_life, parallel, recurrent, retention
from effattn_core.retention import costs as costs_retention
from kernels import runtime
from kernels.retention import chunk_for, launch_outputs, launch_states, launch_step
from kernels.retention.configurations import choose
from kernels.retention.operators import retention_forward
from kernels.trace import trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong


def tensors(dtype, time, *, heads=2, key_dim=32, value_dim=32, batch=2, strided=False):
    """(query, key, value, state), the decays beside them, and what weighs the output and the state in a loss."""
    generator = torch.Generator().manual_seed(time)
    shapes = [(heads, time, key_dim)] * 2 + [(heads, time, value_dim), (heads, key_dim, value_dim)]
    made = [torch.randn(batch, *shape, generator=generator) for shape in shapes]
    if strided:  # [batch, time, heads, size] in memory, as projections leave it
        made[:3] = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in made[:3]]
    wide = torch.promote_types(dtype, torch.float32)
    inputs = [each.to(DEVICE, dtype if i < 3 else wide).requires_grad_() for i, each in enumerate(made)]
    decay = (1 - 0.3 * torch.rand(heads, generator=generator)).to(DEVICE)
    return inputs, decay.to(wide)


def results(function, inputs, decay):
    """Output, final state, and the gradients of query, key, value and initial state, both outputs weighed at random."""
    output, final = function(*inputs[:3], decay, state=inputs[3])
    generator = torch.Generator().manual_seed(9)
    weights = [torch.randn(each.shape, generator=generator) for each in (output, final)]
    loss = sum((each * weight.to(each)).sum() for each, weight in zip((output, final), weights, strict=True))
    return [output, final, *torch.autograd.grad(loss, inputs)]


def distances(function, inputs, decay, truth):
    return [(a.double() - b).abs().max().item() for a, b in zip(results(function, inputs, decay), truth, strict=True)]


NAMES = ("output", "final state", "d query", "d key", "d value", "d state")
CASES = [dict(time=time) for time in (1, 63, 65, 130, 257)]
CASES += [dict(time=65, key_dim=64, value_dim=32), dict(time=65, key_dim=32, value_dim=128), dict(time=130, heads=1)]
CASES += [dict(time=65, strided=True)]
IMPLEMENTATIONS = {"torch": dict(implementation="torch", chunk_size=48), "kernels": dict(implementation="triton")}


@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_outputs_states_and_gradients_lose_at_most_twice_what_plain_pytorch_loses(name, case, dtype, nan_filled):
    inputs, decay = tensors(dtype, **case)
    exact = [each.detach().double().requires_grad_() for each in inputs]
    truth = results(lambda *qkvd, state: retention(*qkvd, state=state, implementation="oracle"), exact, decay.double())
    plain = distances(lambda *qkvd, state: retention(*qkvd, state=state, form="parallel"), inputs, decay, truth)
    ours = distances(lambda *qkvd, state: retention(*qkvd, state=state, **IMPLEMENTATIONS[name]), inputs, decay, truth)
    # With one token there is hardly a sum in which PyTorch could lose anything: there alone four roundings are allowed.
    sizes = [four * each.abs().max().item() for four, each in zip([4 * torch.finfo(dtype).eps] * 6, truth, strict=True)]
    for what, error, lost, floor in zip(NAMES, ours, plain, sizes, strict=True):
        budget = max(2 * lost, floor if case["time"] == 1 else 0.0)
        print(f"{what}: error {error:.2e}, budget {budget:.2e}")
        assert error <= budget, what


@given(
    st.integers(1, 300), st.integers(1, 128), st.lists(st.floats(0.01, 1.0), min_size=2, max_size=2),
    st.lists(st.integers(0, 300), max_size=3),
)  # fmt: skip
@settings(max_examples=60)
def test_three_forms_and_any_split_with_the_state_carried_are_one_function(time, chunk, decays, cuts):
    inputs, _ = tensors(torch.float64, time, key_dim=5, value_dim=3, batch=1)
    *qkv, state = (each.detach() for each in inputs)
    decay = torch.tensor(decays, dtype=torch.float64)
    truth = parallel(*qkv, decay, scale=0.3, state=state)
    edges = [0, *sorted(cut for cut in cuts if cut < time), time]
    pieces, carried = [], state
    for start, stop in zip(edges, edges[1:], strict=False):
        part = [each[:, :, start:stop] for each in qkv]
        output, carried = retention(*part, decay, scale=0.3, state=carried, chunk_size=chunk)
        pieces.append(output)
    forms = {
        "recurrent": recurrent(*qkv, decay, scale=0.3, state=state),
        "chunkwise": chunkwise(*qkv, decay, scale=0.3, state=state, chunk_size=chunk),
        "in pieces": (torch.cat(pieces, 2), carried),
    }
    for name, found in forms.items():
        for ours, wanted in zip(found, truth, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("form", ["parallel", "recurrent", "chunkwise"])
def test_gradients_are_those_of_differences(form):
    inputs, decay = tensors(torch.float64, 7, key_dim=3, value_dim=2, batch=1)
    assert torch.autograd.gradcheck(
        lambda query, key, value, state: retention(query, key, value, decay, state=state, form=form, chunk_size=3),
        inputs,
    )


def test_the_future_changes_nothing_past_and_heads_do_not_mix():
    inputs, decay = tensors(torch.float64, 65, heads=3)
    query, key, value, state = (each.detach() for each in inputs)
    before, _ = retention(query, key, value, decay, state=state, chunk_size=16)
    key[:, :, 40:], value[:, :, 40:] = 7.0, -7.0
    after, _ = retention(query, key, value, decay, state=state, chunk_size=16)
    assert torch.equal(before[:, :, :40], after[:, :, :40]) and not torch.allclose(before[:, :, 40:], after[:, :, 40:])
    turned = [2, 0, 1]
    swapped, _ = retention(*(each[:, turned] for each in (query, key, value)), decay[turned], state=state[:, turned])
    torch.testing.assert_close(swapped, after[:, turned])


def test_decay_one_forgets_nothing_and_a_long_fade_stays_finite():
    query = torch.ones(1, 1, 5000, 4, dtype=torch.float64)
    ones, _ = retention(query, query, query, torch.ones(1), scale=0.25, chunk_size=64)
    torch.testing.assert_close(ones[0, 0, :, 0], torch.arange(1.0, 5001.0, dtype=torch.float64))
    fast, state = retention(query.float(), query.float(), query.float(), torch.tensor([1e-3]), scale=0.25)
    assert fast.isfinite().all() and state.isfinite().all()


def test_the_schedules_are_the_published_ones():
    code, paper = decay_schedule(8), decay_schedule(8, "paper")
    torch.testing.assert_close(code, torch.tensor([1 - 2.0 ** (-5 - h) for h in range(8)]))
    torch.testing.assert_close((1 - paper[[0, -1]]), torch.tensor([1 / 32, 1 / 512]))
    logs = (1 - paper.double()).log()
    torch.testing.assert_close(logs.diff(), logs.diff()[:1].expand(7), rtol=1e-3, atol=0)
    assert [round(each) for each in half_life(code)[[0, 7]].tolist()] == [22, 2839]
    assert half_life(1.0) == float("inf")
    with pytest.raises(ValueError, match="at least one head; got 0"):
        decay_schedule(0)
    with pytest.raises(ValueError, match="'code' or 'paper'; it is 'other'"):
        decay_schedule(2, "other")


def test_the_mask_holds_powers_of_the_decay_below_its_diagonal():
    mask = decay_mask(torch.tensor([0.5], dtype=torch.float64), 3)[0]
    torch.testing.assert_close(mask, torch.tensor([[1, 0, 0], [0.5, 1, 0], [0.25, 0.5, 1]], dtype=torch.float64))


def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    inputs, decay = tensors(torch.float32, 33)
    for implementation in ("device", "triton"):
        torch.library.opcheck(retention_forward, (*inputs[:3], decay, inputs[3], 0.2, 16, implementation))
    query, key, value, state = (each.detach() for each in inputs)
    compiled = torch.compile(retention, backend="aot_eager", fullgraph=True)
    for ours, wanted in zip(
        compiled(query, key, value, decay, state=state), retention(query, key, value, decay, state=state), strict=True
    ):
        torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("implementation", ["torch", "triton"])
def test_no_batch_and_no_token_give_empty_outputs_and_an_untouched_state(implementation):
    for batch, time in ((0, 5), (2, 0)):
        query, state = torch.randn(batch, 2, time, 32), torch.randn(batch, 2, 32, 32)
        output, after = retention(query, query, query, torch.ones(2), state=state, implementation=implementation)
        assert output.shape == query.shape and torch.equal(after, state)


@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
@pytest.mark.parametrize(("time", "key_dim", "value_dim"), [(65, 32, 32), (70, 64, 32), (64, 32, 64), (33, 64, 128)])
def test_the_kernels_move_exactly_what_the_formula_says(time, key_dim, value_dim):
    (query, key, value, state), decay = tensors(torch.float32, time, key_dim=key_dim, value_dim=value_dim)
    query, key, value, state = (each.detach() for each in (query, key, value, state))
    chunk = chunk_for(query.dtype, key_dim, value_dim)
    tiles = {
        name: tuple(choose(name, query.dtype, key_dim, value_dim)[side] for side in ("BLOCK_KEY", "BLOCK_VALUE"))
        for name in ("states", "outputs", "step")
    }
    with trace(query=query) as traffic:
        states, _ = launch_states(key, value, decay.log2(), state, chunk)
        launch_outputs(query, key, value, decay.log2(), states, 0.2, chunk)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    sizes = dict(states=tiles["states"], outputs=tiles["outputs"])
    assert counted == costs_retention.retention_traffic(2, 2, time, key_dim, value_dim, chunk=chunk, **sizes)
    with trace() as traffic:
        launch_step(query[:, :, :1], key[:, :, :1], value[:, :, :1], decay, state, 0.2)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == costs_retention.step_traffic(2, 2, key_dim, value_dim, block_value=tiles["step"][1])


def test_costs_of_a_chunk_and_the_bill_follow_from_their_formulas():
    cost = costs_retention.chunk_cost(64, 64, 64)
    assert (cost.inner, cost.state, cost.moved) == (2 * 64 * 128, 4 * 64 * 64, 2 * 6 * 64 + 8 * 64)
    card = costs.HARDWARE["H100 SXM"]
    best = costs_retention.best_chunk(card)
    seconds = {chunk: costs_retention.chunk_cost(chunk).seconds(card) for chunk in costs_retention.CHUNKS}
    assert seconds[best] == min(seconds.values()) and best not in (min(seconds), max(seconds))
    before, after = costs.bill(), costs_retention.bill()
    assert [line.key for line in after] == [line.key for line in before]
    assert after[1].value == 32 * 16 * 256 * 512 * 4 and costs_retention.bill(context=1 << 20)[1] == after[1]
    assert all(new.value < old.value for new, old in zip(after[:3], before[:3], strict=True))
    with pytest.raises(ValueError, match="at least 1 token; it is 0"):
        costs_retention.chunk_cost(0)


QUERY = torch.randn(1, 2, 6, 8)
BAD = {
    r"query must be .* its shape is \(2, 6, 8\)": dict(query=QUERY[0]),
    "share a floating dtype": dict(key=QUERY.half()),
    "share a device": dict(value=QUERY.to("meta")),
    "shapes must agree": dict(key=QUERY[:, :, :5]),
    "one number a head": dict(decay=torch.ones(3)),
    r"decay must lie in \(0, 1\]; head 1 has 1.2": dict(decay=torch.tensor([0.5, 1.2])),
    r"decay must lie in \(0, 1\]; head 0 has nan": dict(decay=torch.tensor([float("nan"), 1.0])),
    "state must be": dict(state=torch.zeros(1, 2, 8, 9)),
    "state must be .* in float32 or wider": dict(state=torch.zeros(1, 2, 8, 8).half()),
    "chunk_size must be at least 1; it is 0": dict(chunk_size=0),
    "form must be one of": dict(form="scan"),
    "implementation must be": dict(implementation="cuda"),
    "kernels compute the chunkwise form; form is 'parallel'": dict(form="parallel", implementation="triton"),
    "finite number; it is inf": dict(scale=float("inf")),
    "key_dim and value_dim among .* got 8 and 8": dict(implementation="triton"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_says_what_was_given_and_what_is_wanted(message):
    with pytest.raises(ValueError, match=message):
        retention(**{"query": QUERY, "key": QUERY, "value": QUERY, "decay": torch.ones(2), **BAD[message]})
