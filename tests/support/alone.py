"""A form alone on a page, in a browser with the network cut."""

import shutil
from contextlib import contextmanager

from support.house import ROOT

PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{files}<style>
body {{ max-width: 46rem; margin: 1rem auto; padding: 0 1rem; background: var(--explorable-paper);
color: var(--explorable-ink) }}</style></head>
<body><main class="bd-content"><h1>{title}</h1>{form}</main></body></html>"""
KINDS = {".js": '<script src="{}" defer></script>', ".css": '<link rel="stylesheet" href="{}">'}


def page_of(form, folder, *names):
    """The address of a page with the HTML of a form and files of book/_static, in a new `folder`."""
    files = "".join(KINDS[name[name.rindex(".") :]].format(name) for name in names)
    for name in names:
        shutil.copy(ROOT / "book" / "_static" / name, folder)
    page = folder / "index.html"
    page.write_text(PAGE.format(title=folder.name, files=files, form=form), encoding="utf-8")
    return page.as_uri()


@contextmanager
def opened(browser, address):
    """Gives a call that opens the page, offline and in a context of its own; at the end the console must be quiet."""
    contexts, complaints = [], []

    def open_(*, width=1000, **settings):
        context = browser.new_context(viewport=dict(width=width, height=900), offline=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
