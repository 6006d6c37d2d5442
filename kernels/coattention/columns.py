"""Column mass: how much attention each key gets, by a second pass over saved log-sum-exps; no matrix is stored."""

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.tiles import LOG2_E, program_of, rows_of

BLOCKS, WARPS = {32: 32, 64: 16, 128: 16}, 4  # by head_dim: 32 keys of 64 numbers in three parts spill


@triton.jit
def column_mass_kernel(
    query_pointer, key_pointer, log_sum_exp_pointer, mass_pointer,
    time,
    query_head_stride, query_time_stride, query_dim_stride,
    key_head_stride, key_time_stride, key_dim_stride,
    scale,
    CAUSAL: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """mass[j] = Σ_i exp(scale · query_i key_j - log_sum_exp_i)     (eq. coattention-mass)

    log_sum_exp and mass, float32: [heads, time], contiguous; mass is written in full. One program owns BLOCK keys of a
    head and walks the queries that see them, in order: the shape of the pass that makes the gradient of keys.
    """
    tile, head = program_of(tl.cdiv(time, BLOCK))
    head = tl.cast(head, tl.int64)
    query_pointer += head * query_head_stride
    block, dims = tl.arange(0, BLOCK), tl.arange(0, HEAD_DIM)
    keys = tile * BLOCK + block
    rows = rows_of(key_pointer + head * key_head_stride, tile * BLOCK, block, key_time_stride, dims, key_dim_stride)
    key = tl.load(rows, mask=keys[:, None] < time, other=0.0).to(tl.float32)
    mass = tl.zeros([BLOCK], tl.float32)
    begin = 0
    if CAUSAL:
        begin = tile * BLOCK
    for start in range(begin, time, BLOCK):
        asks = start + block
        rows = rows_of(query_pointer, start, block, query_time_stride, dims, query_dim_stride)
        query = tl.load(rows, mask=asks[:, None] < time, other=0.0).to(tl.float32)
        log_sum_exp = tl.load(log_sum_exp_pointer + head * time + asks, mask=asks < time, other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale - log_sum_exp[:, None]
        seen = asks[:, None] < time
        if CAUSAL:
            seen = seen & (asks[:, None] >= keys[None, :])
        # A row that sees nothing has the log-sum-exp -inf; causally each sees itself, so that cannot happen here.
        mass += tl.sum(tl.where(seen, tl.exp2(score * LOG2_E), 0.0), 0)
    tl.store(mass_pointer + head * time + keys, mass, mask=keys < time)


def launch_column_mass(query, key, log_sum_exp, scale, causal):
    """The mass of each key, float32 [heads, time], of query and key [heads, time, head_dim] of any strides.

    log_sum_exp: [heads, time] float32, contiguous. Raises ValueError for a head_dim that is not among BLOCKS.
    """
    runtime.require_kernels(query.dtype)
    heads, time, head_dim = query.shape
    if head_dim not in BLOCKS:
        raise ValueError(f"head_dim is one of {tuple(BLOCKS)}; got {head_dim}.")
    mass = torch.empty(heads, time, dtype=torch.float32, device=query.device)
    programs = heads * triton.cdiv(time, BLOCKS[head_dim])
    if programs:
        column_mass_kernel[(programs,)](
            query, key, log_sum_exp, mass,
            time,
            *query.stride(), *key.stride(),
            scale,
            CAUSAL=causal, HEAD_DIM=head_dim, BLOCK=BLOCKS[head_dim], PRECISION="tf32x3", num_warps=WARPS, num_stages=1,
        )  # fmt: skip
    return mass
