"""The checks are checked: each spoils a copy of the book or the library, and must be seen to turn red."""

import json
import os
import re
import shutil
import sys

import pytest
import torch
from support.house import ROOT, build
from support.links import broken, outside
from support.pairs import compare, differences
from support.processes import finished

from effattn_core.attention import oracle
from kernels import runtime

LEAVE = shutil.ignore_patterns(".venv", ".git", "_build", ".cache", "node_modules", "__pycache__", "vendor", ".*_cache")


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository that may be spoiled."""
    target = tmp_path / "copy"
    shutil.copytree(ROOT, target, ignore=LEAVE)
    return target


def spoil(path, old, new):
    text = path.read_text()
    assert old in text, f"{path.name} no longer holds {old!r}: this guard would prove nothing"
    path.write_text(text.replace(old, new, 1))


def test_a_spoiled_stored_output_fails_nbval(copy):
    notebook = copy / "book" / "index.ipynb"
    content = json.loads(notebook.read_text())
    stored = (cell["outputs"] for cell in content["cells"] if cell.get("outputs"))
    outputs = next(each for each in stored if "<figure" in "".join(each[0]["data"].get("text/html", "")))
    html = outputs[0]["data"]["text/html"]
    outputs[0]["data"]["text/html"] = "".join(html).replace("64 GiB", "63 GiB")
    assert outputs[0]["data"]["text/html"] != "".join(html)
    notebook.write_text(json.dumps(content))
    done = compare(notebook)
    assert done.returncode == 1 and "63 GiB" in done.stdout


def test_a_stale_pair_is_seen(copy):
    notebook = copy / "book" / "1-attention" / "attention.ipynb"
    assert differences(notebook) == []
    spoil(notebook.with_suffix(".md"), 'print("every form is inside its budget', 'print("every form is fine')
    assert "differs from its .md" in differences(notebook)[0]


def test_a_warning_stops_the_build_and_an_outside_address_and_a_dead_link_are_found(copy, tmp_path):
    (copy / "book" / "_toc.yml").write_text("format: jb-book\nroot: how-to\nchapters:\n  - file: notation\n")
    page = copy / "book" / "how-to.md"
    page.write_text("# A page\n\n[nowhere](notation.md#no-such-place)\n")
    done = build(copy, tmp_path / "first")
    assert done.returncode != 0 and "no-such-place" in done.stdout + done.stderr
    page.write_text("# A page\n\n![far](https://example.org/far.png)\n")
    page.write_text(page.read_text() + '\n<a href="notation.html#gone">gone</a>\n')
    done = build(copy, tmp_path / "second")
    assert done.returncode == 0, done.stderr
    pages = tmp_path / "second" / "_build" / "html"
    assert ("how-to.html", "https://example.org/far.png") in outside(pages)
    assert ("how-to.html", "notation.html#gone") in list(broken(pages))


PROGRAM = """
import torch
from kernels.attention import launch_backward, launch_forward
query, key, value, grad = torch.load("inputs.pt")
output, log_sum_exp = launch_forward(query, key, value, True, 70, 4, 0.2)
zero = torch.zeros_like(log_sum_exp)
gradients = launch_backward(grad, zero, query, key, value, output, log_sum_exp, True, 70, 4, 0.2)
torch.save([output, *gradients], "outputs.pt")
"""
SPOILED = {
    "none": ("forward.py", "maximum = larger", "maximum = larger"),
    "mask": ("forward.py", "seen = (distance >= 0) if CAUSAL", "seen = (distance >= -1) if CAUSAL"),
    "window": ("forward.py", "(distance < window)", "(distance <= window)"),
    "scale": ("forward.py", "input_precision=PRECISION) * score_scale", "input_precision=PRECISION) * 1.01"),
    "rescale": ("forward.py", "total = total * rescale + tl.sum(weight, 1)", "total = total + tl.sum(weight, 1)"),
    "delta": ("backward.py", "(grad_weight - delta[None, :])", "grad_weight"),
}


@pytest.mark.skipif(runtime.mode != "interpreter", reason="the spoiled kernels are interpreted")
@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_kernel_leaves_its_budget(what, copy):
    name, old, new = SPOILED[what]
    spoil(copy / "kernels" / "attention" / name, old, new)
    tensors = list(torch.randn(4, 1, 2, 129, 32, generator=torch.Generator().manual_seed(0)))
    torch.save(tensors, copy / "inputs.pt")
    environment = os.environ | {"PYTHONPATH": str(copy), "TRITON_INTERPRET": "1"}
    done = finished([sys.executable, "-c", PROGRAM], cwd=copy, env=environment)
    assert done.returncode == 0, done.stderr
    exact = [tensor.double().requires_grad_() for tensor in tensors[:3]]
    truth = oracle(*exact, window=70, sinks=4, scale=0.2).output
    truths = [truth, *torch.autograd.grad(truth, exact, tensors[3].double())]
    found = torch.load(copy / "outputs.pt")
    error = max((a.double() - b).abs().max().item() for a, b in zip(found, truths, strict=True))
    assert (error < 1e-5) == (what == "none"), error


def test_an_arrow_the_wrong_way_is_refused(copy):
    spoil(copy / "kernels" / "trace.py", "import numpy as np", "import numpy as np\n\nimport effattn_core.costs")
    tool = os.path.join(os.path.dirname(sys.executable), "lint-imports")
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = finished([tool, "--no-cache"], cwd=copy, env=environment)
    assert done.returncode != 0 and re.search("BROKEN|broken", done.stdout + done.stderr)


def new(copy, topic, part, **settings):
    command = [sys.executable, ".ci/new.py", topic, part]
    command += [each for name, value in settings.items() for each in (f"--{name}", value)]
    return finished(command, cwd=copy)


def test_new_rooms_keep_the_house_s_rules_and_say_what_is_left_to_write(copy):
    done = new(copy, "lantern", "4-sparse", **{"with": "kernel run"})
    assert done.returncode == 0, done.stderr
    made = done.stdout.splitlines()
    for name in ("effattn_core/lantern/forms.py", "kernels/lantern/operators.py", "book/4-sparse/lantern.md"):
        assert name in made
    assert "book/measurements/lantern/run.py" in made and "book/measurements/lantern/bench.py" not in made
    contents = (copy / "book" / "_toc.yml").read_text()
    assert contents.index("4-sparse/channels") < contents.index("4-sparse/lantern") < contents.index("The whole")
    environment, tools = os.environ | {"PYTHONPATH": str(copy)}, os.path.dirname(sys.executable)
    for command in ("ruff check .", "ruff format --check .", "lint-imports --no-cache"):
        held = finished([f"{tools}/{command.split()[0]}", *command.split()[1:]], cwd=copy, env=environment)
        assert held.returncode == 0, held.stdout + held.stderr
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-k", "lantern"]
    kept = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    ran = finished([*suite, "tests/lantern", "tests/shared/test_topics.py"], cwd=copy, env=kept)
    assert ran.returncode == 1
    for sentence in (
        "has no executed pair: run make notebooks CHAPTER=lantern",
        "TO WRITE: the oracle, the shortest correct form.",
        "TO WRITE: the sentence of this mistake",
        "effattn_core/lantern/claims.py:6",
        "book/measurements/lantern/run.py:",
        "TO WRITE: kernels.trace's count of a launch",
    ):
        assert sentence in ran.stdout, sentence
    assert " passed" in ran.stdout and "error" not in ran.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("topic", "part", "settings", "said"),
    [
        ("retention", "2-retention", {}, "effattn_core/retention is there already: a topic needs a name of its own"),
        ("model", "2-retention", {}, "effattn_core/model.py is there already"),
        ("Lantern", "4-sparse", {}, "TOPIC must be a name in small letters, such as focus; it is 'Lantern'"),
        ("lantern", "sparse", {}, "PART must be a folder of the book, such as 4-sparse; it is 'sparse'"),
        ("lantern", "7-lanterns", {}, 'the book has no part 7-lanterns, only 0-before, .*: name its CAPTION="…"'),
        ("lantern", "4-sparse", {"with": "shell"}, "WITH may hold kernel, run, bench; it holds shell"),
    ],
)
def test_rooms_that_cannot_be_made_are_refused_in_a_sentence(topic, part, settings, said, copy):
    before = sorted(copy.rglob("*"))
    done = new(copy, topic, part, **settings)
    assert done.returncode == 1 and re.search(said, done.stderr), done.stderr
    assert sorted(copy.rglob("*")) == before


def test_a_new_part_stands_before_the_later_ones(copy):
    done = new(copy, "lantern", "7-lanterns", caption="Lanterns")
    assert done.returncode == 0, done.stderr
    contents = (copy / "book" / "_toc.yml").read_text()
    places = [contents.index(each) for each in ("4-sparse/channels", "caption: Lanterns", "7-lanterns", "The whole")]
    assert places == sorted(places)
