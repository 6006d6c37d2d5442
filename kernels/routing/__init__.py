"""Layers of experts as Triton kernels: products over ragged groups of rows, the gather in them, and the sum back.

`plan` says on the device which rows are whose; `operators` registers `effattn::grouped_product` and
`effattn::combine_rows` with their gradients.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.routing.combine import launch_combine, launch_expand
from kernels.routing.configurations import TABLE, Configuration, choose
from kernels.routing.plan import Plan, make_plan, tiles_bound
from kernels.routing.products import launch_product, launch_weights
from kernels.sanitize import scattered

__all__ = [
    "TABLE", "Configuration", "Plan", "choose", "example_launches", "launch_combine", "launch_expand", "launch_product",
    "launch_weights", "make_plan", "ragged_launches", "tiles_bound",
]  # fmt: skip

MATRIX_KERNELS = ("grouped_product_kernel", "grouped_weights_kernel")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """A layer of 8 experts, two per token: forward and backward of one of its products, and the sum back.

    Once for a long text, once for a few decoded tokens. With a batch of more than 8 there are as many experts: the
    gradient of their matrices has programs per expert, not per token.
    """
    width, inner, experts, choices = 8 * head_dim, 4 * head_dim, max(8, batch), 2
    weight = torch.zeros(experts, width, inner, dtype=dtype, device=device)
    for tokens in (512, 16):
        hidden = torch.zeros(batch * tokens, width, dtype=dtype, device=device)
        rows = len(hidden) * choices
        expert = torch.arange(rows, device=device).view(-1, choices) % experts
        plan = make_plan(expert, experts, choose(dtype, rows, experts).block_row)
        made = launch_product(hidden, weight, plan, choices, True)
        launch_product(made, weight.mT, plan, choices, False)
        launch_weights(hidden, made, plan, experts, choices, True)
        launch_weights(made, made, plan, experts, choices, False)
        gates = torch.zeros(expert.shape, device=device)
        launch_combine(made, gates, plan.place)
        launch_combine(made, None, plan.place)
        launch_expand(hidden[:, :inner], made, gates, plan.order, plan.offsets)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over experts without rows, one that takes all, dropped choices, sizes that no tile divides."""
    for name, expert in cases(device).items():
        tokens, choices = expert.shape
        hidden, weight = (scattered(*shape, dtype=dtype, device=device) for shape in ((tokens, 40), (6, 40, 72)))
        plan = make_plan(expert, 6, choose(dtype, expert.numel(), 6).block_row)
        rows = scattered(expert.numel(), 72, dtype=dtype, device=device)
        gates = torch.rand(expert.shape, generator=torch.Generator().manual_seed(1)).to(device)
        grad = scattered(tokens, 72, dtype=dtype, device=device)
        yield f"{name}: product", partial(launch_product, hidden, weight, plan, choices, True)
        yield f"{name}: back", partial(launch_product, rows, weight.mT, plan, choices, False)
        yield f"{name}: weights", partial(launch_weights, hidden, rows, plan, 6, choices, True)
        yield f"{name}: weights, grouped", partial(launch_weights, rows, rows, plan, 6, choices, False)
        yield f"{name}: sum", partial(launch_combine, rows, gates, plan.place)
        yield f"{name}: its gradient", partial(launch_expand, grad, rows, gates, plan.order, plan.offsets)


def cases(device="cpu"):
    """name -> expert: int64 [tokens, choices], below 6; negative where a choice was dropped."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.rand(29, 6, generator=generator).argsort(1)[:, :2]
    empty = torch.where((pairs == 2) | (pairs == 5), (pairs + 1) % 6, pairs)
    empty = torch.where((empty == 2) | (empty == 0) & (pairs == 5), 1, empty)
    dropped = torch.where(torch.rand(pairs.shape, generator=generator) < 0.3, -1, pairs)
    found = {
        "two each": pairs, "experts without rows": empty, "dropped": dropped,
        "one takes all": torch.full((41, 1), 3), "one token": torch.tensor([[4, 0]]),
        "many rows": torch.arange(6)[torch.rand(210, 6, generator=generator).argsort(1)[:, :1]],
        "all dropped": torch.full((5, 2), -1), "none": torch.zeros(0, 2, dtype=torch.int64),
    }  # fmt: skip
    return {name: expert.to(device) for name, expert in found.items()}
