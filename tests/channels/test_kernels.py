"""The kernels over kept channels: within twice what plain PyTorch loses, for any length, and their traffic exactly."""

import math

import pytest
import torch

from effattn_core import costs
from effattn_core.attention import merge
from effattn_core.channels import costs as costs_channels
from effattn_core.channels import decode, oracle, plan
from kernels import runtime
from kernels.channels import choose, launch_decode
from kernels.channels.decode import splits_of
from kernels.channels.operators import channels_decode
from kernels.trace import trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong


def case(dtype, tokens, *, dense=40, counts=(8, 24, 32, 0, 8), group=2, head_dim=32, strided=False, batch=1):
    """(query, key, value), the mask, and the arguments of `decode`: heads already in the order of the plan."""
    generator = torch.Generator().manual_seed(tokens)
    shapes = [(len(counts) * group, 1), (len(counts), tokens + dense), (len(counts), tokens + dense)]
    made = [torch.randn(batch, *shape, head_dim, generator=generator) for shape in shapes]
    if strided:  # [batch, time, heads, head_dim] in memory, as projections leave it
        made = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in made]
    query, key, value = (each.to(DEVICE, dtype) for each in made)
    kept = torch.zeros(len(counts), head_dim, dtype=torch.bool)
    for head, count in enumerate(sorted(counts, reverse=True)):
        kept[head, torch.randperm(head_dim, generator=generator)[:count]] = True
    layout, keys, values, first = plan(kept), [], [], 0
    for index in layout.channels:
        heads, first = slice(first, first + len(index)), first + len(index)
        wide = index.to(DEVICE)[None, :, None].expand(batch, -1, tokens, -1)
        keys.append(key[:, heads, :tokens].gather(-1, wide))
        values.append(value[:, heads, :tokens])
    groups = keys, values, [each.to(DEVICE) for each in layout.channels]
    return (query, key, value), kept.to(DEVICE), (query, key[:, :, tokens:], value[:, :, tokens:], *groups)


def truth_of(tensors, kept, dense, dtype=torch.float64):
    query, key, value = (each.to(dtype) for each in tensors)
    return oracle(query, key, value, kept, sinks=0, recent=dense, scale=query.shape[-1] ** -0.5)


CASES = {
    "ragged": dict(tokens=217), "shorter than a block": dict(tokens=5), "one block": dict(tokens=64),
    "two blocks": dict(tokens=128), "one token": dict(tokens=1), "whole region ragged": dict(tokens=70, dense=77),
    "one query a head": dict(tokens=130, group=1), "six": dict(tokens=130, group=6), "eight": dict(tokens=130, group=8),
    "strided": dict(tokens=65, strided=True), "two texts": dict(tokens=65, batch=2),
    "heads of 64": dict(tokens=65, counts=(16, 48, 0, 64), head_dim=64),
    "heads of 128": dict(tokens=65, counts=(32, 96, 128), head_dim=128), "all kept": dict(tokens=65, counts=(32, 32)),
    "none kept": dict(tokens=65, counts=(0, 0)),
}  # fmt: skip


@pytest.mark.proves("oracle", "channels_decode_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_lose_at_most_twice_what_plain_pytorch_loses(name, dtype, nan_filled):
    tensors, kept, arguments = case(dtype, **CASES[name])
    dense = CASES[name].get("dense", 40)
    truth, plain = truth_of(tensors, kept, dense), truth_of(tensors, kept, dense, dtype)
    for implementation in ("torch", "triton"):
        ours = decode(*arguments, implementation=implementation)
        assert ours.output.dtype == dtype and ours.log_sum_exp.dtype == torch.float32
        for what, found, wanted, lost in zip(("output", "log-sum-exp"), ours, truth, plain, strict=True):
            error = (found.double() - wanted).abs().max().item()
            # Parts are weighed by exp of a difference of log-sum-exps, each rounded at its own size: that much is free.
            floor = 2 * torch.finfo(torch.float32).eps * max(1.0, truth.log_sum_exp.abs().max().item())
            budget = max(2 * (lost.double() - wanted).abs().max().item(), floor)
            print(f"{implementation}, {what}: error {error:.2e}, budget {budget:.2e}")
            assert error <= budget, (implementation, what)


@pytest.mark.parametrize("splits", [(1, 1), (1, 3), (3, 9), (2, 40)])
def test_splits_of_any_number_give_one_result_and_padding_splits_change_nothing(splits, nan_filled):
    tensors, kept, arguments = case(torch.float32, 217)
    output, log_sum_exp = launch_decode(*arguments, 32**-0.5, splits)
    truth = truth_of(tensors, kept, 40)
    torch.testing.assert_close(output.double(), truth.output, rtol=0, atol=2e-6)
    torch.testing.assert_close(log_sum_exp.double(), truth.log_sum_exp, rtol=0, atol=2e-6)


def test_a_split_past_the_end_stores_the_unit_of_the_merge(monkeypatch, nan_filled):
    """Looked at before the merge: log-sum-exp -inf and output 0, for padding splits and for heads without channels."""
    from kernels.channels import decode as module

    seen, launch = {}, module.launch_merge

    def spy(part_output, part_sum, *rest):
        seen.update(output=part_output.clone(), sums=part_sum.clone())
        launch(part_output, part_sum, *rest)

    monkeypatch.setattr(module, "launch_merge", spy)
    tensors, kept, arguments = case(torch.float32, 70)
    launch_decode(*arguments, 32**-0.5, (2, 5))
    sums, output = seen["sums"], seen["output"]
    assert not sums.isnan().any() and not output.isnan().any()
    empty = sums == -math.inf
    # One block of whole keys for two splits, two blocks of pruned ones for five; the last two heads keep no channel.
    assert empty[0, 0].tolist() == [False, True, False, False, True, True, True]
    assert empty[0, -1].tolist() == [False, True] + [True] * 5
    assert (output[empty] == 0).all() and (output[~empty] != 0).all()
    whole, far = (merge_of(sums, output, columns) for columns in (slice(0, 2), slice(2, 7)))
    wanted = truth_of(tensors, kept, 40).output[:, :, 0]
    torch.testing.assert_close(merge([whole, far]).output.double(), wanted, rtol=0, atol=2e-6)


def merge_of(sums, output, columns):
    from effattn_core.attention import Part

    return merge([Part(output[:, :, i], sums[:, :, i]) for i in range(columns.start, columns.stop)])


TRACED = [
    dict(tokens=217), dict(tokens=5), dict(tokens=64), dict(tokens=130, group=6), dict(tokens=65, batch=2),
    dict(tokens=65, counts=(16, 48, 0, 64), head_dim=64), dict(tokens=65, counts=(32, 0, 0)),
]  # fmt: skip


@pytest.mark.proves("traffic", "channels_decode_kernel", "attention_decode_kernel", "attention_merge_kernel")
@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("sizes", TRACED, ids=str)
def test_the_kernels_move_exactly_what_the_formula_says(sizes, dtype):
    (query, key, value), kept, arguments = case(dtype, **sizes)
    batch, key_heads, total, head_dim = key.shape
    group, tokens, element = query.shape[1] // key_heads, sizes["tokens"], dtype.itemsize
    layout, (keys, values) = plan(kept.cpu()), arguments[3:5]
    named = {f"key {i}": each for i, each in enumerate(keys)} | {f"value {i}": each for i, each in enumerate(values)}
    with trace(dense_key=arguments[1], dense_value=arguments[2], **named) as traffic:
        launch_decode(*arguments, 0.2)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == costs_channels.decode_traffic(
        batch, group, key_heads, total - tokens, tokens, head_dim, head_dim, layout.groups,
        splits=splits_of(query, arguments[1], keys, head_dim),
        block=choose(dtype, head_dim, head_dim).block_key,
        blocks=[choose(dtype, count, head_dim).block_key for _, count in layout.groups], element=element,
    )  # fmt: skip
    # The promise of the chapter: of the middle's keys and values (r + 1 - z) / 2 are read, of the others all.
    share, empty = kept.double().mean().item(), (kept.sum(-1) == 0).double().mean().item()
    dense_cache = 2 * batch * key_heads * head_dim * element
    middle = sum(traffic.loaded[name] for name in named)
    assert middle == dense_cache * tokens * costs_channels.relative_bytes(share, empty)
    assert traffic.loaded["dense_key"] + traffic.loaded["dense_value"] == dense_cache * (total - tokens)


def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    _, _, arguments = case(torch.float32, 33)
    query, key, value, *groups = arguments
    torch.library.opcheck(channels_decode, (query, key, value, *groups, 0.2))
    compiled = torch.compile(decode, backend="aot_eager", fullgraph=True)
    for implementation in (None, "triton"):
        call = dict(implementation=implementation)
        for ours, wanted in zip(compiled(*arguments, **call), decode(*arguments, **call), strict=True):
            torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_definition_of_decoding_is_masked_attention_in_float64(dtype):
    tensors, kept, arguments = case(dtype, 65)
    truth, found = truth_of(tensors, kept, 40), decode(*arguments, implementation="oracle")
    assert found.output.dtype == dtype and found.log_sum_exp.dtype == torch.promote_types(dtype, torch.float32)
    for ours, wanted in zip(found, truth, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=torch.finfo(ours.dtype).eps, atol=1e-12)


@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are compiled here")
def test_interpreted_kernels_compute_bfloat16_in_float32():
    _, _, arguments = case(torch.bfloat16, 65)
    ours, plain = (decode(*arguments, implementation=name) for name in ("triton", "torch"))
    assert ours.output.dtype == torch.bfloat16
    torch.testing.assert_close(ours.output, plain.output, rtol=2**-7, atol=2**-8)
    torch.testing.assert_close(ours.log_sum_exp, plain.log_sum_exp)


def test_no_text_gives_no_output():
    _, _, arguments = case(torch.float32, 33, batch=0)
    for implementation in ("torch", "triton"):
        assert decode(*arguments, implementation=implementation).output.shape == (0, 10, 1, 32)


def test_the_kernels_refuse_what_they_cannot_do_in_a_sentence():
    _, _, (query, key, value, *groups) = case(torch.float64, 33)
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16; got torch.float64"):
        decode(query, key, value, *groups, implementation="triton")
    with pytest.raises(ValueError, match="up to 128 channels; got 32 and 200"):
        choose(torch.float32, 200, 32)
