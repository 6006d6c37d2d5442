"""What pages say of exercises: the level and a box "done" on each, how many of a chapter are done, and all of the book.

The level is a class of the exercise (`:class: pencil`, one of LEVELS). What is done is kept by the reader's browser
(exercises.js); without JavaScript the boxes stay away. `{all-exercises}` makes the table of the book, with its buttons
to export and import.
"""

import html

from docutils import nodes
from predictions import prediction
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_node, exercise_subtitle

LEVELS = ("predict", "pencil", "code", "kernel", "open")  # effattn_core.exercises.LEVELS, held by a test
PAGE = "exercises"  # where `{all-exercises}` stands


class all_exercises(nodes.General, nodes.Element):
    """Where the table of all exercises goes, once all pages are read."""


def setup(app):
    app.add_node(all_exercises)
    app.add_directive("all-exercises", AllExercises)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("env-updated", lambda app, env: [PAGE] if PAGE in env.all_docs else [])
    app.connect("doctree-resolved", complete)
    return {"parallel_read_safe": True}


class AllExercises(SphinxDirective):
    def run(self):
        return [all_exercises()]


def exercises_of(doctree):
    """The exercises and predictions of a page, in order."""
    kinds = (exercise_node, exercise_enumerable_node, prediction)
    return [node for node in doctree.findall(nodes.Element) if isinstance(node, kinds)]


def level_of(node):
    """The level of an exercise: one of LEVELS, or "" for one that names none."""
    return next((level for level in LEVELS if level in node["classes"]), "")


def collect(app, doctree):
    """Note the exercises of a page, while their titles are apart from their numbers."""
    found = []
    for node in exercises_of(doctree):
        subtitle = next(iter(node.findall(exercise_subtitle)), None)
        title = node["title"] if isinstance(node, prediction) else subtitle.astext() if subtitle else node["title"]
        found.append({"label": node["label"], "title": title, "level": level_of(node)})
        node["said"] = title
    if found:
        _book(app.env)[app.env.docname] = found


def purge(app, env, docname):
    _book(env).pop(docname, None)


def merge(app, env, docnames, other):
    _book(env).update({name: found for name, found in _book(other).items() if name in docnames})


def _book(env):
    """docname -> its exercises."""
    if not hasattr(env, "book_exercises"):
        env.book_exercises = {}
    return env.book_exercises


def complete(app, doctree, docname):
    """Levels, boxes and the count on a page of exercises; the table on the page of all."""
    found = exercises_of(doctree)
    for node in found:
        mark(node)
    if found:
        place, index = count_place(doctree, found[0])
        place.insert(index, count(app, docname, len(found)))
    for node in list(doctree.findall(all_exercises)):
        node.replace_self(nodes.raw("", table(app, docname), format="html"))


def mark(node):
    """The level beside the title of an exercise, and its box "done"; a prediction is done when it is answered."""
    title = node.children[0]
    level = level_of(node)
    if level:
        title += nodes.raw("", f' <span class="exercise-level">{level}</span>', format="html")
    if not isinstance(node, prediction):
        label, said = html.escape(node["label"]), html.escape(node.get("said", ""))
        box = f'<input type="checkbox" data-done="{label}" aria-label="done: {said}"> done'
        title += nodes.raw("", f'<label class="exercise-done" hidden>{box}</label>', format="html")


def count_place(doctree, first):
    """(node, index) where the count goes: below the heading "Exercises", else before the first exercise."""
    for section in doctree.findall(nodes.section):
        if isinstance(section[0], nodes.title) and section[0].astext() == "Exercises":
            return section, 1
    return first.parent, first.parent.index(first)


def count(app, docname, number):
    """How many exercises a page has; exercises.js says how many of them are done."""
    words = f'<span class="exercise-count" role="status">{number} exercises</span>'
    paragraph = nodes.paragraph("", "", nodes.raw("", words, format="html"), classes=["exercise-head"])
    if PAGE in app.env.all_docs:
        uri = app.builder.get_relative_uri(docname, PAGE)
        paragraph += [nodes.Text(" · "), nodes.reference("", "all exercises", refuri=uri, internal=True)]
    return paragraph


def in_order(env, docname=None):
    """Pages in the order of the table of contents."""
    docname = docname or env.config.root_doc
    yield docname
    for child in env.toctree_includes.get(docname, []):
        yield from in_order(env, child)


def table(app, docname):
    """The HTML of all exercises of the book, a group for each chapter, with buttons to export and import."""
    groups, number = [], 0
    for chapter in in_order(app.env):
        rows = _book(app.env).get(chapter, [])
        if not rows:
            continue
        number += len(rows)
        uri = app.builder.get_relative_uri(docname, chapter)
        title = html.escape(app.env.titles[chapter].astext())
        head = f'<tr><th colspan="3" scope="rowgroup"><a href="{uri}">{title}</a></th></tr>'
        groups.append(f"<tbody>{head}\n" + "\n".join(_row(uri, row) for row in rows) + "</tbody>")
    if not number:
        logging.getLogger(__name__).warning("the book has no exercise", location=docname)
    return (
        '<div class="exercise-tools" hidden><button type="button" class="exercise-export">Export my progress</button>\n'
        '<label class="exercise-import">Import a file <input type="file" accept=".json,application/json"></label>\n'
        '<p class="exercise-said" role="status"></p></div>\n'
        f'<div class="exercise-scroll"><table class="table exercise-table"><caption>All exercises of the book: '
        f'<span class="exercise-total">{number}</span></caption>\n<thead><tr><th scope="col">exercise</th>'
        '<th scope="col">level</th><th scope="col">your progress</th></tr></thead>\n'
        + "\n".join(groups)
        + "</table></div>"
    )


def _row(uri, row):
    link = f'<a href="{uri}#{html.escape(row["label"])}">{html.escape(row["title"])}</a>'
    return (
        f'<tr data-exercise="{html.escape(row["label"])}"><td>{link}</td><td>{row["level"]}</td>'
        '<td class="exercise-state"></td></tr>'
    )
