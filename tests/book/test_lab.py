"""What the editors on the pages run and are served with: they judge as the library does, and name what it names."""

import json
import shutil

import lab_cases
import lab_serve
import lab_vendor
import pytest
import torch
from primer.test_checks import KERNELS, MISTAKES, solution
from support.house import ROOT

from effattn_core.judging import Case
from effattn_core.judging.watch import FAR

STATIC = ROOT / "book" / "_static"
SENTENCES = {each[1] for each in MISTAKES}


@pytest.fixture(scope="module")
def cases():
    return {name: lab_cases.cases(f"primer.{name}") for name in KERNELS}


def asked(call, name, source, cases):
    return json.loads(call(json.dumps({"source": source, "function": name, "cases": cases[name]})))


@pytest.mark.parametrize("name", KERNELS)
def test_the_chapter_s_solution_passes_and_the_unsolved_stub_does_not(worker, cases, name):
    found = asked(worker.check, name, solution(name), cases)
    assert found["passed"] and found["cases"] == len(cases[name]), found["reason"]
    unsolved = asked(worker.check, name, f"def {name}(*given):\n    raise NotImplementedError\n", cases)
    assert not unsolved["passed"] and unsolved["reason"] == "It is not written yet."


@pytest.mark.parametrize(("name", "sentence", "changes"), [(each[0], each[1], each[2:]) for each in MISTAKES])
def test_the_page_names_each_typical_mistake_as_the_library_does(worker, cases, name, sentence, changes):
    text = solution(name)
    for right, wrong in changes:
        assert right in text
        text = text.replace(right, wrong)
    found = asked(worker.check, name, text, cases)
    assert not found["passed"] and sentence in found["reason"], found["reason"]


def test_what_a_launch_did_is_told_program_by_program(worker, cases):
    found = asked(worker.run, "scale_add", solution("scale_add"), {"scale_add": cases["scale_add"][2:3]})
    (launch,) = found["launches"]
    assert found["what"] == "100 elements in blocks of 64" and launch["grid"] == [2, 1, 1]
    assert (launch["loaded"], launch["stored"]) == (2 * 4 * 100, 4 * 100)
    left = launch["tensors"]["left_pointer"]
    assert left["shape"] == [100] and left["load"] == {"0": list(range(64)), "1": list(range(64, 100))}
    assert launch["tensors"]["target_pointer"]["store"]["1"] == list(range(64, 100))
    assert found["results"][0]["shape"] == [100] and len(found["results"][0]["first"]) == 8


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def scale_add(left:\n", "Line 1: "),
        ("def scale_add(*given):\n    return 1 / 0\n", "Line 2: ZeroDivisionError: division by zero"),
        ("def another(*given):\n    return 1\n", "There is no function scale_add in the editor"),
        ("import numpy\n", "`import numpy` is not in this editor"),
        ("def scale_add(*given):\n    return torch.einsum\n", "torch.einsum is not in this editor"),
        ("def scale_add(left, right, factor, block):\n    return left\n", "No Triton kernel was launched"),
    ],
)
def test_what_cannot_run_is_said_in_a_sentence_with_its_line(worker, cases, source, said):
    found = asked(worker.run, "scale_add", source, cases)
    assert not found["passed"] and said in found["reason"], found["reason"]


def test_of_what_is_printed_without_end_the_first_letters_are_kept(worker, cases):
    source = "print('x' * 20_000)\nprint('y')\ndef scale_add(*given):\n    raise NotImplementedError\n"
    assert asked(worker.run, "scale_add", source, cases)["printed"] == "x" * worker.LONGEST


def test_a_view_stays_a_view_and_far_rows_stay_far(worker, cases):
    strided = cases["scale_add"][-1]["arguments"][0]
    assert strided["strides"] == [2] and worker.given(strided).strides == (2,)
    far = cases["rms_norm"][-1]
    source = worker.given(far["arguments"][0])
    assert far["far"] and source.strides == (FAR // 2, 1) and len(source.storage.values) == 3 * 40
    assert worker.values_of(source).flat[:2] == source[0].tolist()[:2]


@pytest.mark.parametrize("dtype", "bool int8 uint8 int16 int32 int64 float16 bfloat16 float32 float64".split())
def test_a_stored_tensor_of_each_type_is_read_as_it_was(worker, dtype):
    source = (torch.arange(12) / 3).to(getattr(torch, dtype)).view(3, 4)[:, ::2]
    given = worker.given(json.loads(json.dumps(lab_cases.stored(Case("", (source,), source))))["arguments"][0])
    assert (given.dtype.name, given.strides, given.tolist()) == (dtype, source.stride(), source.tolist())


def test_without_npm_or_where_it_fails_nothing_is_left_and_the_reason_is_a_sentence(tmp_path, monkeypatch):
    vendor = tmp_path / "vendor" / "lab"
    monkeypatch.setattr(lab_vendor.shutil, "which", lambda name: None)
    assert lab_vendor.prepare(vendor) == "node is not installed" and not vendor.exists()
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'npm error network' >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setattr(lab_vendor.shutil, "which", lambda name: str(tmp_path / "npm"))
    assert lab_vendor.prepare(vendor) == "npm failed: npm error network"
    assert list(tmp_path.glob("vendor/*")) == []


def test_each_package_is_locked_in_one_version_with_its_digest():
    wanted = json.loads((lab_vendor.WANTED / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((lab_vendor.WANTED / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert locked[""]["dependencies"] == wanted and all(each[0].isdigit() for each in wanted.values())
    assert all(each.get("integrity", "").startswith("sha512-") for name, each in locked.items() if name)


def test_the_python_of_the_page_is_the_same_zip_for_the_same_text(tmp_path):
    shutil.copytree(lab_vendor.PAGE, tmp_path / "_page")
    assert lab_vendor.packed(tmp_path / "_page") == lab_vendor.packed(lab_vendor.PAGE)


def test_served_pages_have_the_types_that_browsers_want_and_a_taken_port_is_a_sentence(tmp_path):
    (tmp_path / "index.html").write_text("a page", encoding="utf-8")
    with lab_serve.server(tmp_path, 0) as running:
        assert running.server_address[0] == "127.0.0.1"  # no other machine is served
        assert lab_serve.Handler.extensions_map[".wasm"] == "application/wasm"
        assert lab_serve.Handler.extensions_map[".mjs"] == "text/javascript"
        with pytest.raises(SystemExit, match="make serve PORT="):
            lab_serve.main(tmp_path, running.server_port)
    with pytest.raises(SystemExit, match="make book"):
        lab_serve.main(tmp_path / "nowhere")
