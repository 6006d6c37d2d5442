"""Work split between programs, and one launch that merges its Parts: what every decoding topic ends with."""

import triton
import triton.language as tl

from kernels.tiles import LOG2_E, rows_of


@triton.jit
def attention_merge_kernel(
    part_output_pointer, part_log_sum_exp_pointer, output_pointer, log_sum_exp_pointer,
    splits,
    VALUE_DIM: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """output = Σ exp(log_sum_exp_k - log_sum_exp) · output_k over the splits of one head     (eq. merge)

    All tensors contiguous; one program owns one head of one batch item; SPLITS is splits rounded up to a power of two.
    """
    row = tl.cast(tl.program_id(0), tl.int64)
    parts, dims = tl.arange(0, SPLITS), tl.arange(0, VALUE_DIM)
    there = parts < splits
    sums = tl.load(part_log_sum_exp_pointer + row * splits + parts, mask=there, other=float("-inf"))
    largest = tl.max(sums, 0)
    # Where every split is empty, weigh by exp(-inf) = 0 and divide by 1: the output is 0, its log-sum-exp -inf.
    weight = tl.exp2((sums - tl.where(largest == float("-inf"), 0.0, largest)) * LOG2_E)
    total = tl.sum(weight, 0)
    total = tl.where(total == 0.0, 1.0, total)
    rows = rows_of(part_output_pointer + row * splits * VALUE_DIM, 0, parts, VALUE_DIM, dims, 1)
    output = tl.sum(tl.load(rows, mask=there[:, None], other=0.0) * weight[:, None], 0) / total
    tl.store(output_pointer + row * VALUE_DIM + dims, output.to(output_pointer.dtype.element_ty))
    tl.store(log_sum_exp_pointer + row, largest + tl.log2(total) / LOG2_E)


def splits_for(key_time, programs, block_key, multiprocessors):
    """How many programs share a head's keys: enough to fill the device, each with about four blocks or more."""
    wanted = triton.cdiv(2 * multiprocessors, max(programs, 1))
    return max(1, min(wanted, triton.cdiv(key_time, 4 * block_key), 128))


def launch_merge(part_output, part_sum, output, log_sum_exp):
    """Merge the Parts of all splits into output and log_sum_exp, whose leading axes they share: one program per row.

    part_output: [..., splits, value_dim], part_sum: [..., splits], float32, contiguous.
    """
    *_, splits, value_dim = part_output.shape
    attention_merge_kernel[(log_sum_exp.numel(),)](
        part_output, part_sum, output, log_sum_exp,
        splits,
        VALUE_DIM=value_dim,
        SPLITS=triton.next_power_of_2(splits),
        num_warps=4,
    )  # fmt: skip
