"""YOCO's oracle: every way in which the model reads a text gives what its definition gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effattn_core.model import build, configuration
from effattn_core.yoco import oracle

LETTERS = 11
SIZES = {
    "window": dict(window=5, heads=4, key_value_heads=2),
    "gated": dict(mixer="gated", heads=4, key_value_heads=2, value_dim=8),
}
TINY = dict(layers=4, cross_layers=2, width=32, head_dim=8, feed_forward=48, context=80)


def made(kind):
    """A small YOCO in float64 with weights large enough for positions and gates to matter."""
    torch.manual_seed(0)
    model = build(configuration("tiny", LETTERS, **TINY, **SIZES[kind])).double().eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 8
    return model


@pytest.mark.parametrize("kind", SIZES)
@settings(max_examples=10)
@given(length=st.integers(1, 70), chunk=st.integers(1, 70), cut=st.integers(1, 70))
def test_whole_early_by_pieces_and_decoded_all_give_the_oracle(kind, length, chunk, cut):
    model, tokens = made(kind), torch.randint(LETTERS, (2, length), generator=torch.Generator().manual_seed(length))
    wanted = oracle(model, tokens)
    cut = min(cut, length)
    with torch.no_grad():
        first, states = model.prefill(tokens[:, :cut], chunk=chunk)
        steps = [first]
        for at in range(cut, length):
            logits, states = model(tokens[:, at : at + 1], states)
            steps.append(logits)
        for got, part in (
            (model(tokens)[0], slice(None)),
            (model.prefill(tokens)[0], slice(-1, None)),
            (torch.cat(steps, 1), slice(cut - 1, None)),
        ):
            assert (got - wanted[:, part]).abs().max() <= 1e-11 * wanted.abs().max()


def test_a_model_in_less_precision_is_left_as_it_is_and_judged_in_float64():
    model, tokens = made("window").float(), torch.arange(9)[None]
    assert oracle(model, tokens).dtype == torch.float64
    assert model.head.weight.dtype == torch.float32
    torch.testing.assert_close(oracle(model, tokens).float(), model(tokens)[0], rtol=1e-3, atol=1e-3)
