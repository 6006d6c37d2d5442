"""Which boxes the chapters' pages get, what is in them, and that they are judged as JupyterLab judges."""

import json
import re

import lab
import lab_numbers
import lab_shown
import pytest
from lab_equality import shown, solutions
from lab_found import TRY

from effattn_core import exercises
from effattn_core.exercises import EXERCISES, grade

pytestmark = pytest.mark.xdist_group("browser")  # with the visits of the same small book
exercises.register_all()
KERNELS = sorted(name for name, each in EXERCISES.items() if each.level == "kernel")
PENCIL = sorted(name for name, each in EXERCISES.items() if each.level == "pencil")
UNLIKE = {"recurrences.delta_system"}  # three numbers that explain each other: no comparison of single ones
RACES, STRAYS = lab_shown.FAULTY


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


def test_every_exercise_and_every_shown_kernel_has_its_box_and_other_pages_nothing(small_book, boxes):
    kinds = {kind: sorted(name for name, (data, _) in boxes.items() if data["kind"] == kind) for kind in lab.TEXT}
    assert kinds["kernel"] == KERNELS and len(KERNELS) == 25
    assert kinds["number"] == sorted({*PENCIL} - UNLIKE)
    assert kinds["shown"] == sorted(TRY + name for name in shown()) and {*shown()} == {*lab_shown.LAUNCHES}
    pages = small_book[1]
    assert all(part in pages["attention"] for part in ("_static/lab.js", "_static/lab-number.js", "_static/lab.css"))
    assert "_static/lab-number.js" in pages["machine"] and "_static/lab.js" not in pages["machine"]
    assert "_static/lab" not in pages["index"]
    icons = [re.search(r'<link rel="icon" href="data:image/svg\+xml,[^"]+"', page) for page in pages.values()]
    assert all(icons)  # a browser asks the server for none, which it has not


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_exercise_begins_with_its_stub_and_has_its_hint_and_its_answer(boxes, name):
    box, html = boxes[name]
    assert box["stub"].endswith(":\n    raise NotImplementedError\n") and f"def {box['function']}(" in box["stub"]
    assert lines(box["answer"]) == lines(solutions()[name].text)[4:]  # without the imports
    assert not re.search(r"grade|^import|^from", box["answer"] + box["stub"], re.MULTILINE)
    assert len(box["hint"]) > 25 and "Hint" not in box["hint"] and box["title"] and box["label"].startswith("exercise-")
    assert box["cases"] == f"vendor/lab-cases/{name}.json" and "lab-try" not in html


@pytest.mark.parametrize("name", sorted(shown()))
def test_a_shown_kernel_begins_as_it_is_shown_folded_and_without_hint_or_answer(boxes, name):
    box, html = boxes[TRY + name]
    assert lines(box["stub"]) == lines(shown()[name].text)[4:] and box["function"] == name.partition(".")[2]
    assert html.startswith('<details class="lab-try">') and not {"hint", "answer", "label"} & {*box}


def asked(call, box, source, cases):
    return json.loads(call(json.dumps({"source": source, "function": box["function"], "cases": cases})))


def stored(small_book, box):
    """The cases of a box, as its page fetches them."""
    path = small_book[0] / "_build" / "html" / "_static" / box["cases"]
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", KERNELS)
def test_by_the_stored_cases_a_stub_fails_and_an_answer_passes(worker, small_book, boxes, name):
    box, _ = boxes[name]
    cases = stored(small_book, box)
    unsolved = asked(worker.check, box, box["stub"], cases)
    assert not unsolved["passed"] and unsolved["reason"] == "It is not written yet."
    found = asked(worker.check, box, box["answer"], cases)
    assert found["passed"] and found["cases"] == len(cases), found["reason"]


@pytest.mark.parametrize("name", sorted(shown()))
def test_a_shown_kernel_gives_what_it_gives_and_a_changed_one_something_else(worker, small_book, boxes, name):
    box, _ = boxes[TRY + name]
    cases = stored(small_book, box)
    assert len(cases) == len(lab_shown.LAUNCHES[name])
    found = asked(worker.check, box, box["stub"], cases)
    if name == STRAYS:
        assert "reads outside source_pointer (4 lanes over all programs)" in found["reason"]
        loads = "tl.load(source_pointer + places)"
        mended = box["stub"].replace(loads, "tl.load(source_pointer + places, mask=places < size)")
        assert asked(worker.check, box, mended, cases)["passed"]
    elif name == RACES:
        assert "meet at total_pointer[0]" in found["reason"]
        mended = box["stub"].replace(
            "tl.store(total_pointer, tl.load(total_pointer) + mine)", "tl.atomic_add(total_pointer, mine)"
        )
        assert asked(worker.check, box, mended, cases)["passed"]
    else:
        assert found["passed"], found["reason"]
    head = box["stub"][: box["stub"].index("):\n") + 3]
    found = asked(worker.check, box, f"{head}    pass\n", cases)  # it stores nothing
    assert not found["passed"] and lab_shown.AS_SHOWN in found["reason"]


def test_case_files_follow_the_boxes(tmp_path, boxes):
    few = [boxes[name][0] for name in ("primer.scale_add", "primer.loaded_bytes", f"{TRY}primer.triple_kernel")]
    (tmp_path / "gone.json").write_text("[]", encoding="utf-8")
    judged = lab.write_cases(tmp_path, few)
    assert {name: parts is None for name, parts in judged.items()} == {
        "primer.scale_add": True, "primer.loaded_bytes": False, f"{TRY}primer.triple_kernel": True,
    }  # fmt: skip
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(path.stem for path in written) == ["primer.scale_add", f"{TRY}primer.triple_kernel"]
    lab.write_cases(tmp_path, few)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_what_cannot_be_judged_gets_no_box(tmp_path, boxes):
    code, unknown = (
        boxes["primer.scale_add"][0] | {"name": name} for name in ("attention.merge_two", "primer.nothing")
    )
    kernel = boxes[f"{TRY}primer.triple_kernel"][0] | {"name": f"{TRY}primer.another"}
    number = boxes["primer.loaded_bytes"][0] | {"name": "recurrences.delta_system"}
    assert lab.write_cases(tmp_path, [code, unknown, kernel, number]) == {} and list(tmp_path.iterdir()) == []


def test_what_a_number_is_compared_with_is_what_the_check_compares_with():
    found = lab_numbers.stored("primer.first_overflow")
    assert [(part["before"], part["wanted"], part["within"]) for part in found] == [("", 46341.0, 1e-6)]
    assert [number for number, _ in found[0]["mistakes"]] == [65536, 65537, 2**31, 23170, 46340]
    assert [part["before"] for part in lab_numbers.stored("latents.bits")] == ["Latents: ", "Codes: "]
    assert lab_numbers.stored("recurrences.delta_system") is None and lab_numbers.stored("latents.few") is not None


@pytest.mark.parametrize("name", sorted({*PENCIL} - UNLIKE))
def test_the_right_number_of_a_box_passes_and_each_mistake_is_named(boxes, name):
    parts = boxes[name][0]["parts"]
    right = [part["wanted"] for part in parts]

    def given(place, number):
        answer = [*right[:place], number, *right[place + 1 :]]
        return tuple(answer) if len(answer) > 1 else answer[0]

    assert grade(name, given(0, right[0])).passed
    for place, part in enumerate(parts):
        for number, sentence in part["mistakes"]:
            assert grade(name, given(place, number)).reason.startswith(part["before"]) and sentence
