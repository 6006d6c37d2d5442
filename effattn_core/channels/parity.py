"""Every form of attention under a mask beside its definition, and a launch's traffic beside its formula."""

from typing import NamedTuple

import torch

from effattn_core import costs
from effattn_core.attention import Part
from effattn_core.channels import ChannelCache, Plan, decode, masked, plan
from effattn_core.channels import costs as costs_channels
from kernels import runtime

COUNTS, GROUP, HEAD_DIM = (32, 24, 8, 8, 0), 6, 32  # channels that each key head keeps, query heads that read each
TINY = 1e-12  # the largest difference of what is equal in float64


class Case(NamedTuple):
    """One decoded token. arguments: of `decode`; truth: by the definition in float64; plain: in its own precision."""

    arguments: tuple
    truth: Part
    plain: Part


def case(dtype: torch.dtype, far: int, near: int = 40, counts=COUNTS, group: int = GROUP) -> Case:
    """A token after `far` tokens of the middle and `near` whole ones. counts: of each key head, in falling order."""
    device, size = runtime.device(), (far + near, HEAD_DIM)
    query = torch.randn(1, group * len(counts), 1, HEAD_DIM, device=device).to(dtype)
    key, value = torch.randn(2, 1, len(counts), *size, device=device).to(dtype)
    kept = torch.stack([torch.randperm(HEAD_DIM) < count for count in counts])
    first, groups = 0, ([], [], [])
    for index in plan(kept).channels:
        heads, first = slice(first, first + len(index)), first + len(index)
        index = index.to(device)
        wide = index[None, :, None].expand(1, -1, far, -1)
        for each, made in zip(
            groups, (key[:, heads, :far].gather(-1, wide), value[:, heads, :far], index), strict=True
        ):
            each.append(made)
    tensors, region = (query, key, value), dict(sinks=0, recent=near)
    truth, plain = (
        masked(*(each.to(wanted) for each in tensors), kept.to(device), **region) for wanted in (torch.float64, dtype)
    )
    return Case((query, key[:, :, far:], value[:, :, far:], *groups), truth, plain)


def through_a_cache(query, key, value, layout: Plan, **region) -> torch.Tensor:
    """A text decoded token by token from a ChannelCache, heads in their own order: [batch, heads, time, value_dim]."""
    batch, _, time, head_dim = key.shape
    cache = ChannelCache(layout, batch, time, head_dim, value.shape[3], dtype=key.dtype, device=key.device, **region)
    moved = [each[:, layout.order] for each in (query, key, value)]
    steps = [cache.attend(*(each[:, :, i : i + 1] for each in moved)) for i in range(time)]
    return torch.cat(steps, 2)[:, layout.order.argsort()]


def through_caches(tokens: int = 96) -> list[dict]:
    """Rows of a table: a cache, with the heads in another order and thin keys, beside one mask on whole keys; float64.

    Four heads keep 8, 0, 16 and 4 of 16 channels.
    """
    query, key, value = torch.randn(3, 1, 4, tokens, 16, dtype=torch.float64)
    kept = torch.stack([torch.randperm(16) < count for count in (8, 0, 16, 4)])
    layout, whole, region = plan(kept), torch.ones_like(kept), dict(sinks=4, recent=20, chunk=8)
    mixed = [torch.stack([row[torch.randperm(len(row))] for row in each]) for each in layout.channels]
    truth = masked(query, key, value, kept, **region).output
    dense = masked(query, key, value, whole, recent=tokens).output
    tensors = query, key, value
    pairs = {
        "heads grouped, keys thin = one mask": (through_a_cache(*tensors, layout, **region), truth),
        "kept channels in any order": (through_a_cache(*tensors, Plan(layout.order, tuple(mixed)), **region), truth),
        "all channels kept = attention": (through_a_cache(*tensors, plan(whole), **region), dense),
    }
    return [row(name, "float64", (ours - wanted).abs().max().item(), TINY) for name, (ours, wanted) in pairs.items()]


def through_kernels() -> list[dict]:
    """Rows of a table: one decoded token by groups in PyTorch and in Triton, the largest error over two lengths.

    The budget is twice what one mask on whole keys loses in the same precision, and at least two roundings of a
    log-sum-exp: parts are weighed by the exponential of a difference of two of them, each rounded at its own size.
    """
    found = []
    for dtype in (torch.float32, torch.float16):
        cases = [case(dtype, far) for far in (217, 5)]
        lost = max((each.plain.output.double() - each.truth.output).abs().max().item() for each in cases)
        size = max(1.0, *(each.truth.log_sum_exp.abs().max().item() for each in cases))
        budget = 2 * max(lost, torch.finfo(torch.float32).eps * size)
        for name, said in (("torch", "PyTorch"), ("triton", "Triton")):
            outputs = [decode(*each.arguments, implementation=name).output for each in cases]
            error = max((ours.double() - each.truth.output).abs().max().item()
                        for ours, each in zip(outputs, cases, strict=True))  # fmt: skip
            found.append(row(f"one token by groups, {said} = one mask", str(dtype)[6:], error, budget))
    return found


def row(name: str, precision: str, error: float, budget: float) -> dict:
    """A row of the table of equivalences: what is compared, in which precision, its error and what it may be."""
    shown = f"under {TINY:.0e}" if budget == TINY > error else f"{error:.0e}"
    return {"compared": name, "precision": precision, "error": shown, "budget": f"{budget:.0e}",
            "inside": error <= budget}  # fmt: skip


class Counted(NamedTuple):
    """counted, formula: Traffic; middle: bytes that are loaded of the middle; wanted: by eq. channels-bytes."""

    counted: costs.Traffic
    formula: costs.Traffic
    middle: int
    wanted: float


def counted(far: int, counts=COUNTS, group: int = GROUP) -> Counted:
    """What one decoded token moves in float32, 40 tokens being whole: counted where kernels are interpreted."""
    from kernels.channels import choose, launch_decode
    from kernels.channels.decode import splits_of
    from kernels.trace import trace

    arguments = case(torch.float32, far, counts=counts, group=group).arguments
    query, near, _, keys, values, index = arguments
    formula = costs_channels.decode_traffic(
        1, group, len(counts), near.shape[2], far, HEAD_DIM, HEAD_DIM, [tuple(each.shape) for each in index],
        splits=splits_of(query, near, keys, HEAD_DIM), block=choose(query.dtype, HEAD_DIM, HEAD_DIM).block_key,
        blocks=[choose(query.dtype, each.shape[1], HEAD_DIM).block_key for each in index],
    )  # fmt: skip
    share, empty = sum(counts) / (HEAD_DIM * len(counts)), counts.count(0) / len(counts)
    wanted = 2 * 4 * HEAD_DIM * len(counts) * far * costs_channels.relative_bytes(share, empty)
    if runtime.mode != "interpreter":
        return Counted(formula, formula, int(wanted), wanted)  # only interpreted programs can be watched
    named = {f"{number}": each for number, each in enumerate(keys + values)}
    with trace(**named) as traffic:
        launch_decode(*arguments, HEAD_DIM**-0.5)
    seen = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    return Counted(seen, formula, sum(traffic.loaded[name] for name in named), wanted)
