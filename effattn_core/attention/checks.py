"""The hidden cases of the attention chapter's exercises."""

import math

import torch

from effattn_core.attention import oracle, visible
from effattn_core.exercises import exercise


def _parts(cut, size):
    """Two halves of one attention as (output, log_sum_exp) each, and the whole, in float64."""
    generator = torch.Generator().manual_seed(size)
    query, key, value = (torch.randn(1, 2, size, 8, dtype=torch.float64, generator=generator) for _ in range(3))
    spans = (slice(0, cut), slice(cut, size), slice(0, size))
    return [oracle(query, key[:, :, span], value[:, :, span], causal=False, scale=1.0) for span in spans]


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
        wrong = (seen.bool() != wanted).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            if seen[row, column] and column > row:
                return f"Row {row} sees token {column}: the mask is not causal."
            if seen[row, column]:
                return f"With window {window}, row {row} still sees token {column}: the window counts the query itself."
            cause = "a sink is seen from everywhere" if column < sinks else "it lies inside the window"
            return f"With window {window} and {sinks} sinks, row {row} misses token {column}: {cause}."
    return None


@exercise("attention.cache_bytes", level="code")
def cache_bytes(function):
    for sizes in ((32, 8, 128, 131072, 2), (3, 2, 32, 100, 4), (1, 1, 64, 7, 1)):
        layers, heads, head_dim, context, _ = sizes
        wanted, got = 2 * math.prod(sizes), function(*sizes)
        if got * 2 == wanted:
            return f"Half of what it takes ({got:,} of {wanted:,} bytes): keys and values are both kept."
        if got != wanted:
            case = f"{layers} layers, {heads} heads of {head_dim}, {context:,} tokens"
            return f"{case} take {wanted:,} bytes; got {got:,}."
    return None
