"""The hidden cases of the attention chapter's exercises, and the sentence for each mistake that is often made."""

import math

import torch
from torch.nn import functional

from effattn_core import costs
from effattn_core.attention import Part, attention, attention_part, merge, oracle, visible
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random


def _parts(cut, size):
    """Two halves of one attention as (output, log_sum_exp) each, and the whole, in float64."""
    generator = torch.Generator().manual_seed(size)
    query, key, value = (torch.randn(1, 2, size, 8, dtype=torch.float64, generator=generator) for _ in range(3))
    spans = (slice(0, cut), slice(cut, size), slice(0, size))
    return [oracle(query, key[:, :, span], value[:, :, span], causal=False, scale=1.0) for span in spans]


@exercise("attention.by_hand", level="pencil")
def by_hand(answer):
    scores, values = [0.0, math.log(3), 0.0], [4.0, 8.0, 2.0]
    weights = [math.exp(score) for score in scores]
    weighted = sum(weight * value for weight, value in zip(weights, values, strict=True))
    base_two = [2**score for score in scores]
    mistakes = [
        (weighted / max(weights), "That is a, the weighted sum: divide it by l, the sum of the weights."),
        (weighted, "That is the weighted sum before it is divided by the sum of the weights."),
        (sum(values) / 3, "That is the plain mean: each value has the weight exp(score)."),
        # The walk without its rescaling: old sums stay as they were when the maximum grew.
        ((4 + 8 + 2 / 3) / (1 + 1 + 1 / 3), "When the maximum grew to ln 3, l and a had to shrink to a third."),
        (
            sum(weight * value for weight, value in zip(base_two, values, strict=True)) / sum(base_two),
            "These weights are 2^score: the softmax takes e^score.",
        ),
    ]
    return compare_number(answer, weighted / sum(weights), mistakes, within=0.005)


@exercise("attention.crossover", level="pencil")
def crossover(answer):
    model = costs.LLAMA_8B
    wanted = 2 * model.parameters / costs.cache_bytes(model, 1)
    group = model.heads // model.key_value_heads
    mistakes = [
        (2 * wanted, "Twice what it is: keys and values are both kept, and each number takes 2 bytes."),
        (wanted / 2, "Half of what it is: a weight in bfloat16 takes 2 bytes too."),
        (wanted / group, "G is forgotten: the cache holds 8 key heads, not one for each of the 32 query heads."),
        (wanted * model.layers, "Each of the 32 layers keeps a cache of its own."),
        (wanted * group, "The cache has all 8 key heads: it is not divided by G once more."),
    ]
    return compare_number(answer, wanted, mistakes)


@exercise("attention.intensity", level="pencil")
def intensity(answer):
    group, element = 64 // 8, 1
    mistakes = [
        (2 / element, "G is missing: the 8 query heads of a group use the same row of the cache."),
        (2 * 64 / element, "G is the number of query heads per key head, not of all query heads."),
        (
            group / element,
            "Half of it: a number of 8 bits is one byte, and each query head does a product for the score and one "
            "for the weighted sum.",
        ),
        (4 * group / element, "Twice what it is: a key and a value are both read, 2 D numbers for 4 D operations."),
    ]
    return compare_number(answer, 2 * group / element, mistakes)


@exercise("attention.merge_two", level="code")
def merge_two(function):
    for cut, size in ((1, 2), (5, 9), (3, 17)):
        left, right, whole = _parts(cut, size)
        output, log_sum_exp = function(*left, *right)
        if output.shape != whole.output.shape:
            return f"The output is {tuple(output.shape)}; the parts are {tuple(whole.output.shape)}."
        if torch.allclose(output, (left.output + right.output) / 2):
            return "Each part counts the same: weigh it by exp(its log-sum-exp − the merged log-sum-exp)."
        if not torch.allclose(log_sum_exp, whole.log_sum_exp):
            if torch.allclose(log_sum_exp, left.log_sum_exp + right.log_sum_exp):
                return "The log-sum-exps are added: what adds is their exponentials (torch.logaddexp)."
            return f"With keys split {cut} + {size - cut} the log-sum-exp is off; it is ln(exp(a) + exp(b))."
        if not torch.allclose(output, whole.output):
            error = (output - whole.output).abs().max()
            return f"With keys split {cut} + {size - cut} the output is off by {error:.2g}."
    left, right, _ = _parts(2, 4)
    output, log_sum_exp = function(left.output, left.log_sum_exp + 2000, right.output, right.log_sum_exp)
    if not (output.isfinite().all() and log_sum_exp.isfinite().all()):
        return "Scores of 2000 give inf or nan: exp overflows. Subtract the merged log-sum-exp before you exponentiate."
    empty = torch.full_like(left.log_sum_exp, -torch.inf)
    output, log_sum_exp = function(left.output, left.log_sum_exp, torch.zeros_like(left.output), empty)
    if not torch.allclose(output, left.output):
        return "An empty part (log-sum-exp −inf) must change nothing."
    return None


@exercise("attention.window_mask", level="code")
def window_mask(function):
    for time, window, sinks in ((6, 3, 0), (7, 2, 1), (9, 4, 2), (5, 9, 3)):
        seen = torch.as_tensor(function(time, window, sinks))
        wanted = visible(torch.arange(time), torch.arange(time), window=window, sinks=sinks)
        if seen.shape != wanted.shape:
            return f"For {time} tokens the mask is {tuple(seen.shape)}; it must be {tuple(wanted.shape)}."
        if torch.equal(seen.bool(), wanted.mT) and not torch.equal(wanted, wanted.mT):
            return "The mask is turned: rows are queries, columns are keys."
        wrong = (seen.bool() != wanted).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            if seen[row, column] and column > row:
                return f"Row {row} sees token {column}: the mask is not causal."
            if seen[row, column]:
                return f"With window {window}, row {row} still sees token {column}: the window counts the query itself."
            if column == row:
                return f"Row {row} does not see itself: a query sees the keys up to and including its own."
            cause = "a sink is seen from everywhere" if column < sinks else "it lies inside the window"
            return f"With window {window} and {sinks} sinks, row {row} misses token {column}: {cause}."
    return None


@exercise("attention.learned_sink", level="code")
def learned_sink(function):
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(2, 4, 9, 8, dtype=torch.float64, generator=generator) for _ in range(3))
    part = attention_part(query, key, value)
    for large in (0, 900):
        log_sum_exp, sink = part.log_sum_exp + large, torch.tensor([0.0, 1, -2, 5], dtype=torch.float64) + large
        got = function(part.output, log_sum_exp, sink)
        wanted = part.output * torch.sigmoid(log_sum_exp - sink[:, None])[..., None]
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            shown = tuple(getattr(got, "shape", [type(got).__name__]))
            return f"The output must be a tensor of shape {tuple(wanted.shape)}; got {shown}."
        if not got.isfinite().all():
            return "Scores near 900 give inf or nan: exponentiate a difference only (torch.sigmoid is careful)."
        if torch.allclose(got, part.output):
            return "The outputs did not change: the sink takes its share of the weights, so they shrink."
        if torch.allclose(got, part.output * torch.sigmoid(sink[:, None] - log_sum_exp)[..., None]):
            return "That is the share that the sink takes: the keys keep the rest, exp(L) / (exp(L) + exp(sink))."
        if torch.allclose(got, part.output * (log_sum_exp - sink[:, None]).exp()[..., None]):
            return "The new denominator is exp(L) + exp(sink), not exp(sink) alone."
        if not torch.allclose(got, wanted):
            return f"The output is off by {(got - wanted).abs().max():.2g}: is there one sink per head, [heads]?"
    return None


MERGED = "is each part weighed by exp(its log-sum-exp − the merged one), and is the merged one ln Σ exp(L)?"


@kernel_exercise("attention.merge_kernel")
def merge_kernel():
    def case(what, outputs, sums, mistakes=(), **says):
        says = dict(hint=MERGED, names=("output", "log-sum-exp")) | says
        return Case(what, (outputs, sums), _merged(outputs, sums), mistakes=list(mistakes), **says)

    def normal(rows, splits, dim):
        outputs, sums = random(rows, splits, dim), 3 * random(rows, splits)
        wanted = _merged(outputs, sums)
        lanes = 2 ** math.ceil(math.log2(splits)) - splits
        padded = functional.pad(outputs, (0, 0, 0, lanes)), functional.pad(sums, (0, lanes))
        same = "each part counts the same: weigh it by exp(its log-sum-exp − the merged log-sum-exp)."
        by_two = "parts are weighed by 2^L: exp2 takes base 2, so multiply the natural L by log2(e) first."
        stored_by_two = "the log-sum-exp is in base 2: divide it by log2(e) before it is stored."
        past = "the lanes past the last part count: load their log-sum-exp as -inf."
        mistakes = [
            *([((outputs.mean(1), None), same)] if splits > 1 else []),
            *([((_merged(outputs, sums * math.log(2))[0], None), by_two)] if splits > 1 else []),
            ((None, wanted[1] / math.log(2)), stored_by_two),
            *([((_merged(*padded)[0], None), past)] if lanes else []),
        ]
        return case(f"{rows} rows of {splits} parts", outputs, sums, mistakes)

    large = random(2, 3, 32), random(2, 3) + 500
    empty = torch.zeros_like(large[0][:1]), torch.full_like(large[1][:1], -math.inf)
    overflow = "exp gives inf or nan: subtract the largest before you exponentiate."
    nothing = "−inf − (−inf) is nan, and so is 0/0 by a total of 0. The output is 0 there, the log-sum-exp −inf."
    return [
        *(normal(*sizes) for sizes in ((4, 8, 16), (3, 1, 32), (5, 3, 32), (2, 5, 64))),
        case("log-sum-exps near 500", *large, nan=overflow, within=1e-3),
        case("a row whose parts are all empty", *empty, nan=nothing, hint=nothing),
    ]


def _merged(outputs, sums):
    """(output, log-sum-exp) that [rows, splits, dim] and [rows, splits] merge to, in float32."""
    parts = [Part(outputs[:, split].double(), sums[:, split].double()) for split in range(sums.shape[1])]
    return tuple(each.float() for each in merge(parts))


@kernel_exercise("attention.causal_kernel")
def causal_kernel():
    def case(time, head_dim):
        query, key, value = (each.clone() for each in 4 * random(3, time, head_dim))
        scale = head_dim**-0.5

        def form(scale=scale, **settings):
            heads = (each[None, None].double() for each in (query, key, value))
            return attention(*heads, scale=scale, **settings)[0, 0].float()

        scores = (query.double() @ key.double().mT) * scale
        ahead = scores.new_ones(time, time, dtype=torch.bool).triu(2)
        shifted = (scores.masked_fill(ahead, -math.inf).softmax(1) @ value.double()).float()
        mistakes = [
            (form(causal=False), "every row sees every key: the mask is not causal."),
            (form(scale=1.0), "the scores are not scaled by head_dim ** -0.5."),
            (form(scale=scale * math.log(2)), "the weights are 2^score: exp2 needs the scores times log2(e)."),
            (form(window=1), "each row sees only itself: do later blocks of keys forget the earlier ones?"),
            (shifted, "each row sees the token after its own: the mask is off by one."),
        ]
        return Case(
            f"{time} tokens", (query, key, value), form(), mistakes=mistakes, within=1e-3,
            hint="is each row the softmax of its scores with the keys up to its own, times their values?",
            nan="a row is not finite: does each see its own key, and is −inf − (−inf) avoided?",
        )  # fmt: skip

    return [case(*sizes) for sizes in ((16, 16), (64, 32), (33, 16), (1, 16), (65, 32))]
