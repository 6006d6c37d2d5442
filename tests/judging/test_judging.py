"""The judge of kernel exercises: what it says of each way to go wrong, and how JupyterLab calls a reader's launcher."""

import functools
from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl

from effattn_core.exercises import EXERCISES, grade
from effattn_core.judging import WIDE, Case, in_float32, judge, kernel_exercise, near, random, watch
from effattn_core.judging.verdict import CLOSE, TWICE, Outcome, Says, Values, close, reason_of
from kernels import runtime

interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="only interpreted programs can be watched")
NAN, INF = float("nan"), float("inf")


def values(*flat, shape=None, dtype="float32"):
    return Values(dtype, shape or (len(flat),), list(flat))


def said(results, wanted=None, mistakes=(), says=None, **outcome):
    """What is said of results, all of them Values; wanted: (1, 2) if it is not told."""
    wanted = [values(1.0, 2.0)] if wanted is None else wanted
    return reason_of(Says("a case", **(says or {})), wanted, mistakes, Outcome(results, **outcome))


def missing(shape, *indices, block=4, **says):
    """What is said of a result of zeros where ones are wanted, and elements are never written."""
    size = shape[0] * shape[1] if len(shape) > 1 else shape[0]
    wanted, got = values(*[1.0] * size, shape=shape), values(*[0.0] * size, shape=shape)
    return said([got], [wanted], says=dict(block=block, **says), missing=[list(indices)], exact=True)


def finding(kind, **more):
    given = dict(access="load", program=(1, 0, 0), other=(0, 0, 0), tensor="source", element=(2, 3), lanes=7, offset=99)
    return SimpleNamespace(kind=kind, **given | more)


def test_close_is_as_near_as_the_type_rounds_and_infinite_only_where_that_is_wanted():
    assert close(values(1 + CLOSE), values(1.0)) and not close(values(1 + 3 * CLOSE), values(1.0))
    assert close(values(1.003, dtype="float16"), values(1.0)) and close(values(1.03, dtype="bfloat16"), values(1.0))
    assert (
        close(values(-INF), values(-INF)) and not close(values(NAN), values(NAN)) and not close(values(INF), values(9))
    )
    assert close(values(1.5), values(1.0), within=0.5) and not close(values(1.0001), values(1.0), within=0.0)
    assert not close(values(1.0, 2.0), values(1.0, 2.0, shape=(2, 1)))
    assert near(torch.ones(2), torch.ones(2)) and not near(torch.ones(2), torch.zeros(2))


RIGHT, ZERO = values(1.0, 2.0), values(0.0, 0.0)
PAIR = dict(names=("output", "state"))
OUTSIDE = "program (1, 0, 0) reads outside source (7 lanes over all programs): "


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        (None, lambda: said([RIGHT])),
        ("No Triton kernel was launched", lambda: said([RIGHT], launches=0)),
        ("the result must be a tensor of shape (2,); got 2 values.", lambda: said([RIGHT, RIGHT])),
        ("the result must be a tensor of shape (2,); got nothing: return it.", lambda: said([])),
        ("the result must be a tensor of shape (2,); got an int.", lambda: said(["int"])),
        ("the result must be a tensor of shape (2,); got nothing: return it.", lambda: said(["NoneType"])),
        ("the result must be a tensor of shape (2,); got (2, 1).", lambda: said([values(1.0, 2.0, shape=(2, 1))])),
        ("the result must be of float32; got float16.", lambda: said([values(1.0, 2.0, dtype="float16")])),
        ("return 2 tensors (output, state); got [2].", lambda: said([RIGHT], [RIGHT, RIGHT], says=PAIR)),
        ("return 2 tensors; got nothing.", lambda: said([], [RIGHT, RIGHT])),
        ("return 2 tensors; got an int, [2], [2].", lambda: said(["int", RIGHT, RIGHT], [RIGHT, RIGHT])),
        ("the state must be a tensor of shape (2,)", lambda: said([RIGHT, values(1.0)], [RIGHT, RIGHT], says=PAIR)),
        ("return nothing; got [2].", lambda: said([RIGHT, RIGHT], [RIGHT], written=1)),
        ("return 2 tensors; got [2].", lambda: said([RIGHT] * 2, [RIGHT] * 3, written=1)),
        ("half", lambda: said([values(0.5, 1.0)], mistakes=[([RIGHT], "no"), ([values(0.5, 1.0)], "half")])),
        ("late", lambda: said([ZERO, RIGHT], [RIGHT, RIGHT], [([RIGHT, None], "no"), ([None, RIGHT], "late")])),
        ("1 element of the state is never written", lambda: said(
            [RIGHT, ZERO], [RIGHT, RIGHT], [([RIGHT, None], "no")], says=PAIR, missing=[[], [(0,)]], exact=True)),
        ("infinite", lambda: said([values(NAN, 2.0)], says=dict(nan="infinite"))),
        ("infinite", lambda: said([values(INF, 2.0)], says=dict(nan="infinite"), missing=[[(0,)]])),
        ("1 element is never", lambda: said([values(INF, 2.0)], says=dict(nan="x"), missing=[[(0,)]], exact=True)),
        ("2 elements of the state are never written, the first at [0]: are there programs for all of them",
         lambda: said([RIGHT, ZERO], [RIGHT, RIGHT], says=PAIR, missing=[[], [(0,), (1,)]])),
        (OUTSIDE + "each load and store needs the mask", lambda: said([ZERO], findings=[finding("outside")])),
        (OUTSIDE + "each load and store needs the mask", lambda: said([RIGHT], findings=[finding("outside")])),
        (OUTSIDE + "stride", lambda: said([RIGHT], says=dict(stray="stride"), findings=[finding("outside")])),
        ("writes outside", lambda: said([RIGHT], findings=[finding("outside", access="store")])),
        ("came to 99",
         lambda: said([ZERO], says=dict(far=True, stray="came to {offset}"), findings=[finding("outside")])),
        (f"programs (0, 0, 0) and (1, 0, 0) meet at source[2, 3]: {TWICE}",
         lambda: said([RIGHT], findings=[finding("written twice")])),
        ("outside", lambda: said([RIGHT], findings=[finding("written twice"), finding("outside")])),
        (TWICE, lambda: said([ZERO], findings=[finding("written twice")], missing=[[(1,)]], exact=True)),
        ("source (1 lane over all programs): ", lambda: said([RIGHT], findings=[finding("outside", lanes=1)])),
        ("hold anything unless `other` says what", lambda: said([RIGHT], poisoned=[values(NAN, 2.0)])),
        ("hold anything unless `other` says what", lambda: said([RIGHT], poisoned=[], changed=True)),
        (None, lambda: said([RIGHT], poisoned=[RIGHT])),
        ("element [1] is 0 and should be 2: ", lambda: said([values(1.0, 0.0)], poisoned=[ZERO])),
        ("the result must be contiguous", lambda: said([RIGHT], says=dict(contiguous=True), scattered=True)),
        (None, lambda: said([RIGHT], scattered=True)),
        (None, lambda: said([RIGHT], says=dict(contiguous=True))),
        ("a tensor that was given has changed", lambda: said([RIGHT], changed=True)),
        ("kept", lambda: said([RIGHT], changed=True, says=dict(kept="kept"))),
        (None, lambda: said([RIGHT], changed=True, says=dict(kept=""))),
        ("is loaded 3 times", lambda: said([RIGHT], says=dict(once=(1,)), loads={1: 3.0})),
        (None, lambda: said([RIGHT], says=dict(once=(1,)), loads={1: 1.0, 0: 2.0})),
        (None, lambda: said([RIGHT], says=dict(once=(1,)))),
        ("element [1], the one furthest off, is 0 and should be 2: why?", lambda: said([ZERO], says=dict(hint="why?"))),
        ("element [0], the one furthest off, is nan and should be 1: ", lambda: said([values(NAN, 0.0)])),
        ("element [0, 1] of the state is 0 and should be 2: ",
         lambda: said([RIGHT, values(1.0, 0.0, shape=(1, 2))], [RIGHT, values(1.0, 2.0, shape=(1, 2))], says=PAIR)),
        ("the grid must round up", lambda: missing((6,), (4,), (5,))),
        ("the grid must round up", lambda: missing((2, 6), *[(row, at) for row in (0, 1) for at in (4, 5)])),
        ("the grid must round up", lambda: missing((6, 3), *[(row, at) for row in (4, 5) for at in range(3)])),
        ("only the first block is written", lambda: missing((12,), *[(at,) for at in range(4, 12)])),
        ("past row 4 or column 3",
         lambda: missing((8, 3), *[(row, at) for row in range(4, 8) for at in range(3)], tiled=True)),
        ("only one element is written: does each lane", lambda: missing((3,), (1,), (2,))),
        ("1 element is never written, the first at [2]: is the block size", lambda: missing((6,), (2,))),
    ],
)  # fmt: skip
def test_each_sentence_is_said_of_what_it_tells(sentence, found):
    reason = found()
    assert reason is None if sentence is None else sentence in reason, reason


@triton.jit
def doubled_kernel(source, target, size, BLOCK: tl.constexpr, WALKS: tl.constexpr = 1, FACTOR: tl.constexpr = 2.0):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    numbers = tl.load(source + at, mask=at < size, other=0.0)
    for _ in range(1, WALKS):
        numbers = tl.load(source + at, mask=at < size, other=0.0)
    tl.store(target + at, FACTOR * numbers, mask=at < size)


@triton.jit
def summed_kernel(source, target, places, size, BLOCK: tl.constexpr, BARE: tl.constexpr):
    at = tl.arange(0, BLOCK)
    if BARE:
        numbers = tl.load(source + tl.load(places + at, mask=at < size), mask=at < size)
    else:
        numbers = tl.load(source + tl.load(places + at, mask=at < size), mask=at < size, other=0)
    if tl.constexpr(numbers.dtype.is_floating()):  # of bfloat16 the interpreter adds up the bits
        numbers = numbers.to(tl.float32)
    tl.store(target, tl.sum(numbers, 0))


def summed(bare, source):
    target, places = source.new_empty(1), torch.arange(source.numel())
    print("summed")
    summed_kernel[(1,)](source, target, places, source.numel(), 64, bare)
    return target


def doubled(source, target=None, programs=None, walks=1, factor=2.0):
    target = torch.empty_like(source) if target is None else target
    doubled_kernel[(triton.cdiv(len(source), 16) if programs is None else programs,)](
        source, target, len(source), 16, walks, factor
    )
    return target


def case(**says):
    source = random(40)
    mistakes = [(3 * source, "that is three times as much.")]
    return Case("40 numbers", (source,), 2 * source, mistakes=mistakes, **dict(hint="is it twice?") | says)


@interpreted
@pytest.mark.parametrize(
    ("launcher", "says", "sentence"),
    [
        (doubled, {}, None),
        (lambda source: 2 * source, {}, "For 40 numbers: No Triton kernel was launched"),
        (lambda source: doubled(source, factor=3.0), {}, "For 40 numbers: that is three times as much."),
        (lambda source: doubled(source, factor=4.0), {}, "is it twice?"),
        (lambda source: doubled(source, programs=2), dict(nan="infinite"), "8 elements are never written"),
        (lambda source: doubled(source, programs=2) / 2 * 2, dict(nan="infinite"), "infinite"),
        (lambda source: doubled(source, factor=float("nan")), dict(nan="infinite"), "infinite"),
        (lambda source: doubled(source, torch.empty(39)), {}, "must be a tensor of shape (40,); got (39,)"),
        (lambda source: doubled(source, source), {}, "a tensor that was given has changed"),
        (lambda source: doubled(source, walks=2), {}, None),
        (lambda source: doubled(source, walks=2), dict(once=(0,)), "is loaded 2 times"),
        (doubled, dict(once=(0,)), None),
    ],
)
def test_a_launcher_is_watched_and_judged(launcher, says, sentence):
    reason = judge(launcher, [case(**says)])
    assert reason is None if sentence is None else sentence in reason, reason


@interpreted
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32", "uint8", "int64"])
def test_a_sum_over_lanes_that_hold_anything_is_right_by_luck(dtype, capsys):
    source = torch.arange(20).to(getattr(torch, dtype))
    sums = Case("20 numbers", (source,), source.sum(0, keepdim=True).to(source.dtype))
    assert judge(functools.partial(summed, False), [sums]) is None
    assert "unless `other` says what" in judge(functools.partial(summed, True), [sums])
    assert capsys.readouterr().out == "summed\n" * 2  # and what is called once more prints once


@interpreted
def test_one_lane_that_is_left_out_holds_what_other_says():
    @triton.jit
    def one_kernel(source, target, BARE: tl.constexpr):
        some = (
            tl.load(source, mask=tl.program_id(0) > 0) if BARE else tl.load(source, mask=tl.program_id(0) > 0, other=0)
        )
        tl.store(target, some)

    def one(bare, source):
        target = torch.empty_like(source)
        one_kernel[(1,)](source, target, bare)
        return target

    zero = Case("one number", (torch.ones(1),), torch.zeros(1))
    assert judge(functools.partial(one, False), [zero]) is None
    assert "unless `other` says what" in judge(functools.partial(one, True), [zero])


@interpreted
def test_the_second_call_gets_what_the_first_got():
    """Of a kernel that adds to its argument, and leaves out lanes that it never uses."""

    @triton.jit
    def more_kernel(target, stride, size):
        at = tl.arange(0, 16)
        tl.store(target + at * stride, tl.load(target + at * stride, at < size) + 1, at < size)

    target = torch.zeros(30)[::3]
    given = Case("10 zeros", (target,), (torch.ones(10),), written=(0,))
    assert judge(lambda target: more_kernel[(1,)](target, target.stride(0), 10) and None, [given]) is None
    copies = watch.copied([target, target[1:], 3])
    assert copies[0].stride() == (3,) and copies[0].data_ptr() == copies[1].data_ptr() - 12 and copies[2] == 3
    assert copies[0].equal(target) and copies[0].data_ptr() != target.data_ptr()


def target_case(**says):
    source = random(40)
    return Case("40 numbers", (source, torch.zeros(40), 40, 16), (2 * source,), written=(1,), hint="?", **says)


@interpreted
def test_a_kernel_is_launched_on_the_grid_of_its_case_and_its_result_is_an_argument():
    assert judge(doubled_kernel, [target_case(grid=(3,))]) is None
    assert "element [" in judge(doubled_kernel, [target_case(grid=(2,))])

    def by_launcher(source, target, size, block):
        doubled_kernel[(3,)](source, target, size, block)

    assert judge(by_launcher, [target_case()]) is None
    assert "return nothing; got [40]" in judge(lambda *given: by_launcher(*given) or given[1], [target_case()])


@interpreted
def test_of_a_far_case_the_offset_of_32_bits_is_told(monkeypatch):
    @triton.jit
    def rows_kernel(source, target, row_stride, WIDE_ROW: tl.constexpr):
        row = tl.program_id(0)
        at = (row.to(tl.int64) if WIDE_ROW else row) * row_stride + tl.arange(0, 16)
        tl.store(target + row * 16 + tl.arange(0, 16), tl.load(source + at))

    def copied(source, wide=True):
        target = source.new_empty(3, 16)
        rows_kernel[(3,)](source, target, source.stride(0), wide)
        return target

    source = random(3, 16).half()
    far = Case("a tensor of more than 2^31 elements", (source,), source, far=True, stray=WIDE)
    assert judge(copied, [far]) is None
    assert "came out as -2,147,483,648: 32 bits overflowed" in judge(lambda source: copied(source, False), [far])
    monkeypatch.setattr(watch.np, "empty", lambda *given, **named: (_ for _ in ()).throw(MemoryError))
    assert judge(copied, [far]) is None


def test_where_nobody_watched_what_is_nan_was_not_written():
    numbers = torch.tensor([1.0, NAN]), torch.tensor([5, torch.iinfo(torch.int32).max], dtype=torch.int32)
    assert [watch.unwritten(each, None) for each in numbers] == [[[1]], [[1]]]
    assert [watch.unwritten(each, {}) for each in numbers] == [[], []]  # PyTorch computed them
    assert watch.unwritten(torch.tensor([NAN, NAN]), {}) == [[0], [1]]
    assert watch.unwritten(torch.tensor([True]), None) == [] and watch.unwritten("a word", None) == []


def test_mistakes_are_filled_up_with_results_that_do_not_matter_and_rounded_once():
    pair = Case("two", (), (torch.ones(2), torch.zeros(2)), mistakes=[((torch.zeros(2),), "first")])
    (((first, second), _),) = pair.wrong
    assert first.flat == [0.0, 0.0] and second is None
    assert pair.says == Says("two")
    rounded, nothing = in_float32(torch.tensor([0.1], dtype=torch.float64), None)
    assert rounded.dtype == torch.float32 and nothing is None


@interpreted
def test_a_kernel_exercise_is_registered_with_its_cases(monkeypatch):
    monkeypatch.setattr("effattn_core.exercises.exercise_of", EXERCISES.__getitem__)
    try:
        cases = kernel_exercise("token.twice")(lambda: [case()])
        assert EXERCISES["token.twice"].cases is cases and EXERCISES["token.twice"].level == "kernel"
        assert grade("token.twice", doubled).passed
        assert grade("token.twice", lambda source: 1 / 0).reason.startswith("It raised ZeroDivisionError")
        kernel_exercise("token.twice")(lambda: [])
        assert "has no cases yet" in grade("token.twice", doubled).reason
    finally:
        del EXERCISES["token.twice"]
