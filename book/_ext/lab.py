"""An editor below each kernel exercise that the page can check, with Run, Check, Stop, Reset, Hint and Answer.

How it hangs together, from the chapter to the reader's browser:

- A chapter needs no word about it. `place` finds the exercises of the level "kernel" whose check is in
  NAMES: the first cell that grades one holds its stub, and below that cell the box goes; the cells between
  the exercise's `{solution}` and the assertion that it passes are its answer, the dropdown "Hint" is its hint.
- `lab_cases.py` writes the check's own hidden cases as JSON, one file per exercise, into _static/vendor/lab-cases.
- `lab_vendor.py` puts Pyodide's core, a bundle of CodeMirror and the book's Triton of the page (book/_page, with
  lab/lab_worker.py, which judges) into _static/vendor/lab: from npm, in locked versions, once. Without node or a
  network it puts nothing there, and the boxes say so in a sentence; the book builds all the same, without a warning.
- `lab.js` makes the box: a text area, CodeMirror once it comes near the screen. `lab-worker.js` starts at the first Run
  and fetches 13 MB from this site, with progress; `lab-picture.js` draws what each program loaded and stored.
- Only the text of an editor is run, by a button; it is kept in localStorage under the exercise's name. Nothing of an
  address is read, and nothing is asked of another site. The worker has its own thread: Stop terminates it.
- Opened as a file the box says how to serve the pages: `make serve` (lab_serve.py).
"""

import html
import json
import re
from pathlib import Path

import lab_vendor
from docutils import nodes
from exercise_pages import exercises_of, level_of
from sphinx.util import logging

NAMES = ("primer.scale_add", "primer.rms_norm", "primer.linear_relu", "primer.row_attention")
CASES = Path(lab_vendor.VENDOR).with_name("lab-cases")
STUB = re.compile(r"\n*verdict = grade\(\"([^\"]+)\", (\w+)\)\s*$")
SOLVED = re.compile(r"\n*assert grade\(\"([^\"]+)\", (\w+)\)\.passed\s*$")


def setup(app):
    app.connect("doctree-read", note)
    app.connect("env-purge-doc", lambda app, env, docname: _pages(env).discard(docname))
    app.connect("env-merge-info", lambda app, env, docnames, other: _pages(env).update(_pages(other)))
    app.connect("env-updated", prepare)
    app.connect("doctree-resolved", place)
    app.connect("html-page-context", complete_page, priority=590)  # before book_pages copies the list of scripts
    return {"parallel_read_safe": True}


def _pages(env):
    """The pages that have a box."""
    if not hasattr(env, "book_labs"):
        env.book_labs = set()
    return env.book_labs


def note(app, doctree):
    if list(found(doctree)):
        _pages(app.env).add(app.env.docname)


def prepare(app, env):
    """Where a page has a box: fetch and bundle what its editor needs, and store the cases that it judges by."""
    if not _pages(env):
        return
    app.lab_missing = lab_vendor.prepare()
    if app.lab_missing:
        logging.getLogger(__name__).info(f"kernels will not run on the pages: {app.lab_missing}")
    write_cases(CASES)


def write_cases(folder, names=NAMES):
    """One JSON file per exercise; a file that says the same is left alone."""
    import lab_cases  # and with it PyTorch, for which a book without such an exercise does not wait

    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path, text = folder / f"{name}.json", json.dumps(lab_cases.cases(name), allow_nan=False)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def place(app, doctree, docname):
    """A box below the stub of each kernel exercise that the page can check."""
    boxes = list(found(doctree))
    for box, cell in boxes:
        holder = cell.parent
        while isinstance(holder, nodes.container) and isinstance(holder.parent, nodes.container):
            holder = holder.parent
        missing = getattr(app, "lab_missing", None) is not None
        holder.parent.insert(holder.parent.index(holder) + 1, nodes.raw("", markup(box, missing), format="html"))


def found(doctree, names=NAMES):
    """(what lab.js reads, the cell of the stub) of each kernel exercise of a page whose name is among `names`."""
    labels = {id(node): node for node in exercises_of(doctree) if level_of(node) == "kernel"}
    exercise, hint, cells, boxes = None, "", [], {}
    for node in doctree.findall(nodes.Element):
        if id(node) in labels:
            exercise, hint = node, ""
        elif type(node).__name__ == "solution_node":
            cells = []
        elif exercise is not None and _is_hint(node):
            hint = "\n\n".join(each.astext() for each in list(node.findall(nodes.paragraph)) if each.astext() != "Hint")
            for box, _ in boxes.values():
                if box["label"] == exercise["label"]:
                    box["hint"] = hint
        elif isinstance(node, nodes.literal_block) and exercise is not None and "output" not in node["classes"]:
            text = node.astext()
            cells.append(SOLVED.sub("", text).strip("\n"))
            stub, solved = STUB.search(text), SOLVED.search(text)
            if stub and stub[1] in names and stub[1] not in boxes:
                box = {"name": stub[1], "function": stub[2], "label": exercise["label"], "hint": "", "answer": ""}
                box |= {"title": exercise.get("said", ""), "stub": text[: stub.start()].strip("\n") + "\n"}
                boxes[stub[1]] = (box, node)
            elif solved and solved[1] in boxes:
                boxes[solved[1]][0]["answer"] = "\n\n\n".join(filter(None, cells)) + "\n"
    return boxes.values()


def _is_hint(node):
    return "sd-dropdown" in node.get("classes", []) and node.astext().lstrip().startswith("Hint")


def markup(box, missing=False):
    """The HTML of a box: what lab.js reads, and a sentence for readers without JavaScript."""
    data = box | {"done": box["label"], "cases": f"vendor/lab-cases/{box['name']}.json"}
    text = json.dumps(data).replace("<", "\\u003c")
    return (
        f'<div class="lab" role="group" aria-label="{html.escape("Write it here: " + box["title"])}"'
        f'{" data-missing" * missing}><script type="application/json">{text}</script>'
        "<noscript><p>With JavaScript this exercise can be written and checked here.</p></noscript></div>"
    )


def complete_page(app, pagename, templatename, context, doctree):
    """The scripts of the boxes, on pages that have one."""
    if 'class="lab"' in (context.get("body") or ""):
        app.add_css_file("explore.css")
        app.add_css_file("lab.css")
        app.add_js_file("lab-picture.js", loading_method="defer")
        app.add_js_file("lab.js", loading_method="defer")
