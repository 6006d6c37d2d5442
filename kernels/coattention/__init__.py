"""Attention between two inputs as Triton kernels: bilinear fusion, live blocks of a graph, and a key's column mass.

`operators` registers `effattn::fusion_forward`, `effattn::graph_attention_forward` and `effattn::column_mass`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.coattention.columns import launch_column_mass
from kernels.coattention.fusion import launch_fusion
from kernels.coattention.sparse import launch_graph_attention, live_blocks
from kernels.sanitize import scattered

__all__ = [
    "example_launches",
    "launch_column_mass",
    "launch_fusion",
    "launch_graph_attention",
    "live_blocks",
    "ragged_launches",
]

MATRIX_KERNELS = ("fusion_kernel", "graph_attention_kernel", "column_mass_kernel")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Each kernel once, on aligned tensors, as inspection looks at them; fusion with its norm and without."""
    like = dict(dtype=dtype, device=device)
    region, context = (torch.zeros(batch, count, 2 * head_dim, **like) for count in (64, 32))
    weight, value = torch.zeros(2, 2 * head_dim, **like), torch.zeros(batch, 64, head_dim, **like)
    for normalised in (True, False):
        launch_fusion(region, context, weight, value, normalised)
    states, lse = torch.zeros(2 * batch, 64, head_dim, **like), torch.zeros(2 * batch, 64, device=device)
    blocks = [each.to(device) for each in live_blocks(torch.zeros(64, 64))]  # counted where there are values to count
    launch_graph_attention(states, states, states, *blocks, head_dim**-0.5)
    for causal in (True, False):
        launch_column_mass(states, states, lse, head_dim**-0.5, causal)


def graphs(asks, answers, device="cpu"):
    """name -> bias [asks, answers]: few edges, one row that sees nothing, nobody who sees anything."""
    generator = torch.Generator().manual_seed(asks + answers)
    few = torch.rand(asks, answers, generator=generator).log()
    few[torch.rand(asks, answers, generator=generator) > 0.1] = float("-inf")
    few[0] = float("-inf")
    return {"few edges": few.to(device), "no edge": torch.full_like(few, float("-inf")).to(device)}


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over sizes that no tile divides, empty rows, empty graphs and empty batches."""
    like = dict(dtype=dtype, device=device)
    for batch, asks, regions, hidden in ((2, 1, 1, 5), (1, 17, 33, 37), (1, 3, 65, 64), (0, 3, 4, 8)):
        given = (scattered(batch, regions, hidden, **like), scattered(batch, asks, hidden, **like),
                 scattered(3, hidden, **like), scattered(batch, regions, 32, **like))  # fmt: skip
        for normalised in (True, False):
            what = f"{batch} × {asks} ask {regions} regions, norm {normalised}"
            yield what, partial(launch_fusion, *given, normalised)
    for heads, asks, answers in ((2, 1, 17), (1, 33, 5), (2, 17, 49), (0, 3, 3)):
        query, key, value = (scattered(heads, n, d, **like) for n, d in ((asks, 32), (answers, 32), (answers, 64)))
        for name, bias in graphs(asks, answers, device).items():
            call = partial(launch_graph_attention, query, key, value, *live_blocks(bias), 0.3)
            yield f"{heads} heads, {asks} × {answers}, {name}", call
    for heads, time in ((2, 1), (1, 33), (2, 65), (0, 7)):
        query, key = (scattered(heads, time, 32, **like) for _ in range(2))
        for causal in (True, False):
            call = partial(launch_column_mass, query, key, torch.ones(heads, time, device=device), 0.2, causal)
            yield f"columns of {heads} × {time}, causal {causal}", call
