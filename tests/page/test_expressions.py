"""Random small expressions of the language: what is exact agrees bit for bit, what rounds within two roundings."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from _page import load_source
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_equality import Copies, roundings

from kernels import runtime

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")

TEXT = """import triton
import triton.language as tl


@triton.jit
def kernel(X, H, I, U, Floats, Integers):
    rows, columns = tl.arange(0, 4)[:, None], tl.arange(0, 8)[None, :]
    at, program = rows * 8 + columns, tl.program_id(0)
    x, h, i, u = tl.load(X + at), tl.load(H + at), tl.load(I + at), tl.load(U + at)
    row, column = tl.load(X + rows * 8), tl.load(X + columns, columns < 5, 0.25)
    zero, none = tl.zeros([4, 8], tl.float32), tl.zeros([4, 8], tl.int64)
    at += program * 32
    tl.store(Floats + at, {floating} + zero)
    tl.store(Integers + at, {integer} + none)
"""
FLOATS = [0.0, 1.0, -1.5, 0.1, 3.0, -70000.0, 1e30, 1e-30, float("inf"), float("-inf"), float("nan"), 65504.0]
WHOLE = [0, 1, -1, 7, -8, 1000, 2**31 - 1, -(2**31), 123456789, -5]


def binary(pattern, *parts):
    return st.tuples(*parts).map(lambda chosen: pattern.format(*chosen))


def several(*patterns):
    return lambda inner: st.one_of(*[binary(pattern, *[inner] * pattern.count("{}")) for pattern in patterns])


PLAIN = ["i", "u", "rows", "columns", "program", "i.to(tl.int64)", "u.to(tl.int32)", "(i // 3)"]
OF_INTEGERS = [
    "({} + {})", "({} - {})", "({} * {})", "({} + 3)", "({} & {})", "({} | {})", "({} ^ {})",
    "({}.to(tl.int32) << 3)",
    "({}.to(tl.int32) >> 2)", "({}.to(tl.int64) // 7)", "({}.to(tl.int32) % 5)", "tl.maximum({}, {})",
    "tl.minimum({}, 4)", "(~{}.to(tl.int64))", "(-{}.to(tl.int32))", "tl.sum(none + {}, 0)[None, :]",
    "tl.max(none + {}, 1)[:, None]", "tl.min(none + {}, 1, keep_dims=True)", "{}.to(tl.int8)", "{}.to(tl.uint8)",
    "tl.where({} > 2, {}, 5)", "({} <= {}).to(tl.int32)", "tl.reshape(tl.trans(none + {}), [4, 8])",
    "tl.sort(none + {})", "tl.cumsum(none + {}, 1)", "tl.abs({})",
]  # fmt: skip
REAL = "x row column h h.to(tl.float32) x.to(tl.float16) (h*0.1) (0.1*x) (h/3)".split()
OF_REALS = [
    "({} + {})", "({} - {})", "({} * {})", "({} + 0.3)", "(2 * {})", "({} / (tl.abs({}) + 1))",
    "tl.maximum({}, {})", "tl.exp2((tl.maximum({}, -9) > 0).to(tl.float32))",
    "tl.minimum({}, 0.5)", "tl.where({} > 0.2, {}, {})", "tl.where({} == {}, 1, {})", "(-{})", "tl.abs({})",
    "tl.max(zero + {}, 0)[None, :]", "tl.min(zero + {}, 1)[:, None]", "{}.to(tl.float16)", "({} + i)",
    "tl.reshape(tl.trans(zero + {}), (4, 8))",
    "tl.maximum(tl.minimum({}, 99.0), -99.0).to(tl.int32).to(tl.float32)", "tl.clamp({}, -2.5, 60.0)",
]  # fmt: skip
SIMPLE = st.sampled_from(PLAIN)
INTEGERS = st.recursive(SIMPLE, several(*OF_INTEGERS), max_leaves=4)
REALS = st.recursive(
    st.sampled_from(REAL)
    | st.one_of(*[binary(pattern, SIMPLE) for pattern in ("{}.to(tl.float32)", "({} * 0.3)", "({} / 3)")]),
    several(*OF_REALS),
    max_leaves=4,
)
# Around an exact expression, one function that rounds: sums of what has one sign, so that nothing cancels.
ROUNDING = """tl.exp(zero+{}) tl.exp2(zero+{}) tl.log(zero+{}) tl.log2(zero+{}) tl.sqrt(zero+{}) tl.rsqrt(zero+{})
tl.sigmoid(zero+{}) tl.sum(tl.abs(zero+{}),1)[:,None] tl.sum(tl.abs(zero+{}),0)[None,:] tl.sum(tl.abs(zero+{}))
tl.cumsum(tl.abs(zero+{}),1)""".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("expressions")


def compared(folder, floating, integer):
    """Run both, and return the roundings between (floats, integers)."""
    text = TEXT.format(floating=floating, integer=integer)
    path = folder / "kernel.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("expression", path)
    module = importlib.util.module_from_spec(spec)
    exec(compile(text, str(path), "exec"), vars(module))
    generator = torch.Generator().manual_seed(5)

    def drawn(values, dtype):
        return torch.tensor(values, dtype=dtype)[torch.randint(len(values), (4, 8), generator=generator)]

    arguments = [
        drawn(FLOATS, torch.float32), drawn(FLOATS[:-1], torch.float16), drawn(WHOLE, torch.int32),
        drawn([0, 1, 3, 200, 255], torch.uint8), torch.zeros(2, 4, 8), torch.zeros(2, 4, 8, dtype=torch.int64),
    ]  # fmt: skip
    copied = Copies()(arguments)
    load_source(text)["kernel"][(2,)](*copied)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        module.kernel[(2,)](*arguments)
    return [numbers for pair in zip(arguments[4:], copied[4:], strict=True) for numbers in pair]


def alike(wanted, got, within):
    """Whether each element is the same, or of floats within so many roundings of its own size."""
    for theirs, ours in zip(wanted.flatten().tolist(), got.storage.values, strict=True):
        same = theirs == ours or theirs != theirs and ours != ours
        if not same and not abs(theirs - ours) <= within * 2**-23 * abs(theirs) + 2**-149 * bool(within):
            return False
    return True


@settings(max_examples=200)
@given(floating=REALS, integer=INTEGERS)
def test_what_is_exact_agrees_bit_for_bit(folder, floating, integer):
    floats, our_floats, integers, our_integers = compared(folder, floating, integer)
    assert alike(floats, our_floats, 0), floating
    assert alike(integers, our_integers, 0), integer


@settings(max_examples=100)
@given(function=st.sampled_from(ROUNDING), inside=REALS)
def test_what_rounds_is_within_two_roundings(folder, function, inside):
    floats, ours, *_ = compared(folder, function.format(inside), "0")
    assert alike(floats, ours, 2), (function, inside)


DOT = """import triton
import triton.language as tl


@triton.jit
def kernel(A, B, C, Out):
    i, j = tl.arange(0, 16)[:, None], tl.arange(0, 16)[None, :]
    a, b, c = tl.load(A + i * 16 + j), tl.load(B + i * 16 + j), tl.load(C + i * 16 + j)
    tl.store(Out + i * 16 + j, tl.dot(a, tl.trans(b), c))
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8], ids=str)
def test_a_product_with_an_accumulator(folder, dtype):
    path = folder / "dot.py"
    path.write_text(DOT)
    names = {"__name__": "dot"}
    exec(compile(DOT, str(path), "exec"), names)
    total = torch.int32 if dtype == torch.int8 else torch.float32
    a, b, c = (10 * torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))).unbind()
    arguments = [a.to(dtype), b.to(dtype), c.to(total), torch.zeros(16, 16, dtype=total)]
    copied = Copies()(arguments)
    load_source(DOT)["kernel"][(1,)](*copied)
    names["kernel"][(1,)](*arguments)
    assert roundings(arguments[3], copied[3]) <= 2 * (total == torch.float32)
