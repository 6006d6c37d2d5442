"""Print the book: one PDF, with a table of contents and page numbers, of the pages that are built.

    python book/_ext/printed.py [FOLDER]      _build/html, into _build/effattn-VERSION.pdf

The articles of the built pages become one page, which Chromium draws and prints: no second build, no LaTeX. Figures
stand as they start, with what they say; solutions, and what is said of predictions, stand behind all chapters. Folded
code that is no solution is left out, and so is the reference of the library.
"""

import re
import shutil
import sys
import time
from pathlib import Path

from printed_page import compose
from repository import BUILT, ROOT, project, require_built

BROWSERS = ("chromium", "google-chrome", "chromium-browser")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--allow-file-access-from-files")
PATIENCE = 600_000  # milliseconds for all figures and formulas
FOOTER = """<div style="width: 100%; font-size: 8pt; text-align: center; color: #444">
<span class="pageNumber"></span></div>"""
PAPER = dict(
    format="A4",
    scale=0.86,  # letters of 9 points; print.css has the width that fits
    margin=dict(top="18mm", bottom="20mm", left="18mm", right="18mm"),
    print_background=True,
    display_header_footer=True,
    header_template="<i></i>",
    footer_template=FOOTER,
)
# One after another: drawing changes what is laid out, and print.css lays out only the chapter that is looked at.
DRAW = """async () => {
    for (const figure of document.querySelectorAll("figure.explorable")) {
        figure.scrollIntoView({behavior: "instant"});
        while (!figure.dataset.drawn) await new Promise(requestAnimationFrame);
    }
    document.body.classList.add("print-drawn");
}"""
SET = "window.MathJax?.startup?.promise?.then(() => true) ?? false"


def chromium():
    """The path of a Chromium. Raises SystemExit with what to install where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(
            f"printing needs Chromium, and none of {', '.join(BROWSERS)} is on the path: apt-get install chromium, or "
            "print single pages from your own browser."
        )
    return found


def playwright():
    """What drives Chromium. Raises SystemExit with what to do where it is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise SystemExit("printing needs playwright: `make print` installs it, or pip install playwright.") from None
    return sync_playwright()


def pages_of(pdf):
    """How many pages a PDF of Chromium has."""
    return len(_leaves(pdf))


def _leaves(pdf):
    """The numbers of the objects that are pages, in order."""
    kids = [int(each) for tree in re.findall(rb"/Kids\s*\[([^\]]*)\]", pdf) for each in re.findall(rb"(\d+) 0 R", tree)]
    leaves = {int(number) for number in re.findall(rb"(\d+) 0 obj\s*<<\s*/Type\s*/Page\b", pdf)}
    return [number for number in kids if number in leaves]


def destinations(pdf):
    """{name: page from 1} of the places in a PDF of Chromium that a link inside it leads to."""
    pages = {number: place for place, number in enumerate(_leaves(pdf), start=1)}
    found = re.findall(rb"/([^\s/\[\]<>()]+)\s*\[(\d+) 0 R\s*/XYZ", pdf)
    return {_unescaped(name): pages[int(number)] for name, number in found if int(number) in pages}


def _unescaped(name):
    return re.sub(rb"#([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), name).decode()


def draw(page, source):
    """Open the composed page, and wait until its figures and formulas stand."""
    page.set_default_timeout(PATIENCE)
    page.emulate_media(color_scheme="light")
    page.goto(source.resolve().as_uri())
    page.evaluate(DRAW)
    page.wait_for_function(SET)


def print_with_contents(page):
    """The PDF of a page that stands, with the page of each entry of its contents beside it: it is printed twice."""
    places = destinations(page.pdf(**PAPER))
    page.evaluate(
        """places => document.querySelectorAll('[data-page-of]').forEach(
            (number) => { number.textContent = places[number.dataset.pageOf] ?? ''; })""",
        places,
    )
    return page.pdf(**PAPER, outline=True, tagged=True)


def main(built):
    begin, target = time.perf_counter(), ROOT / "_build" / f"effattn-{project()['version']}.pdf"
    require_built(built)
    executable, engine = chromium(), playwright()
    source = compose(built, ROOT / "_build" / "print" / "book.html")
    with engine as started:
        browser = started.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page()
        draw(page, source)
        print(f"figures and formulas stand, after {time.perf_counter() - begin:.0f} s; printing", flush=True)
        pdf = print_with_contents(page)
        browser.close()
    target.write_bytes(pdf)
    print(f"{target}: {pages_of(pdf)} pages, {len(pdf) / 2**20:.0f} MiB, in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILT)
