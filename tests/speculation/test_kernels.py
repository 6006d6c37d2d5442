"""The kernels of speculation, interpreted: right, exact in what they move, and one graph under torch.compile."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effattn_core import costs
from effattn_core.speculation import traffic as formulas
from effattn_core.speculation.interface import subset_head, subset_head_plain, tree_attention, tree_oracle
from effattn_core.speculation.trees import packed
from kernels import runtime
from kernels.sanitize import scattered
from kernels.speculation import choose, launch_head, launch_tree
from kernels.speculation.head import splits_of
from kernels.speculation.operators import subset_head as head_operator
from kernels.speculation.operators import tree_attention as tree_operator
from kernels.speculation.tree import layout_of
from kernels.trace import trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")


def head_case(dtype, count=3, words=70, kept=63, width=33, strided=False):
    """hidden, weight and ids, in an order that is not that of the vocabulary."""
    generator = torch.Generator().manual_seed(words)
    hidden, weight = (torch.randn(size, width, generator=generator).to(DEVICE, dtype) for size in (count, words))
    if strided:
        hidden, weight = (scattered(*each.shape, dtype=dtype, device=DEVICE).copy_(each) for each in (hidden, weight))
    return hidden, weight, torch.randperm(words, generator=generator)[:kept].to(DEVICE)


HEADS = {
    "one word": dict(count=1, words=1, kept=1, width=7), "ragged": dict(count=5, words=300, kept=257, width=65),
    "two tiles of rows": dict(count=17, words=70, kept=65, width=64), "all words": dict(words=129, kept=129),
    "strided": dict(words=150, kept=131, strided=True), "wide": dict(count=2, words=90, kept=64, width=300),
}  # fmt: skip


def within_twice_plain(found, truth, plain, floor, what):
    """Hold `found` to twice what plain PyTorch loses, or to `floor`, the rounding of sums of this size."""
    error = (found.double() - truth).abs().max().item()
    budget = max(2 * (plain.double() - truth).abs().max().item(), floor)
    print(f"{what}: error {error:.2e}, budget {budget:.2e}")
    assert error <= budget, what


@pytest.mark.proves("oracle", "speculation_head_kernel", "speculation_merge_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_the_head_loses_at_most_twice_what_plain_pytorch_loses(name, dtype, nan_filled):
    hidden, weight, ids = head_case(dtype, **HEADS[name])
    top_k = min(10, len(ids))
    truth = subset_head_plain(hidden.double(), weight.double(), ids, top_k=top_k)
    plain = subset_head_plain(hidden, weight, ids, top_k=top_k)
    floor = 4 * torch.finfo(torch.float32).eps * truth.logits.abs().max().item()
    for implementation in ("torch", "triton"):
        found = subset_head(hidden, weight, ids, top_k=top_k, implementation=implementation)
        assert found.logits.dtype == found.log_sum_exp.dtype == torch.float32 and found.words.dtype == torch.int64
        within_twice_plain(found.logits, truth.logits, plain.logits, floor, f"{implementation}, logits")
        within_twice_plain(found.log_sum_exp, truth.log_sum_exp, plain.log_sum_exp, floor, f"{implementation}, sum")
        # The words are those whose logits these are: no word twice, none that is not in the table.
        named = (hidden.double()[:, None] * weight.double()[found.words]).sum(-1)
        within_twice_plain(named, truth.logits, plain.logits, floor, f"{implementation}, words")
        assert all(len(set(row)) == top_k and set(row) <= set(ids.tolist()) for row in found.words.tolist())


@pytest.mark.parametrize("splits", [1, 2, 5, 9])
def test_splits_of_any_number_give_one_list_and_padding_splits_change_nothing(splits, nan_filled):
    hidden, weight, ids = head_case(torch.float32, words=300, kept=257)
    logits, words, log_sum_exp = launch_head(hidden, weight, ids, 40, splits)
    truth = subset_head_plain(hidden.double(), weight.double(), ids, top_k=40)
    assert torch.equal(words, truth.words)
    torch.testing.assert_close(logits.double(), truth.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_sum_exp.double(), truth.log_sum_exp, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:All-NaN slice")
@pytest.mark.parametrize("implementation", ["torch", "triton", "oracle"])
def test_equal_logits_keep_the_order_of_the_table_and_what_is_not_a_number_comes_last(implementation):
    hidden, weight = torch.ones(1, 2, device=DEVICE), torch.zeros(150, 2, device=DEVICE)
    weight[7], weight[9], weight[149] = 3.0, 3.0, 3.0
    weight[11] = -0.0
    ids = torch.arange(150, device=DEVICE).flip(0)
    found = subset_head(hidden, weight, ids, top_k=5, implementation=implementation)
    assert found.words.tolist() == [[149, 9, 7, 148, 147]]
    assert found.logits.tolist() == [[6.0, 6.0, 6.0, 0.0, 0.0]]
    weight[9], weight[20] = math.nan, -math.inf
    found = subset_head(hidden, weight, ids[-30:], top_k=30, implementation=implementation)
    assert found.words[0, 0] == 7 and set(found.words[0, -2:].tolist()) == {9, 20}
    assert found.log_sum_exp.isnan().all() and found.logits[0, -2:].tolist() == [-math.inf] * 2


def tree_case(dtype, text, nodes, group=2, head_dim=32, value_dim=32, batch=1, strided=False):
    """query, key, value and the masks of random trees; batch items have trees of their own."""
    generator = torch.Generator().manual_seed(text + nodes)
    sizes = (2 * group, nodes, head_dim), (2, text + nodes, head_dim), (2, text + nodes, value_dim)
    made = [torch.randn(batch, *size, generator=generator) for size in sizes]
    if strided:  # [batch, time, heads, head_dim] in memory, as projections leave it
        made = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in made]
    parents = [[int(torch.randint(-1, n, (), generator=generator)) for n in range(nodes - 1)] for _ in range(batch)]
    masks = [packed(torch.tensor(each, dtype=torch.int64)) for each in parents]
    masks = torch.stack(masks) if masks else torch.zeros(0, nodes, dtype=torch.int64)
    return *(each.to(DEVICE, dtype) for each in made), masks.to(DEVICE)


TREES = {
    "ragged": dict(text=217, nodes=13), "no text": dict(text=0, nodes=5), "one node": dict(text=65, nodes=1),
    "64 nodes": dict(text=40, nodes=64, group=1), "a whole block": dict(text=64, nodes=16),
    "one query a head": dict(text=33, nodes=20, group=1), "six": dict(text=40, nodes=7, group=6),
    "strided": dict(text=65, nodes=9, strided=True), "two trees": dict(text=65, nodes=7, batch=2),
    "wide values": dict(text=40, nodes=9, value_dim=128), "heads of 64": dict(text=70, nodes=9, head_dim=64),
    "heads of 128": dict(text=33, nodes=5, head_dim=128, value_dim=128),
}  # fmt: skip


@pytest.mark.proves("oracle", "speculation_tree_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("name", TREES)
def test_the_tree_loses_at_most_twice_what_plain_pytorch_loses(name, dtype, nan_filled):
    query, key, value, masks = tree_case(dtype, **TREES[name])
    scale = query.shape[-1] ** -0.5
    truth = tree_oracle(query.double(), key.double(), value.double(), masks, scale=scale)
    plain = tree_oracle(query, key, value, masks, scale=scale)
    # Parts are weighed by exp of a difference of log-sum-exps, each rounded at its own size: that much is free.
    floor = 2 * torch.finfo(torch.float32).eps * max(1.0, truth.log_sum_exp.abs().max().item())
    for implementation in ("torch", "triton"):
        found = tree_attention(query, key, value, masks, implementation=implementation)
        assert found.output.dtype == dtype and found.log_sum_exp.dtype == torch.float32
        for what, ours, wanted, lost in zip(("output", "log-sum-exp"), found, truth, plain, strict=True):
            within_twice_plain(ours, wanted, lost, floor, f"{implementation}, {what}")


@pytest.mark.parametrize("splits", [1, 3, 9])
def test_splits_of_the_text_of_any_number_give_one_result(splits, nan_filled):
    query, key, value, masks = tree_case(torch.float32, 217, 13)
    found = launch_tree(query, key, value, masks, 32**-0.5, splits)
    truth = tree_oracle(query.double(), key.double(), value.double(), masks, scale=32**-0.5)
    for ours, wanted in zip(found, truth, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=2e-6)


def test_a_mask_of_all_64_bits_is_a_chain_and_is_causal_attention():
    """Bit 63 is the sign of the integer that holds it."""
    from effattn_core.attention import attention_part

    query, key, value, _ = tree_case(torch.float32, 20, 64)
    masks = packed(torch.arange(63) - 1)[None].to(DEVICE)
    assert masks[0, 63] == -1
    truth = attention_part(query, key, value, implementation="oracle")
    for implementation in ("torch", "triton"):
        found = tree_attention(query, key, value, masks, implementation=implementation)
        torch.testing.assert_close(found.output, truth.output, rtol=0, atol=2e-6)


@settings(max_examples=6)
@given(st.integers(0, 1000))
def test_a_node_sees_its_own_line_and_nothing_else(seed):
    generator = torch.Generator().manual_seed(seed)
    parents = torch.tensor([int(torch.randint(-1, n, (), generator=generator)) for n in range(6)])
    query, key, value, _ = tree_case(torch.float32, 5, 7)
    masks = packed(parents)[None].to(DEVICE)
    row = int(torch.randint(0, 7, (), generator=generator))
    changed_key, changed_value = key.clone(), value.clone()
    changed_key[:, :, 5 + row], changed_value[:, :, 5 + row] = 9.0, -9.0
    before = tree_attention(query, key, value, masks, implementation="triton").output
    after = tree_attention(query, changed_key, changed_value, masks, implementation="triton").output
    line = {row}  # the row and all that descend from it
    for node, parent in enumerate(parents.tolist()):
        if parent + 1 in line:
            line.add(node + 1)
    for each in range(7):
        assert torch.equal(before[:, :, each], after[:, :, each]) == (each not in line), each


@pytest.mark.proves("traffic", "speculation_head_kernel", "speculation_merge_kernel")
@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_the_head_moves_exactly_what_the_formula_says(name, dtype):
    hidden, weight, ids = head_case(dtype, **HEADS[name])
    top_k, shape = min(10, len(ids)), choose("head", dtype)[0]
    with trace(hidden=hidden, weight=weight, ids=ids) as traffic:
        launch_head(hidden, weight, ids, top_k)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == formulas.head_traffic(
        len(hidden), len(ids), hidden.shape[1], top_k, splits=splits_of(len(hidden), len(ids), dtype, hidden.device),
        rows=shape.rows, block=shape.keys, chunk=shape.chunk, element=dtype.itemsize,
    )  # fmt: skip
    # The promise of the chapter: a word that is not in the table is not read.
    read = traffic.access_map("weight").any(1)
    assert set(read.nonzero()[0].tolist()) == set(ids.tolist())


@pytest.mark.proves("traffic", "speculation_tree_kernel", "attention_merge_kernel")
@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", TREES)
def test_the_tree_moves_exactly_what_the_formula_says(name, dtype):
    query, key, value, masks = tree_case(dtype, **TREES[name])
    with trace(key=key, value=value) as traffic:
        launch_tree(query, key, value, masks, 0.2)
    rows, tiles, block, splits = layout_of(query, key, value)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == formulas.tree_traffic(
        len(query), query.shape[1] // 2, 2, query.shape[2], key.shape[2], key.shape[3], value.shape[3],
        splits=splits, rows=rows, block=block, element=dtype.itemsize,
    )  # fmt: skip
    # The promise of the chapter: however many nodes a tile holds, a row of the cache is read once for it.
    assert (traffic.access_map("key") == tiles).all() and (traffic.access_map("value") == tiles).all()


def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    hidden, weight, ids = head_case(torch.float32)
    query, key, value, masks = tree_case(torch.float32, 20, 5)
    torch.library.opcheck(head_operator, (hidden, weight, ids, 5))
    torch.library.opcheck(tree_operator, (query, key, value, masks, 0.2))
    for call, arguments in (
        (lambda *given, **how: subset_head(*given, top_k=5, **how), (hidden, weight, ids)),
        (tree_attention, (query, key, value, masks)),
    ):
        compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
        for implementation in (None, "triton"):
            found, wanted = (each(*arguments, implementation=implementation) for each in (compiled, call))
            for ours, theirs in zip(found, wanted, strict=True):
                torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
def test_no_row_gives_no_candidate_and_no_text_no_output(implementation):
    hidden, weight, ids = head_case(torch.float32, count=0)
    found = subset_head(hidden, weight, ids, top_k=5, implementation=implementation)
    assert found.logits.shape == found.words.shape == (0, 5) and found.log_sum_exp.shape == (0,)
    query, key, value, masks = tree_case(torch.float32, 20, 5, batch=0)
    assert tree_attention(query, key, value, masks, implementation=implementation).output.shape == (0, 4, 5, 32)


@interpreted
def test_interpreted_kernels_compute_bfloat16_in_float32():
    hidden, weight, ids = head_case(torch.bfloat16)
    ours, plain = (subset_head(hidden, weight, ids, top_k=5, implementation=each) for each in ("triton", "oracle"))
    torch.testing.assert_close(ours.logits, plain.logits)
    query, key, value, masks = tree_case(torch.bfloat16, 33, 5)
    ours, plain = (tree_attention(query, key, value, masks, implementation=each) for each in ("triton", "oracle"))
    assert ours.output.dtype == torch.bfloat16
    torch.testing.assert_close(ours.output, plain.output, rtol=2**-7, atol=2**-8)


def test_bad_input_says_what_was_given_and_what_is_wanted():
    hidden, weight, ids = head_case(torch.float32)
    for change, sentence in (
        (dict(top_k=64), "ids must be int64 and at least top_k = 64; got 63 of torch.int64"),
        (dict(top_k=0), "top_k must be a whole number of at least 1; it is 0"),
        (dict(ids=ids + 9), "ids must lie in 0..69; they go from 9 to .*: the drafter has another vocabulary"),
        (dict(weight=weight[:, 1:]), "must share a width; got .* this is not the head of that model"),
        (dict(weight=weight.half()), "hidden, weight must share a floating dtype"),
    ):
        with pytest.raises(ValueError, match=sentence):
            given = dict(hidden=hidden, weight=weight, ids=ids, top_k=5) | change
            # On the CPU, where a call looks at numbers.
            subset_head(
                **{name: each.cpu() if isinstance(each, torch.Tensor) else each for name, each in given.items()}
            )
    many = dict(hidden=hidden, weight=weight.repeat(2, 1), ids=torch.arange(120, device=DEVICE), top_k=70)
    with pytest.raises(ValueError, match="the kernel keeps at most 64 words; top_k is 70: use implementation='torch'"):
        subset_head(**many, implementation="triton")
    query, key, value, masks = tree_case(torch.float32, 20, 5)
    tree = dict(query=query, key=key, value=value, masks=masks)
    for change, sentence in (
        (dict(masks=masks.int()), r"masks must be int64 \[1, 5\]; got \(1, 5\) torch.int32"),
        (dict(masks=masks[:, :4]), r"masks must be int64 \[1, 5\]; got \(1, 4\)"),
        (dict(query=query.repeat(1, 1, 13, 1), masks=masks.repeat(1, 13)), "at most 64 rows, all in the cache; got 65"),
        (dict(value=value[:, :1]), "query, key and value must agree"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tree_attention(**tree | change)
