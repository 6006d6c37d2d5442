"""Attention: every form against the float64 oracle, within twice what PyTorch's own SDPA loses."""

import itertools
import random

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st
from support.placed import allowed, times_lost

from effattn_core.attention import (
    Part,
    attention,
    attention_part,
    merge,
    online_softmax,
    oracle,
    tiled,
    visible,
)
from kernels import runtime
from kernels.attention import launch_decode
from kernels.attention.operators import attention_forward

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"

TWO = dict(heads=2, key_heads=2)  # enough where the text is long: two heads of two texts, and every block is walked
CASES = [
    dict(time=1), dict(time=63), dict(time=65), dict(time=257, **TWO), dict(time=65, key_heads=1),
    dict(time=65, key_heads=2), dict(time=257, window=70, **TWO), dict(time=257, window=70, sinks=4, **TWO),
    dict(time=40, key_time=257, **TWO), dict(time=63, causal=False),
]  # fmt: skip


def tensors(dtype, time, *, key_time=None, heads=4, key_heads=4, head_dim=32, strided=False):
    generator = torch.Generator().manual_seed(time)
    shapes = [(heads, time), (key_heads, key_time or time), (key_heads, key_time or time)]
    made = [torch.randn(2, count, length, head_dim, generator=generator) for count, length in shapes]
    if strided:  # [batch, time, heads, head_dim] in memory, as projections leave it
        made = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in made]
    return [tensor.to(DEVICE, dtype).requires_grad_() for tensor in made]


def sdpa(query, key, value, *, causal, window, sinks):
    offset = key.shape[2] - query.shape[2]
    rows, columns = torch.arange(query.shape[2]) + offset, torch.arange(key.shape[2])
    seen = visible(rows, columns, causal=causal, window=window, sinks=sinks).to(query.device)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)


def errors(function, inputs, truth):
    """Largest distance from the float64 truth: of the output, then of each gradient."""
    output = function(*inputs)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(9)).to(output)
    results = [output, *torch.autograd.grad(output, inputs, cotangent)]
    if truth is None:
        return results
    return [(a.double() - b).abs().max().item() for a, b in zip(results, truth, strict=True)]


FORMS = {
    "tiled": lambda *inputs, **masks: tiled(*inputs, **masks, scale=inputs[0].shape[-1] ** -0.5, block=64).output,
    "default": attention,
    "kernel": lambda *inputs, **masks: attention(*inputs, **masks, implementation="triton"),
}
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong: see the canary
RUNS = [(form, case, dtype, False) for form in FORMS for case in CASES for dtype in (torch.float32, HALF)]
RUNS += [(form, CASES[4], dtype, True) for form in FORMS for dtype in (torch.float32, HALF)]
RUNS += [("kernel", dict(time=65, key_heads=2, head_dim=size), torch.float32, False) for size in (64, 128)]
if DEVICE == "cuda":  # where products of half precision take registers and shared memory of their own, by size
    RUNS += [("kernel", dict(time=200, key_heads=2, head_dim=size), HALF, False) for size in (64, 128)]
RUNS += [(form, case, torch.bfloat16, False) for form in ("tiled", "default") for case in CASES]


@pytest.mark.proves("oracle", "attention_forward_kernel", "attention_delta_kernel", "attention_backward_*")
@pytest.mark.parametrize(("form", "case", "dtype", "strided"), RUNS, ids=str)
def test_output_and_gradients_lose_at_most_twice_what_sdpa_loses(form, case, dtype, strided, nan_filled):
    masks = {name: case.get(name, default) for name, default in (("causal", True), ("window", None), ("sinks", 0))}
    inputs = tensors(dtype, strided=strided, **{k: v for k, v in case.items() if k not in masks})
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    truth = errors(lambda *qkv: attention(*qkv, implementation="oracle", **masks), exact, None)
    ours = errors(lambda *qkv: FORMS[form](*qkv, **masks), inputs, truth)
    budget = errors(lambda *qkv: sdpa(*qkv, **masks), inputs, truth)
    names = ("output", "d query", "d key", "d value")
    for name, error, lost, each in zip(names, ours, budget, truth, strict=True):
        # With a single key the softmax is 1, SDPA can lose nothing and gradients are 0: roundings of one, in any dtype.
        one = max(times_lost(dtype) * lost, 8 * torch.finfo(dtype).eps)
        budget = one if case == dict(time=1) else allowed(lost, each, dtype)
        print(f"{name}: error {error:.2e}, budget {budget:.2e}")
        assert error <= budget, name


@pytest.mark.proves("oracle", "attention_decode_kernel", "attention_merge_kernel")
@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize("splits", [1, 3, 9])
def test_split_decoding_equals_the_oracle(window, splits, nan_filled):
    query, key, value = (tensor.detach() for tensor in tensors(torch.float32, 1, key_time=257, heads=6, key_heads=2))
    masks = dict(window=window, sinks=4 if window else 0, scale=0.3)
    ours = launch_decode(query, key, value, splits=splits, **masks)
    for given_, wanted in zip(ours, oracle(query.double(), key.double(), value.double(), **masks), strict=True):
        torch.testing.assert_close(given_.double(), wanted, rtol=0, atol=2e-6)


def test_the_kernels_take_a_value_dim_of_their_own(nan_filled):
    query, key, value = tensors(torch.float32, 65, key_heads=2)
    wide = torch.cat([value, -value], -1).detach().requires_grad_()
    output = attention(query, key, wide, window=20, sinks=3, implementation="triton")
    exact = [tensor.detach().double().requires_grad_() for tensor in (query, key, wide)]
    truth = attention(*exact, window=20, sinks=3, implementation="oracle")
    torch.testing.assert_close(output.double(), truth, rtol=0, atol=2e-6)
    gradients = zip(*(torch.autograd.grad(each.square().sum(), inputs)
                      for each, inputs in ((output, (query, key, wide)), (truth, exact))), strict=True)  # fmt: skip
    for ours, wanted in gradients:
        torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=1e-5 * times_lost(torch.float32))


def test_the_kernels_refuse_what_they_cannot_do_in_a_sentence():
    odd = torch.randn(1, 1, 3, 48, device=DEVICE)
    whole = torch.ones(1, 1, 3, 32, dtype=torch.float64, device=DEVICE)
    with pytest.raises(ValueError, match=r"head_dim and value_dim among \(32, 64, 128\); got 48 and 48"):
        attention(odd, odd, odd, implementation="triton")
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16; got torch.float64"):
        attention(whole, whole, whole, implementation="triton")


def test_operators_pass_the_library_s_own_checks():
    query, key, value = tensors(torch.float32, 33, key_heads=2)
    torch.library.opcheck(attention_forward, (query, key, value, True, 9, 2, 0.2))


def test_log_sum_exp_has_a_gradient_so_that_merging_parts_can_be_trained_through():
    inputs = tensors(torch.float64, 9, head_dim=4, key_heads=2)
    assert torch.autograd.gradcheck(lambda *qkv: tuple(attention_part(*qkv, window=4, sinks=1)), inputs)


def test_compiled_attention_is_one_graph():
    query, key, value = (tensor.detach() for tensor in tensors(torch.float32, 40))
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(query, key, value, window=5), attention(query, key, value, window=5))


@triton.jit
def product_kernel(left_pointer, right_pointer, output_pointer, SIZE: tl.constexpr):
    places = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    product = tl.dot(tl.load(left_pointer + places), tl.load(right_pointer + places))
    tl.store(output_pointer + places, product)


@pytest.mark.skipif(DEVICE == "cuda", reason="kernels are compiled here, and their bfloat16 is tested above")
def test_canary_the_interpreter_still_gets_bfloat16_wrong():
    """Fails on the day a Triton release mends it: then `runtime.interpretable` may go."""
    ones, found = torch.ones(16, 16, dtype=torch.bfloat16), {}
    for dtype in (torch.float16, torch.bfloat16):
        found[dtype] = torch.full((16, 16), torch.nan)
        product_kernel[(1,)](ones.to(dtype), ones.to(dtype), found[dtype], SIZE=16)
    assert torch.equal(found[torch.float16], torch.full((16, 16), 16.0))
    assert not torch.equal(found[torch.bfloat16], torch.full((16, 16), 16.0))


@pytest.mark.skipif(DEVICE == "cuda", reason="bfloat16 is compiled here")
@pytest.mark.parametrize("time", [1, 33])
def test_interpreted_kernels_compute_bfloat16_in_float32(time):
    """Triton's own would give 2.6e8 for ones; a launch that would use it is refused."""
    inputs = tensors(torch.bfloat16, time, key_heads=2)
    ours, plain = (attention(*inputs, implementation=name) for name in ("triton", "torch"))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, plain, rtol=2**-7, atol=2**-8)
    gradients = [torch.autograd.grad(each.float().square().sum(), inputs) for each in (ours, plain)]
    for left, right in zip(*gradients, strict=True):
        assert left.dtype == torch.bfloat16
        torch.testing.assert_close(left, right, rtol=2**-5, atol=2**-5)
    with pytest.raises(ValueError, match="interpreter gets bfloat16 wrong"):
        launch_decode(*(each.detach() for each in inputs), None, 0, 0.2)


HIDDEN = [dict(), dict(window=3), dict(window=3, sinks=1), dict(query_time=4), dict(query_time=1, window=3)]


@pytest.mark.parametrize("case", HIDDEN, ids=str)
@pytest.mark.parametrize("implementation", [None, "oracle", "torch", "triton"])
@pytest.mark.parametrize("entry", [torch.inf, -torch.inf, torch.nan, 3e38])
@pytest.mark.parametrize("kind", ["key", "value"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_a_query_does_not_see_does_not_reach_it(kind, entry, implementation, case):
    """Neither an infinite key nor an infinite value, at any place, changes the rows that do not see it."""
    decoded = case.get("query_time") == 1 and implementation != "oracle"
    if DEVICE == "cuda" and kind == "value" and entry != 3e38 and not decoded:
        pytest.skip("no one looks at values on a GPU, which would wait for it: promised on a CPU alone")
    query, key, value = (each.detach()[:1] for each in tensors(torch.float32, 12, heads=2, key_heads=1))
    query = query[:, :, -case.get("query_time", 12) :]
    masks = {name: case.get(name, default) for name, default in (("window", None), ("sinks", 0))}
    places = torch.arange(12)
    seen = visible(places[12 - query.shape[2] :], places, **masks)
    before = attention(query, key, value, implementation=implementation, **masks)
    for place in (1, 6, 11):
        spoiled = {"key": key, "value": value, kind: {"key": key, "value": value}[kind].clone()}
        spoiled[kind][:, :, place] = entry
        after = attention(query, spoiled["key"], spoiled["value"], implementation=implementation, **masks)
        blind = ~seen[:, place]
        torch.testing.assert_close(after[:, :, blind], before[:, :, blind], rtol=1e-5, atol=1e-6)
        if kind == "value" and entry != 3e38:
            assert torch.equal(after[:, :, ~blind].isfinite(), torch.zeros_like(after[:, :, ~blind], dtype=torch.bool))


@pytest.mark.parametrize("implementation", [None, "oracle", "torch"])
def test_a_forward_mode_derivative_is_right(implementation):
    inputs = [each.detach() for each in tensors(torch.float64, 9, key_heads=2)]
    towards = [torch.randn_like(each) for each in inputs]
    settings = dict(window=4, sinks=1, implementation=implementation)
    _, tangent = torch.func.jvp(lambda *qkv: attention(*qkv, **settings), tuple(inputs), tuple(towards))
    step = 1e-6
    there, back = (attention(*(a + sign * step * b for a, b in zip(inputs, towards, strict=True)), **settings)
                   for sign in (1, -1))  # fmt: skip
    torch.testing.assert_close(tangent, (there - back) / (2 * step), rtol=1e-6, atol=1e-7)


def test_a_second_derivative_is_right_in_the_tiled_form_and_refused_elsewhere():
    """One that is not kept track of would come out as 0."""
    query, key, value = (each.detach() for each in tensors(torch.float64, 5, heads=2, key_heads=2, head_dim=4))

    def second(implementation):
        first = torch.func.grad(
            lambda q: attention(q, key, value, window=3, implementation=implementation).square().sum()
        )
        return torch.func.grad(lambda q: first(q).square().sum())(query)

    torch.testing.assert_close(second("torch"), second("oracle"), rtol=0, atol=1e-12)
    # On a CPU PyTorch's own attention answers a call left open; on a GPU the tiled form does, in float64.
    for refused in (None, "triton") if DEVICE == "cpu" else ("triton",):
        with pytest.raises((RuntimeError, ValueError)):
            second(refused)


def test_the_kernels_refuse_a_forward_mode_derivative():
    one = torch.ones(1, 1, 4, 32, device=DEVICE)
    with pytest.raises(ValueError, match="no forward-mode derivative"):
        torch.func.jvp(lambda value: attention(one, one, value, implementation="triton"), (one,), (one,))


DEFAULTS = [dict(time=33), dict(time=1, key_time=40), dict(time=1, key_time=40, window=9, sinks=2),
            dict(time=1, key_time=40, window=9), dict(time=7, key_time=40), dict(time=33, window=9, sinks=2),
            dict(time=33, causal=False), dict(time=2000, window=9)]  # fmt: skip


@pytest.mark.parametrize("case", DEFAULTS, ids=str)
@pytest.mark.parametrize("strided", [False, True])
def test_the_default_of_a_cpu_equals_the_definition(case, strided):
    masks = {name: case.get(name, default) for name, default in (("causal", True), ("window", None), ("sinks", 0))}
    shape = {name: each for name, each in case.items() if name not in masks}
    inputs = [each.cpu() for each in tensors(torch.float32, key_heads=2, strided=strided, **shape)]
    for ours, truth in zip(
        errors(lambda *qkv: attention(*qkv, **masks), inputs, None),
        errors(lambda *qkv: attention(*qkv, implementation="oracle", **masks), inputs, None), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 90), st.integers(1, 40), st.none() | st.integers(1, 50), st.integers(0, 5))
@settings(max_examples=60)
def test_tiled_equals_the_oracle_for_any_length_block_window_and_sinks(time, block, window, sinks):
    inputs = tensors(torch.float64, time, head_dim=8, key_heads=2)
    masks = dict(causal=True, window=window, sinks=sinks, scale=0.3)
    for ours, truth in zip(tiled(*inputs, block=block, **masks), oracle(*inputs, **masks), strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-12)


def test_the_future_changes_nothing_past():
    query, key, value = (tensor.detach() for tensor in tensors(torch.float64, 65))
    before = attention(query, key, value)
    key[:, :, 40:], value[:, :, 40:] = 7.0, -7.0
    after = attention(query, key, value)
    assert torch.equal(before[:, :, :40], after[:, :, :40])
    assert not torch.allclose(before[:, :, 40:], after[:, :, 40:])


def test_online_softmax_is_exact_after_every_key():
    scores, value = torch.randn(9, dtype=torch.float64) * 30, torch.randn(9, 3, dtype=torch.float64)
    for seen, (_, total, accumulator) in enumerate(online_softmax(scores, value), start=1):
        torch.testing.assert_close(accumulator / total, scores[:seen].softmax(0) @ value[:seen])


@given(st.lists(st.integers(0, 30), max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_merging_any_split_in_any_order_and_grouping_is_whole_attention(cuts, shuffle: random.Random):
    query, key, value = tensors(torch.float64, 30)
    whole = oracle(query, key, value, causal=False, scale=0.2)
    edges = sorted({0, *cuts, 30})
    parts = [
        oracle(query, key[:, :, a:b], value[:, :, a:b], causal=False, scale=0.2) for a, b in itertools.pairwise(edges)
    ]
    parts.append(Part(torch.zeros_like(whole.output), torch.full_like(whole.log_sum_exp, -torch.inf)))
    shuffle.shuffle(parts)
    grouped = merge([parts[0], merge(parts[1:])])
    for ours, truth in zip(grouped, whole, strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-12)


def test_merging_only_empty_parts_gives_an_empty_part():
    empty = Part(torch.zeros(2, 3), torch.full((2,), -torch.inf))
    output, log_sum_exp = merge([empty, empty])
    assert torch.equal(output, empty.output) and torch.equal(log_sum_exp, empty.log_sum_exp)


@pytest.mark.parametrize("shape", [(0, 4, 5, 32), (2, 4, 0, 32)])
def test_no_batch_or_no_query_gives_an_empty_output(shape):
    key = torch.randn(shape[0], 4, 5, 32, device=DEVICE)
    for implementation in ("torch", "triton"):
        assert attention(torch.randn(shape, device=DEVICE), key, key, implementation=implementation).shape == shape


QUERY = torch.randn(1, 4, 6, 8)
BAD = {
    "query must be .* its shape is": dict(query=QUERY[0]),
    "key heads must divide": dict(key=QUERY[:, :3], value=QUERY[:, :3]),
    "share a floating dtype": dict(key=QUERY.half()),
    "share a device": dict(value=QUERY.to("meta")),
    "finite number; it is nan": dict(scale=float("nan")),
    "window must be a whole number of at least 1; it is 0": dict(window=0),
    "window must be a whole number of at least 1; it is 2.5": dict(window=2.5),
    "a window looks back": dict(window=2, causal=False),
    "head_dim must be at least 1": dict(query=QUERY[..., :0], key=QUERY[..., :0]),
    "sinks must be": dict(sinks=-1),
    "shapes must agree": dict(key=QUERY[:, :, :5]),
    "implementation must be": dict(implementation="cuda"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_says_what_was_given_and_what_is_wanted(message):
    with pytest.raises(ValueError, match=message):
        attention(**{"query": QUERY, "key": QUERY, "value": QUERY, **BAD[message]})
