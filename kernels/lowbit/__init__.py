"""A step of AdamW over packed states as one Triton kernel: read, step, requantise, pack.

`operators` registers `effattn::lowbit_step`, which mutates a parameter and its states.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.lowbit.configurations import BITS, BLOCK, DYNAMIC, ROWS
from kernels.lowbit.step import empty_states, launch_step, quantile_place

__all__ = [
    "BITS", "BLOCK", "DYNAMIC", "ROWS", "empty_states", "example_launches", "launch_step", "quantile_place",
    "ragged_launches",
]  # fmt: skip

MATRIX_KERNELS = ()  # a step multiplies no matrices
SETTINGS = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """A step of a matrix, [8 · head_dim, 8 · head_dim] per batch: 4 and 2 bits as released, then unbiased, and 2 and 2.

    The last keeps the sign of a block's extreme in its scale. bfloat16 parameters are rounded stochastically.
    """
    parameter = torch.zeros(batch, 8 * head_dim, 8 * head_dim, dtype=dtype, device=device)
    for bits, unbiased in (((4, 2), False), ((4, 2), True), ((2, 2), False)):
        states = empty_states(parameter.numel(), bits, device)
        launch_step(
            parameter, torch.zeros_like(parameter), *states, **SETTINGS, seed_v=2**62 - 1, seed_parameter=2**61 - 1,
            step=7, bits=bits, unbiased=unbiased, stochastic=dtype == torch.bfloat16,
            signed_extreme=bits == (2, 2),
        )  # fmt: skip


RAGGED = (
    (1, (4, 2)), (3, (2, 2)), (127, (4, 4)), (129, (2, 4)), (385, (2, 2)), (1025, (4, 2)), (0, (4, 2)),
)  # fmt: skip


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over counts that no block, byte or tile divides, all pairs of bits, both roundings.

    A call steps copies and returns them, for a step is in place.
    """
    generator = torch.Generator().manual_seed(0)
    for count, bits in RAGGED:
        parameter, gradient = (torch.randn(count, generator=generator).to(device, dtype) for _ in range(2))
        parameter, *states = stepped(parameter, gradient, empty_states(count, bits, device), bits)
        settings = dict(unbiased=bits[1] == 4, signed_extreme=bits[0] == 2)
        yield f"{count} elements, {bits} bits", partial(stepped, parameter, gradient, states, bits, **settings)


def stepped(parameter, gradient, states, bits, **settings):
    """(parameter, *states) after a step, copies."""
    copies = [each.clone() for each in (parameter, *states)]
    launch_step(
        copies[0], gradient, *copies[1:], **SETTINGS, seed_v=2**40 + 1, seed_parameter=3, base=2**33, step=2,
        bits=bits, stochastic=copies[0].dtype == torch.float32, **settings,
    )  # fmt: skip
    return tuple(copies)
