"""The links of built pages: where they lead, and what a browser would fetch."""

from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids of a page, its links, and what a browser would fetch for it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.fetched.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "modulepreload", "icon", "manifest"):
            self.fetched.append(given.get("href", ""))


def outside(folder):
    """Addresses of other machines that the pages in `folder` would fetch."""
    found = [(path.name, url) for path in folder.rglob("*.html") for url in Page(path).fetched]
    return [(name, url) for name, url in found if urlsplit(url).netloc or url.startswith("//")]


def broken(folder):
    """Links from page to page that lead nowhere."""
    # viewcode's own listings of the sources name members that the reference leaves out.
    parsed = {path.resolve(): Page(path) for path in folder.rglob("*.html") if "_modules" not in path.parts}
    for path, page in parsed.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield path.name, link
            elif parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].ids:
                yield path.name, link
