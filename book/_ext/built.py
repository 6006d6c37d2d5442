"""Say where the built book is, page by page, and fail if a page of the table of contents is missing or empty.

    python book/_ext/built.py _build/html

A site that publishes nothing under a green build is the failure this looks for.
"""

import re
import sys
from pathlib import Path

import yaml

BOOK = Path(__file__).resolve().parents[1]
FEWEST = 100  # words of a page that is not trivial


def chapters(book=BOOK):
    """The documents of the table of contents, in order, as paths without an ending."""
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(each["file"] for part in toc["parts"] for each in part["chapters"])]


def words(page):
    """Words that a reader sees in the article of a page."""
    article = page.read_text(encoding="utf-8").split("<article", 1)[-1].split("</article>", 1)[0]
    article = re.sub(r"<(script|style)\b.*?</\1>", " ", article, flags=re.DOTALL)
    return len(re.sub(r"<[^>]+>", " ", article).split())


def faults(folder, book=BOOK):
    """A sentence for each chapter whose page is missing or trivial."""
    for chapter in chapters(book):
        page = folder / f"{chapter}.html"
        if not page.exists():
            yield f"{chapter} has no page: {page} does not exist"
        elif words(page) < FEWEST:
            yield f"{chapter} is trivial: {page} has {words(page)} words, fewer than {FEWEST}"


def main(folder):
    found = list(faults(folder))
    if found:
        sys.exit("\n".join(found))
    for chapter in chapters():
        page = folder / f"{chapter}.html"
        print(f"{page.stat().st_size / 1024:7,.0f} KiB  {words(page):6,} words  {chapter}")
    print(f"the book is built; open  {(folder / 'index.html').resolve().as_uri()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
