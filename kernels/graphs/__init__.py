"""graphs as Triton kernels: TO WRITE, in a line, what each kernel does.

`operators` registers them with `torch.library`.
"""

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)

MATRIX_KERNELS = ()  # TO WRITE: the names of the kernels that must multiply on the matrix units


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """TO WRITE: each kernel once, as it is launched, for `kernels.inspect`: it must compile without a spill."""
    raise NotImplementedError("TO WRITE: the launches that kernels.inspect compiles.")


def ragged_launches(dtype=torch.float32, device="cpu"):
    """TO WRITE: yield (what, call) over sizes that no tile divides, for `kernels.sanitize`."""
    raise NotImplementedError("TO WRITE: the launches that kernels.sanitize judges.")
