"""The editors of the pages judge the kernel exercises as JupyterLab does: its solutions pass, its sentences are said.

A mistake is a change of the solution's text, as the page shows it. What is said of it in JupyterLab, with Triton's
interpreter, is what is said on the page, word by word.
"""

import json

import lab_cases
import pytest
from book.conftest import worker  # noqa: F401  (a fixture)
from lab_equality import in_triton, solutions
from primer.test_checks import MISTAKES as PRIMER

from effattn_core.exercises import EXERCISES, grade, register_all
from kernels import runtime

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")
register_all()
KERNELS = sorted(name for name, each in EXERCISES.items() if each.level == "kernel")
UNSOLVED = "def {}(*given):\n    raise NotImplementedError\n"
DEEPER = ("range(0, (block + 1) * N, N)", "range(0, time, N)")

MISTAKES = [
    ("attention.merge_kernel", "weighed by 2^L", ("tl.exp(lse - shift)", "tl.exp2(lse - shift)")),
    ("attention.merge_kernel", "in base 2", ("largest + tl.log(total)", "largest * 1.442695 + tl.log2(total)")),
    ("attention.merge_kernel", "the lanes past the last part count", ('other=float("-inf")', "other=0.0")),
    ("attention.merge_kernel", "each part counts the same", ("tl.exp(lse - shift)", "tl.where(inside, 1.0, 0.0)")),
    ("attention.merge_kernel", "near 500: exp gives inf or nan", ("tl.exp(lse - shift)", "tl.exp(lse)"),
                                                                 ("largest + tl.log(total)", "tl.log(total)")),
    ("attention.merge_kernel", "−inf − (−inf) is nan", ('tl.where(largest > float("-inf"), largest, 0.0)', "largest")),
    ("attention.merge_kernel", "reads outside Parts", ("places, mask=inside[:, None], other=0.0", "places")),
    ("attention.merge_kernel", "of the output are never written", ("[(rows,)]", "[(rows - 1,)]")),
    ("attention.causal_kernel", "off by one", ("[None, :] <= at", "[None, :] <= at + 1"), DEEPER),
    ("attention.causal_kernel", "every row sees every key", ("[None, :] <= at", "[None, :] < time"), DEEPER),
    ("attention.causal_kernel", "not scaled", ("    query *= scale\n", "")),
    ("attention.causal_kernel", "the weights are 2^score", ("tl.exp(", "tl.exp2(")),
    ("attention.causal_kernel", "each row sees only itself", ("[None, :] <= at", "[None, :] == at")),
    ("attention.causal_kernel", "does each see its own key", ("[None, :] <= at", "[None, :] < at")),
    ("attention.causal_kernel", "writes outside Out", ("accumulator, mask=at < time)", "accumulator)")),
    ("attention.causal_kernel", "16 elements are never written", ("triton.cdiv(time, block)", "max(1, time // block)")),
    ("retention.step_kernel", "nothing fades", ("decay * tl.load(s + tile)", "tl.load(s + tile)")),
    ("retention.step_kernel", "the decay is on the new token", ("decay * tl.load(s + tile) + ",
                                                                "tl.load(s + tile) + decay * ")),
    ("retention.step_kernel", "does not see itself", ("query[:, None] * state", "query[:, None] * tl.load(s + tile)")),
    ("retention.step_kernel", "the state that was given has changed", ("torch.empty_like(state)", "state")),
    ("retention.step_kernel", "of the state are never written", ("tl.store(after + tile", "tl.store(s + tile")),
    ("retention.ragged_kernel", "steps too many", ("log2_decay * length", "log2_decay * C"),
                                                  ("length - 1 - i", "C - 1 - i")),
    ("retention.ragged_kernel", "whole chunks are off", ("(i + 1))[:, None]", "i)[:, None]")),
    ("retention.ragged_kernel", "reads outside v", ("tl.load(v + here, mask=there, other=0.0)", "tl.load(v + here)")),
    ("retention.ragged_kernel", "how far do it and each key fade", ("d[:, None] * D + d[None, :]",
                                                                    "d[None, :] * D + d[:, None]")),
    ("recurrences.fading_kernel", "sees the future", ("tl.where(seen, fade, 0.0)", "fade")),
    ("recurrences.fading_kernel", "sees the future", (">=", "<=")),
    ("recurrences.fading_kernel", "2 to a power", ("tl.exp(", "tl.exp2(")),
    ("recurrences.fading_kernel", "is infinity multiplied by 0", ("tl.exp(-tl.abs(total[:, None] - total[None, :]))",
                                                                  "tl.exp(total)[:, None] * tl.exp(-total)[None, :]")),
    ("recurrences.fading_kernel", "never written", ("tl.where(seen, fade, 0.0))", "fade, mask=seen)")),
    ("recurrences.step_kernel", "fade first, then write", ("tl.load(s + tile) + write", "(tl.load(s + tile) + write)")),
    ("recurrences.step_kernel", "belong to the rows", ("tl.load(gate + keys))[:, None]",
                                                       "tl.load(gate + keys))[None, :]")),
    ("recurrences.step_kernel", "reads the old state", ("[:, None] * state", "[:, None] * tl.load(s + tile)")),
    ("recurrences.step_kernel", "the state is right and the output is not", ("tl.load(q + keys)", "tl.load(k + keys)")),
    ("recurrences.step_kernel", "fade each row, then add", ("write = tl", "write = 2 * tl")),
    ("recurrences.step_kernel", "has changed", ("torch.empty_like(state)", "state")),
    ("recurrences.delta_kernel", "nothing fades", ("tl.exp(tl.load(G + h))", "1.0")),
    ("recurrences.delta_kernel", "must find its own rows", ("tl.load(K + h * D + rows)", "tl.load(K + rows)")),
    ("recurrences.delta_kernel", "must find its own rows", ("tl.load(B + h)", "tl.load(B)")),
    ("recurrences.delta_kernel", "read after the write", ("tl.load(Q + h * D + rows)", "tl.load(K + h * D + rows)")),
    ("recurrences.delta_kernel", "of the output are never written", ("(len(state),)", "(1,)")),
    ("recurrences.delta_kernel", "written along the key", ("tl.load(B + h) * missing", "missing")),
    ("yoco.ring", "the token's number modulo the window", ("length % W", "(length + 1) % W")),
    ("yoco.ring", "hold what they held before", ("value, mask=new", "value, mask=rows < 0"),
                                                ("key, mask=new", "key, mask=rows < 0")),
    ("yoco.ring", "rows that were never written count: 1 of 16", ("rows <= length", "rows < W")),
    ("yoco.ring", "must be a tensor of shape (16,); got nothing", ("    return output\n", "")),
    ("yoco.ring", "not scaled", ("[:, None] * scale", "[:, None]")),
    ("yoco.ring", "reads the ring as it was before", ("(new, tl", "(new & (length == 0), tl"),
                                                     ("key, mask=new", "tl.load(K + dims), mask=new"),
                                                     ("value, mask=new", "tl.load(V + dims), mask=new"),
                                                     ("rows <= length", "rows < tl.maximum(length, 1)")),
    ("yoco.ring", "does the query read each row", ("tl.sum(weight * value, 0)", "2 * tl.sum(weight * value, 0)")),
    ("universal.on_chip", "the ReLU is missing", ("tl.maximum(tl.sum(column * weight, 0), 0.0)",
                                                  "tl.sum(column * weight, 0)")),
    ("universal.on_chip", "0 loops were run", ("range(loops)", "range(loops - 1)")),
    ("universal.on_chip", "the weight is turned", ("dims[:, None] * D + dims[None, :]",
                                                   "dims[None, :] * D + dims[:, None]")),
    ("universal.on_chip", "*adds* to the stream", ("hidden += tl", "hidden = tl")),
    ("universal.on_chip", "the weight was loaded 2 times", ("column * weight", "column * tl.load(W + dims[:, None] * D "
                                                                               "+ dims[None, :])")),
]  # fmt: skip
# Of the primer one of each kind: tests/book/test_lab.py holds the page to all of them.
KINDS = ("reads outside", "writes outside", "meet at", "must round up", "swapped", "own stride", "overflow", "is nan")
KINDS += ("hold anything", "keeps the strides", "must be contiguous", "loaded 2 times", "inside the walk")
for kind in KINDS:
    name, sentence, *changes = next(each for each in PRIMER if kind in each[1])
    MISTAKES.append((f"primer.{name}", sentence, *changes))
# Of the others what strays and what is not written: what else they do wrong their own tests try, on the same judge.
MISTAKES += [
    ("channels.pack", "reads outside Ids", ("lanes, mask=here, other=0)", "lanes)")),
    ("channels.pack", "never written", ("triton.cdiv(tokens, 16)", "1")),
    ("focus.local", "writes outside Out", ("total[:, None], rows < w)", "total[:, None])")),
    ("indexing.halve", "outside", ("tl.load(B + i)", "tl.load(B + 1 + i)")),
    ("rectified.scores", "writes outside Score", ("tl.sum(larger, 1), mask=inside)", "tl.sum(larger, 1))")),
    ("rectified.scores", "never written", ("(triton.cdiv(blocks, 16),)", "(1,)")),
    ("routing.combine", "outside", ("source, mask=dims < dim, other=0.0)", "source)")),
    ("routing.combine", "never written", ("[(tokens,)]", "[(tokens - 1,)]")),
    ("speculation.top", "outside X", ('place, mask=place < words,\n                   other=float("-inf"))', "place)")),
    ("speculation.top", "never written", ("[(rows,)]", "[(rows - 1,)]")),
    ("autoencoders.normalise", "outside", ("m * root, mask=inside)", "m * root)")),
    ("latents.modulate", "outside", ("scale = tl.load(at + width, mask=inside, other=0.0)",
                                     "scale = tl.load(at + width)")),
    ("graphs.hop", "never written", ("[(len(power),)]", "[(len(power) - 1,)]")),
    ("lowbit.launch", "outside", ("code.to(tl.uint8), mask=there)", "code.to(tl.uint8))")),
    ("coattention.columns", "outside", ("mass, mask=keys < time)", "mass)")),
    ("discrete.sweep", "never written", ("triton.cdiv(rows, 16),", "1,")),
]  # fmt: skip


def spoiled(name, changes=()):
    """The cell of an exercise's solution with pieces of its text replaced: (right, wrong), each there once or more."""
    cell = solutions()[name]
    for right, wrong in changes:
        assert right in cell.text, f"the solution of {name} no longer holds {right!r}: spoil something else"
        cell = cell._replace(text=cell.text.replace(right, wrong))
    return cell


def asked(worker, name, source):  # noqa: F811
    """What the page's worker answers to Check."""
    request = {"source": source, "function": solutions()[name].graded[1], "cases": lab_cases.cases(name)}
    return json.loads(worker.check(json.dumps(request)))


def test_every_kernel_exercise_has_cases_and_a_solution_on_its_page():
    assert sorted(solutions()) == KERNELS
    assert [name for name in KERNELS if EXERCISES[name].cases is None] == []
    assert {name for name, *_ in MISTAKES} == set(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_the_page_passes_the_solution_and_not_the_stub(worker, name):  # noqa: F811
    cell = spoiled(name)
    found = asked(worker, name, cell.text)
    assert found["passed"] and found["cases"] == len(EXERCISES[name].cases()), found["reason"]
    found = asked(worker, name, UNSOLVED.format(cell.graded[1]))
    assert not found["passed"] and found["reason"] == "It is not written yet."


@pytest.mark.parametrize(("name", "sentence", "changes"), [(each[0], each[1], each[2:]) for each in MISTAKES])
def test_the_page_says_of_a_mistake_what_jupyterlab_says(worker, tmp_path, name, sentence, changes):  # noqa: F811
    cell = spoiled(name, changes)
    verdict = grade(name, in_triton(cell, tmp_path)[cell.graded[1]])
    assert not verdict.passed and sentence in verdict.reason, verdict
    found = asked(worker, name, cell.text)
    assert f"For {found['what']}: {found['reason']}" == verdict.reason
