"""What YOCO keeps and does, by formula, against real tensors, counted products and the paper's figures."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from effattn_core import bill
from effattn_core.attention import attention
from effattn_core.model import build, configuration
from effattn_core.states import kept_bytes
from effattn_core.yoco import costs as prices
from kernels import runtime
from kernels.trace import trace

interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
MODELS = {
    "Transformer": dict(heads=4, key_value_heads=4),
    "grouped": dict(heads=4, key_value_heads=2),
    "YOCO, window": dict(heads=4, key_value_heads=2, cross_layers=2, window=7),
    "YOCO, gated": dict(heads=4, key_value_heads=2, cross_layers=2, mixer="gated"),
}


def made(architecture, context=50, **changes):
    return build(configuration("tiny", 11, layers=4, context=context, **MODELS[architecture], **changes)).eval()


@pytest.mark.parametrize("architecture", prices.ARCHITECTURES)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_formula_gives_the_bytes_of_the_tensors_that_decoding_keeps(architecture, batch):
    model = made(architecture)
    for context in (7, 30, 50):
        _, states = model.prefill(torch.zeros(batch, context, dtype=torch.int64))
        found = prices.kept(
            prices.model_of(model.sizes), context, architecture, batch=batch, element=4, window=7, window_heads=2
        )
        assert kept_bytes(states) == found.total
        assert found.constant == sum(each.nbytes for each in states if not each.grows)


@pytest.mark.parametrize("architecture", prices.ARCHITECTURES)
def test_the_weights_are_those_of_the_model(architecture):
    model = made(architecture)
    matrices = sum(weight.numel() for name, weight in model.named_parameters() if weight.ndim == 2)
    found = prices.matrix_parameters(prices.model_of(model.sizes), architecture)
    if architecture == "YOCO, window":  # here the window's heads are grouped, as released they are not
        sizes = model.sizes
        found -= 2 * 2 * sizes.width * sizes.head_dim * (sizes.heads - sizes.key_value_heads)
    assert matrices - 2 * model.head.weight.numel() == found


@pytest.mark.parametrize("architecture", ["grouped", "YOCO, gated"])
def test_a_prefill_multiplies_what_the_formula_says(architecture):
    """PyTorch counts the products of `matrices` and of the head; what mixes tokens is not among its linear layers."""
    model, context = made(architecture), 48
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.prefill(torch.zeros(1, context, dtype=torch.int64))
    linear = sum(value for operator, value in counter.get_flop_counts()["Global"].items() if "bmm" not in str(operator))
    parts, sizes = prices.prefill_parts(prices.model_of(model.sizes), context, architecture), model.sizes
    attention = 4 * sizes.heads * sizes.head_dim * context * sizes.cross_layers  # one query a layer over all keys
    wanted = parts["matrices"] + max(0, parts["cross-decoder"] - attention) + 2 * sizes.vocabulary * sizes.width
    assert linear == wanted


def test_a_layer_keeps_a_cache_a_window_a_state_or_nothing_and_all_sum():
    model = prices.YOCO_3B
    for architecture in prices.ARCHITECTURES:
        layers = [prices.layer_kept(model, 4096, architecture, layer) for layer in range(model.layers)]
        assert sum(size for _, size in layers) == prices.kept(model, 4096, architecture).total
    kinds = [prices.layer_kept(model, 4096, "YOCO, gated", layer)[0] for layer in range(model.layers)]
    assert kinds == ["state"] * 13 + ["shared cache"] + ["nothing"] * 12


def test_the_papers_sizes_come_out():
    """The sheet's rows, as we recall the paper: 12.4 GB and 9.4 times at 1M tokens, 80 times the cache at 65B."""
    million, model = 1 << 20, prices.YOCO_3B
    assert 9e9 < prices.memory(model, million, "YOCO, gated") < 12.4e9  # theirs holds activations too
    ratio = prices.memory(model, million, "grouped") / prices.memory(model, million, "YOCO, gated")
    assert 9 < ratio < 12
    large = prices.SIZES["65B"]
    assert large.layers == 80
    ratio = prices.kept(large, million, "grouped").total / prices.kept(large, million, "YOCO, gated").total
    assert 75 < ratio < 80
    flops = {name: prices.prefill_flops(model, million, name) for name in prices.ARCHITECTURES}
    assert 45 < flops["grouped"] / flops["YOCO, gated"] < 75


def test_the_cache_is_one_layers_and_is_read_in_half_of_them():
    model, million = prices.YOCO_3B, 1 << 20
    grouped, shared = (prices.kept(model, million, name).growing for name in ("grouped", "YOCO, gated"))
    assert grouped == model.layers * shared
    read = prices.decode_bytes(model, million, "YOCO, gated") - prices.decode_bytes(model, 0, "YOCO, gated")
    assert read == model.layers // 2 * shared


def test_a_yoco_of_the_bill_s_sizes_has_more_weights_than_its_transformer_as_the_chapter_says():
    grouped, window, gated = (
        prices.matrix_parameters(bill.MODEL, name) for name in ("grouped", "YOCO, window", "YOCO, gated")
    )
    assert grouped < window < gated
    small = [build(configuration(name, 80)).parameter_count for name in ("small", "small-yoco", "small-yoco-gated")]
    assert max(small) < 1.005 * min(small)


def test_the_bill_falls_in_three_lines_and_weights_and_moments_grow():
    moved = {new.key: new.value < old.value for old, new in bill.moved("yoco")}
    assert moved == {"prefill": True, "weights": False, "cache": True, "decode": True, "optimizer": False}


def test_what_does_not_exist_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="architecture must be one of Transformer, grouped"):
        prices.kept(prices.YOCO_3B, 1, "Mamba")
    with pytest.raises(ValueError, match=r"layer must lie in 0..25; it is 26"):
        prices.layer_kept(prices.YOCO_3B, 1, "grouped", 26)


@interpreted
@pytest.mark.parametrize("context", [33, 96])
def test_a_decoded_token_reads_the_one_cache_in_every_cross_layer(context):
    """Through the split decode kernel of `attention`, on the shared cache as it lies: filled less far than reserved."""
    model = made("YOCO, window", context=128, head_dim=32)
    _, states = model.prefill(torch.zeros(1, context, dtype=torch.int64))
    shared, query = states[-1], torch.randn(1, 4, 1, 32)
    with trace(key=shared.key, value=shared.value) as traffic:
        for _ in model.cross_blocks:
            mixed = attention(query, shared.key, shared.value, implementation="triton")
    torch.testing.assert_close(mixed, attention(query, shared.key, shared.value), rtol=1e-5, atol=1e-6)
    found = prices.kept(prices.model_of(model.sizes), context, "YOCO, window", element=4)
    assert traffic.loaded["key"] + traffic.loaded["value"] == len(model.cross_blocks) * found.growing
