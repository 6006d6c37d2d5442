"""A test on a GPU: where the arguments of its calls lie, and what a result may lose there."""

import re

import pytest
import torch
from support.house import ROOT

from kernels import runtime

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
PINNED = re.search(r"^triton==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
# Registers and instructions are those of one compiler: tables of tiles are chosen, and proved, for the pinned one.
by_the_pinned_compiler = pytest.mark.skipif(
    runtime.triton_version() not in (PINNED, ""), reason=f"what Triton {PINNED} makes of a kernel; another is here"
)


def times_lost(dtype):
    """How often what plain PyTorch loses a result may lose: twice, and in float32 on a GPU eight times.

    There a product of the kernels is three of TF32: each factor is kept as a sum of two of 11 bits, 22 of its 24, so
    that a rounding is 2 ** 2 of float32's. Plain forms are given it too: cuBLAS orders a sum by its shape.
    """
    return 8 if DEVICE == "cuda" and dtype == torch.float32 else 2


def roundings(dtype):
    """How many roundings of its largest number a result may always be off by.

    Two errors of one size can differ by more than twice in the number where each is worst, and which is larger is a
    matter of the order in which a processor's library sums. Results of PyTorch itself lie up to 7 roundings off in
    float32 under the orders of AVX2, AVX-512 and plain code, and up to one in half precision.
    """
    return (8 if dtype == torch.float32 else 1) * torch.finfo(dtype).eps


def allowed(lost, wanted, dtype, least=0.0):
    """How far from `wanted` a result may lie where plain PyTorch loses `lost`. least: of the largest number, always."""
    return max(times_lost(dtype) * lost, max(least, roundings(dtype)) * wanted.abs().max().item())


def placed(arguments):
    """The arguments of a call, on the GPU, where one is, if they ask for the kernels by name; as they are otherwise.

    So a table of bad calls stays on the CPU, where calls look at numbers, and its kernels are refused for what they
    lack, not for the device.
    """
    if arguments.get("implementation") != "triton" or DEVICE == "cpu":
        return arguments
    return {name: _moved(each) for name, each in arguments.items()}


def _moved(given):
    if isinstance(given, (list, tuple)):
        return [_moved(each) for each in given]
    return given.to(DEVICE) if isinstance(given, torch.Tensor) and given.device.type == "cpu" else given
