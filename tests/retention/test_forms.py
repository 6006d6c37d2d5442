"""Retention: three forms that agree, kernels within twice what plain PyTorch loses, and the traffic of each launch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.placed import allowed, placed

from effattn_core import costs
from effattn_core.retention import chunkwise, decay_mask, decay_schedule, half_life, parallel, recurrent, retention
from effattn_core.retention import costs as costs_retention
from kernels import runtime
from kernels.retention import (
    chunk_for,
    launch_grad_states,
    launch_gradients,
    launch_outputs,
    launch_states,
    launch_step,
)
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
    return inputs, (1 - 0.3 * torch.rand(heads, generator=generator)).to(DEVICE, wide)


def results(function, inputs, decay):
    """Output, final state, and the gradients of query, key, value and initial state, both outputs weighed at random."""
    output, final = function(*inputs[:3], decay, state=inputs[3])
    generator = torch.Generator().manual_seed(9)
    weights = [torch.randn(each.shape, generator=generator) for each in (output, final)]
    loss = sum((each * weight.to(each)).sum() for each, weight in zip((output, final), weights, strict=True))
    return [output, final, *torch.autograd.grad(loss, inputs)]


def plain(query, key, value, decay, *, state):
    """The parallel form as plain PyTorch multiplies it: rounded to the inputs' precision at each step."""
    mask, scale = decay_mask(decay, query.shape[2]).to(value.dtype), query.shape[3] ** -0.5
    faded = mask[:, :, :1] * decay.to(value)[:, None, None]
    output = (scale * query @ key.mT * mask) @ value + (scale * query * faded) @ state.to(value.dtype)
    return output, (key * mask[:, -1:].mT).mT @ value + faded[:, -1:] * state.to(value.dtype)


def distances(function, inputs, decay, truth):
    return [(a.double() - b).abs().max().item() for a, b in zip(results(function, inputs, decay), truth, strict=True)]


NAMES = ("output", "final state", "d query", "d key", "d value", "d state")
CASES = [dict(time=1), dict(time=63), dict(time=130), dict(time=65, strided=True)]
CASES += [dict(time=257, batch=1, heads=1), dict(time=65, batch=1, key_dim=64, value_dim=32),
          dict(time=65, batch=1, key_dim=32, value_dim=128)]  # fmt: skip
if DEVICE == "cuda":  # where the tiles of wide heads are others
    CASES += [dict(time=200, key_dim=size, value_dim=size) for size in (64, 128)]
IMPLEMENTATIONS = {"torch": dict(implementation="torch", chunk_size=48), "kernels": dict(implementation="triton")}


@pytest.mark.proves("oracle", "retention_*_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_outputs_states_and_gradients_lose_at_most_twice_what_plain_pytorch_loses(name, case, dtype, nan_filled):
    inputs, decay = tensors(dtype, **case)
    exact = [each.detach().double().requires_grad_() for each in inputs]
    truth = results(lambda *qkvd, state: retention(*qkvd, state=state, implementation="oracle"), exact, decay.double())
    losses = distances(plain, inputs, decay, truth)
    ours = distances(lambda *qkvd, state: retention(*qkvd, state=state, **IMPLEMENTATIONS[name]), inputs, decay, truth)
    for what, error, lost, each in zip(NAMES, ours, losses, truth, strict=True):
        # With one token there is hardly a sum in which PyTorch could lose anything: four roundings in any dtype.
        budget = allowed(lost, each, dtype, 4 * torch.finfo(dtype).eps if case["time"] == 1 else 0.0)
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
    decay = torch.tensor(decays, dtype=torch.float64, device=DEVICE)
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
    inputs, decay = tensors(torch.float64, 5, key_dim=3, value_dim=2, batch=1)
    assert torch.autograd.gradcheck(
        lambda query, key, value, state: retention(query, key, value, decay, state=state, form=form, chunk_size=3),
        inputs, check_forward_ad=True,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["parallel", "recurrent", "chunkwise"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32_and_every_form_goes_on_from_the_state_of_another(form, dtype):
    """Ones fade to a sum of 648 here; in bfloat16 a running sum would stop growing at 256."""
    ones, decay = torch.ones(1, 8, 512, 64, dtype=dtype), decay_schedule(8)
    output, state = retention(ones, ones, ones, decay, scale=1 / 32, form=form)
    exact, last = retention(*(ones[:, :, :1].double().expand(1, 8, 512, 64) for _ in range(3)), decay, scale=1 / 32,
                            implementation="oracle")  # fmt: skip
    eps = torch.finfo(dtype).eps
    assert output.dtype == dtype and state.dtype == torch.float32
    torch.testing.assert_close(output.double(), exact, rtol=eps, atol=0)
    torch.testing.assert_close(state.double(), last, rtol=1e-5, atol=0)
    for other in ("parallel", "recurrent", "chunkwise"):
        _, later = retention(*(ones[:, :, :3] for _ in range(3)), decay, state=state, form=other)
        assert later.dtype == torch.float32


def test_a_state_may_be_wider_than_the_inputs():
    inputs, decay = tensors(torch.float32, 9)
    query, key, value, state = (each.detach() for each in inputs)
    for how in (dict(), dict(form="parallel"), dict(form="recurrent"), dict(implementation="oracle")):
        results_ = [retention(query, key, value, decay, state=each, **how) for each in (state, state.double())]
        for ours, wide in zip(*results_, strict=True):
            torch.testing.assert_close(ours, wide)


WAYS = [dict(), dict(implementation="oracle"), dict(form="parallel"), dict(form="recurrent"), dict(chunk_size=5),
        dict(implementation="triton")]  # fmt: skip


@pytest.mark.parametrize("settings", WAYS, ids=str)
@pytest.mark.parametrize("entry", [torch.inf, -torch.inf, torch.nan, 3e38])
@pytest.mark.parametrize("kind", [1, 2], ids=["key", "value"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_token_does_not_reach_the_outputs_before_it_nor_their_gradients(kind, entry, settings):
    """Neither within its chunk nor from another text of the batch: weights of 0 are not enough, 0 times inf is nan."""
    if DEVICE == "cuda" and entry != 3e38 and settings != dict(form="recurrent"):
        pytest.skip("no one looks at keys and values on a GPU, which would wait for it: promised on a CPU alone")
    inputs, decay = tensors(torch.float32, 12, heads=1)
    *given, state = (each.detach() for each in inputs)
    before, _ = retention(*given, decay, state=state, **settings)
    for place in (0, 6, 11):
        spoiled = [each.clone() for each in given]
        spoiled[kind][1, :, place] = entry
        query = spoiled[0].requires_grad_()
        after, _ = retention(*spoiled, decay, state=state, **settings)
        torch.testing.assert_close(after[0], before[0])
        torch.testing.assert_close(after[1, :, :place], before[1, :, :place])
        assert torch.autograd.grad(after[:, :, :place].sum(), query)[0][:, :, :place].isfinite().all()
        if entry != 3e38 and not (kind == 1 and entry != entry):
            assert not after[1, :, place:].isfinite().any()


@pytest.mark.parametrize("form", ["parallel", "recurrent", "chunkwise"])
def test_a_second_derivative_is_right_and_so_is_a_forward_one(form):
    inputs, decay = tensors(torch.float64, 5, heads=1, key_dim=3, value_dim=2, batch=1)

    def summed(*each):
        return sum((part * part).sum() for part in retention(*each[:3], decay, state=each[3], form=form, chunk_size=3))

    assert torch.autograd.gradgradcheck(summed, inputs)
    query, *rest = (each.detach() for each in inputs)
    ones, small = torch.ones_like(query), 1e-6
    _, tangent = torch.func.jvp(lambda each: summed(each, *rest), (query,), (ones,))
    torch.testing.assert_close(tangent, (summed(query + small, *rest) - summed(query - small, *rest)) / (2 * small))
    torch.testing.assert_close(torch.func.grad(lambda each: summed(each, *rest))(query),
                               torch.autograd.grad(summed(*inputs), inputs[0])[0])  # fmt: skip


@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_kernels_fill_in_the_weight_of_hidden_keys():
    """As on a GPU, where no one looks whether a key is infinite."""
    inputs, decay = tensors(torch.float32, 12)
    *given, state = (each.detach() for each in inputs)
    before, _ = retention_forward(*given, decay, state, 0.2)
    given[1][:, :, 6] = torch.inf
    after, _ = retention_forward(*given, decay, state, 0.2)
    torch.testing.assert_close(after[:, :, :6], before[:, :, :6])


def test_the_decay_learns_in_plain_forms_alike():
    inputs, decay = tensors(torch.float64, 40)
    decay.requires_grad_()
    found = []
    for form in ("parallel", "recurrent", "chunkwise"):
        output, _ = retention(*inputs[:3], decay, form=form)
        found.append(torch.autograd.grad(output.square().sum(), decay)[0])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_the_kernels_refuse_derivatives_that_they_do_not_have():
    query = torch.randn(1, 2, 5, 32, device=DEVICE, requires_grad=True)

    def summed(each):
        return retention(each, each, each, torch.ones(2, device=DEVICE), implementation="triton")[0].square().sum()

    with pytest.raises(ValueError, match="no forward-mode derivative"):
        torch.func.jvp(summed, (query.detach(),), (query.detach(),))
    (gradient,) = torch.autograd.grad(summed(query), query, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        gradient.sum().backward()


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


@pytest.mark.parametrize("decay", [1.0, 1e-3, 1e-30, 1e-44, 1e-300])
def test_decays_whose_powers_underflow_leave_what_the_definition_leaves(decay):
    """1e-300 is 0 in float32: then a token sees itself alone."""
    inputs, _ = tensors(torch.float32, 70)
    query, key, value, state = (each.detach() for each in inputs)
    decays = torch.full((2,), decay, dtype=torch.float64, device=DEVICE)
    exact = retention(query, key, value, decays, state=state, implementation="oracle")
    for how in (dict(), dict(form="parallel"), dict(form="recurrent"), dict(implementation="triton")):
        for ours, wanted in zip(retention(query, key, value, decays, state=state, **how), exact, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-4)


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
    inputs, decay = tensors(torch.float32, 33, heads=1, batch=1)
    torch.library.opcheck(retention_forward, (*inputs[:3], decay, inputs[3], 0.2))
    query, key, value, state = (each.detach() for each in inputs)
    torch._dynamo.reset()
    compiled = torch.compile(retention, backend="aot_eager", fullgraph=True)
    for ours, wanted in zip(
        compiled(query, key, value, decay, state=state), retention(query, key, value, decay, state=state), strict=True
    ):
        torch.testing.assert_close(ours, wanted)


def test_compiled_decoding_is_at_most_two_graphs():
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph.forward

    decode = torch.compile(retention, backend=counted, fullgraph=True)
    query, state = torch.randn(1, 2, 16, 32), torch.zeros(1, 2, 32, 32)
    for at in range(16):
        token = query[:, :, at : at + 1]
        output, state = decode(token, token, token, decay_schedule(2), state=state)
    whole, last = retention(query, query, query, decay_schedule(2))
    torch.testing.assert_close(output, whole[:, :, -1:])
    torch.testing.assert_close(state, last)
    assert len(graphs) <= 2


@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are compiled here")
@pytest.mark.parametrize("time", [1, 65])
def test_interpreted_kernels_compute_bfloat16_in_float32(time):
    inputs, decay = tensors(torch.bfloat16, time)
    both = [
        results(lambda *qkvd, state, how=how: retention(*qkvd, state=state, implementation=how), inputs, decay)
        for how in ("triton", "torch")
    ]
    for name, one, other in zip(NAMES, *both, strict=True):
        assert one.dtype == other.dtype, name
        torch.testing.assert_close(one, other, rtol=2**-6, atol=2**-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("implementation", ["torch", "triton"])
def test_no_batch_and_no_token_give_empty_outputs_and_an_untouched_state(implementation):
    for batch, time in ((0, 5), (0, 1), (2, 0)):
        query, state = torch.randn(batch, 2, time, 32, device=DEVICE), torch.randn(batch, 2, 32, 32, device=DEVICE)
        decay = torch.ones(2, device=DEVICE)
        output, after = retention(query, query, query, decay, state=state, implementation=implementation)
        assert output.shape == query.shape and torch.equal(after, state)


@pytest.mark.proves("traffic", "retention_*_kernel")
@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
@pytest.mark.parametrize(
    ("batch", "heads", "time", "key_dim", "value_dim"),
    [(2, 2, 65, 32, 32), (1, 2, 70, 64, 32), (2, 1, 64, 32, 64), (1, 1, 33, 64, 128)],
)
def test_the_kernels_move_exactly_what_the_formula_says(batch, heads, time, key_dim, value_dim):
    shape = batch, heads, time, key_dim, value_dim
    made = dict(batch=batch, heads=heads, key_dim=key_dim, value_dim=value_dim)
    (query, key, value, state), decay = tensors(torch.float32, time, **made)
    query, key, value, state = (each.detach() for each in (query, key, value, state))
    chunk = chunk_for(query.dtype, key_dim, value_dim)
    tiles = {
        name: tuple(choose(name, query.dtype, key_dim, value_dim)[side] for side in ("BLOCK_KEY", "BLOCK_VALUE"))
        for name in ("states", "outputs", "step", "grad_value", "grad_query_key")
    }
    with trace(query=query) as traffic:
        states, _ = launch_states(key, value, decay.log2(), state, chunk)
        launch_outputs(query, key, value, decay.log2(), states, 0.2, chunk)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    sizes = dict(states=tiles["states"], outputs=tiles["outputs"])
    assert counted == costs_retention.retention_traffic(*shape, chunk=chunk, **sizes)
    with trace() as traffic:
        states, final = launch_states(key, value, decay.log2(), state, chunk)
        grad_states, _ = launch_grad_states(query, value, decay.log2(), final, 0.2, chunk)
        launch_gradients(value, query, key, value, decay.log2(), states, grad_states, 0.2, chunk)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    sizes = {name: tiles[name] for name in ("states", "grad_value", "grad_query_key")}
    assert counted == costs_retention.retention_backward_traffic(*shape, chunk=chunk, **sizes)
    with trace() as traffic:
        launch_step(query[:, :, :1], key[:, :, :1], value[:, :, :1], decay, state, 0.2)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == costs_retention.step_traffic(batch, heads, key_dim, value_dim, block_value=tiles["step"][1])


QUERY = torch.randn(1, 2, 6, 8)
BAD = {
    r"query must be .* its shape is \(2, 6, 8\)": dict(query=QUERY[0]),
    "share a floating dtype": dict(key=QUERY.half()),
    "share a device": dict(value=QUERY.to("meta")),
    "shapes must agree": dict(key=QUERY[:, :, :5]),
    r"decay must be \[heads\], \(2,\); its shape is \(3,\)": dict(decay=torch.ones(3)),
    r"decay must lie in \(0, 1\]; head 1 has 1.2": dict(decay=torch.tensor([0.5, 1.2])),
    r"decay must lie in \(0, 1\]; head 0 has nan": dict(decay=torch.tensor([float("nan"), 1.0])),
    "state must be": dict(state=torch.zeros(1, 2, 8, 9)),
    "state must be .* in float32 or float64; it is .*float16": dict(state=torch.zeros(1, 2, 8, 8).half()),
    "query, state must share a device": dict(state=torch.zeros(1, 2, 8, 8, device="meta")),
    "key_dim must be at least 1; it is 0": dict(query=QUERY[..., :0], key=QUERY[..., :0]),
    "heads must be at least 1; it is 0": dict(query=QUERY[:, :0], key=QUERY[:, :0], value=QUERY[:, :0]),
    "the kernels take their chunk size from a table; chunk_size is 16": dict(chunk_size=16, implementation="triton"),
    "the kernels give no gradient of decay": dict(decay=torch.ones(2, requires_grad=True), implementation="triton"),
    "chunk_size must be a whole number of at least 1; it is 0": dict(chunk_size=0),
    "form must be one of": dict(form="scan"),
    "implementation must be": dict(implementation="cuda"),
    "kernels compute the chunkwise form; form is 'parallel'": dict(form="parallel", implementation="triton"),
    "finite number; it is inf": dict(scale=float("inf")),
    "key_dim and value_dim among .* got 8 and 8": dict(implementation="triton"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_says_what_was_given_and_what_is_wanted(message):
    with pytest.raises(ValueError, match=message):
        retention(**placed({"query": QUERY, "key": QUERY, "value": QUERY, "decay": torch.ones(2), **BAD[message]}))
