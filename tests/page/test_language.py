"""What the language has beside arithmetic: atomics, functions of one's own, bfloat16, and what a launcher writes."""

import operator

import pytest
import torch
import triton.language
from _page import host, language, load_source, tensor, watched
from _page.absent import ABSENT
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_equality import IMPORTS, Cell, Copies, in_triton, roundings

from kernels import runtime

interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("language")


def both(folder, text, grid, arguments):
    """Launch `kernel` of a text on both, and return (Triton's arguments after it, the page's, the page's run)."""
    cell, copied = Cell("language", IMPORTS + text, ("kernel",), None), Copies()(arguments)
    in_triton(cell, folder)["kernel"][grid](*arguments)
    with watched() as run:
        load_source(cell.text)["kernel"][grid](*copied)
    return arguments, copied, run


ATOMIC = """@triton.jit
def kernel(Source, Places, Total, Before, size):
    lanes = tl.program_id(0) * 8 + tl.arange(0, 8)
    inside = lanes < size
    before = tl.atomic_add(Total + tl.load(Places + lanes, inside, 0), tl.load(Source + lanes, inside, 0), mask=inside)
    tl.store(Before + lanes, before, mask=inside)
    tl.atomic_add(Total, tl.program_id(0))
"""


@interpreted
@settings(max_examples=40)
@given(
    dtype=st.sampled_from([torch.float32, torch.float16, torch.float64, torch.int32, torch.int64]),
    places=st.lists(st.integers(0, 5), min_size=1, max_size=24),
    seed=st.integers(0, 99),
)
def test_atomic_additions_lose_nothing_and_give_what_was_there(folder, dtype, places, seed):
    size = len(places)
    source = (50 * torch.randn(size, generator=torch.Generator().manual_seed(seed))).to(dtype)
    arguments = [source, torch.tensor(places), torch.zeros(6, dtype=dtype), torch.zeros(size, dtype=dtype), size]
    theirs, ours, run = both(folder, ATOMIC, (3,), arguments)
    assert not run.findings
    for wanted, got in zip(theirs[2:4], ours[2:4], strict=True):
        assert got.tolist() == wanted.tolist()
    added = (size + 3) * dtype.itemsize
    assert (run.launches[0].loaded["Total"], run.launches[0].stored["Total"]) == (added, added)


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        ("tl.atomic_add(T, 1.0)", "tl.atomic_add(T, 2.0)", set()),
        ("tl.load(T)", "tl.atomic_add(T, 1.0)", {"read and written"}),
        ("tl.atomic_add(T, 1.0)", "tl.load(T)", {"read and written"}),
        ("tl.store(T, 1.0)", "tl.atomic_add(T, 1.0)", {"written twice"}),
        ("tl.atomic_add(T, 1.0)", "tl.store(T, 1.0)", {"written twice"}),
        ("tl.load(T)", "tl.load(T)", set()),
        ("tl.load(T)", "tl.store(T, 1.0)", {"read and written"}),
    ],
)
def test_a_plain_access_beside_an_atomic_one_is_a_race(first, second, kinds):
    text = f"@triton.jit\ndef kernel(T):\n    if tl.program_id(0) == 0:\n        {first}\n    else:\n        {second}\n"
    with watched() as run:
        load_source(text)["kernel"][(2,)](tensor([0.0]))
    assert {each.kind for each in run.findings} == kinds
    with watched() as run:  # and nobody meets itself
        load_source(text.replace("else:", "if True:"))["kernel"][(1,)](tensor([0.0]))
    assert not run.findings


def test_an_atomic_addition_outside_is_named_and_narrow_integers_are_refused():
    text = "@triton.jit\ndef kernel(T):\n    tl.atomic_add(T + tl.arange(0, 4), 1)\n"
    with watched() as run:
        load_source(text)["kernel"][(1,)](whole := tensor([1.0, 2.0, 3.0]))
    assert whole.tolist() == [2.0, 3.0, 4.0]
    assert "changes outside T of shape (3,): 3 elements after its first" in str(run.findings[0])
    with pytest.raises(ValueError, match="floats, or integers of 32 or 64 bits; got int8"):
        load_source(text)["kernel"][(1,)](tensor([1, 2, 3, 4], dtype="int8"))


OWN = """@triton.jit
def larger(a, b):
    return tl.where(a > b, a, b)


@triton.jit
def step(scale, sum, later_scale, later_sum):
    return scale * later_scale, sum * later_scale + later_sum


@triton.jit
def kernel(X, Y, Z, A, B, C, D, E, F):
    i, j = tl.arange(0, 4)[:, None], tl.arange(0, 8)[None, :]
    at = tl.multiple_of(i * 8 + j, [1, 8])
    tl.assume(tl.num_programs(0) == 1)
    x, y, z = tl.load(X + at), tl.load(Y + at), tl.load(tl.where(i < 2, Z + at, Z + i))
    tl.store(A + tl.arange(0, 8), tl.reduce(x, 0, larger))
    tl.store(B + i, tl.reduce(y, 1, larger, keep_dims=True))
    decay, state = tl.associative_scan((x, y), 1, step)
    tl.store(C + at, state + decay)
    tl.store(D + at, tl.associative_scan(x, 0, larger, reverse=True))
    for part in tl.static_range(2):
        tl.store(E + at + part * 32, tl.fma(x, y, part * z))
    tl.store(F + at, tl.clamp(x * 4, -1.5, 2) + tl.math.ceil(y) * 8)
"""


@interpreted
@settings(max_examples=15)
@given(seed=st.integers(0, 999))
def test_functions_of_one_s_own_and_what_is_new_agree(folder, seed):
    drawn = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(seed)).unbind()
    shapes = [(8,), (4,), (4, 8), (4, 8), (2, 4, 8), (4, 8)]
    theirs, ours, run = both(folder, OWN, (1,), [*drawn, *(torch.full(each, float("nan")) for each in shapes)])
    assert not run.findings and roundings(theirs, ours) <= 2
    for number in (3, 4, 6, 8):  # what rounds nowhere
        assert ours[number].tolist() == theirs[number].tolist()


BRAIN = """@triton.jit
def kernel(X, Y, Wide, Out):
    at = tl.arange(0, 64)
    x, y, wide = tl.load(X + at), tl.load(Y + at), tl.load(Wide + at)
    tl.store(Out + at, {})
"""
BRAINS = {  # what a kernel writes, and the same in PyTorch
    "wide": "wide",
    "wide.to(tl.bfloat16).to(tl.float32) + wide": "wide.bfloat16().float() + wide",
    "x + y": "x + y",
    "x * y - 0.3": "x * y - 0.3",
    "x / y": "x.float() / y.float()",
    "tl.maximum(x, y)": "torch.maximum(x, y)",
    "tl.where(x > y, x, -y)": "torch.where(x > y, x, -y)",
    "tl.abs(x) * 3": "x.abs() * 3",
    "x + wide": "x.float() + wide",
    "x + at - at": "x.float() + torch.arange(64) - torch.arange(64)",
    "x + wide.to(tl.float16)": "x.half() + wide.half()",
    "tl.sum(x, 0)": "x.float().sum().expand(64)",
    "tl.max(x, 0)": "x.max().expand(64)",
    "x.to(tl.int32)": "x.int()",
    "at.to(tl.bfloat16) * 100": "torch.arange(64).bfloat16() * 100",
    "x.to(tl.int16, bitcast=True)": "x.view(torch.int16)",
}


@pytest.mark.parametrize("code", BRAINS)
def test_bfloat16_rounds_as_pytorch_does(code):
    """Not as Triton's interpreter, which cuts where a GPU and PyTorch round."""
    generator = torch.Generator().manual_seed(3)
    x, y = (30 * torch.randn(2, 64, generator=generator)).bfloat16().unbind()
    wide = 10 ** (9 * torch.randn(64, generator=generator))
    special = [
        3.4e38,
        -3.4e38,
        float("inf"),
        1 + 2**-8,
        1 + 3 * 2**-8,
        -(1 + 2**-8 + 2**-20),
        1e-39,
        -0.0,
        float("nan"),
    ]
    wide[: len(special)] = torch.tensor(special)
    out = torch.zeros(64, dtype=torch.bfloat16)
    wanted = eval(BRAINS[code], {"torch": torch, "x": x, "y": y, "wide": wide}).to(torch.bfloat16)
    copied = Copies()([x, y, wide, out])
    load_source(BRAIN.format(code))["kernel"][(1,)](*copied)
    assert torch.equal(torch.tensor(copied[3].tolist()).nan_to_num(7.0), wanted.float().nan_to_num(7.0))


def test_a_product_of_bfloat16_and_its_bytes():
    x = torch.randn(16, 16, generator=torch.Generator().manual_seed(2)).bfloat16()
    text = "@triton.jit\ndef kernel(X, Out):\n    i, j = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]\n"
    text += "    x = tl.load(X + i * 16 + j)\n    tl.store(Out + i * 16 + j, tl.dot(x, tl.trans(x)))\n"
    copied = Copies()([x, torch.zeros(16, 16)])
    with watched() as run:
        load_source(text)["kernel"][(1,)](*copied)
    assert roundings(x.float() @ x.float().T, copied[1]) <= 2
    assert run.loaded == 2 * 256
    content = x.view(torch.int16).numpy().tobytes()
    assert language.bfloat16.unpack(content) == x.flatten().tolist()
    assert language.bfloat16.pack(x.flatten().tolist()) == content


HOST = """x.shape x.size() x.size(-1) x.stride() x.stride(0) x.numel() x.dim() x.ndim len(x) x.element_size()
x.is_contiguous() x.T x.mT.is_contiguous() x.T.contiguous().stride() x.T.reshape(-1) x.view(3,8) x.view(2,-1).stride()
x[1] x[:,1:3] x[...,None].stride() x[...,1:3] x[::2,None].stride() x[None,::2].stride() x[1,2].item() x.float()
x.half() x.to(torch.float64).dtype x.to(torch.float32).stride() x.to(dtype=torch.float16).dtype x.to(w).dtype
x.clone().stride() x.T.clone().tolist() x.unsqueeze(0).shape x.unsqueeze(-1).stride() x.unsqueeze(1).squeeze(1).shape
x[:1].expand(5,4).stride() x[:1].expand(2,-1,4).shape x.expand(2,6,4).stride() x.expand(2,6,4).tolist()
x.transpose(0,1).stride() x.permute(1,0).shape x.flatten().shape x.new_empty(2,3).shape
x.new_empty((2,3),dtype=torch.int32).dtype x.new_zeros(4) x.new_zeros((2,2),device=x.device) x.new_full((2,),3.5)
torch.zeros(2,3) torch.zeros((2,3),device=x.device) torch.full((2,2),7.5) torch.full((2,),3)
torch.full_like(w,2.5).dtype torch.ones(2,dtype=torch.int64) torch.empty(3,2,device=x.device).shape
torch.empty_like(w).dtype torch.arange(2,9,3) torch.zeros_like(x) x.dtype.itemsize int(n) float(x[0,0]) bool(n)
list(range(9))[n] n.item()+1 w.is_floating_point() n.long().dtype x.bfloat16() w[1:].tolist() x.size(0)*x.shape[1]
torch.tensor([[1,2],[3,4]]).shape torch.tensor(2.5).item() [each.tolist()for(each)in(x)] x[5,3] x[-1,-2]
x[1:,1:].clone().is_contiguous() x.int() torch.bool x.double().dtype torch.equal(x,x.clone())
torch.allclose(x,x.half().float(),rtol=1e-2)"""


@pytest.mark.parametrize("code", HOST.split())
def test_what_a_launcher_writes_is_what_pytorch_gives(code):
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(4))
    theirs = {"torch": torch, "x": x, "w": x.half().flatten(), "n": torch.tensor(5)}
    copies = Copies()
    ours = {"torch": host} | {name: copies(theirs[name]) for name in "xwn"}
    assert plain(eval(code, ours)) == plain(eval(code, theirs))


def plain(value):
    """A value without what tells PyTorch from the page."""
    if isinstance(value, (torch.Tensor, host.Tensor)):
        return str(value.dtype).removeprefix("torch."), tuple(value.shape), value.tolist()
    if isinstance(value, (tuple, list)):
        return list(map(plain, value))
    return value if isinstance(value, (int, float)) else str(value).removeprefix("torch.")


ALONE = "here tensors are computed with by kernels only; JupyterLab has all of PyTorch"


@pytest.mark.parametrize(
    ("code", "said"),
    {
        "x + 1": f"\\+ of tensors is not in this editor: {ALONE}",
        "2 * x": f"\\* of tensors is not in this editor: {ALONE}",
        "x @ x": "@ of tensors",
        "x == x": "== of tensors",
        "x < 0": "< of tensors",
        "-x": "- of tensors",
        "x.__setitem__(0, 1)": "an assignment to elements of tensors",
        "operator.iadd(x, 1)": "\\+ of tensors",
        "x.softmax(0)": f"Tensor.softmax is not in this editor: {ALONE}",
        "x.sum()": "Tensor.sum is not in this editor",
        "torch.matmul(x, x)": f"torch.matmul is not in this editor.+; {ALONE}",
    }.items(),
)
def test_arithmetic_outside_a_kernel_is_refused_by_name(code, said):
    x = host.tensor([1.0, 2.0])
    with pytest.raises(AttributeError, match=said):
        eval(code, {"torch": host, "x": x, "operator": operator})


@pytest.mark.parametrize(
    ("code", "said"),
    {
        "x.expand(3)": "cannot be expanded to",
        "x.expand(2)": "cannot be expanded to",
        "x.item()": "item.. wants one element",
        "bool(x)": "item.. wants one element",
        "x[9]": "index 9 is outside an axis of 2",
        "x.reshape(5)": "cannot have the shape",
    }.items(),
)
def test_what_a_shape_does_not_allow_is_a_sentence(code, said):
    with pytest.raises((ValueError, IndexError), match=said):
        eval(code, {"x": host.tensor([[1.0, 2.0], [3.0, 4.0]])})


def test_triton_s_language_is_there_or_absent_with_a_reason():
    """Each public name of Triton's is one or the other; none is both, and the page invents none."""
    internal = (
        "TRITON_MAX_TENSOR_NUMEL aggregate_replace block_type const constexpr_type core expect_zero pi32_t random"
    )
    internal += " semantic standard str_to_ty target_info tensor tensor_descriptor_type to_tensor tuple tuple_type void"
    theirs = {name for name in dir(triton.language) if not name.startswith("_")}
    here, absent = set(language.__all__), set(ABSENT)
    assert theirs - here - absent <= {*internal.split()}
    assert not here & absent and here <= theirs
    for name in here:
        assert getattr(language, name) is not None
    for name in absent:
        with pytest.raises(AttributeError, match=f"tl.{name} is not in this editor: {ABSENT[name]}"):
            getattr(language, name)
    assert all(getattr(host, name) is not None for name in host.__all__)
