"""Boxes on the pages in which a reader answers and is judged: kernels in an editor, numbers in a field.

How it hangs together, from the chapter to the reader's browser:

- A chapter needs no word about it. `lab_found.py` reads a page: a kernel exercise gets an editor below the first cell
  that grades it, with Run, Check, Stop, Reset, Hint and Answer; a pencil exercise a field for its numbers; and a kernel
  that the chapter shows an editor below its cell, folded, that begins with the kernel as shown.
- Placed is what can be judged: exercises that have cases (`effattn_core.judging`), numbers that are compared
  (`lab_numbers.py`), shown kernels that have launches (`lab_shown.py`).
- `lab_cases.py` makes JSON of the same hidden cases that JupyterLab judges by: one file per kernel, in
  _static/vendor/lab-cases. What a number is compared with stands in its page: no server is asked, nor Python.
- `lab_vendor.py` puts Pyodide's core, a bundle of CodeMirror and the book's Triton of the page (book/_page, with
  lab/lab_worker.py, which judges) into _static/vendor/lab: from npm, in locked versions, once. Without node or a
  network it puts nothing there, and the editors say so in a sentence; the book builds all the same, without a warning.
- `lab.js` makes the editor: a text area, CodeMirror once it comes near the screen; what is folded is made when it is
  opened. `lab-worker.js` starts at the first Run and fetches 13 MB from this site, with progress; `lab-picture.js`
  draws what each program loaded and stored. `lab-number.js` makes the fields, and judges them.
- Only the text of an editor is run, by a button; it is kept in localStorage under its box's name. Nothing of an address
  is read, and nothing is asked of another site. The worker has its own thread: Stop terminates it.
- Opened as a file an editor says how to serve the pages: `make serve` (lab_serve.py). Fields work there too.
"""

import html
import json
from pathlib import Path

import lab_vendor
from docutils import nodes
from lab_found import TRY, found
from sphinx.util import logging

CASES = Path(lab_vendor.VENDOR).with_name("lab-cases")
TEXT = {
    "kernel": ("Write it here: ", "With JavaScript this exercise can be written and checked here."),
    "shown": ("Change it here: ", "With JavaScript this kernel can be changed and run here."),
    "number": ("Answer here: ", "With JavaScript this exercise can be answered here."),
}
FOLD = '<details class="lab-try"><summary>Change this kernel and run it here</summary>{}</details>'


def setup(app):
    app.connect("doctree-read", note)
    app.connect("env-purge-doc", lambda app, env, docname: _pages(env).pop(docname, None))
    app.connect("env-merge-info", lambda app, env, docnames, other: _pages(env).update(_pages(other)))
    app.connect("env-updated", prepare)
    app.connect("doctree-resolved", place)
    app.connect("html-page-context", complete_page, priority=590)  # before book_pages copies the list of scripts
    return {"parallel_read_safe": True}


def _pages(env):
    """docname -> the boxes that the page could have."""
    if not hasattr(env, "book_labs"):
        env.book_labs = {}
    return env.book_labs


def _page(docname):
    return docname.rpartition("/")[2]


def note(app, doctree):
    boxes = [box for box, _ in found(doctree, _page(app.env.docname))]
    if boxes:
        _pages(app.env)[app.env.docname] = boxes


def prepare(app, env):
    """Store the cases of all boxes; where a page has an editor, fetch and bundle what that needs."""
    boxes = [box for page in _pages(env).values() for box in page]
    if not boxes:
        return
    app.lab_judged = write_cases(CASES, boxes)
    app.lab_missing = None
    if any(each is None for each in app.lab_judged.values()):
        app.lab_missing = lab_vendor.prepare()
    if app.lab_missing:
        logging.getLogger(__name__).info(f"kernels will not run on the pages: {app.lab_missing}")


def write_cases(folder, boxes):
    """One JSON file per kernel; a file that says the same is left alone, one of no box is removed.

    Returns {name: the parts of its numbers, or None for a kernel} of the boxes that can be judged.
    """
    import lab_cases  # and with it PyTorch, for which a book without boxes does not wait
    import lab_numbers
    import lab_shown

    from effattn_core.exercises import exercise_of

    judged, texts = {}, {}
    for box in boxes:
        name, kind = box["name"], box["kind"]
        if kind == "shown":
            key = name.removeprefix(TRY)
            found = lab_shown.cases(key, box["stub"]) if key in lab_shown.LAUNCHES else None
        else:
            try:
                exercise = exercise_of(name)
            except ValueError:  # the chapter's own tests say so
                continue
            found = exercise.cases() if kind == "kernel" and exercise.cases else None
        if kind == "number" and (parts := lab_numbers.stored(name)):
            judged[name] = parts
        elif found:
            judged[name] = None
            texts[f"{name}.json"] = json.dumps(list(map(lab_cases.stored, found)), allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return judged


def place(app, doctree, docname):
    """A box below the cell of each exercise and kernel that the page can judge."""
    judged, missing = getattr(app, "lab_judged", {}), getattr(app, "lab_missing", None) is not None
    for box, cell in found(doctree, _page(docname)):
        if box["name"] not in judged:
            continue
        holder = cell.parent
        while isinstance(holder, nodes.container) and isinstance(holder.parent, nodes.container):
            holder = holder.parent
        text = markup(box, judged[box["name"]], missing)
        holder.parent.insert(holder.parent.index(holder) + 1, nodes.raw("", text, format="html"))


def markup(box, parts=None, missing=False):
    """The HTML of a box: what its script reads, and a sentence for readers without JavaScript.

    parts: of the numbers that are asked for. missing: whether there is nothing to run kernels with.
    """
    kind = box["kind"]
    data = box | ({"cases": f"vendor/lab-cases/{box['name']}.json"} if parts is None else {"parts": parts})
    text = json.dumps(data).replace("<", "\\u003c")
    before, without = TEXT[kind]
    whole = (
        f'<div class="{"lab" if parts is None else "lab-field"}" role="group"'
        f' aria-label="{html.escape(before + box["title"])}"{" data-missing" * missing}>'
        f'<script type="application/json">{text}</script><noscript><p>{without}</p></noscript></div>'
    )
    return FOLD.format(whole) if kind == "shown" else whole


def complete_page(app, pagename, templatename, context, doctree):
    """The scripts of the boxes, on pages that have one."""
    body = context.get("body") or ""
    kernels, numbers = 'class="lab"' in body, 'class="lab-field"' in body
    if kernels or numbers:
        app.add_css_file("explore.css")
        app.add_css_file("lab.css")
    if kernels:
        app.add_js_file("lab-picture.js", loading_method="defer")
        app.add_js_file("lab.js", loading_method="defer")
    if numbers:
        app.add_js_file("lab-number.js", loading_method="defer")
