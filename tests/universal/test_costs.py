"""The cost model of loops against real models: weights, operations and bytes are counted while they run."""

import dataclasses
import sys

import pytest
import torch
from support.loops import KINDS, made, sizes_of, text
from torch.utils.flop_counter import FlopCounterMode

from effattn_core import attention, bill, costs
from effattn_core.states import kept_bytes
from effattn_core.universal import costs as costs_universal
from effattn_core.yoco import costs as costs_yoco

LOOPS = (1, 2, 3, 4)
TOKENS = 37


def multiplied(model, call):
    """Operations of the matrix products of `call(model)` in which a weight takes part, as PyTorch counts them."""
    seen = []

    def count(module, given, made):
        seen.append(2 * module.weight.numel() * given[0].shape[:-1].numel())

    hooks = [each.register_forward_hook(count) for each in model.modules() if isinstance(each, torch.nn.Linear)]
    with torch.no_grad():
        call(model)
    for hook in hooks:
        hook.remove()
    return sum(seen)


def attended(model, call, monkeypatch):
    """Operations of attention during `call(model)`: 4 · head_dim for each pair of a query and a key that it sees."""
    pairs, real = [], attention.attention

    def count(query, key, value, *, causal=True, window=None, sinks=0, **settings):
        place = torch.arange(key.shape[2])
        seen = attention.visible(place[-query.shape[2] :], place, causal=causal, window=window, sinks=sinks)
        pairs.append(4 * query.shape[0] * query.shape[1] * query.shape[3] * int(seen.sum()))
        return real(query, key, value, causal=causal, window=window, sinks=sinks, **settings)

    with monkeypatch.context() as patched:
        for name in ("layers", "states"):
            patched.setattr(sys.modules[f"effattn_core.{name}"], "attention", count)
        with torch.no_grad():
            call(model)
    return sum(pairs)


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gated"])
def test_operations_are_those_that_run(kind, loops, monkeypatch):
    """A training pass, a prompt, and one decoded token: every product of a weight, every pair of attention."""
    model, tokens = made(kind, loops), text(TOKENS, batch=1)
    _, states = model.prefill(tokens)
    sizes, room = model.sizes, model.sizes.context
    cases = [
        (costs_universal.forward_flops(sizes, TOKENS), lambda model: model(tokens)),
        (costs_universal.prefill_flops(sizes, TOKENS), lambda model: model.prefill(tokens)),
    ]
    for wanted, call in cases:
        assert multiplied(model, call) + attended(model, call, monkeypatch) == wanted
    once = lambda model: model(text(1, batch=1), states)  # noqa: E731
    wanted = costs_universal.decode_flops(sizes, TOKENS + 1)
    assert attended(model, once, monkeypatch) + multiplied(model, lambda model: model(text(1, batch=1))) == wanted
    assert room == states[-1].capacity


@pytest.mark.parametrize("loops", LOOPS)
def test_operations_of_gated_loops_are_matrices_and_states(loops, monkeypatch):
    """The state's part is a formula of the recurrences, told apart here from what is counted."""
    model, tokens = made("gated", loops), text(TOKENS, batch=1)
    sizes = model.sizes
    counted = multiplied(model, lambda model: model(tokens)) + attended(model, lambda m: m(tokens), monkeypatch)
    states = loops * costs_universal.looped_layers(sizes) * costs_universal.looped_mixing(sizes, TOKENS, chunk=16)
    assert counted + states == costs_universal.forward_flops(sizes, TOKENS, chunk=16)
    assert states == loops * 2 * TOKENS * 4 * (2 * 16 * 16 + 4 * 8 * 8)


def test_pytorchs_own_counter_agrees_on_the_products_of_weights():
    model = made("window", 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.blocks[0].feed_forward(torch.randn(1, TOKENS, 32, dtype=torch.float64))
        model.blocks[0].mixer.query(torch.randn(1, TOKENS, 32, dtype=torch.float64))
    assert counter.get_total_flops() == 2 * TOKENS * (3 * 32 * 48 + 32 * 32)


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_kept_are_those_of_real_states(kind, loops):
    """Summed over the tensors, weights in float64: elements have 8 bytes, and so have the states."""
    model = made(kind, loops)
    _, states = model.prefill(text(90))
    wanted = costs_universal.kept(model.sizes, 90, batch=2, element=8, state_element=8)
    assert kept_bytes(states) == wanted.total
    if model.sizes.cross_layers:
        assert kept_bytes(states[-1:]) == wanted.growing and kept_bytes(states[:-1]) == wanted.constant
    else:
        assert wanted.constant == 0


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_model_whatever_the_loops(kind):
    for loops in LOOPS:
        model = made(kind, loops)
        assert costs_universal.parameters(model.sizes) == model.parameter_count
    plain = sizes_of(kind, loop_embedding=False)
    counts = {costs_universal.parameters(dataclasses.replace(plain, loops=loops)) for loops in LOOPS}
    assert len(counts) == 1


def test_the_shared_cache_is_flat_in_loops_and_a_looped_transformers_is_not():
    ours = [costs_universal.kept(costs_universal.llama_sized(loops), 131072) for loops in LOOPS]
    theirs = [costs_universal.kept(costs_universal.llama_sized(loops, shares=False), 131072) for loops in LOOPS]
    assert {each.growing for each in ours} == {costs.cache_bytes(costs.LLAMA_8B, 131072) // 32}
    assert [each.constant for each in ours] == [loops * ours[0].constant for loops in LOOPS]
    assert [each.total for each in theirs] == [loops * costs.cache_bytes(costs.LLAMA_8B, 131072) for loops in LOOPS]
    assert ours[3].total < theirs[0].total / 16


def test_one_loop_costs_what_yoco_does():
    one = costs_universal.llama_sized(1)
    assert costs_universal.prefill_flops(one, 131072) == costs_yoco.prefill_flops(costs.LLAMA_8B, 131072, "YOCO, gated")
    assert costs_universal.decode_bytes(one, 131072) == costs_yoco.decode_bytes(costs.LLAMA_8B, 131072, "YOCO, gated")
    assert costs_universal.matrix_parameters(one) == costs_yoco.matrix_parameters(costs.LLAMA_8B, "YOCO, gated")


def test_a_looped_transformer_of_one_loop_costs_what_a_transformer_does():
    sizes, model = costs_universal.llama_sized(1, shares=False), costs.LLAMA_8B
    assert costs_universal.parameters(sizes) == model.parameters
    assert costs_universal.prefill_flops(sizes, 4096) == costs.prefill_flops(model, 4096)
    assert costs_universal.decode_flops(sizes, 4096 + 1) == costs.decode_flops(model, 4096)
    assert costs_universal.decode_bytes(sizes, 4096) == costs.decode_bytes(model, 4096)


def test_the_bill_changes_its_lines_and_no_other():
    moved = {new.key: new.value / old.value for old, new in bill.moved("universal")}
    assert list(moved) == ["prefill", "cache", "decode"] and min(moved.values()) > 1 and moved["prefill"] > 3


def test_weights_that_stay_on_the_chip_are_read_once():
    sizes = costs_universal.llama_sized(4)
    extra = costs_universal.decode_bytes(sizes, 4096) - costs_universal.decode_bytes(sizes, 4096, weights_cached=True)
    assert extra == 2 * 3 * 16 * costs_universal.looped_matrices(sizes)


@pytest.mark.parametrize("shares", [True, False])
def test_the_most_loops_fit_and_one_more_does_not(shares):
    sizes = costs_universal.llama_sized(1, shares=shares, mixer="gated")
    for budget in (1 << 20, 600 << 20, 1 << 30, 1 << 36):
        most = costs_universal.most_loops(sizes, 131072, budget)
        fit = [
            loops for loops in range(1, 65)
            if costs_universal.kept(dataclasses.replace(sizes, loops=loops), 131072).total <= budget
        ]  # fmt: skip
        assert most == max(fit, default=0)
