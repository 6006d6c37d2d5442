"""Recurrences at the edges: gates of any strength, packed texts, tokens that must not reach others, derivatives."""

import pytest
import torch
from support.rules import ALL, GATE_SHAPES, close, inputs, part, truth

from effattn_core.recurrences import (
    RULES,
    recurrence,
    unit_keys,
)

# Mamba-2 hands on a scalar gate as gated retention does, and is computed alike: dear tests need not run it again.
COMPUTED = pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "mamba2"])


@pytest.mark.parametrize("rule", [name for name, row in RULES.items() if row.gate in ("scalar", "vector")])
@pytest.mark.parametrize("gate", [-50.0, -1000.0, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_of_any_strength_stay_finite_and_exact(rule, gate, dtype):
    made = inputs(rule, 80, dtype=dtype)
    made["log_gate"][:, :, 20:25] = gate  # some tokens forget all, their neighbours do not
    made["log_gate"][:, :, 40] = gate
    wanted = truth(rule, {name: each.double() for name, each in made.items()})
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    close([each.double() for each in recurrence(**made, rule=rule)], wanted, tolerance)
    made["log_gate"] = torch.full_like(made["log_gate"], gate)
    tensors = [each.requires_grad_() for each in made.values()]
    output, state = recurrence(**made, rule=rule)
    for each in torch.autograd.grad(output.sum() + state.sum(), tensors):
        assert each.isfinite().all()


@pytest.mark.parametrize("rule", ["gated", "gla", "gated_delta"])
def test_texts_packed_with_gates_of_minus_infinity_lose_no_more_than_the_loop(rule):
    """Beside the clamped gates of a reset a running sum in float32 would lose the digits of all others in its chunk."""
    made = inputs(rule, 512, key_dim=16, value_dim=16, dtype=torch.float32)
    made["log_gate"][:, :, torch.randperm(512, generator=torch.Generator().manual_seed(0))[:40]] = -torch.inf
    found = {}
    for name, how in (("exact", dict(implementation="oracle")), ("loop", dict(form="recurrent")), ("ours", dict())):
        given_ = {what: each.double() if name == "exact" else each.clone() for what, each in made.items()}
        tensors = [each.requires_grad_() for each in given_.values()]
        output, state = recurrence(**given_, rule=rule, **how)
        weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
        found[name] = [output, state, *torch.autograd.grad((output * weight).sum() + state.sum(), tensors)]
    for name, ours, loop, exact in zip(("output", "state", *made), *(found[how] for how in ("ours", "loop", "exact")),
                                       strict=True):  # fmt: skip
        error, lost = ((each.double() - exact).abs().max().item() for each in (ours, loop))
        print(f"{name}: error {error:.1e}, the loop's {lost:.1e}")
        assert error <= 6 * lost + 1e-7 * exact.abs().max(), name


@COMPUTED
@pytest.mark.parametrize("how", [dict(), dict(form="recurrent"), dict(implementation="triton")], ids=str)
def test_half_precision_is_summed_in_float32(rule, how):
    """Ones that never fade: in bfloat16 a running sum would stop growing at 256."""
    row = RULES[rule]
    ones, made = torch.ones(1, 1, 400, 32).bfloat16(), {}
    if row.gate != "none":
        made["log_gate"] = torch.zeros(GATE_SHAPES[row.gate](1, 1, 400, 32))
    made |= {"beta": torch.ones(1, 1, 400)} if row.erases else {}
    made |= {"bonus": torch.ones(1, 32)} if row.bonus else {}
    key = unit_keys(ones.float()).bfloat16() if row.erases else ones
    output, state = recurrence(ones, key, ones, rule=rule, **made, **how)
    exact, last = recurrence(ones, key, ones, rule=rule, **made, implementation="oracle")
    torch.testing.assert_close(output, exact, rtol=2**-6, atol=0)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)
    made |= {"query": ones, "key": key, "value": ones}
    again, _ = recurrence(**part(made, rule, 0, 1), state=state, rule=rule, **how)
    assert again.dtype == torch.bfloat16


@COMPUTED
@pytest.mark.parametrize("entry", [torch.nan, 3e38])
@pytest.mark.parametrize("kind", ["key", "value"])
@pytest.mark.parametrize("how", [dict(), dict(form="recurrent"), dict(implementation="oracle"), dict(chunk_size=5),
                                 dict(implementation="triton")], ids=str)  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_token_does_not_reach_the_outputs_before_it_nor_their_gradients(rule, how, kind, entry):
    """Neither within its chunk nor from another text of the batch: weights of 0 are not enough, 0 times inf is nan."""
    learns = not (RULES[rule].erases and how.get("implementation") == "triton")  # their kernel has no backward
    made = inputs(rule, 12, heads=1, key_dim=32, value_dim=32, dtype=torch.float32)
    before, _ = recurrence(**made, rule=rule, **how)
    for place in (0, 7):
        spoiled = {name: each.clone() for name, each in made.items()}
        spoiled[kind][1, :, place] = entry
        spoiled["query"].requires_grad_(learns)
        after, _ = recurrence(**spoiled, rule=rule, **how)
        torch.testing.assert_close(after[0], before[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(after[1, :, :place], before[1, :, :place], rtol=1e-4, atol=1e-4)
        if not learns:
            continue
        (gradient,) = torch.autograd.grad(after[:, :, :place].sum(), spoiled["query"])
        assert gradient[:, :, :place].isfinite().all()


@COMPUTED
def test_a_second_derivative_is_right_and_so_is_a_forward_one(rule):
    made = inputs(rule, 3, batch=1, heads=1, key_dim=2, value_dim=2)
    made = {name: each.requires_grad_() for name, each in made.items()}

    def summed(*each):
        found = recurrence(**dict(zip(made, each, strict=True)), rule=rule, chunk_size=2)
        return sum(part_.square().sum() for part_ in found)

    assert torch.autograd.gradgradcheck(summed, tuple(made.values()))
    query, *rest = (each.detach() for each in made.values())
    small = 1e-6
    _, tangent = torch.func.jvp(lambda each: summed(each, *rest), (query,), (torch.ones_like(query),))
    torch.testing.assert_close(tangent, (summed(query + small, *rest) - summed(query - small, *rest)) / (2 * small),
                               rtol=1e-5, atol=1e-6)  # fmt: skip
    torch.testing.assert_close(torch.func.grad(lambda each: summed(each, *rest))(query),
                               torch.autograd.grad(summed(*made.values()), made["query"])[0])  # fmt: skip


@pytest.mark.parametrize("how", [dict(), dict(form="recurrent"), dict(implementation="triton")], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_linear_attention_divides_by_no_zero(how, dtype):
    """A query far below 0 in all its numbers weighs as its largest does; keys that all round to 0 give 0."""
    query, key, value = torch.randn(3, 1, 2, 9, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = [recurrence(each, key, value, rule="linear", **how)[0] for each in (query - 300, query - 30)]
    exact, _ = recurrence(query - 300, key, value, rule="linear", implementation="oracle")
    torch.testing.assert_close(found[0], exact, rtol=2e-2 if dtype == torch.float16 else 1e-4, atol=1e-3)
    assert found[1].isfinite().all()
    nothing, _ = recurrence(query, key - 300, value, rule="linear", **how)
    assert torch.equal(nothing, torch.zeros_like(value))
    keys = recurrence(query, key - 19, value, rule="linear", **how)[0]
    exact, _ = recurrence(query, key - 19, value, rule="linear", implementation="oracle")
    torch.testing.assert_close(keys, exact, rtol=2e-2 if dtype == torch.float16 else 1e-4, atol=1e-3)


def test_mamba2_is_computed_as_gated_retention_is():
    made = inputs("gated", 40)
    for how in (dict(), dict(form="recurrent"), dict(implementation="oracle")):
        for one, other in zip(*(recurrence(**made, rule=rule, **how) for rule in ("gated", "mamba2")), strict=True):
            assert torch.equal(one, other)
    alike = {"name", "title", "transition", "write", "source"}
    assert {name for name, _ in vars(RULES["gated"]).items() ^ vars(RULES["mamba2"]).items()} <= alike


@ALL
def test_a_state_may_be_wider_than_the_inputs(rule):
    made = inputs(rule, 9, dtype=torch.float32)
    for how in (dict(), dict(form="recurrent"), dict(implementation="oracle")):
        wider = recurrence(**made | {"state": made["state"].double()}, rule=rule, **how)
        close(wider, recurrence(**made, rule=rule, **how), 1e-6)
        assert wider[1].dtype == torch.float32


@pytest.mark.parametrize("rule", ["linear", "gated", "rwkv6", "gated_delta"])
def test_compiled_decoding_is_at_most_two_graphs(rule):
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    decode = torch.compile(recurrence, backend=counted, fullgraph=True)
    made = inputs(rule, 16, dtype=torch.float32)
    state = made["state"]
    for at in range(16):
        output, state = decode(**part(made, rule, at, at + 1) | {"state": state}, rule=rule)
    whole, last = truth(rule, {name: each.double() for name, each in made.items()})
    close((output.double(), state.double()), (whole[:, :, -1:], last), 1e-3)
    assert len(graphs) <= 2
