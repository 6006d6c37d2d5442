"""A small book of all that could have a box: the exercises of the chapters and the kernels that they show."""

import contextlib
import json
import re
import shutil
import sys
import threading

import lab_serve
import nbformat
from lab_found import kernels_of
from support.house import ROOT, notebooks
from support.processes import finished

BOX = re.compile(r'<details class="lab-try">.*?</details>|<div [^>]*class="lab(?:-field)?".*?</div>', re.DOTALL)
DATA = re.compile(r'<script type="application/json">(.*?)</script>', re.DOTALL)
KEPT = re.compile(r"^(`{3,})\{(?:exercise|solution|dropdown)\}.*?^\1$|^## .*?$", re.DOTALL | re.MULTILINE)
ROLE = re.compile(r"\{[\w:-]+\}(`[^`]*`)|^```\{excerpt\}.*?^```$", re.DOTALL | re.MULTILINE)  # of what is not there
# Of the real book's extensions those that make exercises, cells and boxes: the others take as long as all of these.
SETTINGS = """
import sys
sys.path.insert(0, "book/_ext")
import book_pages
extensions = ["myst_nb", "sphinx_exercise", "sphinx_design", "predictions", "exercise_pages", "lab"]
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
nb_execution_mode, root_doc, html_theme, numfig = "off", "index", "basic", True
html_static_path = ["book/_static"]
def setup(app):
    app.connect("doctree-read", book_pages.box_untitled_sections, priority=100)
    app.connect("html-page-context", book_pages.give_icon)
"""


def built(folder):
    """{page: its HTML} of the small book in `folder`: a page for each chapter, and an index without boxes."""
    book = folder / "book"
    for name in ("_ext", "_static", "_page"):
        shutil.copytree(ROOT / "book" / name, book / name, ignore=shutil.ignore_patterns("__pycache__", "lab-cases"))
    for name in ("kernels", "effattn_core", "figures", "_config.yml", "CITATION.cff", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    files = ""
    for path in notebooks():
        notebook = nbformat.read(path, 4)
        cells = list(filter(None, map(_kept, notebook.cells)))
        if any(cell.cell_type == "code" for cell in cells):
            notebook.cells = [nbformat.v4.new_markdown_cell("# Chapter"), *cells]
            nbformat.write(notebook, book / path.name)
            files += f"{path.stem}\n"
    (book / "index.md").write_text(f"# A book\n\n```{{toctree}}\n{files}```\n", encoding="utf-8")
    (folder / "conf.py").write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", ".", "book", "_build/html"]
    done = finished(command, cwd=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {path.stem: path.read_text(encoding="utf-8") for path in (folder / "_build" / "html").glob("*.html")}


def _kept(cell):
    """A cell of a chapter as the small book has it, None for one that no box has to do with."""
    if cell.cell_type == "code":
        wanted = "grade(" in cell.source or kernels_of(cell.source)[1]
        return nbformat.from_dict(cell | {"outputs": []}) if wanted else None
    pieces = [ROLE.sub(lambda role: role[1] or "", each[0]) for each in KEPT.finditer(cell.source)]
    return nbformat.from_dict(cell | {"source": "\n\n".join(pieces)}) if pieces else None


def boxes_of(html):
    """[(what its script reads, its HTML)] of the boxes of a page."""
    return [(json.loads(DATA.search(each[0])[1]), each[0]) for each in BOX.finditer(html)]


# ---- a page of such boxes, served, in a browser ----------------------------------------------------------------------

PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Lab</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="explore.css"><link rel="stylesheet" href="lab.css">
<script src="lab-picture.js" defer></script><script src="lab.js" defer></script>
<script src="lab-number.js" defer></script>
<style>*, *::before {{ box-sizing: border-box }} body {{ margin: 1rem; font-family: sans-serif;
background: var(--explorable-paper); color: var(--explorable-ink) }}</style></head>
<body><main><h1>Lab</h1>{}</main></body></html>"""


def write_page(folder, boxes, name="index"):
    """A page of boxes in `folder`, where their scripts lie: each in a part with what stands beside it in a chapter."""
    parts = []
    for data, html in boxes:
        done = f'<label><input type="checkbox" data-done="{data["label"]}"> done</label>' if "label" in data else ""
        hint = "<details><summary>Hint</summary><p>A hint.</p></details>" if data.get("hint") else ""
        parts.append(f'<div id="{data["name"]}">{done}<div class="cell">The cell above.</div>{html}{hint}</div>')
    (folder / f"{name}.html").write_text(PAGE.format("".join(parts)), encoding="utf-8")


@contextlib.contextmanager
def served(folder):
    """The address of the files in `folder`, as `make serve` serves them, while the context lasts."""
    with lab_serve.server(folder, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://localhost:{running.server_port}/"
        running.shutdown()


def visited(context, address, wrong):
    """A page of a browser's context; what it complains of, and what it asks of another site, is added to `wrong`.

    page.fetched: the addresses that it asked for.
    """
    site = "/".join(address.split("/")[:3])
    page = context.new_page()
    page.fetched = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: page.fetched.append(request.url))
    context.route(lambda url: not url.startswith(site), lambda route: wrong.append(route.request.url))
    page.goto(address)
    return page


def box(page, name):
    """The box of an exercise or of a shown kernel."""
    return page.locator(f'[id="{name}"] :is(.lab, .lab-field)')


def focus_editor(place):
    """Bring an editor into sight and focus it."""
    place.scroll_into_view_if_needed()
    place.locator(".cm-content").focus()


def write(page, place, text):
    """Put `text` into an editor, as a reader who pastes it."""
    focus_editor(place)
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(text)


def press(page, place, button, until, timeout=60000):
    """Press a button by the keyboard, and wait for its words, which are returned."""
    place.get_by_role("button", name=button).focus()
    page.keyboard.press("Enter")
    says = place.locator(".lab-says")
    page.wait_for_function("([e, u]) => e.textContent.includes(u)", arg=[says.element_handle(), until], timeout=timeout)
    return says.inner_text()
