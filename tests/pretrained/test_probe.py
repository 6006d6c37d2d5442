"""What the probes see is what the model computes."""

import pytest
import torch

from effattn_core import pretrained
from effattn_core.attention import oracle
from effattn_core.model import Configuration, LanguageModel
from effattn_core.pretrained import probe

SIZES = Configuration(31, width=32, layers=2, heads=4, key_value_heads=2, head_dim=8, feed_forward=48, context=64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    made = LanguageModel(SIZES).double().eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return made


def test_recorded_weights_are_those_of_the_oracle(model):
    tokens = torch.randint(31, (2, 13))
    for state in probe.recorded(model, tokens):
        weight = probe.attention_weights(state).double()
        value = state.value.repeat_interleave(2, 1)
        wanted = oracle(state.query, state.key, state.value, causal=True, scale=8**-0.5).output
        assert torch.allclose(weight @ value, wanted, atol=1e-6)
        rows = torch.tensor([3, 12])
        assert torch.equal(probe.attention_weights(state, rows).double(), weight[:, :, rows])


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize(("window", "sinks"), [(None, 0), (3, 0), (3, 2)])
def test_losses_through_a_window_are_those_of_a_model_that_has_it(model, window, sinks, chunk):
    tokens = torch.randint(31, (2, 20))
    other = LanguageModel(Configuration(**{**vars(SIZES), "window": window, "sinks": sinks})).double()
    other.load_state_dict(model.state_dict())
    logits = other(tokens[:, :-1])[0].log_softmax(-1)
    wanted = -logits.gather(2, tokens[:, 1:, None])[..., 0]
    found = probe.token_losses(model, tokens, window=window, sinks=sinks, chunk=chunk)
    assert torch.allclose(found.double(), wanted, atol=1e-5)


def test_mass_within_counts_the_query_and_leaves_the_first_keys_out(model):
    state = probe.recorded(model, torch.randint(31, (1, 16)))[0]
    rows = torch.tensor([9, 15])
    weight = probe.attention_weights(state, rows)[0]
    near = probe.mass_within(state, (1, 3, 16), rows=rows)
    wanted = torch.stack([weight[:, 0, 7:10].sum(-1), weight[:, 1, 13:16].sum(-1)]).mean(0)
    assert torch.allclose(near[1], wanted) and torch.allclose(near[2], torch.ones(4))
    without = probe.mass_within(state, (3,), rows=rows, first=2)[0]
    shares = [
        weight[:, 0, 7:10].sum(-1) / weight[:, 0, 2:].sum(-1),
        weight[:, 1, 13:].sum(-1) / weight[:, 1, 2:].sum(-1),
    ]
    assert torch.allclose(without, torch.stack(shares).mean(0))


def test_passages_are_whole_and_apart():
    _, tokenizer = pretrained.load("smollm2", device="cpu")
    found = probe.passages(tokenizer, 3, 100)
    assert found.shape == (3, 100) and len({tuple(each) for each in found.tolist()}) == 3
    with pytest.raises(ValueError, match="3 passages of 1,000,000 tokens do not fit"):
        probe.passages(tokenizer, 3, 1_000_000)
