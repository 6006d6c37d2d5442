"""The editors on the pages: they judge as the library does; in a browser, with the network cut, they run and stop."""

import importlib
import json
import re
import shutil
import sys
import threading

import lab
import lab_cases
import lab_serve
import lab_vendor
import nbformat
import pytest
from primer.test_checks import KERNELS, MISTAKES, solution
from support.house import ROOT, build

from effattn_core.judging.watch import FAR

STATIC = ROOT / "book" / "_static"
SENTENCES = {each[1] for each in MISTAKES}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """lab_worker.py as Pyodide imports it: from the packed zip, with the standard library alone."""
    archive = tmp_path_factory.mktemp("packed") / "page.zip"
    archive.write_bytes(lab_vendor.packed(lab_vendor.PAGE))
    sys.path.insert(0, str(archive))
    try:
        yield importlib.import_module("lab_worker")
    finally:
        sys.path.remove(str(archive))


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
        ("import numpy\n", "`import numpy` is not on the page"),
        ("def scale_add(*given):\n    return torch.einsum\n", "torch.einsum is not on the page"),
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


def test_each_kernel_exercise_of_a_chapter_gets_its_box_and_other_pages_nothing(tmp_path):
    """A small book of the primer's last exercises, with the real book's extensions."""
    book = tmp_path / "book"
    for name in ("_ext", "_static", "_page"):
        shutil.copytree(ROOT / "book" / name, book / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("kernels", "effattn_core", "figures"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("_config.yml", "CITATION.cff", "pyproject.toml", "book/references.bib"):
        shutil.copy(ROOT / name, tmp_path / name)
    notebook = nbformat.read(ROOT / "book" / "0-before" / "primer.ipynb", 4)
    texts = [each.source for each in notebook.cells]
    first = next(at for at, text in enumerate(texts) if text.startswith("The last four ask"))
    last = next(at for at, text in enumerate(texts) if at > first and re.search("^## ", text, re.MULTILINE))
    notebook.cells = [nbformat.v4.new_markdown_cell("# Chapter"), *notebook.cells[first:last]]
    nbformat.write(notebook, book / "chapter.ipynb")
    (book / "index.md").write_text("# A book\n\nIt has one chapter.\n", encoding="utf-8")
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n  - file: chapter\n", encoding="utf-8")
    done = build(tmp_path, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    html = (tmp_path / "_build" / "html" / "chapter.html").read_text(encoding="utf-8")
    boxes = [json.loads(each) for each in re.findall(r'<script type="application/json">(\{"name".*?)</script>', html)]
    assert [box["function"] for box in boxes] == list(KERNELS)
    for box in boxes:
        assert box["stub"].endswith(":\n    raise NotImplementedError\n") and "grade" not in box["answer"]
        asked = [line for line in solution(box["function"]).splitlines() if line.strip()]
        assert [line for line in box["answer"].splitlines() if line.strip()] == asked[2:]  # without the imports
        assert len(box["hint"]) > 40 and box["done"] == "exercise-" + box["function"].replace("_", "-")
        assert (tmp_path / "_build" / "html" / "_static" / box["cases"]).exists()
    assert "_static/lab.js" in html and "_static/lab.css" in html
    assert "_static/lab" not in (tmp_path / "_build" / "html" / "index.html").read_text(encoding="utf-8")


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


def box_of(name, missing=False):
    """The HTML of one box, as a chapter's page has it."""
    stub = f"def {name}(*given):\n    raise NotImplementedError\n"
    box = {"name": f"primer.{name}", "function": name, "label": f"exercise-{name}", "title": name, "stub": stub}
    return lab.markup(box | {"answer": solution(name), "hint": "Steps 1 and 2."}, missing)


PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Lab</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="explore.css"><link rel="stylesheet" href="lab.css">
<script src="lab-picture.js" defer></script><script src="lab.js" defer></script>
<style>*, *::before {{ box-sizing: border-box }} body {{ margin: 1rem; font-family: sans-serif;
background: var(--explorable-paper); color: var(--explorable-ink) }}</style></head>
<body><main><h1>Lab</h1><label><input type="checkbox" data-done="exercise-scale_add"> done</label>{}
</main></body></html>"""


def lay_out(folder, html):
    for path in [*STATIC.glob("lab*"), STATIC / "explore.css"]:
        shutil.copy(path, folder)
    (folder / "index.html").write_text(PAGE.format(html), encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a served page with two boxes and all that they need."""
    folder = tmp_path_factory.mktemp("lab")
    reason = lab_vendor.prepare()
    if reason:
        pytest.skip(f"kernels do not run on the pages here: {reason}")
    lay_out(folder, box_of("scale_add") + box_of("row_attention"))
    shutil.copytree(lab_vendor.VENDOR, folder / "vendor" / "lab")
    lab.write_cases(folder / "vendor" / "lab-cases", ["primer.scale_add", "primer.row_attention"])
    with lab_serve.server(folder, 0) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{running.server_port}/index.html"
        running.shutdown()


@pytest.fixture
def visit(browser, site):
    """visit() opens the served page; what it complains of, and what it asks of another site, must be nothing."""
    contexts, wrong = [], []

    def go(after="", context=None, **settings):
        context = context or browser.new_context(**{"viewport": {"width": 1000, "height": 900}} | settings)
        contexts.append(context)
        page = context.new_page()
        page.fetched = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: page.fetched.append(request.url))
        context.route(
            lambda url: not url.startswith(site.rpartition("/")[0]), lambda route: wrong.append(route.request.url)
        )
        page.goto(site + after)
        page.wait_for_selector(".lab .cm-editor")
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def write(page, box, text):
    box.locator(".cm-content").focus()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def press(page, box, button, until, timeout=60000):
    """Press a button by the keyboard, and wait for its words."""
    box.get_by_role("button", name=button).focus()
    page.keyboard.press("Enter")
    says = box.locator(".lab-says")
    page.wait_for_function("([e, u]) => e.textContent.includes(u)", arg=[says.element_handle(), until], timeout=timeout)
    return says.inner_text()


ENDLESS = "def scale_add(left, right, factor, block):\n    while True:\n        pass\n"


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
class TestInTheBrowser:
    def test_nothing_is_fetched_before_the_first_run_and_then_a_stub_fails_and_an_answer_passes(self, visit):
        page = visit()
        assert not [url for url in page.fetched if "pyodide" in url or "lab-worker" in url or "cases" in url]
        box = page.locator(".lab").first
        assert "It is not written yet." in press(page, box, "Check", "Not yet.")
        assert len([url for url in page.fetched if url.endswith("pyodide.asm.wasm")]) == 1
        write(page, box, solution("scale_add"))
        assert "100 elements" not in press(page, box, "Run", "Right for the first case")
        assert not page.get_by_role("checkbox").is_checked()
        press(page, box, "Check", "Right for all 7 cases. Passed.")
        assert page.get_by_role("checkbox").is_checked()
        assert box.locator("canvas").count() == 3 and "bytes loaded" in box.locator("figcaption").inner_text()
        slider = box.get_by_role("slider")
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert box.locator("output").inner_text() == "(1, 0, 0)"
        assert len([url for url in page.fetched if url.endswith("pyodide.asm.wasm")]) == 1

    def test_a_stray_lane_and_a_race_are_named(self, visit):
        page = visit()
        box, right = page.locator(".lab").first, solution("scale_add")
        write(page, box, right.replace("sums, mask=inside)", "sums)"))
        assert "writes outside target_pointer" in press(page, box, "Check", "Not yet.")
        assert "writes outside target_pointer" in box.locator(".lab-picture pre").first.inner_text()
        twice = right.replace("triton.cdiv(left.numel(), block)", "triton.cdiv(2 * left.numel(), block)")
        write(page, box, twice.replace("program * BLOCK + ", "program // 2 * BLOCK + "))
        box.get_by_role("button", name="Reset").focus()
        assert "meet at target_pointer" in press(page, box, "Check", "meet at")

    def test_a_loop_without_end_is_stopped_and_the_next_run_works(self, visit):
        page = visit()
        first, second = page.locator(".lab").all()
        write(page, first, ENDLESS)
        press(page, first, "Run", "Running.")
        page.wait_for_timeout(500)
        assert second.get_by_role("button", name="Run").is_disabled()
        press(page, first, "Stop", "Stopped.")
        assert first.get_by_role("button", name="Run").evaluate("e => e === document.activeElement")
        assert "not written yet" in press(page, second, "Run", "Not yet.")

    def test_what_is_written_is_kept_until_reset_and_nothing_of_an_address_is_run(self, visit):
        page = visit("?code=print(1)#scale_add=print(1)")
        box = page.locator(".lab").first
        assert "print" not in box.locator(".cm-content").inner_text()
        write(page, box, "# mine\n")
        again = visit(context=page.context)
        box = again.locator(".lab").first
        assert "# mine" in box.locator(".cm-content").inner_text()
        press(again, box, "Reset", "first text")
        assert "NotImplementedError" in box.locator(".cm-content").inner_text()
        assert again.evaluate("localStorage.length") == 0
        assert not [url for url in page.fetched + again.fetched if "lab-worker" in url]

    def test_tab_leaves_the_editor_and_hint_and_answer_open_below(self, visit):
        page = visit()
        box = page.locator(".lab").first
        box.locator(".cm-content").focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Run"
        assert not box.locator(".lab-hint").is_visible() and not box.locator(".lab-answer").is_visible()
        press(page, box, "Hint", "")
        press(page, box, "Answer", "")
        assert box.locator(".lab-hint").is_visible() and "scale_add_kernel" in box.locator(".lab-answer").inner_text()
        assert box.get_by_role("button", name="Answer").get_attribute("aria-expanded") == "true"

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_it_fits_a_phone_and_axe_finds_nothing_serious(self, visit, theme):
        from axe_playwright_python.sync_playwright import Axe

        page = visit(viewport={"width": 390, "height": 844})
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        box = page.locator(".lab").first
        write(page, box, solution("scale_add"))
        press(page, box, "Answer", "")
        press(page, box, "Check", "Passed.")
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        found = Axe().run(page, options=dict(resultTypes=["violations"])).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:120]) for each in found] == []

    @pytest.mark.parametrize("missing", [False, True])
    def test_from_a_file_or_without_node_a_sentence_says_how_to_serve_it(self, browser, tmp_path, missing):
        lay_out(tmp_path, box_of("scale_add", missing))
        context = browser.new_context(offline=True)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(message.text))
        page.goto((tmp_path / "index.html").as_uri())
        said = page.locator(".lab-serve").inner_text()
        assert "make serve" in said and ("without node" in said) == missing
        assert page.locator(".lab button").count() == 0 and wrong == []
        context.close()
