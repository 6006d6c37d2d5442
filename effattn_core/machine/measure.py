"""Measure this machine: how fast it copies, how fast it multiplies matrices, and so where its ridge is."""

from dataclasses import dataclass

import torch

from kernels import bench, runtime

# Bytes of the copy, rows of the square product, dtype of the product: enough to fill the device, in a few seconds.
SIZES = {"cpu": (128 << 20, 1024, torch.float32), "cuda": (1 << 30, 8192, torch.bfloat16)}


@dataclass(frozen=True)
class Rate:
    """Something per second: the median of the repeats, and the quartiles around it."""

    median: float
    lower_quartile: float
    upper_quartile: float


@dataclass(frozen=True)
class Measured:
    """copied: bytes per second, read and written; multiplied: operations per second of a matrix product in `dtype`."""

    copied: Rate
    multiplied: Rate
    dtype: str

    @property
    def ridge(self):
        """Operations per byte at which multiplying takes as long as moving."""
        return self.multiplied.median / self.copied.median


def measure(device=None, repeats=9):
    """Measure a device (by default the one that this book's kernels use): a Measured, in a few seconds.

    A copy larger than any cache moves each byte twice, in and out; the product is square, with 2 · rows³ operations.
    """
    device = torch.device(runtime.device() if device is None else device)
    copied, rows, dtype = SIZES["cuda" if device.type == "cuda" else "cpu"]
    source = torch.ones(copied // 4, device=device)
    target, square = torch.empty_like(source), torch.randn(rows, rows, device=device, dtype=dtype)
    work = {"copy": lambda: target.copy_(source), "product": lambda: square @ square}
    copy, product = bench.compare(work, repeats=repeats, device=device, progress=False)
    return Measured(_rate(2 * copied, copy), _rate(2 * rows**3, product), str(dtype).removeprefix("torch."))


def _rate(amount, timing):
    return Rate(amount / timing.median, amount / timing.upper_quartile, amount / timing.lower_quartile)
