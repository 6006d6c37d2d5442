"""The hidden cases of the attention chapter's exercises, and the sentence for each mistake that is often made."""

import math

import torch

from effattn_core import costs
from effattn_core.attention import Part, attention, attention_part, merge, oracle, visible
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import random
from effattn_core.judging.watch import examined


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


def _near(got, wanted):
    return torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


@exercise("attention.merge_kernel", level="kernel")
def merge_kernel(function):
    for rows, splits, dim in ((3, 1, 32), (4, 8, 16), (5, 3, 32), (2, 5, 64)):
        case = f"{rows} rows of {splits} parts"
        outputs, sums = random(rows, splits, dim), 3 * random(rows, splits)
        wanted = _merged(outputs, sums)
        result, unsafe = examined(lambda outputs=outputs, sums=sums: function(outputs, sums))
        if unsafe:
            return f"With {case}: {unsafe}"
        output, log_sum_exp = result
        if output.shape != wanted.output.shape or log_sum_exp.shape != wanted.log_sum_exp.shape:
            shapes = tuple(output.shape), tuple(log_sum_exp.shape)
            return f"With {case} the results are {shapes}; they must be [rows, dim] and [rows]."
        if splits > 1 and _near(output, outputs.mean(1)):
            return "Each part counts the same: weigh it by exp(its log-sum-exp − the merged log-sum-exp)."
        if splits > 1 and _near(output, _merged(outputs, sums * math.log(2)).output):
            return "Parts are weighed by 2^L: exp2 takes base 2, so multiply the natural L by log2(e) first."
        if _near(log_sum_exp, wanted.log_sum_exp / math.log(2)) and not _near(log_sum_exp, wanted.log_sum_exp):
            return "The log-sum-exp is in base 2: divide it by log2(e) before it is stored."
        padding = 2 ** math.ceil(math.log2(splits)) - splits
        zeros = torch.zeros(rows, padding, dim, device=sums.device), torch.zeros(rows, padding, device=sums.device)
        if padding and _near(output, _merged(torch.cat([outputs, zeros[0]], 1), torch.cat([sums, zeros[1]], 1)).output):
            return f"With {case} the lanes past the last part count: load their log-sum-exp as -inf."
        if not (output.isfinite().all() and log_sum_exp.isfinite().all()):
            return f"With {case} some results are not finite."
        if not _near(output, wanted.output):
            return f"With {case} the output is off by {(output - wanted.output).abs().max():.2g}."
        if not _near(log_sum_exp, wanted.log_sum_exp):
            return f"With {case} the log-sum-exp is off by {(log_sum_exp - wanted.log_sum_exp).abs().max():.2g}."
    outputs, sums = random(2, 3, 32), random(2, 3) + 500
    output, log_sum_exp = function(outputs, sums)
    if not (output.isfinite().all() and log_sum_exp.isfinite().all()):
        return "Log-sum-exps near 500 give inf or nan: subtract the largest before you exponentiate."
    output, log_sum_exp = function(torch.zeros(1, 3, 32, device=sums.device), torch.full_like(sums[:1], -torch.inf))
    if output.isnan().any() or log_sum_exp.isnan().any():
        return "A row whose parts are all empty gives nan: −inf − (−inf). Its output is 0, its log-sum-exp −inf."
    return None


def _merged(outputs, sums):
    """The Part that [rows, splits, dim] and [rows, splits] merge to."""
    return merge([Part(outputs[:, split], sums[:, split]) for split in range(sums.shape[1])])


@exercise("attention.causal_kernel", level="kernel")
def causal_kernel(function):
    for time, head_dim in ((16, 16), (64, 32), (33, 16), (1, 16), (65, 32)):
        query, key, value = (4 * random(3, time, head_dim)).unbind()
        got, unsafe = examined(lambda query=query, key=key, value=value: function(query, key, value))
        if unsafe:
            return f"With {time} tokens: {unsafe}"
        if not isinstance(got, torch.Tensor) or got.shape != query.shape:
            shown = tuple(getattr(got, "shape", [type(got).__name__]))
            return f"With {time} tokens the output must be {tuple(query.shape)}; got {shown}."
        wrong = _causal_mistake(got, query, key, value)
        if wrong:
            return f"With {time} tokens {wrong}"
    return None


def _causal_mistake(got, query, key, value):
    """What is wrong with an output of causal attention over one head, None if nothing is."""
    time, head_dim = query.shape

    def form(scale=head_dim**-0.5, **settings):
        heads = (each[None, None] for each in (query, key, value))
        return attention(*heads, scale=scale, **settings)[0, 0]

    if _close(got, form()):
        return None
    if not got.isfinite().all():
        row = (~got.isfinite()).nonzero()[0, 0].item()
        return f"row {row} is not finite: does it see its own key, and is −inf − (−inf) avoided?"
    if time > 1 and _close(got, form(causal=False)):
        return "every row sees every key: the mask is not causal."
    for scale, sentence in (
        (1.0, "the scores are not scaled by head_dim ** -0.5."),
        (head_dim**-0.5 * math.log(2), "the weights are 2^score: exp2 needs the scores times log2(e)."),
    ):
        if _close(got, form(scale=scale)):
            return sentence
    if _close(got, form(window=1)):
        return "each row sees only itself: do later blocks of keys forget the earlier ones?"
    row = ((got - form()).abs().amax(1) > 1e-3).nonzero()
    row = row[0, 0].item() if len(row) else 0
    ahead = torch.arange(time, device=query.device)
    scores = (query @ key.mT) * head_dim**-0.5
    shifted = scores.masked_fill(ahead[None, :] > ahead[:, None] + 1, -math.inf).softmax(1) @ value
    if _close(got, shifted):
        return f"row {row} sees token {row + 1}: the mask is off by one."
    return f"row {row} is off by {(got - form())[row].abs().max():.2g}."


def _close(got, wanted):
    return torch.allclose(got, wanted, rtol=1e-3, atol=1e-3)
