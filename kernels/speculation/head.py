"""A drafter's head over some of the words: the best few of them and the log-sum-exp of all, no row of logits stored.

An entry of a list is one int64: the logit, as an integer of the same order, above the turned bits of the word's place
in the table. So one comparison orders by logit and, among equal logits, puts the earlier word first; no two entries are
equal, and a run repeats exactly. The best are taken one after another: find the largest, strike it out.
"""

import torch
import triton
import triton.language as tl

from kernels.indexing.select import NOTHING, ordered
from kernels.merge import splits_for
from kernels.runtime import multiprocessors
from kernels.speculation.configurations import choose
from kernels.table import MOST
from kernels.tiles import LOG2_E, program_of, rows_of

TURN = tl.constexpr(2**31 - 1)  # place ^ TURN = TURN - place: the earlier place is the larger number


@triton.jit
def keep_best(best, fresh, TOP: tl.constexpr, PLACES: tl.constexpr):
    """The TOP largest entries of each row of both, descending. best: [rows, PLACES], fresh: [rows, any]."""
    kept, places = tl.full(best.shape, NOTHING, tl.int64), tl.arange(0, PLACES)
    for place in range(TOP):
        largest = tl.maximum(tl.max(best, 1), tl.max(fresh, 1))[:, None]
        kept = tl.where(places[None, :] == place, largest, kept)
        best = tl.where(best == largest, NOTHING, best)
        fresh = tl.where(fresh == largest, NOTHING, fresh)
    return kept


@triton.jit
def speculation_head_kernel(
    hidden_pointer, weight_pointer, table_pointer, list_pointer, log_sum_exp_pointer,
    count, kept, width, splits, span,
    hidden_row_stride, hidden_dim_stride, weight_word_stride, weight_dim_stride,
    TOP: tl.constexpr, PLACES: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The TOP largest of hidden · weight[table]ᵀ and its log-sum-exp, over the table's split     (eq. frspec-head)

    hidden: [count, width]; weight: [words, width]; table: int64 [kept], contiguous. list: int64 [count, splits, TOP],
    descending, and log_sum_exp: float32 [count, splits], contiguous, written in full. One program owns one split, the
    places split · span … (split + 1) · span of the table, for ROWS rows of hidden.
    """
    tile, split = program_of(tl.cdiv(count, ROWS))
    rows, words, chunk = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK), tl.arange(0, CHUNK)
    there = rows < count
    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    best = tl.full([ROWS, PLACES], NOTHING, tl.int64)
    begin = split * span
    end = tl.minimum(begin + span, kept)
    for start in range(begin, end, BLOCK):
        place = start + words
        inside = place < end
        word = tl.load(table_pointer + place, mask=inside, other=0)
        logits = tl.zeros([ROWS, BLOCK], tl.float32)
        for first in range(0, width, CHUNK):
            wide = (first + chunk < width)[None, :]
            hidden_rows = rows_of(hidden_pointer, 0, rows, hidden_row_stride, first + chunk, hidden_dim_stride)
            weight_rows = rows_of(weight_pointer, 0, word, weight_word_stride, first + chunk, weight_dim_stride)
            hidden = tl.load(hidden_rows, mask=there[:, None] & wide, other=0.0)
            weight = tl.load(weight_rows, mask=inside[:, None] & wide, other=0.0)
            logits = tl.dot(hidden, tl.trans(weight), logits, input_precision=PRECISION)
        logits = tl.where(inside[None, :], logits, float("-inf"))
        larger = tl.maximum(maximum, tl.max(logits, 1))
        shift = tl.where(larger == float("-inf"), 0.0, larger)  # nothing seen yet: weights are 0, not nan
        weights = tl.sum(tl.exp2((logits - shift[:, None]) * LOG2_E), 1)
        total = total * tl.exp2((maximum - shift) * LOG2_E) + weights
        maximum = larger
        logits = tl.where(logits == 0.0, 0.0, logits)  # a zero below zero would lose a tie
        logits = tl.where(logits == logits, logits, float("-inf"))  # nan, which has no place in an order, comes last
        high = tl.cast(ordered(logits.to(tl.int32, bitcast=True)), tl.int64) << 32
        fresh = tl.where(inside[None, :], high | tl.cast(place ^ TURN, tl.int64)[None, :], NOTHING)
        best = keep_best(best, fresh, TOP, PLACES)

    safe = tl.where(total == 0.0, 1.0, total)
    places, part = tl.arange(0, PLACES), tl.cast(rows, tl.int64) * splits + split
    tl.store(log_sum_exp_pointer + part, maximum + tl.log2(safe) / LOG2_E, mask=there)
    tl.store(list_pointer + part[:, None] * TOP + places[None, :], best, mask=there[:, None] & (places < TOP)[None, :])


@triton.jit
def speculation_merge_kernel(
    list_pointer, part_sum_pointer, table_pointer, logit_pointer, word_pointer, log_sum_exp_pointer,
    splits,
    TOP: tl.constexpr, LENGTH: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """The TOP best entries of all splits as logits and words, and the log-sum-exp over all of them.

    All tensors contiguous. logit: float32 and word: int64 [count, TOP], log_sum_exp: float32 [count]. One program owns
    one row; LENGTH is splits · TOP and SPLITS is splits, rounded up to powers of two.
    """
    row = tl.cast(tl.program_id(0), tl.int64)
    parts, entries = tl.arange(0, SPLITS), tl.arange(0, LENGTH)
    sums = tl.load(part_sum_pointer + row * splits + parts, mask=parts < splits, other=float("-inf"))
    largest = tl.max(sums, 0)
    shift = tl.where(largest == float("-inf"), 0.0, largest)
    total = tl.sum(tl.exp2((sums - shift) * LOG2_E), 0)
    total = tl.where(total == 0.0, 1.0, total)
    tl.store(log_sum_exp_pointer + row, largest + tl.log2(total) / LOG2_E)
    left = tl.load(list_pointer + row * splits * TOP + entries, mask=entries < splits * TOP, other=NOTHING)
    for place in range(TOP):
        best = tl.max(left, 0)
        left = tl.where(left == best, NOTHING, left)
        word = tl.load(table_pointer + ((best & 0xFFFFFFFF) ^ TURN))
        tl.store(word_pointer + row * TOP + place, word)
        tl.store(logit_pointer + row * TOP + place, ordered((best >> 32).to(tl.int32)).to(tl.float32, bitcast=True))


def splits_of(count, kept, dtype, device):
    """Programs that share the table for each tile of rows: enough to fill the device."""
    configuration, _ = choose("head", dtype)
    return splits_for(kept, triton.cdiv(count, configuration.rows), configuration.keys, multiprocessors(device))


def launch_head(hidden, weight, table, top_k, splits=None):
    """Launch over splits · tiles of rows, then merge. Shapes as in `effattn_core.speculation.subset_head`.

    hidden: [count, width], weight: [words, width], table: int64 [kept], top_k at most kept and MOST. Returns (logits
    float32 [count, top_k], words int64 [count, top_k], log_sum_exp float32 [count]). splits: programs per tile of
    rows, chosen if None.
    """
    count, width = hidden.shape
    kept = table.numel()
    configuration, precision = choose("head", hidden.dtype)
    if not 1 <= top_k <= min(kept, MOST):
        raise ValueError(f"the kernel keeps 1 to {min(kept, MOST)} of {kept} words; top_k is {top_k}.")
    logits = torch.empty(count, top_k, dtype=torch.float32, device=hidden.device)
    words = torch.empty(count, top_k, dtype=torch.int64, device=hidden.device)
    log_sum_exp = torch.empty(count, dtype=torch.float32, device=hidden.device)
    if count == 0:
        return logits, words, log_sum_exp
    splits = splits or splits_of(count, kept, hidden.dtype, hidden.device)
    # A span is a whole number of tiles, so that only the last split is ragged.
    span = triton.cdiv(triton.cdiv(kept, splits), configuration.keys) * configuration.keys
    lists = torch.empty(count, splits, top_k, dtype=torch.int64, device=hidden.device)
    part_sum = torch.empty(count, splits, dtype=torch.float32, device=hidden.device)
    table = table.contiguous()
    speculation_head_kernel[(triton.cdiv(count, configuration.rows) * splits,)](
        hidden, weight, table, lists, part_sum,
        count, kept, width, splits, span,
        *hidden.stride(), *weight.stride(),
        TOP=top_k,
        PLACES=triton.next_power_of_2(top_k),
        ROWS=configuration.rows,
        BLOCK=configuration.keys,
        CHUNK=configuration.chunk,
        PRECISION=precision,
        num_warps=configuration.warps,
        num_stages=configuration.stages,
    )  # fmt: skip
    length = triton.next_power_of_2(splits * top_k)
    speculation_merge_kernel[(count,)](
        lists, part_sum, table, logits, words, log_sum_exp,
        splits,
        TOP=top_k,
        LENGTH=length,
        SPLITS=triton.next_power_of_2(splits),
        num_warps=4 if length <= 2048 else 16,
    )  # fmt: skip
    return logits, words, log_sum_exp
