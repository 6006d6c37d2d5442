"""Scores of the lightning indexer with a running top-k: index keys go in, the best rows come out, no row of scores.

An entry of a list is one int64: the score, as an integer of the same order, above the row's number. So one comparison
orders by score and, among equal scores, puts the newer row first; the order is total, and a run repeats exactly. A
program keeps its K best entries in descending order, and sorts a tile of K new ones ascending. At each place the larger
of the two is kept. These are the K best of all 2 K; they fall and then rise, and one bitonic merge puts them in order.
"""

import torch
import triton
import triton.language as tl

from kernels.indexing.configurations import INDEX_DIMS, LIST_WARPS, capacity_of, choose
from kernels.merge import splits_for
from kernels.runtime import multiprocessors
from kernels.tiles import program_of, rows_of

NOTHING = tl.constexpr(-(2**63) + 1)  # an entry below that of any score
LAST = tl.constexpr(2**63 - 1)


@triton.jit
def ordered(bits):
    """The bits of a float32 as an int32 of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def exchange(entries, descending, LENGTH: tl.constexpr, DISTANCE: tl.constexpr):
    """Put the pairs (i, i + DISTANCE) in order. descending: bool, one for each run of 2 · DISTANCE entries."""
    pairs = tl.reshape(entries, [LENGTH // (2 * DISTANCE), 2, DISTANCE])
    largest, smallest = tl.max(pairs, 1), tl.min(pairs, 1)
    first = (tl.arange(0, 2) == 0)[None, :, None]
    return tl.reshape(tl.where(first == descending, largest[:, None, :], smallest[:, None, :]), [LENGTH])


@triton.jit
def bitonic_sort(entries, LENGTH: tl.constexpr, POWER: tl.constexpr):
    """Ascending (Batcher 1968). LENGTH = 2**POWER."""
    for stage in tl.static_range(1, POWER + 1):
        for step in tl.static_range(stage):
            # Runs of 2**stage entries turn by turn up and down, so that two neighbours make one bitonic sequence.
            runs = tl.arange(0, LENGTH >> (stage - step))
            descending = ((runs >> step) & 1) == 1 if stage < POWER else runs < 0
            entries = exchange(entries, descending[:, None, None], LENGTH, 1 << (stage - step - 1))
    return entries


@triton.jit
def best_of(best, ascending, LENGTH: tl.constexpr, POWER: tl.constexpr):
    """The LENGTH best of two sequences, descending: `best` descends and the other ascends."""
    entries = tl.maximum(best, ascending)
    for step in tl.static_range(POWER):
        runs = tl.arange(0, LENGTH >> (POWER - step))
        entries = exchange(entries, (runs >= 0)[:, None, None], LENGTH, 1 << (POWER - step - 1))
    return entries


@triton.jit
def indexing_select_kernel(
    query_pointer, key_pointer, weight_pointer, list_pointer,
    key_time, splits, span, forced_from,
    query_batch_stride, query_head_stride, query_dim_stride,
    key_batch_stride, key_time_stride, key_dim_stride,
    weight_batch_stride, weight_head_stride,
    scale,
    HEADS: tl.constexpr, ROWS: tl.constexpr, INDEX_DIM: tl.constexpr,
    BLOCK: tl.constexpr, TILES: tl.constexpr, CAPACITY: tl.constexpr, POWER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The best CAPACITY entries of keys split · span … (split + 1) · span, ascending     (eq. clsa-score)

    key: [batch, key_time, INDEX_DIM], one per token; list: int64 [batch, splits, CAPACITY], contiguous, fully written.
    One program owns one split of one batch item, for all HEADS index heads, padded to ROWS. Rows from forced_from on
    score infinity. CAPACITY = TILES · BLOCK = 2**POWER.
    """
    split, batch = program_of(splits)
    batch = tl.cast(batch, tl.int64)
    heads, dims, keys = tl.arange(0, ROWS), tl.arange(0, INDEX_DIM), tl.arange(0, BLOCK)
    there = heads < HEADS
    query_rows = rows_of(
        query_pointer + batch * query_batch_stride, 0, heads, query_head_stride, dims, query_dim_stride
    )
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    weights = weight_pointer + batch * weight_batch_stride + tl.cast(heads, tl.int64) * weight_head_stride
    weight = tl.load(weights, mask=there, other=0.0).to(tl.float32) * scale
    key_pointer += batch * key_batch_stride

    best = tl.full([CAPACITY], NOTHING, tl.int64)
    begin = split * span
    end = tl.minimum(begin + span, key_time)
    tiles = tl.arange(0, TILES)
    for start in range(begin, end, CAPACITY):
        fresh = tl.full([TILES, BLOCK], NOTHING, tl.int64)
        for tile in range(0, TILES):
            first = start + tile * BLOCK
            inside = first + keys < end
            key_rows = rows_of(key_pointer, first, keys, key_time_stride, dims, key_dim_stride)
            key = tl.load(key_rows, mask=inside[:, None], other=0.0)
            agreement = tl.dot(query, tl.trans(key), input_precision=PRECISION)
            # Not tl.maximum, which takes nan for 0; and a row of padding times an infinite key is nan.
            agreement = tl.where(there[:, None] & ~(agreement < 0.0), agreement, 0.0)
            score = tl.sum(agreement * weight[:, None], 0)
            score = tl.where(score == 0.0, 0.0, score)  # a zero below zero would lose a tie
            score = tl.where(score == score, score, float("-inf"))  # nan, which has no place in an order, comes last
            score = tl.where(first + keys >= forced_from, float("inf"), score)
            high = tl.cast(ordered(score.to(tl.int32, bitcast=True)), tl.int64) << 32
            entry = tl.where(inside, high | tl.cast(first + keys, tl.int64), NOTHING)
            fresh = tl.where(tiles[:, None] == tile, entry[None, :], fresh)
        ascending = bitonic_sort(tl.reshape(fresh, [CAPACITY]), CAPACITY, POWER)
        best = best_of(best, ascending, CAPACITY, POWER)
    place = (batch * splits + split) * CAPACITY + CAPACITY - 1 - tl.arange(0, CAPACITY)
    tl.store(list_pointer + place, best)


@triton.jit
def indexing_merge_kernel(
    list_pointer, row_pointer, score_pointer,
    splits, top_k,
    CAPACITY: tl.constexpr, POWER: tl.constexpr,
):  # fmt: skip
    """The best top_k entries of all splits, as rows in ascending order and their scores.

    list: int64 [batch, splits, CAPACITY], ascending; row: int32 and score: float32 [batch, top_k], all contiguous. One
    program owns one batch item. Where there are fewer entries: row -1, score -inf, at the end.
    """
    batch, places = tl.cast(tl.program_id(0), tl.int64), tl.arange(0, CAPACITY)
    list_pointer += batch * splits * CAPACITY
    best = tl.load(list_pointer + CAPACITY - 1 - places)
    for split in range(1, splits):
        best = best_of(best, tl.load(list_pointer + split * CAPACITY + places), CAPACITY, POWER)
    # Swap the fields, the row above and the score below, so that rows ascend; empty places come last.
    turned = ((best & 0xFFFFFFFF) << 32) | ((best >> 32) & 0xFFFFFFFF)
    turned = tl.where((places < top_k) & (best != NOTHING), turned, LAST)
    turned = bitonic_sort(turned, CAPACITY, POWER)
    there = turned != LAST
    score = ordered((turned & 0xFFFFFFFF).to(tl.int32)).to(tl.float32, bitcast=True)
    kept = places < top_k
    tl.store(row_pointer + batch * top_k + places, tl.where(there, turned >> 32, -1).to(tl.int32), mask=kept)
    tl.store(score_pointer + batch * top_k + places, tl.where(there, score, float("-inf")), mask=kept)


def launch_select(query, key, weight, top_k, local, splits=None):
    """Launch over batch · splits, then merge. Shapes as in `effattn_core.indexing.select_rows`.

    Returns (rows: int32, scores: float32), [batch, top_k]. splits: programs a batch item, chosen if None, each of at
    least four lists' length, so that the lists stay smaller than the row of scores would be.
    """
    batch, heads, _, index_dim = query.shape
    key_time = key.shape[2]
    configuration, precision = choose("select", query.dtype, index_dim, among=INDEX_DIMS)
    capacity = capacity_of(top_k, configuration.keys)
    rows = torch.empty(batch, top_k, dtype=torch.int32, device=query.device)
    scores = torch.empty(batch, top_k, dtype=torch.float32, device=query.device)
    if batch == 0:
        return rows, scores
    if splits is None:
        splits = splits_for(key_time, batch, capacity, multiprocessors(query.device))
    span = max(1, triton.cdiv(triton.cdiv(key_time, splits), capacity)) * capacity
    lists = torch.empty(batch, splits, capacity, dtype=torch.int64, device=query.device)
    indexing_select_kernel[(batch * splits,)](
        query, key, weight, lists,
        key_time, splits, span, key_time - local,
        query.stride(0), query.stride(1), query.stride(3), key.stride(0), key.stride(2), key.stride(3),
        weight.stride(0), weight.stride(1),
        (heads * index_dim) ** -0.5,
        HEADS=heads,
        ROWS=max(16, triton.next_power_of_2(heads)),
        INDEX_DIM=index_dim,
        BLOCK=configuration.keys,
        TILES=capacity // configuration.keys,
        CAPACITY=capacity,
        POWER=capacity.bit_length() - 1,
        PRECISION=precision,
        num_warps=max(configuration.warps, LIST_WARPS[capacity]),
        num_stages=configuration.stages,
    )  # fmt: skip
    indexing_merge_kernel[(batch,)](
        lists, rows, scores,
        splits, top_k,
        CAPACITY=capacity,
        POWER=capacity.bit_length() - 1,
        num_warps=LIST_WARPS[capacity],
    )  # fmt: skip
    return rows, scores
