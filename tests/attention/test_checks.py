"""The exercises on attention: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
from support.house import assert_named, assert_solved

from effattn_core import costs
from effattn_core.attention import attention, visible
from kernels import runtime

# isort: split
import triton
import triton.language as tl

pytestmark = pytest.mark.skipif(runtime.mode == "none", reason=runtime.reason)
LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit
def merge_kernel(
    outputs, sums, output, log_sum_exp, splits,
    DIM: tl.constexpr, SPLITS: tl.constexpr, PADDING: tl.constexpr, BASE_TWO: tl.constexpr, STORE_TWO: tl.constexpr,
    STABLE: tl.constexpr, MASKED: tl.constexpr, CAREFUL: tl.constexpr,
):  # fmt: skip
    row, parts, dims = tl.program_id(0), tl.arange(0, SPLITS), tl.arange(0, DIM)
    inside = parts < splits
    lse = tl.load(sums + row * splits + parts, mask=inside, other=PADDING)
    largest = tl.max(lse, 0) if STABLE else tl.max(lse, 0) * 0
    if CAREFUL:
        largest = tl.where(largest == float("-inf"), 0.0, largest)
    weight = tl.exp2(lse - largest) if BASE_TWO else tl.exp2((lse - largest) * LOG2_E)
    total = tl.sum(weight, 0)
    total = tl.where(total == 0.0, 1.0, total)
    places = outputs + (row * splits + parts)[:, None] * DIM + dims[None, :]
    if MASKED:
        values = tl.load(places, mask=inside[:, None], other=0.0)
    else:
        values = tl.load(places)
    tl.store(output + row * DIM + dims, tl.sum(values * weight[:, None], 0) / total)
    merged = tl.max(lse, 0) + tl.log2(total) / LOG2_E if STABLE else tl.log2(total) / LOG2_E
    tl.store(log_sum_exp + row, merged * LOG2_E if STORE_TWO else merged)


def merge_parts(outputs, sums, padding=-math.inf, base_two=False, store_two=False, stable=True, masked=True,
                careful=True):  # fmt: skip
    rows, splits, dim = outputs.shape
    output, log_sum_exp = outputs.new_empty(rows, dim), sums.new_empty(rows)
    merge_kernel[(rows,)](
        outputs, sums, output, log_sum_exp, splits,
        dim, triton.next_power_of_2(splits), padding, base_two, store_two, stable, masked,
        careful,
    )  # fmt: skip
    return output, log_sum_exp


@triton.jit
def causal_kernel(
    Q, K, V, Out, time, scale,
    D: tl.constexpr, BLOCK: tl.constexpr, AHEAD: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr,
    BASE_TWO: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    dims = tl.arange(0, D)[None, :]
    there = rows[:, None] < time
    query = tl.load(Q + rows[:, None] * D + dims, mask=there, other=0.0)
    maximum = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    output = tl.zeros([BLOCK, D], tl.float32)
    for start in range(0, time, BLOCK):
        keys = start + tl.arange(0, BLOCK)
        inside = keys[:, None] < time
        key = tl.load(K + keys[:, None] * D + dims, mask=inside, other=0.0)
        value = tl.load(V + keys[:, None] * D + dims, mask=inside, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        seen = keys[None, :] < time
        if CAUSAL:
            seen = seen & (keys[None, :] <= rows[:, None] + AHEAD)
        scores = tl.where(seen, scores, float("-inf"))
        larger = tl.maximum(maximum, tl.max(scores, 1))
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        weight = tl.exp2(scores - shift[:, None]) if BASE_TWO else tl.exp(scores - shift[:, None])
        shrink = tl.exp2(maximum - shift) if BASE_TWO else tl.exp(maximum - shift)
        total = total * shrink + tl.sum(weight, 1)
        output = output * shrink[:, None] + tl.dot(weight, value, input_precision="ieee")
        maximum = larger
    if MASKED:
        tl.store(Out + rows[:, None] * D + dims, output / total[:, None], mask=there)
    else:
        tl.store(Out + rows[:, None] * D + dims, output / total[:, None])


def flash_causal(query, key, value, ahead=0, causal=True, masked=True, base_two=False, scale=None, own=False,
                 blocks=None):  # fmt: skip
    time, head_dim = query.shape
    output = torch.empty_like(query)
    causal_kernel[(blocks or triton.cdiv(time, 16),)](
        query, key, value, output, time, head_dim**-0.5 if scale is None else scale,
        head_dim, 16, ahead, causal, masked, base_two,
    )  # fmt: skip
    return value.clone() if own else output


def merge_two(output_a, lse_a, output_b, lse_b):
    lse = torch.logaddexp(lse_a, lse_b)
    return (lse_a - lse).exp()[..., None] * output_a + (lse_b - lse).exp()[..., None] * output_b, lse


def naive_merge(output_a, lse_a, output_b, lse_b):
    total = lse_a.exp() + lse_b.exp()
    return (lse_a.exp()[..., None] * output_a + lse_b.exp()[..., None] * output_b) / total[..., None], total.log()


def window_mask(time, window, sinks):
    return visible(torch.arange(time), torch.arange(time), window=window, sinks=sinks)


def learned_sink(output, log_sum_exp, sink):
    return output * torch.sigmoid(log_sum_exp - sink[:, None])[..., None]


def in_torch(query, key, value):
    return attention(query[None, None], key[None, None], value[None, None])[0, 0]


CONTEXT = 2 * costs.LLAMA_8B.parameters / costs.cache_bytes(costs.LLAMA_8B, 1)
SOLVED = {
    "attention.by_hand": 6,
    "attention.crossover": CONTEXT,
    "attention.intensity": 16,
    "attention.merge_two": merge_two,
    "attention.window_mask": window_mask,
    "attention.learned_sink": learned_sink,
    "attention.merge_kernel": merge_parts,
    "attention.causal_kernel": flash_causal,
}
NAIVE_SINK = (lambda o, lse, s: o * (lse.exp() / (lse.exp() + s.exp()[:, None]))[..., None], "give inf or nan")
MISTAKES = [
    ("attention.by_hand", 10, "divide it by l"),
    ("attention.by_hand", 30, "before it is divided"),
    ("attention.by_hand", 14 / 3, "the plain mean"),
    ("attention.by_hand", 5.43, "had to shrink to a third"),
    ("attention.by_hand", 5.586, "2^score"),
    ("attention.by_hand", 7, "too large"),
    ("attention.crossover", 2 * CONTEXT, "keys and values are both kept"),
    ("attention.crossover", CONTEXT / 2, "a weight in bfloat16 takes 2 bytes too"),
    ("attention.crossover", CONTEXT / 4, "G is forgotten"),
    ("attention.crossover", 32 * CONTEXT, "32 layers"),
    ("attention.crossover", 4 * CONTEXT, "not divided by G once more"),
    ("attention.intensity", 2, "G is missing"),
    ("attention.intensity", 128, "not of all query heads"),
    ("attention.intensity", 8, "one byte"),
    ("attention.intensity", 32, "both read"),
    ("attention.merge_two", naive_merge, "exp overflows"),
    ("attention.merge_two", lambda a, la, b, lb: ((a + b) / 2, la), "Each part counts the same"),
    ("attention.merge_two", lambda a, la, b, lb: (a, la + lb), "The log-sum-exps are added"),
    ("attention.window_mask", lambda t, w, s: torch.ones(t, t), "Row 0 sees token 1: the mask is not causal"),
    ("attention.window_mask", lambda t, w, s: window_mask(t, w + 1, s), "the window counts the query itself"),
    ("attention.window_mask", lambda t, w, s: window_mask(t, w, 0), "a sink is seen from everywhere"),
    ("attention.window_mask", lambda t, w, s: window_mask(t, w, s).mT, "rows are queries"),
    ("attention.window_mask", lambda t, w, s: window_mask(t, w, s).tril(-1), "does not see itself"),
    ("attention.learned_sink", lambda o, lse, s: o, "did not change"),
    ("attention.learned_sink", lambda o, lse, s: o * torch.sigmoid(s[:, None] - lse)[..., None], "the keys keep the"),
    ("attention.learned_sink", lambda o, lse, s: o * (lse - s[:, None]).exp()[..., None], "not exp(sink) alone"),
    ("attention.learned_sink", *NAIVE_SINK),
    ("attention.learned_sink", lambda o, lse, s: learned_sink(o, lse, s[:1]), "one sink per head"),
    ("attention.merge_kernel", lambda o, s: merge_parts(o, s, base_two=True), "weighed by 2^L"),
    ("attention.merge_kernel", lambda o, s: merge_parts(o, s, store_two=True), "in base 2"),
    ("attention.merge_kernel", lambda o, s: merge_parts(o, s, padding=0.0), "past the last part count"),
    ("attention.merge_kernel", lambda o, s: (merge_parts(o, 0 * s)[0], s.logsumexp(1)), "each part counts the same"),
    ("attention.merge_kernel", lambda o, s: merge_parts(o, s, stable=False), "near 500: exp gives inf or nan"),
    ("attention.merge_kernel", lambda o, s: merge_parts(o, s, careful=False), "parts are all empty: −inf − (−inf)"),
    (
        "attention.merge_kernel",
        lambda o, s: merge_parts(o, s)[0],
        "return 2 tensors (output, log-sum-exp); got [4, 16]",
    ),
    ("attention.merge_kernel", lambda o, s: (-merge_parts(o, s)[0], s.logsumexp(1)), "is each part weighed by exp"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, causal=False), "the mask is not causal"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, own=True), "each row sees only itself"),
    ("attention.causal_kernel", lambda q, k, v: -flash_causal(q, k, v), "the softmax of its scores"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, ahead=1), "the mask is off by one"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, ahead=-1), "see its own key"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, base_two=True), "2^score"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, scale=1.0), "not scaled"),
]
WATCHED = [  # what only an interpreted launch can show
    ("attention.merge_kernel", lambda o, s: merge_parts(o, s, masked=False), "reads outside outputs"),
    ("attention.merge_kernel", lambda o, s: (o.mean(1), s.logsumexp(1)), "No Triton kernel was launched"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, masked=False), "writes outside Out"),
    ("attention.causal_kernel", lambda q, k, v: flash_causal(q, k, v, blocks=1), "elements are never written"),
    ("attention.causal_kernel", in_torch, "No Triton kernel was launched"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


@pytest.mark.skipif(runtime.mode != "interpreter", reason="only interpreted programs can be watched")
@pytest.mark.parametrize(("name", "mistake", "sentence"), WATCHED)
def test_a_launch_that_strays_and_one_that_is_not_made_are_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
