"""In Pyodide, as in a reader's browser, the page computes what it does here, and each kernel is judged soon enough."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import lab_cases
import lab_shown
import lab_vendor
import pytest
from lab_equality import shown, solutions
from lab_found import TRY
from page.test_expressions import FLOATS, OF_INTEGERS, OF_REALS, PLAIN, REAL, ROUNDING, TEXT, WHOLE

HERE = Path(__file__).parent
RUN, CHECK = 0.3, 3.0  # seconds that a warm Run and a Check may take at most: a reader waits for them
BRAIN = ["x.to(tl.bfloat16)", "(h.to(tl.bfloat16) * 0.3)", "(x.to(tl.bfloat16) + x.to(tl.bfloat16))"]


def grown(chance, simple, patterns, depth):
    """A random expression of these patterns."""
    if not depth or chance.random() < 0.2:
        return chance.choice(simple)
    pattern = chance.choice(patterns)
    return pattern.format(*(grown(chance, simple, patterns, depth - 1) for _ in range(pattern.count("{}"))))


def texts():
    """Kernels over each pattern of test_expressions, over random expressions of them, and a few of bfloat16."""
    chance = random.Random(5)
    reals = [pattern.format(*chance.choices(REAL, k=pattern.count("{}"))) for pattern in OF_REALS + ROUNDING]
    reals += BRAIN + [grown(chance, REAL + PLAIN, OF_REALS, 3) for _ in range(50)]
    whole = [pattern.format(*chance.choices(PLAIN, k=pattern.count("{}"))) for pattern in OF_INTEGERS]
    whole += [grown(chance, PLAIN, OF_INTEGERS, 3) for _ in reals[len(whole) :]]
    return [TEXT.format(floating=real, integer=each) for real, each in zip(reals, whole, strict=True)]


def requests():
    """{name: what a page's editor asks its worker for} of each exercise's solution and each shown kernel."""
    found = {}
    for name, cell in solutions().items():
        found[name] = {"source": cell.text, "function": cell.graded[1], "cases": lab_cases.cases(name)}
    for name in lab_shown.LAUNCHES:
        text = shown()[name].text.removeprefix(lab_shown.IMPORTS)
        cases = list(map(lab_cases.stored, lab_shown.cases(name, text)))
        found[TRY + name] = {"source": text, "function": name.partition(".")[2], "cases": cases}
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """(what the Python here answers, what Pyodide answers)."""
    reason = lab_vendor.prepare() or (None if shutil.which("node") else "node is not installed")
    if reason:
        pytest.skip(f"kernels do not run on the pages here: {reason}")
    folder = tmp_path_factory.mktemp("pyodide")
    packed, asked = folder / "page.zip", folder / "asked.json"
    packed.write_bytes(lab_vendor.packed(lab_vendor.PAGE))
    asked.write_text(
        json.dumps({"texts": texts(), "floats": list(map(str, FLOATS)), "whole": WHOLE, "requests": requests()})
    )
    path = [str(packed), str(HERE)]
    here = (
        f"import sys; sys.path[:0] = {path}; import in_pyodide as it; print(it.answered(open({str(asked)!r}).read()))"
    )
    core = next(lab_vendor.VENDOR.glob("pyodide-*"))
    node = ["node", str(HERE / "in_pyodide.mjs"), str(core), str(packed), str(HERE / "in_pyodide.py"), str(asked)]
    done = [
        subprocess.run(each, capture_output=True, encoding="utf-8", timeout=300)
        for each in ([sys.executable, "-I", "-c", here], node)
    ]
    assert not any(each.returncode for each in done), [each.stderr[-2000:] for each in done]
    return [json.loads(each.stdout) for each in done]


def test_expressions_have_the_same_bits_in_pyodide(answers):
    here, there = answers
    assert there["version"] == [3, 14] and len(there["computed"]) == len(texts()) > 80
    raised = [each for each in here["computed"] if isinstance(each, str)]
    assert len(raised) < len(texts()) / 10, raised
    for text, ours, theirs in zip(texts(), here["computed"], there["computed"], strict=True):
        assert ours == theirs, text


def test_each_solution_and_each_shown_kernel_is_right_in_pyodide_and_soon(answers):
    for name, (run, check, reason) in answers[1]["judged"].items():
        assert bool(reason) == (name.removeprefix(TRY) in lab_shown.FAULTY), f"{name}: {reason}"
        assert run <= RUN and check <= CHECK, f"{name}: a Run of {run:.2f} s, a Check of {check:.2f} s"
    slowest = [max(each[part] for each in answers[1]["judged"].values()) for part in (0, 1)]
    print(f"{len(answers[1]['judged'])} kernels, the slowest Run {slowest[0]:.3f} s, Check {slowest[1]:.3f} s")
