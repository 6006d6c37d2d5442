"""What the page sees of a launch is what the sanitizer and the tracer see of it; what is not there says so by name."""

import subprocess
import sys

import pytest
import torch
from _page import Tensor, load_source, tensor, unwritten, watched
from _page.memory import Storage
from lab_equality import IMPORTS, Cell, Copies, in_triton, shown, solutions
from support.house import ROOT

from kernels import runtime
from kernels.sanitize import sanitize
from kernels.trace import trace

interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")

MIXED = """@triton.jit
def kernel(Source, Target, Total, size, stride, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    places = program * BLOCK + tl.arange(0, BLOCK)
    source = tl.load(Source + places * stride)
    tl.store(Target + places, source, mask=places < size)
    tl.store(Total + places // 4, source, mask=places < size)
    first = tl.load(Total + tl.arange(0, 2))
    tl.store(Total, tl.sum(first, 0))
"""


def both(text, grid, arguments, folder):
    """(the sanitizer's findings, the page's run, its launch's arguments) of one launch."""
    cell = Cell("mixed", IMPORTS + text, ("kernel",), None)
    copied = Copies()(arguments)
    found = sanitize(lambda: in_triton(cell, folder)["kernel"][grid](*arguments))
    with watched() as run:
        load_source(cell.text)["kernel"][grid](*copied)
    return found, run, copied


@interpreted
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("turned", [False, True])
def test_findings_are_the_sanitizers(stride, turned, tmp_path):
    """Strays, races of both kinds, and lanes between the elements of a view, over strided and turned tensors."""
    source = torch.randn(64)[::2][:20] if not turned else torch.randn(5, 8).T[:, :4]
    found, run, _ = both(MIXED, (3,), (source, torch.zeros(20), torch.zeros(6), 20, stride, 8), tmp_path)
    shared = "kernel kind access tensor shape offset element program other lanes line code".split()
    theirs = [tuple(getattr(each, name) for name in shared) for each in found]
    assert [tuple(getattr(each, name) for name in shared) for each in run.findings] == theirs
    stray = {"outside"} if (stride, turned) != (1, True) else set()  # where the elements lie next to each other
    assert {each.kind for each in run.findings} == {"written twice", "read and written"} | stray


@interpreted
@pytest.mark.parametrize("name", ["primer.linear_relu", "attention.causal_kernel", "lowbit.launch"])
def test_bytes_and_operations_are_the_tracers(name, tmp_path):
    cell = solutions()[name]
    square = [torch.randn(33, 40)[:, ::2], torch.randn(17, 20).mT, torch.randn(17), 16]
    arguments = {
        "primer.linear_relu": square,
        "attention.causal_kernel": [torch.randn(33, 16) for _ in range(3)],
        "lowbit.launch": [torch.randint(255, (50,), dtype=torch.uint8), 199],
    }[name]
    tensors = {str(number): each for number, each in enumerate(arguments) if isinstance(each, torch.Tensor)}
    with trace(**tensors) as traffic:
        in_triton(cell, tmp_path)[cell.graded[1]](*arguments)
    with watched() as run:
        load_source(cell.text)[cell.graded[1]](*Copies()(arguments))
    assert (run.loaded, run.stored, run.products) == (traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    (launch,) = run.launches
    maps = [launch.access_map(argument) for argument in launch.tensors]
    for number, theirs in enumerate(tensors):
        assert maps[number] == traffic.access_map(theirs).flatten().tolist()
    assert sum(access.bytes for access in launch.accesses) == run.loaded + run.stored


def test_operations_are_counted_by_lane():
    text = "@triton.jit\ndef kernel(X):\n    x = tl.load(X + tl.arange(0, 8))\n"
    text += "    tl.store(X, tl.sum(tl.exp(x - 1.0) * 2, 0))\n"
    with watched() as run:
        load_source(text)["kernel"][(3,)](tensor([1.0] * 8))
    assert run.operations == 3 * 4 * 8  # a difference, an exponential, a product, a sum
    assert run.launches[0].programs == 3


def test_elements_that_nobody_writes_are_named():
    text = "@triton.jit\ndef kernel(Out, N: tl.constexpr):\n"
    text += "    tl.store(Out + tl.program_id(0) * N + tl.arange(0, N), 1.0)\n"
    names = load_source(text)
    out = names["torch"].empty(3, 6)
    names["kernel"][(18 // 4,)](out, 4)
    assert unwritten(out) == [(2, 4), (2, 5)]
    assert str(out.tolist()[2][4:]) == "[nan, nan]"
    assert unwritten(names["torch"].zeros(3)) == []


@pytest.mark.parametrize("wide", [False, True])
def test_an_offset_that_32_bits_do_not_hold_strays(wide):
    """A view whose last row begins 2^31 elements after the first: only what is seen of it takes memory."""
    row = "tl.program_id(0).to(tl.int64)" if wide else "tl.program_id(0)"
    text = f"@triton.jit\ndef kernel(X, Out, stride):\n    row = {row}\n"
    text += "    tl.store(Out + row, tl.load(X + row * stride))\n"
    far = Tensor(Storage({0: 1.0, 2**30: 2.0, 2**31: 3.0}, tensor([0.0]).dtype), (3, 1), (2**30, 1))
    out = tensor([0.0] * 3)
    with watched() as run:
        load_source(text)["kernel"][(3,)](far, out, 2**30)
    assert [each.offset for each in run.findings] == ([] if wide else [-(2**31)])
    assert out.tolist() == [1.0, 2.0, 3.0 if wide else 0.0]


def test_views_share_and_races_are_seen_across_them():
    text = "@triton.jit\ndef kernel(A, B):\n    i = tl.program_id(0)\n"
    text += "    tl.store(A + i, 1.0)\n    tl.store(B + i, 2.0)\n"
    whole = tensor([0.0] * 3)
    with watched() as run:
        load_source(text)["kernel"][(2,)](whole[:2], whole[1:])
    (finding,) = run.findings
    assert (finding.kind, finding.tensor, finding.element, finding.other) == ("written twice", "A", (1,), (0, 0, 0))
    for part in ("writes A[1], which program (0, 0, 0) writes", "line 4: tl.store(A + i, 1.0)"):
        assert part in str(finding)


MISSING = {
    "tl.atomic_max(X, 1.0)": "tl.atomic_max is not in this editor: of the atomics this editor has tl.atomic_add",
    "tl.zeros([4], tl.float8e5)": "tl.float8e5 is not in this editor: use float16, bfloat16 or float32",
    "tl.math.erf": "tl.math.erf is not in this editor: no kernel of this book asks for it",
    "tl.rand(0, tl.arange(0, 4))": "give the kernel a tensor of random numbers",
    "tl.arange(0, 4)[1:3]": "indexed by None and : only",
    "tl.arange(0, 4).erf": "no .erf in this editor",
    "tl.where(True, X, 0)": "tl.where between pointers of two tensors is not in this editor",
    "tl.zeros([4], tl.float32).to(tl.pointer_type)": "tl.pointer_type is not in this editor",
    "torch.randn(3)": "torch.randn is PyTorch's",
    "triton.autotune([], [])": "triton.autotune is not in this editor",
    "__import__('numpy')": "`import numpy` is not in this editor",
    "tl.arange(0, 6)": "it must be a power of two",
    "tl.zeros([3], tl.float32)": "must be a power of two",
    "bool(tl.arange(0, 4) > 1)": "neither true nor false",
    "tl.exp(tl.zeros([4], tl.float16))": "tl.exp wants float32 or float64; got float16",
    "tl.zeros([4], tl.float32) + tl.zeros([8], tl.float32)": "do not broadcast",
    "tl.load(X, other=0.0)": "`other` says nothing without a mask",
    "tl.load(tl.arange(0, 4))": "tl.load wants a pointer",
    "tl.store(X, tl.arange(0, 4))": "the pointer is one address",
    "X * 2": "cannot be taken of a pointer",
}


@pytest.mark.parametrize("code", MISSING)
def test_what_is_not_there_says_so_by_name(code):
    names = load_source(f"@triton.jit\ndef kernel(X):\n    {code}\n")
    with pytest.raises((AttributeError, ValueError, TypeError)) as raised:
        names["kernel"][(1,)](tensor([0.0] * 8))
    assert MISSING[code] in str(raised.value)
    assert names["kernel"].fn.__globals__["tl"].program_id.__module__ == "_page.language"
    with pytest.raises(RuntimeError, match="launch it"):
        names["kernel"](1)


def test_only_the_standard_library_is_imported():
    """As in the browser: no site packages, and the book's own folder alone on the path."""
    code = "import sys; sys.path.append('book'); import _page; print(_page.tensor([1.5, 2.0]))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "tensor([1.5, 2.], dtype=float32)", done.stderr


def test_the_page_has_each_shown_kernel():
    assert len(shown()) > 20 and len(solutions()) > 20
