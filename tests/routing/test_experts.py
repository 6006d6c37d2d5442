"""A layer of experts computes its sum, carries what decoding needs, and has its place in the model."""

import copy

import pytest
import torch

from effattn_core.model import LanguageModel, configuration, generate
from effattn_core.routing import ROUTERS, MixtureOfExperts, route
from effattn_core.routing.future import BEST, loss_on_bits
from effattn_core.routing.interface import CHOICES


def layer(router="top_k", experts=4, top_k=None, **changes):
    torch.manual_seed(0)
    made = MixtureOfExperts(8, 12, experts, top_k or CHOICES.get(router, 2), router=router, **changes).double()
    for weight in made.parameters():
        weight.data *= 20
    return made


def by_the_sum(made, hidden, mask, gates):
    """Token by token, expert by expert."""
    output = torch.zeros_like(hidden)
    for i, j in mask.nonzero().tolist():
        inner = torch.nn.functional.silu(hidden[i] @ made.gate[j]) * (hidden[i] @ made.up[j])
        output[i] += gates[i, j] * (inner @ made.down[j])
    return output


@pytest.mark.parametrize("router", ROUTERS)
def test_the_layer_is_the_sum_over_its_experts_in_training_and_its_gradients_are(router):
    made, hidden = layer(router), torch.randn(2, 9, 8, dtype=torch.float64, requires_grad=True)
    flat = hidden.flatten(0, 1)
    found = route(made.score(flat), router=router, top_k=made.top_k)
    wanted = by_the_sum(made, flat, found.mask, found.gates).view_as(hidden)
    ours = made(hidden)
    torch.testing.assert_close(ours, wanted)
    weights = hidden, made.gate, made.up, made.down, made.score.weight
    direction = torch.randn_like(ours)
    pairs = zip(*(torch.autograd.grad((each * direction).sum(), weights) for each in (ours, wanted)), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)
    assert torch.equal(ours, copy.deepcopy(made).train()(hidden)) or router in ("bias", "past_prices")


def test_a_token_without_an_expert_gets_the_shared_ones_alone():
    made, hidden = layer("expert_choice", shared=1, factor=0.25), torch.randn(1, 16, 8, dtype=torch.float64)
    output = made(hidden)
    none = ~route(made.score(hidden[0]), router="expert_choice", top_k=2, capacity=2).mask.any(1)
    assert none.sum() >= 8
    torch.testing.assert_close(output[0, none], made.shared(hidden)[0, none])
    assert not torch.isclose(output[0, ~none], made.shared(hidden)[0, ~none]).all(1).any()


@pytest.mark.parametrize("router", sorted(set(ROUTERS) - {"switch", "gshard", "expert_choice", "maxscore_reroute"}))
def test_equal_experts_with_normalised_weights_are_one_dense_layer(router):
    made = layer(router, normalised=True)
    for weight in (made.gate, made.up, made.down):
        weight.data[:] = weight.data[:1].clone()
    hidden = torch.randn(1, 12, 8, dtype=torch.float64)
    dense = (torch.nn.functional.silu(hidden @ made.gate[0]) * (hidden @ made.up[0])) @ made.down[0]
    torch.testing.assert_close(made(hidden), dense)


def test_an_expert_that_is_never_chosen_has_a_gradient_of_zero():
    made = layer("top_k", experts=5)
    made.score.weight.data[3] = 0
    hidden = torch.rand(1, 7, 8, dtype=torch.float64) + 0.1
    made.score.weight.data[:3] = made.score.weight.data[:3].abs()
    made.score.weight.data[4] = made.score.weight.data[4].abs()
    made(hidden).sum().backward()
    for weight in (made.gate, made.up, made.down):
        assert (weight.grad[3] == 0).all() and weight.grad[:3].abs().sum() > 0


@pytest.mark.parametrize("router", ROUTERS)
def test_decoding_a_token_at_a_time_gives_what_reading_at_once_does(router):
    """In eval: whatever was matched in training, each token is routed by itself, and training alone moves a state."""
    made, hidden = layer(router), torch.randn(1, 10, 8, dtype=torch.float64)
    for _ in range(3):
        made(hidden)
    made.eval()
    before = made.state.clone()
    whole = made(hidden)
    close = dict(rtol=1e-10, atol=1e-12)  # a product of fewer rows may round otherwise
    torch.testing.assert_close(torch.cat([made(each) for each in hidden.split(1, 1)], 1), whole, **close)
    assert torch.equal(made.state, before)
    changed = hidden.clone()
    changed[:, 6:] += 3
    torch.testing.assert_close(made(changed)[:, :6], whole[:, :6], **close)


def test_prices_learnt_in_training_balance_decoding():
    torch.manual_seed(0)
    made = MixtureOfExperts(16, 8, 8, 2, router="prices")
    made.score.weight.data[:] = torch.randn(8, 16)
    column = torch.randn(16)
    for _ in range(60):
        made(torch.randn(1, 256, 16) + column)
    made.eval()
    made(torch.randn(1, 2048, 16) + column)
    priced = made.violation
    made.state.zero_()
    made(torch.randn(1, 2048, 16) + column)
    assert priced < made.violation / 3


def test_the_state_is_stored_and_stays_in_float32():
    made = layer("bias").train()
    made(torch.randn(1, 9, 8, dtype=torch.float64))
    before = made.state.clone()
    assert before.abs().max() > 0 and made.bfloat16().state.dtype == torch.float32
    assert torch.equal(made.state, before.float()) and "state" in made.state_dict()


def test_sequences_are_routed_apart_and_their_loads_add_up():
    made, hidden = layer("prices", scope="sequence"), torch.randn(3, 8, 8, dtype=torch.float64)
    whole = made(hidden)
    assert made.load.sum() == 3 * 8 * 2 and made.auxiliary.ndim == 0
    for row in range(3):
        torch.testing.assert_close(made(hidden[row : row + 1]), whole[row : row + 1])


def test_no_token_is_no_output():
    for shape in ((0, 5, 8), (2, 0, 8)):
        assert layer()(torch.zeros(shape, dtype=torch.float64)).shape == shape


def test_settings_that_do_not_fit_are_refused_in_a_sentence():
    for changes, sentence in (
        (dict(top_k=5), "top_k must be at most the 4 experts; it is 5"),
        (dict(router="nearest"), "router must be one of"),
        (dict(scope="world"), "scope must be one of"),
        (dict(factor=0), "factor must be more than 0"),
        (dict(router="prices", factor=0.5), "places every token: factor must be at least 1"),
        (dict(shared=-1), "shared must be a whole number of at least 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            MixtureOfExperts(**{**dict(width=8, inner=8, experts=4, top_k=2), **changes})


def test_a_model_of_experts_reads_decodes_and_adds_its_balancing_loss():
    torch.manual_seed(0)
    sizes = dict(experts=4, top_k=2, router="prices", shared_experts=1, feed_forward=24)
    model = LanguageModel(configuration("tiny", 11, **sizes, balance=0.01))
    tokens = torch.randint(11, (2, 20))
    trained = model.loss(tokens[:, :-1], tokens[:, 1:])
    with torch.no_grad():
        plain = model.loss(tokens[:, :-1], tokens[:, 1:])
    auxiliary = sum(block.feed_forward.auxiliary for block in model.blocks)
    assert trained.item() == pytest.approx(plain.item() + 0.01 * auxiliary.item(), abs=1e-6)
    trained.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    model.eval()
    prompt = torch.tensor([1, 2, 3])
    cached, again = (list(generate(model, prompt, 12, use_cache=each)) for each in (True, False))
    assert cached == again
    with pytest.raises(ValueError, match="top_k is no setting without experts; it is 2"):
        configuration("tiny", 11, top_k=2)
    with pytest.raises(ValueError, match="top_k must be a whole number of at least 1; it is None"):
        LanguageModel(configuration("tiny", 11, experts=4, router="top_k"))


def test_expert_choice_learns_to_read_the_future_and_past_prices_do_not():
    """Fresh random bits, no attention: only the router can help. A short run of what the driver records in full."""
    leaking = loss_on_bits("expert_choice", steps=250, batch=24, evaluated=512)
    causal = loss_on_bits("past_prices", steps=60, batch=24, evaluated=512)
    print(leaking, causal, BEST)
    assert leaking["trained"] < BEST - 0.005 < leaking["decoding"] - 0.005
    assert all(BEST - 0.002 < loss < BEST + 0.01 for loss in causal.values())
