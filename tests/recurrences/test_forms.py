"""Recurrences: every rule by chunks equals the loop that reads like the table; and what the rules promise."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.placed import placed
from support.rules import ALL, close, inputs, part, truth
from torch.nn.functional import logsigmoid

from effattn_core.recurrences import (
    RULES,
    discretised,
    gated_chunkwise,
    new_state,
    oracle,
    positive_features,
    recurrence,
    unit_keys,
)


@ALL
@given(st.integers(1, 130), st.integers(1, 70), st.sampled_from([0.01, 1.0, 50.0]))
@settings(max_examples=20)
def test_chunks_of_any_size_equal_the_oracle(rule, time, chunk_size, strength):
    made = inputs(rule, time, strength=strength)
    close(recurrence(**made, rule=rule, chunk_size=chunk_size), truth(rule, made))


@ALL
@given(st.lists(st.integers(0, 70), max_size=4), st.sampled_from(["chunkwise", "recurrent"]))
@settings(max_examples=10)
def test_splitting_a_sequence_anywhere_with_the_state_carried_gives_the_same_output(rule, cuts, form):
    made = inputs(rule, 70)
    state, outputs, edges = made["state"], [], [0, *sorted(cuts), 70]
    for begin, end in zip(edges, edges[1:], strict=False):
        piece = part(made, rule, begin, end) | {"state": state}
        output, state = recurrence(**piece, rule=rule, form=form, chunk_size=16)
        outputs.append(output)
    close((torch.cat(outputs, 2), state), truth(rule, made))


@ALL
def test_a_step_at_a_time_is_decoding(rule):
    made = inputs(rule, 9)
    state, outputs = made["state"], []
    for token in range(9):
        output, state = recurrence(**part(made, rule, token, token + 1) | {"state": state}, rule=rule)
        outputs.append(output)
    close((torch.cat(outputs, 2), state), truth(rule, made))


@ALL
def test_the_future_changes_nothing_past(rule):
    made = inputs(rule, 65)
    before, _ = recurrence(**made, rule=rule, chunk_size=16)
    changed = {name: each.clone() for name, each in made.items()}
    changed["value"][:, :, 40:], changed["key"][:, :, 40:] = -7.0, 0.5
    if RULES[rule].gate in ("scalar", "vector"):
        changed["log_gate"][:, :, 40:] = -0.3
    after, _ = recurrence(**changed, rule=rule, chunk_size=16)
    assert torch.equal(before[:, :, :40], after[:, :, :40])
    assert not torch.allclose(before[:, :, 40:], after[:, :, 40:])


@ALL
def test_every_gradient_is_right(rule):
    made = {name: each.requires_grad_() for name, each in inputs(rule, 7, batch=1, key_dim=3, value_dim=2).items()}
    assert torch.autograd.gradcheck(
        lambda *each: recurrence(**dict(zip(made, each, strict=True)), scale=0.6, rule=rule, chunk_size=4),
        tuple(made.values()),
    )


@pytest.mark.parametrize("rule", ["gated", "gla"])
def test_the_analytic_gradients_are_autograd_s_for_many_chunks_and_strong_gates(rule):
    made = inputs(rule, 130, strength=5.0)
    made["log_gate"][:, :, 50] = -torch.inf
    tensors = [made[name].requires_grad_() for name in ("query", "key", "value", "log_gate", "state")]
    results = [
        recurrence(*tensors[:3], log_gate=tensors[3], state=tensors[4], rule=rule, scale=0.5, chunk_size=16),
        gated_chunkwise(*tensors[:4], state=tensors[4], scale=0.5, chunk_size=32),
    ]
    cotangents = [torch.randn(each.shape, dtype=each.dtype) for each in results[0]]
    ours, theirs = (torch.autograd.grad(result, tensors, cotangents) for result in results)
    for name, one, other in zip(("query", "key", "value", "log_gate", "state"), ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, msg=name)


@ALL
def test_float32_and_half_precision_stay_near_the_oracle(rule):
    made = inputs(rule, 200, key_dim=16, value_dim=16)
    exact, _ = truth(rule, made)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.15), (torch.float16, 0.02)):
        low = {name: each.to(dtype if name in ("query", "key", "value") else torch.float32)
               for name, each in made.items()}  # fmt: skip
        for form in ("chunkwise", "recurrent"):
            output, state = recurrence(**low, rule=rule, form=form)
            assert output.dtype == dtype and state.dtype == torch.float32
            assert (output.double() - exact).abs().max() < tolerance * exact.abs().max()


def test_the_rules_contain_one_another():
    made = inputs("gla", 40)
    plain = {name: made[name] for name in ("query", "key", "value", "state")}
    rate = logsigmoid(torch.randn(2, 2, 40, dtype=torch.float64))
    gated = recurrence(**plain, rule="gated", log_gate=rate)
    close(recurrence(**plain, rule="gla", log_gate=rate[..., None].expand(2, 2, 40, 4)), gated)
    constant = rate[0, :, 0]
    retention = recurrence(**plain, rule="retention", log_gate=constant)
    close(recurrence(**plain, rule="gated", log_gate=constant[:, None].expand(2, 2, 40)), retention)
    plain["key"], beta = unit_keys(plain["key"]), torch.rand(2, 2, 40, dtype=torch.float64)
    delta = recurrence(**plain, rule="delta", beta=beta)
    close(recurrence(**plain, rule="gated_delta", beta=beta, log_gate=torch.zeros_like(beta)), delta)
    a, step = -torch.rand(2, dtype=torch.float64), torch.rand(2, 2, 40, dtype=torch.float64)
    log_gate, key = discretised(plain["key"], a, step)
    kept, state, outputs = torch.exp(a[:, None] * step), plain["state"], []
    for t in range(40):  # the discretised state space as its paper writes it
        write = step[:, :, t, None, None] * plain["key"][:, :, t, :, None] * plain["value"][:, :, t, None]
        state = kept[:, :, t, None, None] * state + write
        outputs.append(0.5 * plain["query"][:, :, t, None] @ state)
    close(
        recurrence(**plain | {"key": key}, rule="mamba2", log_gate=log_gate, scale=0.5), (torch.cat(outputs, 2), state)
    )


def test_linear_attention_is_a_weighted_mean_of_values():
    made = inputs("linear", 20)
    query, key = positive_features(made["query"]), positive_features(made["key"])
    weight = (query @ key.mT).tril()
    output, state = recurrence(made["query"], made["key"], made["value"], rule="linear", scale=3.0)
    torch.testing.assert_close(output, weight / weight.sum(-1, keepdim=True) @ made["value"])
    torch.testing.assert_close(state[..., -1], key.sum(2))
    far = torch.tensor([-40.0])
    assert positive_features(far) > 0 and torch.nn.functional.elu(far) + 1 == 0


def test_the_delta_rule_replaces_what_a_key_held_and_touches_no_other():
    keys = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q[None, None]  # four orthonormal keys
    values, new = torch.randn(2, 1, 1, 4, 3, dtype=torch.float64)
    beta = torch.ones(1, 1, 4, dtype=torch.float64)
    recalled = {}
    for rule, extra in (("delta", {"beta": beta}), ("retention", {"log_gate": torch.zeros(1)})):
        _, state = recurrence(keys, keys, values, rule=rule, **extra)
        again = {name: each[:, :, 2:3] if each.ndim == 3 else each for name, each in extra.items()}
        _, state = recurrence(keys[:, :, 2:3], keys[:, :, 2:3], new[:, :, 2:3], rule=rule, state=state, **again)
        recalled[rule] = keys @ state
    others = [0, 1, 3]
    torch.testing.assert_close(recalled["delta"][:, :, others], values[:, :, others])
    torch.testing.assert_close(recalled["delta"][:, :, 2], new[:, :, 2])
    torch.testing.assert_close(recalled["retention"][:, :, 2], values[:, :, 2] + new[:, :, 2])


@ALL
def test_permuting_heads_permutes_the_output(rule):
    made, order = inputs(rule, 33, heads=3), [2, 0, 1]
    flat = {"bonus"} | ({"log_gate"} if RULES[rule].gate == "constant" else set())
    permuted = {name: each[order] if name in flat else each[:, order] for name, each in made.items()}
    output, state = recurrence(**made, rule=rule)
    close(recurrence(**permuted, rule=rule), (output[:, order], state[:, order]), 1e-12)


@ALL
def test_the_output_is_linear_in_the_value(rule):
    made = inputs(rule, 33)
    made["state"] = torch.zeros_like(made["state"])
    other = torch.randn_like(made["value"])
    outputs = [recurrence(**made | {"value": value}, rule=rule)[0]
               for value in (made["value"], other, 2 * made["value"] - 3 * other)]  # fmt: skip
    torch.testing.assert_close(outputs[2], 2 * outputs[0] - 3 * outputs[1], rtol=1e-10, atol=1e-10)


@ALL
def test_strided_views_no_batch_and_no_time_work(rule):
    made = inputs(rule, 21)
    strided = {name: each.mT.contiguous().mT if each.ndim == 4 else each for name, each in made.items()}
    close(recurrence(**strided, rule=rule), truth(rule, made))
    for form in ("chunkwise", "recurrent"):
        output, state = recurrence(**part(made, rule, 0, 0), rule=rule, form=form)
        assert output.shape == (2, 2, 0, 3) and torch.equal(state, made["state"])
        empty = inputs(rule, 5, batch=0)
        output, state = recurrence(**empty, rule=rule, form=form)
        assert output.shape == (0, 2, 5, 3) and state.shape == empty["state"].shape


@ALL
def test_no_state_is_a_state_of_nothing(rule):
    made = inputs(rule, 12)
    made["state"] = new_state(made["query"], made["value"], rule=rule)
    without = {name: each for name, each in made.items() if name != "state"}
    close(recurrence(**without, rule=rule), recurrence(**made, rule=rule), 0)


def test_compiled_recurrences_are_one_graph():
    for rule in ("gla", "gated_delta"):
        torch._dynamo.reset()  # else sizes that an earlier test compiled for would become symbols, which takes minutes
        made = inputs(rule, 20, dtype=torch.float32)
        compiled = torch.compile(recurrence, backend="aot_eager", fullgraph=True)
        close(compiled(**made, rule=rule), recurrence(**made, rule=rule), 1e-6)


def test_the_table_is_whole_and_cannot_be_changed():
    wanted = ["linear", "retention", "gated", "mamba2", "gla", "rwkv6", "delta", "gated_delta"]
    assert list(RULES) == wanted
    for name, row in RULES.items():
        assert row.name == name and all((row.title, row.transition, row.write, row.read, row.source))
        assert row.gate in ("none", "constant", "scalar", "vector") and row.erases == ("delta" in name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        RULES["gla"].gate = "none"
    with pytest.raises(TypeError):
        RULES["mine"] = RULES["gla"]


QUERY, GATE = torch.randn(1, 4, 6, 8), -torch.rand(1, 4, 6)
BAD = {
    "rule must be one of linear, .* it is 'lstm'": dict(rule="lstm"),
    "form must be one of chunkwise, recurrent; it is 'parallel'": dict(form="parallel"),
    "implementation must be .* it is 'cuda'": dict(implementation="cuda"),
    "chunk_size must be a whole number of at least 1; it is 0": dict(chunk_size=0),
    "finite number; it is nan": dict(scale=float("nan")),
    r"key must be \[batch, heads, time, head_dim\]; its shape is \(4, 6, 8\)": dict(key=QUERY[0]),
    "share a floating dtype": dict(key=QUERY.half()),
    "query and key must agree": dict(key=QUERY[:, :3]),
    "and value with them": dict(value=QUERY[:, :, :5]),
    r"log_gate must be \(1, 4, 6\) for the rule 'gated'; its shape is None": dict(log_gate=None),
    r"log_gate must be \(1, 4, 6\) .* its shape is \(4,\)": dict(log_gate=GATE[0, :, 0]),
    r"log_gate must be \(4,\) for the rule 'retention'": dict(rule="retention"),
    r"log_gate must be \(1, 4, 6, 8\) for the rule 'gla'": dict(rule="gla"),
    "log_gate must be None for the rule 'delta'": dict(rule="delta"),
    r"beta must be \(1, 4, 6\) for the rule 'gated_delta'; its shape is None": dict(rule="gated_delta"),
    "beta must be None for the rule 'gated'": dict(beta=GATE),
    r"bonus must be \(4, 8\) for the rule 'rwkv6'": dict(rule="rwkv6", log_gate=-QUERY.abs()),
    "log_gate must be torch.float32, as the value, or float32; it is torch.float64": dict(log_gate=GATE.double()),
    "log_gate must be at most 0, .* its largest is 0.5": dict(log_gate=GATE * 0 + 0.5),
    "beta must lie in .0, 2.; it goes from -3 to -3": dict(rule="gated_delta", beta=torch.full_like(GATE, -3)),
    r"state must be \(1, 4, 8, 8\) .* it is \(1, 4, 8, 9\)": dict(state=torch.zeros(1, 4, 8, 9)),
    r"state must be \(1, 4, 8, 9\) .* for the rule 'linear'": dict(
        rule="linear", log_gate=None, state=torch.zeros(1, 4, 8, 8)
    ),
    "state must be .* in float32 or float64 .*int64": dict(state=torch.zeros(1, 4, 8, 8, dtype=torch.int64)),
    "state must be .* in float32 or float64 .*bfloat16": dict(state=torch.zeros(1, 4, 8, 8).bfloat16()),
    "log_gate must be at most 0, .* its largest is nan": dict(log_gate=GATE.where(GATE < GATE.max(), torch.nan)),
    "beta must lie in .0, 2.; it goes from nan": dict(rule="gated_delta", beta=GATE * torch.nan),
    "query, log_gate must share a device": dict(log_gate=GATE.to("meta")),
    "key_dim must be at least 1; it is 0": dict(query=QUERY[..., :0], key=QUERY[..., :0]),
    "value_dim must be at least 1; it is 0": dict(value=QUERY[..., :0]),
    "heads must be at least 1; it is 0": dict(query=QUERY[:, :0], key=QUERY[:, :0], value=QUERY[:, :0]),
    "the kernels take their chunk size from a table; chunk_size is 16": dict(chunk_size=16, implementation="triton"),
    "query, state must share a device": dict(state=torch.zeros(1, 4, 8, 8, device="meta")),
    "form 'recurrent' is a loop in PyTorch and has no kernel": dict(form="recurrent", implementation="triton"),
    "the rule 'gated_delta' has no backward pass, and an input wants a gradient: use implementation='torch'": dict(
        rule="gated_delta", beta=(-GATE).requires_grad_(), implementation="triton"
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_says_what_was_given_and_what_is_wanted(message):
    with pytest.raises(ValueError, match=message):
        given = {"query": QUERY, "key": QUERY, "value": QUERY, "rule": "gated", "log_gate": GATE, **BAD[message]}
        recurrence(**placed(given))


def test_mamba2_s_rates_have_a_sign():
    with pytest.raises(ValueError, match="their extremes are 0.5 and"):
        discretised(QUERY, torch.tensor([-1, 0.5, -1, -1]), -GATE)


@pytest.mark.parametrize("rule", ["gated", "gla"])
def test_texts_packed_by_gates_that_clear_the_state_are_each_alone(rule):
    """Seven texts in a row of 259 tokens: in float64 as if alone; in float32 to its rounding, by chunks and by loop."""
    made = inputs(rule, 259, strength=1 / 16)
    starts = list(range(0, 259, 37))
    made["log_gate"][:, :, starts] = -torch.inf
    alone = [oracle(**part(made, rule, begin, begin + 37) | {"state": torch.zeros_like(made["state"])}, rule=rule,
                    scale=0.5)[0] for begin in starts]  # fmt: skip
    wanted = torch.cat(alone, 2)
    torch.testing.assert_close(recurrence(**made, rule=rule, scale=0.5)[0], wanted, rtol=1e-11, atol=1e-11)
    narrow = {name: each.float().requires_grad_() for name, each in made.items()}
    wide_ = {name: each.clone().requires_grad_() for name, each in made.items()}
    for given_, form, most, steepest in ((narrow, "chunkwise", 1e-6, 1e-5), (narrow, "recurrent", 1e-6, None)):
        output, _ = recurrence(**given_, rule=rule, scale=0.5, form=form)
        assert (output - wanted).abs().max() < most * wanted.abs().max()
        if steepest:
            exact = recurrence(**wide_, rule=rule, scale=0.5, implementation="oracle")[0].sin().sum()
            names = ["query", "key", "value", "log_gate"]
            pairs = zip(torch.autograd.grad(output.sin().sum(), [given_[name] for name in names]),
                        torch.autograd.grad(exact, [wide_[name] for name in names]), strict=True)  # fmt: skip
            for ours, truth_ in pairs:
                assert (ours - truth_).abs().max() < steepest * truth_.abs().max()


@pytest.mark.parametrize("rule", ["gated", "gla"])
def test_a_gate_s_gradient_needs_the_state_that_is_handed_on(rule):
    """Eq. gated-backward, with a loss on the last state too: without ⟨S, dS⟩ it is wrong by far."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 40, 8, dtype=torch.float64, generator=generator).requires_grad_()
    shape = (1, 2, 40) if rule == "gated" else (1, 2, 40, 8)
    log_gate = (-torch.rand(shape, dtype=torch.float64, generator=generator)).requires_grad_()
    output, state = recurrence(query, key, value, rule=rule, log_gate=log_gate)
    loss = output.square().sum() + state.square().sum()
    d_query, d_key, d_gate, d_state = torch.autograd.grad(loss, (query, key, log_gate, state))
    each, passing = query * d_query - key * d_key, (state * d_state).sum(-1)[:, :, None]
    if rule == "gated":
        each, passing = each.sum(-1), passing.sum(-1)
    later = each.flip(2).cumsum(2).flip(2)
    assert (later + passing - d_gate).abs().max() < 1e-12 * d_gate.abs().max()
    assert (later - d_gate).abs().max() > 0.1 * d_gate.abs().max()


def test_the_gradient_of_a_gate_of_rwkv6_is_the_sum_that_the_chapter_gives():
    made = {name: each.requires_grad_() for name, each in inputs("rwkv6", 9).items()}
    query, key, value, gate = (made[name] for name in ("query", "key", "value", "log_gate"))
    output, last = oracle(**made, rule="rwkv6", scale=1.0)
    generator = torch.Generator().manual_seed(1)
    toward, d_state = (torch.randn(each.shape, generator=generator).double() for each in (output, last))
    wanted, *whole = torch.autograd.grad(
        (output * toward).sum() + (last * d_state).sum(), (gate, query, key), retain_graph=True
    )
    itself = (query * made["bonus"][:, None] * key).sum(-1, keepdim=True) * value  # what comes through u
    d_query, d_key = (
        a - b for a, b in zip(whole, torch.autograd.grad((itself * toward).sum(), (query, key)), strict=True)
    )
    reads = torch.nn.functional.pad((query * d_query)[:, :, 1:], (0, 0, 0, 1))
    found = (reads - key * d_key).flip(2).cumsum(2).flip(2) + (last * d_state).sum(-1)[:, :, None]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
