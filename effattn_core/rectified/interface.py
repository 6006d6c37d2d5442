"""The calls of rectified sparse attention: the scores of blocks, attention over some, the dense pass; their checks."""

import torch

from effattn_core import calls
from effattn_core.attention import Part, attention
from effattn_core.rectified.forms import bound_scores_oracle, bound_scores_torch, gathered, oracle
from kernels.table import DIMS

operators = calls.operators("rectified")
BLOCK_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)  # that the kernel takes
PACKED = 512  # rows of tokens and heads that share a key head: up to so many, the packed pass is ahead on a GPU


def bound_scores(
    query: torch.Tensor,
    lowest: torch.Tensor,
    highest: torch.Tensor,
    *,
    scale: float | None = None,
    shared: bool = True,
    implementation: str | None = None,
) -> torch.Tensor:
    """How high a key of each block could score at most. query: [batch, heads, 1, head_dim], of the token decoded.

    lowest, highest: [batch, key_heads, blocks, head_dim], from `block_bounds`. Returns [batch, lists, blocks] in
    float32 or wider, key_heads lists if `shared` and heads lists else.
    scale, implementation: as in `attention`; "torch" is two products.
    Raises ValueError for shapes, dtypes, devices or settings that do not fit, RuntimeError for "triton" where no kernel
    runs.
    """
    calls.require_rank("batch, heads, 1, head_dim", query=query)
    calls.require_rank("batch, key_heads, blocks, head_dim", lowest=lowest, highest=highest)
    calls.require_alike(query=query, lowest=lowest, highest=highest)
    if lowest.shape != highest.shape:
        raise ValueError(
            f"lowest and highest must have one shape; got {tuple(lowest.shape)} and {tuple(highest.shape)}."
        )
    _check_token(query, lowest)
    scale = calls.scale_of(scale, query.shape[3])
    misfit = calls.misfit_of_sizes(DIMS, head_dim=query.shape[3])
    chosen = calls.choose(implementation, query.device, query.dtype, misfit)
    if chosen == "triton":
        return operators.block_scores_forward(query, lowest, highest, scale, shared)
    if chosen == "torch":
        return bound_scores_torch(query, lowest, highest, scale=scale, shared=shared)
    found = calls.exactly(bound_scores_oracle, query, lowest, highest, scale=scale, shared=shared)
    return found.to(calls.wide(query.dtype))


def block_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    blocks: torch.Tensor,
    *,
    block_size: int,
    scale: float | None = None,
    implementation: str | None = None,
) -> Part:
    """Attention of one query a head over the chosen blocks of a cache. Returns a Part, as `attention_part` does.

    query: [batch, heads, 1, head_dim]; key: [batch, key_heads, key_time, head_dim]; value: [batch, key_heads, key_time,
    value_dim]; blocks: integers [batch, lists, count], lists being key_heads (shared by a group) or heads, in any
    order, each block once, -1 for none. On a CPU they are looked at; on a GPU a block that is not there is left out.
    scale, implementation: as in `attention`; "torch" gathers the rows. What is in no chosen block does not reach the
    output, infinite or nan.
    Raises ValueError for shapes, dtypes, devices or settings that do not fit, RuntimeError for "triton" where no kernel
    runs.
    """
    calls.require_rank("batch, heads, 1, head_dim", query=query)
    calls.require_rank("batch, key_heads, key_time, head_dim or value_dim", key=key, value=value)
    calls.require_alike(query=query, key=key, value=value)
    _check_token(query, key)
    if key.shape[:3] != value.shape[:3]:
        raise ValueError(f"key and value must agree; got {tuple(key.shape)} and {tuple(value.shape)}.")
    calls.require_sizes(value_dim=value.shape[3])
    calls.require_rank("batch, lists, count", blocks=blocks)
    if blocks.shape[0] != query.shape[0] or blocks.shape[1] not in (key.shape[1], query.shape[1]):
        raise ValueError(
            f"blocks must be [{query.shape[0]}, {key.shape[1]} or {query.shape[1]}, count]; "
            f"its shape is {tuple(blocks.shape)}."
        )
    calls.require_device(query=query, blocks=blocks)
    calls.require_count("block_size", block_size)
    check_list("blocks", blocks, -(-key.shape[2] // block_size))
    scale = calls.scale_of(scale, query.shape[3])
    misfit = calls.misfit_of_sizes(DIMS, head_dim=query.shape[3], value_dim=value.shape[3])
    if block_size not in BLOCK_SIZES:
        misfit = f"the kernel takes a block_size that is a power of two up to {BLOCK_SIZES[-1]}; it is {block_size}"
    chosen = calls.choose(implementation, query.device, query.dtype, misfit)
    if chosen == "triton":
        return Part(*operators.block_attention_forward(query, key, value, blocks, block_size, scale))
    if chosen == "torch":
        return gathered(query, key, value, blocks, block_size=block_size, scale=scale)
    found = calls.exactly(oracle, query, key, value, blocks, block_size=block_size, scale=scale)
    return Part(found.output.to(query.dtype), found.log_sum_exp.to(calls.wide(query.dtype)))


def dense_pass(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, implementation: str | None = None
) -> torch.Tensor:
    """Causal attention of the newest tokens over the whole cache: what rectification runs. As `attention` returns it.

    On a GPU, or for "triton", all tokens and heads that share a key head ride in one tile, so that a row of the cache
    is read once for them; in PyTorch `attention` does that already. Shapes and errors as there.
    """
    few = query.ndim == 4 and query.shape[2] * query.shape[1] <= PACKED * key.shape[1]
    packed = implementation == "triton" or (implementation is None and query.device.type == "cuda" and few)
    if not packed:
        return attention(query, key, value, implementation=implementation)
    calls.require_rank("batch, heads, time, head_dim", query=query, key=key, value=value)
    calls.require_alike(query=query, key=key, value=value)
    misfit = calls.misfit_of_sizes(DIMS, head_dim=query.shape[3], value_dim=value.shape[3])
    if calls.choose(implementation, query.device, query.dtype, misfit) != "triton":
        return attention(query, key, value, implementation=implementation)
    _check_fit(query, key)
    if key.shape[:3] != value.shape[:3] or query.shape[2] > key.shape[2]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}.")
    return operators.rectify_forward(query, key, value, query.shape[3] ** -0.5)[0]


def check_list(name: str, chosen: torch.Tensor, count: int | None, *, gaps: bool = True) -> None:
    """Raise ValueError unless `chosen` holds integers in [0, count), each once, or -1; numbers only on a CPU.

    count None: any that are not below -1. gaps: whether -1 for none is allowed.
    """
    if chosen.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8):
        raise ValueError(f"{name} must be signed integers; got {chosen.dtype}.")
    if chosen.device.type != "cpu" or torch.compiler.is_compiling() or chosen.numel() == 0:
        return
    if not (chosen[..., 1:] > chosen[..., :-1]).all():  # in ascending order nothing is there twice
        ordered = chosen.sort(-1).values
        twice = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
        if twice.any():
            raise ValueError(f"{name} must each be listed once; {ordered[..., 1:][twice][0].item()} is listed twice.")
    lowest, highest = (each.item() for each in chosen.aminmax())
    count = highest + 1 if count is None else count
    least = -1 if gaps else 0
    if lowest < least or highest >= count:
        wrong, none = lowest if lowest < least else highest, ", or be -1 for none" if gaps else ""
        raise ValueError(f"{name} must lie in [0, {count}){none}; they hold {wrong}.")


def _check_token(query, key):
    """Raise ValueError unless `query` is one token that fits the keys."""
    if query.shape[2] != 1:
        raise ValueError(f"query must be [batch, heads, 1, head_dim], one token; its shape is {tuple(query.shape)}.")
    _check_fit(query, key)


def _check_fit(query, key):
    if key.shape[0] != query.shape[0] or key.shape[3] != query.shape[3]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)} for the query and {tuple(key.shape)}.")
    calls.require_heads(query, key)
    calls.require_sizes(head_dim=query.shape[3])
