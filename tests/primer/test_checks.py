"""The primer's exercises: the page's own solutions pass, and each typical mistake in them is named."""

import importlib.util
import itertools
import re

import jupytext
import pytest
import torch
from support.house import ROOT, assert_named, assert_solved

from effattn_core.judging import judge, watch
from effattn_core.primer import checks
from kernels import attention, runtime

PAGE = ROOT / "book" / "0-before" / "primer.md"
KERNELS = ("scale_add", "rms_norm", "linear_relu", "row_attention")
NUMBER = itertools.count()


def solution(name):
    """The text of a solution: the cells of the page between the exercise's stub and its graded solution."""
    cells = [cell.source for cell in jupytext.read(PAGE).cells if cell.cell_type == "code"]
    stub = next(at for at, text in enumerate(cells) if f'verdict = grade("primer.{name}"' in text)
    end = next(at for at, text in enumerate(cells) if f'assert grade("primer.{name}"' in text)
    text = "\n\n".join(cells[stub + 1 : end + 1])
    return "import torch, triton\nimport triton.language as tl\n\n" + re.sub(r"\nassert grade.*", "", text)


def launcher(name, folder, *changes):
    """The page's solution as a function, with pieces of its text replaced: (right, wrong), each there once or more."""
    text = solution(name)
    for right, wrong in changes:
        assert right in text, f"the solution of {name} no longer holds {right!r}: spoil something else"
        text = text.replace(right, wrong)
    path = folder / f"spoiled_{next(NUMBER)}.py"
    path.write_text(text, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return getattr(module, name)


@pytest.mark.parametrize("name", KERNELS)
def test_the_page_s_solution_passes(name, tmp_path):
    assert_solved(f"primer.{name}", launcher(name, tmp_path))


def test_the_numbers_pass_and_the_known_mistakes_are_named():
    assert_solved("primer.loaded_bytes", 16 * 16 * 2 * 64 * 1024 * 4)
    assert_solved("primer.first_overflow", 46341)
    for answer, said in [
        (32 * 1024**2, "has four bytes"), (64 * 1024**2, "both loaded"), (8 * 1024**2, "reads all of left again"),
        (8 * 1024**3, "without tiles"), (1, "too small"),
    ]:  # fmt: skip
        assert_named("primer.loaded_bytes", answer, said)
    for answer, said in [(65536, "the sign"), (46340, "still fits"), (2**31, "the side"), (23170, "not bytes")]:
        assert_named("primer.first_overflow", answer, said)


EMPTY = "torch.empty(\n        rows, columns, dtype=source.dtype, device=source.device\n    )"
AGAIN = (
    "for start in range(0, keys, BLOCK):\n        key = start + tl.arange(0, BLOCK)\n"
    "        tl.load(score_pointer + key * key_stride, key < keys)\n    m, total = "
)
BIAS = "tl.load(bias_pointer + j, j < columns, 0.0)"
MISTAKES = [
    ("scale_add", "reads outside left_pointer", ("left_stride, mask=inside)", "left_stride)")),
    ("scale_add", "writes outside target_pointer", ("sums, mask=inside)", "sums)")),
    ("scale_add", "the factor multiplies right too", ("factor * left + right", "factor * (left + right)")),
    ("scale_add", "the factor multiplies right, not left", ("factor * left + right", "left + factor * right")),
    ("scale_add", "the grid must round up", ("triton.cdiv(left.numel(), block)", "left.numel() // block")),
    ("scale_add", "only the first block is written", ("(triton.cdiv(left.numel(), block),)", "(1,)")),
    ("scale_add", "meet at target", ("triton.cdiv(left.numel(), block)", "triton.cdiv(2 * left.numel(), block)"),
                                            ("program * BLOCK + ", "program // 2 * BLOCK + ")),
    ("scale_add", "block size that the launcher is given", ("BLOCK=block", "BLOCK=64")),
    ("scale_add", "multiply each index by its own stride", ("places * left_stride", "places")),
    ("scale_add", "multiply each index by its own stride", ("places * right_stride", "places")),
    ("scale_add", "multiply each index by its own stride", ("places * right_stride", "places * left_stride")),
    ("scale_add", "multiply each index by its own stride", ("places * left_stride", "places * right_stride")),
    ("scale_add", "multiply each index by its own stride", ("left.stride(0), right.stride(0)",
                                                            "right.stride(0), left.stride(0)")),
    ("scale_add", "meet at target", ("places, sums", "tl.arange(0, BLOCK), sums")),
    ("scale_add", "only one element is written", ("places, sums", "0 * places, sums")),
    ("rms_norm", "each load and store needs the mask", ("at * column_stride, inside, 0.0", "at * column_stride")),
    ("rms_norm", "hold anything unless", ("at * column_stride, inside, 0.0", "at * column_stride, inside")),
    ("rms_norm", "the 10⁻⁶ is missing", (" + 1e-6", "")),
    ("rms_norm", "not under the root", ("/ columns + 1e-6)", "/ columns) + 1e-6")),
    ("rms_norm", "keeps the strides of the transposed source", (EMPTY, "torch.empty_like(source)")),
    ("rms_norm", "the result must be contiguous", (EMPTY, "torch.empty_like(source)"), (
        "*source.stride(), ", "*source.stride(), *target.stride(), "), (
        "row_stride, column_stride, BLOCK", "row_stride, column_stride, down, across, BLOCK"), (
        "row * columns + at, y", "row * down + at * across, y")),
    ("rms_norm", "each load and store needs the mask", ("y, inside)", "y)")),
    ("rms_norm", "they must get other=0.0", ("at * column_stride, inside, 0.0", "at * column_stride, inside, 1.0")),
    ("rms_norm", "they must get other=0.0", ("at * column_stride, inside, 0.0", "at * column_stride, inside, 7.0")),
    ("rms_norm", "divided by the padded length", ("/ columns + 1e-6", "/ (tl.cdiv(columns, BLOCK) * BLOCK) + 1e-6")),
    ("rms_norm", "only the last block enters the mean", ("squares += ", "squares = ")),
    ("rms_norm", "the mean was asked", ("tl.sum(squares, 0) / columns", "tl.sum(squares, 0)")),
    ("rms_norm", "the root is missing", ("tl.sqrt(tl.sum(squares, 0) / columns + 1e-6)",
                                         "tl.sum(squares, 0) / columns")),
    ("rms_norm", "the weight is left out", ("/ root * weight", "/ root")),
    ("rms_norm", "multiply each index by its own stride", ("source_pointer += row * row_stride",
                                                          "source_pointer += row * columns")),
    ("rms_norm", "multiply each index by its own stride", ("at * column_stride", "at")),
    ("rms_norm", "squares overflow in float16", ("x.to(tl.float32) * x.to(tl.float32)", "(x * x).to(tl.float32)")),
    ("rms_norm", "32 bits overflowed", ("tl.program_id(0).to(tl.int64)", "tl.program_id(0)")),
    ("linear_relu", "the relu is missing", ("tl.maximum(total + bias, 0.0)", "total + bias")),
    ("linear_relu", "added after the relu", ("tl.maximum(total + bias, 0.0)", "tl.maximum(total, 0.0) + bias")),
    ("linear_relu", "the bias is missing", ("tl.maximum(total + bias, 0.0)", "tl.maximum(total, 0.0)")),
    ("linear_relu", "added in each step of the walk", ("left, right, total, ", f"left, right, total + {BIAS}, "),
                                                      ("total + bias, 0.0", "total, 0.0")),
    ("linear_relu", "taken by row", (BIAS, "tl.load(bias_pointer + i, i < rows, 0.0)")),
    ("linear_relu", "the relu is taken inside the walk", ("total = tl.dot", "total = tl.maximum(total, 0.0)\n        "
                                                                           "total = tl.dot")),
    ("linear_relu", "the relu is taken inside the walk", ("total = tl.dot(left, right, total, ",
                                                          "total += tl.maximum(tl.dot(left, right, "),
                                                         ('"ieee")', '"ieee"), 0.0)')),
    ("linear_relu", "taken by row", ("total + bias, 0.0", "total + tl.trans(bias), 0.0")),
    ("linear_relu", "tl.max folds a tile", ("tl.maximum(total + bias, 0.0)",
                                            "tl.max(total + bias) + tl.zeros([BLOCK, BLOCK], tl.float32)")),
    ("linear_relu", "takes the two factors first", ("tl.dot(left, right, total", "tl.dot(left, total, right")),
    ("linear_relu", "takes the two factors first", ("tl.dot(left, right, total", "tl.dot(total, right, left")),
    ("linear_relu", "hold anything unless `other` says", ("(k < inner), 0.0", "(k < inner)"),
                                                         ("(j < columns), 0.0", "(j < columns)")),
    ("linear_relu", "is it max(0, left · right + bias)", ("total + bias, 0.0", "total - bias, 0.0")),
    ("linear_relu", "only the last block of the inner size", ("left, right, total, ", "left, right, ")),
    ("linear_relu", "each load and store needs the mask", ("(i < rows) & (k < inner), 0.0", "i < rows, 0.0")),
    ("linear_relu", "each load and store needs the mask", ("result, inside)", "result, i < rows)")),
    ("linear_relu", "the two axes of the grid are swapped", ("(triton.cdiv(rows, block), triton.cdiv(columns, block))",
                                                            "(triton.cdiv(columns, block), triton.cdiv(rows, block))")),
    ("linear_relu", "the grid must round up", ("(triton.cdiv(rows, block), triton.cdiv(columns, block))",
                                              "(rows // block, columns // block)")),
    ("linear_relu", "multiply each index by its own stride", ("k * left_inner", "k")),
    ("linear_relu", "multiply each index by its own stride", ("k * right_inner + j * right_column", "k * columns + j")),
    ("row_attention", "the division by the total is missing", ("sums / total", "sums")),
    ("row_attention", "the total shrinks and the accumulator does not", ("sums * rescale", "sums")),
    ("row_attention", "the accumulator shrinks and the total does not", ("total * rescale", "total")),
    ("row_attention", "what was gathered before must shrink", ("sums * rescale", "sums"), ("total * rescale", "total")),
    ("row_attention", "only the last block is in the result", ("sums * rescale + ", ""), ("total * rescale + ", "")),
    ("row_attention", 'they must get other=float("-inf")', ('key < keys, float("-inf"))', "key < keys, 0.0)")),
    ("row_attention", "each load and store needs the mask", ('places, key < keys, float("-inf"))', "places)")),
    ("row_attention", "each load and store needs the mask", ("places, (key < keys)[:, None], 0.0)", "places)")),
    ("row_attention", "hold anything unless `other` says", ("(key < keys)[:, None], 0.0", "(key < keys)[:, None]")),
    ("row_attention", "the scores are loaded 2 times", ("m, total = ", AGAIN)),
    ("row_attention", "exp overflows", ("larger = tl.maximum(m, tl.max(scores, 0))", "larger = 0.0")),
    ("row_attention", "-inf − (-inf) is nan", ('tl.where(larger == float("-inf"), 0.0, larger)', "larger")),
    ("row_attention", "multiply each index by its own stride", ("key * key_stride", "key")),
    ("row_attention", "multiply each index by its own stride", ("key[:, None] * value_stride", "key[:, None] * DIM")),
]  # fmt: skip
for name, size, sentence in [
    ("rms_norm", "columns", "only the first block"), ("linear_relu", "inner", "only the first block of the inner size"),
    ("row_attention", "keys", "only the first block is in the result"),
]:  # fmt: skip
    MISTAKES.append((name, sentence, (f"for start in range(0, {size}, BLOCK)", "for start in range(0, BLOCK, BLOCK)")))


@pytest.mark.skipif(runtime.mode != "interpreter", reason="the sanitizer watches interpreted kernels")
@pytest.mark.parametrize(("name", "sentence", "changes"), [(each[0], each[1], each[2:]) for each in MISTAKES])
def test_each_typical_mistake_is_named(name, sentence, changes, tmp_path):
    assert_named(f"primer.{name}", launcher(name, tmp_path, *changes), sentence)


@pytest.mark.skipif(runtime.mode != "interpreter", reason="launches are counted where kernels are interpreted")
def test_an_answer_in_pytorch_is_no_kernel():
    assert_named("primer.scale_add", lambda left, right, factor, block: factor * left + right, "No Triton kernel was")
    assert_named("primer.rms_norm", lambda source, weight, block: source[:, :1], "No Triton kernel was")


def test_a_result_of_the_wrong_shape_is_refused(tmp_path):
    right = launcher("scale_add", tmp_path)
    assert_named("primer.scale_add", lambda *given: right(*given)[None], "must be a tensor of shape (64,); got (1, 64)")
    assert_named("primer.scale_add", lambda *given: (right(*given), 3), "must be a tensor of shape (64,); got 2 values")


def test_watching_leaves_pytorch_as_it_was():
    assert not torch.are_deterministic_algorithms_enabled()
    assert watch.watch(lambda: torch.empty(3)).result.isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()


def test_without_memory_for_a_far_tensor_that_case_is_left_out(monkeypatch):
    monkeypatch.setattr(watch.np, "empty", lambda *given, **named: (_ for _ in ()).throw(MemoryError))
    assert watch.far_rows(3, 40) is None
    assert judge(None, [case for case in checks.rms_norm() if case.far]) is None


def test_every_line_that_the_page_s_table_finds_in_absorb_is_there():
    table = PAGE.read_text(encoding="utf-8").partition("| In `absorb` |")[2].partition("\n\n")[0]
    pieces = [piece.strip() for piece in re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)]
    source = (ROOT / "kernels" / "attention" / "forward.py").read_text(encoding="utf-8")
    body = source.partition("def absorb(")[2].partition("\n@triton.jit")[0]
    assert len(pieces) >= 12 and hasattr(attention, "launch_forward")
    for piece in pieces:
        for part in piece.split("…"):
            assert part.rstrip(")") in body or part.rstrip() in body, piece
