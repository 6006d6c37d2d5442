"""Previews of the glossary: a page carries what each `{term}` on it means, and terms.js shows it beside the link.

A preview is the first paragraph of a definition; the second, which links to a chapter, stays in the glossary.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

PAGE = "glossary"
LINK = re.compile(r'<a class="reference internal" href="[^"]*#(term-[^"]+)"><span class="xref std std-term">')


def setup(app):
    app.connect("doctree-read", depend)
    app.connect("html-page-context", add_previews, priority=500)  # before book_pages adds the colophon
    return {"parallel_read_safe": True}


def depend(app, doctree):
    """A page with terms is made anew when the glossary changes."""
    if any(node["reftype"] == "term" for node in doctree.findall(addnodes.pending_xref)):
        app.env.note_dependency(str(Path(app.srcdir) / f"{PAGE}.md"))


def add_previews(app, pagename, templatename, context, doctree):
    """Put the meaning of each term that the page links to at its end, hidden, and load the script that shows it."""
    found = sorted(set(LINK.findall(context.get("body") or "")))
    if not found:
        return
    meaning = meanings(app)
    context["body"] += "".join(
        f'<div class="term-preview" role="tooltip" id="preview-{term}" hidden>{html.escape(meaning[term])}</div>\n'
        for term in found
    )
    app.add_js_file("terms.js", loading_method="defer")


def meanings(app):
    """The id of each term of the glossary -> what it means, as text. Read once for each process that writes pages."""
    if not hasattr(app, "glossary_meanings"):
        items = app.env.get_doctree(PAGE).findall(nodes.definition_list_item)
        app.glossary_meanings = {
            identifier: re.sub(r"\s+", " ", item[-1][0].astext())
            for item in items
            for term in item.findall(nodes.term)
            for identifier in term["ids"]
        }
    return app.glossary_meanings
