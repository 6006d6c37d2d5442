"""What a reader is told of a kernel or launcher that Triton refuses or the page cannot run, and what is printed."""

import base64
import json
import struct
from dataclasses import asdict

import pytest
import torch
from _page import host, load_source, tensor, watched
from _page.memory import Storage, Tensor, like_strides
from _page.shortened import shortened
from book.conftest import worker  # noqa: F401  (a fixture)

from effattn_core.judging.verdict import Says

KERNEL = """@triton.jit
def kernel(source, target, factor):
    places = tl.arange(0, 8)
    x = tl.load(source + places)
    {}
"""


@pytest.mark.parametrize(
    ("code", "said"),
    {
        "source[places]": "source is a pointer: its elements are loaded by tl.load(source + places)",
        "(source + places)[0]": "a tile is indexed by None and : only; got 0",
        "x[places]": "a tile is indexed by None and : only; got a tile: see tl.gather",
        "target[places] = x": "elements of target are stored by tl.store(target + places, value)",
        "x[0] = 1": "a tile is not assigned to element by element",
        "x ** 0.5": "Triton has no **: write x * x for a square, tl.sqrt(x) for a root",
        "2 ** x": "Triton has no **",
        "x @ x": "a product of two tiles is tl.dot(left, right)",
        "math.sqrt(x)": "in a kernel write tl.sqrt",
        "torch.sqrt(x)": "torch.sqrt is PyTorch's, and a kernel computes with Triton's own: write tl.sqrt.",
        "torch.relu(x)": "torch.relu is PyTorch's, and a kernel computes with Triton's own: write a function of tl.",
        "torch.zeros(8)": "a kernel makes no tensors: tl.zeros",
        "torch.empty(8)": "a kernel makes no tensors: tl.zeros",
    }.items(),
)
def test_what_a_kernel_cannot_do_is_said_in_triton_s_words(code, said):
    source = tensor([1.0] * 8)
    with pytest.raises((TypeError, AttributeError)) as raised:
        load_source(KERNEL.format(code))["kernel"][(1,)](source, source, 2.0)
    assert said in str(raised.value)


def test_a_scalar_pointer_takes_new_axes_and_a_tile_of_pointers_too():
    source, target = tensor([3.0] * 8), tensor([0.0] * 8)
    code = "tl.store((target + places)[None, :], x[None, :] + tl.load(source[None]))"
    load_source(KERNEL.format(code))["kernel"][(1,)](source, target, 2.0)
    assert target.tolist() == [6.0] * 8


@pytest.mark.parametrize("grid", [1, tensor([4]), lambda given: 1])
def test_a_grid_is_a_tuple_as_in_triton(grid):
    kernel, source = load_source(KERNEL.format("pass"))["kernel"], tensor([1.0] * 8)
    with pytest.raises(TypeError, match=r"a grid is a tuple, even of one size: write kernel\[\(size,\)\]"):
        kernel[grid](source, source, 2.0)


DEVICES = """x.to("cuda") x.to(device="cuda:0") torch.empty(3,device="cuda") torch.zeros(3,device="cuda")
torch.ones(3,device=torch.device("cuda")) torch.full((3,),2.0,device="cuda") torch.empty_like(x,device="cuda")
torch.zeros_like(x,device="cuda") torch.arange(3,device="cuda") torch.tensor([1.0],device="cuda")
x.new_empty(3,device="cuda") x.new_zeros(3,device="cuda") x.new_full((3,),1.0,device="cuda")"""


@pytest.mark.parametrize("code", DEVICES.split())
def test_a_device_that_not_every_machine_has_is_refused(code):
    x = tensor([1.0, 2.0])
    with pytest.raises(AttributeError, match=r'device="cuda(:0)?" is not in this editor: write device=source.device'):
        eval(code, {"torch": host, "x": x})
    eval(code.replace('"cuda:0"', "x.device").replace('"cuda"', "x.device"), {"torch": host, "x": x})


def test_a_tensor_like_another_has_the_strides_that_pytorch_gives_it():
    turned = torch.empty(3, 4, 5).permute(2, 0, 1)
    views = [torch.empty(4, 6).T, torch.empty(4, 6)[:, ::2], torch.empty(4, 6)[::2].T, turned, turned[::2]]
    views += [turned[:, :1], torch.empty(1, 5).T, torch.empty(1, 5).expand(3, 5), turned[None].expand(2, 5, 3, 4)]
    views += [torch.empty(3, 1, 4).expand(3, 2, 4).permute(1, 2, 0), torch.empty(0, 3).T, torch.empty(())]
    for view in views:
        assert like_strides(mine_of(view)) == torch.empty_like(view).stride(), (view.shape, view.stride())
    for code in "x.clone() x.half() torch.zeros_like(x) torch.full_like(x,2.0) torch.empty_like(x)".split():
        theirs = eval(code, {"torch": torch, "x": turned[::2]}).stride()
        assert eval(code, {"torch": host, "x": mine_of(turned[::2])}).stride() == theirs
    x = tensor([float(n) for n in range(6)], (2, 3)).T
    assert x.clone().tolist() == x.half().tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert x.contiguous().stride() == (2, 1)


def mine_of(view):
    """A tensor of the page with the shape and the strides of one of PyTorch."""
    return Tensor(Storage([0.0] * 100, host.float32), view.shape, view.stride())


def test_what_is_printed_is_shortened_as_in_pytorch():
    assert repr(tensor([1.5, -0.33333, 2.0])) == "tensor([1.5, -0.3333, 2.], dtype=float32)"
    whole = tensor([float(n) for n in range(64)], (8, 8))
    rows = repr(whole).split("\n")
    assert len(rows) == 7 and rows[0] == "tensor([[0., 1., 2., ..., 5., 6., 7.],"
    assert rows[1] == "        [8., 9., 10., ..., 13., 14., 15.]," and rows[3] == "        ...,"
    assert rows[6] == "        [56., 57., 58., ..., 61., 62., 63.]], dtype=float32)"
    assert shortened([1, 2, 3, 4, 5, 6], (6,)) == "[1, 2, 3, 4, 5, 6]"
    assert shortened([float("inf"), float("nan"), 1e-9], (3,)) == "[inf, nan, 1e-09]"
    assert repr(whole[0, 0]) == "tensor(0., dtype=float32)" and shortened([], (0,)) == "[]"


def test_a_tile_that_is_printed_is_shortened(capsys):
    code = "print(x); print(source + places); print(x[:, None]); tl.device_print('x', x)"
    load_source(KERNEL.format(code))["kernel"][(1,)](tensor([float(n) for n in range(8)]), tensor([0.0]), 2.0)
    printed = capsys.readouterr().out
    assert "tile[8] of float32: [0., 1., 2., ..., 5., 6., 7.]\n" in printed
    assert "tile[8] of addresses, pointer to source plus [0, 1, 2, ..., 5, 6, 7]\n" in printed
    assert "tile[8, 1] of float32:\n[[0.],\n [1.]" in printed and "(0, 0, 0) x [0., 1., 2., ..., 5.," in printed


LUCKY = """@triton.jit
def kernel(source, target, SIZE: tl.constexpr, OTHER: tl.constexpr):
    lanes = tl.arange(0, 16)
    x = tl.load(source + lanes, lanes < SIZE, OTHER)
    tl.store(target, tl.sum(x, 0))
"""


@pytest.mark.parametrize(("dtype", "held"), [("float32", "nan"), ("float16", "nan"), ("int32", "31")])
def test_lanes_that_a_mask_leaves_out_hold_anything(dtype, held):
    kernel = load_source(LUCKY)["kernel"]
    for poisoned, other, wanted in [(False, None, "21"), (True, None, held), (True, 0, "21")]:
        source, target = tensor([1, 2, 3, 4, 5, 6], dtype=dtype), tensor([0], dtype="float64")
        with watched(poisoned) as run:
            kernel[(1,)](source, target, 6, other)
        assert (run.left_out, f"{target.item():.10g}") == (0 if other == 0 else 10, wanted)


LAUNCHER = """import torch, triton, triton.language as tl


@triton.jit
def kernel(source, target, size):
    at = tl.arange(0, 8)
    x = tl.load(source + at, at < size)
    tl.store(target, tl.sum(x, 0))


def total(source):
    target = torch.empty(1, device=source.device)
    kernel[(1,)](source, target, source.numel())
    return target
"""


def content(*numbers):
    """Numbers as they are stored."""
    data = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return {"dtype": "float32", "shape": [len(numbers)], "data": data}


def asked(worker, source, kind="check", **says):  # noqa: F811
    """What the worker answers about the launcher `total` on two cases, of 8 and of 3 numbers."""
    cases = [
        asdict(Says(f"{size} numbers", **says)) | {
            "arguments": [content(*[1.0] * size) | {"strides": [1], "offset": 0}], "wanted": [content(float(size))],
            "written": [], "mistakes": [], "grid": None,
        } for size in (8, 3)
    ]  # fmt: skip
    return json.loads(getattr(worker, kind)(json.dumps({"source": source, "function": "total", "cases": cases})))


def test_what_is_right_by_luck_is_called_once_more(worker):  # noqa: F811
    found = asked(worker, LAUNCHER.replace("return target", "print('called')\n    return target"))
    assert "hold anything unless `other` says what" in found["reason"] and found["what"] == "3 numbers"
    assert found["printed"] == "For 8 numbers:\ncalled\nFor 3 numbers:\ncalled\n"
    assert asked(worker, LAUNCHER.replace("at < size)", "at < size, 0.0)"))["passed"]


def test_a_launch_of_what_is_not_marked_is_named(worker):  # noqa: F811
    found = asked(worker, LAUNCHER.replace("@triton.jit\n", ""))
    assert found["reason"].endswith("is no kernel: the line before its def must be @triton.jit.")
    assert found["reason"].startswith("Line 12: ")


def test_a_heading_stands_over_what_a_case_prints_and_over_nothing_else(worker):  # noqa: F811
    right = LAUNCHER.replace("at < size)", "at < size, 0.0)")
    assert asked(worker, right)["printed"] == ""
    some = right.replace("return target", "if source.numel() == 3:\n        print('few', target)\n    return target")
    assert asked(worker, some)["printed"] == "For 3 numbers:\nfew tensor([3.], dtype=float32)\n"
    every = right.replace("return target", "print(1)\n    return target")
    assert asked(worker, every, "run")["printed"] == "1\n"


def test_what_is_printed_is_told_while_it_runs(worker, monkeypatch):  # noqa: F811
    told = []
    monkeypatch.setattr(worker, "tell", told.append)
    monkeypatch.setattr(worker, "PAUSE", 1000.0)
    printing = LAUNCHER.replace("target = torch", "for n in range(400):\n        print(n)\n    target = torch")
    printed = asked(worker, printing, "run")["printed"]
    assert told[: worker.AT_ONCE] == [f"{n}\n" for n in range(worker.AT_ONCE)]
    assert printed.startswith("".join(told)) and len(told) <= worker.AT_ONCE + 1 + len(printed) // worker.PART
    told.clear()
    monkeypatch.setattr(worker, "PAUSE", 0.0)
    assert "".join(told) == "" and asked(worker, printing, "run")["printed"] == "".join(told) and len(told) == 400
