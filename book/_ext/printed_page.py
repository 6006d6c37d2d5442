"""The one page of the print edition, composed of the articles of the built pages."""

import html
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from bs4 import BeautifulSoup
from built import BOOK, chapters
from repository import address, commit, project, site

LEFT_OUT = re.compile(r"reference($|-)|exercises$")  # the library, and a table of what a browser keeps
DROPPED = (
    "a.headerlink, button, noscript, aside.colophon, .exercise-done, .exercise-tools, .exercise-head, details.hide, "
    ".lab, .lab-try, .lab-field"  # which a reader of paper can neither run nor fill in
)
STUB = re.compile(r"^\s*[\w.]+: not yet\. It is not written yet\.\s*$")  # what grading says where nothing is written
IDS = ("for", "aria-labelledby", "aria-describedby", "data-page-of")
STYLES = """theme.css pydata-sphinx-theme.css pygments.css sphinx-book-theme.css mystnb.*.css exercise.css proof.css
sphinx-design.min.css book.css explore.css print.css""".split()
MATHEMATICS = (
    '{"options": {"processHtmlClass": "tex2jax_process|mathjax_process|math|output_area"}}'  # as a page has it
)
# explore.js draws every figure of a page anew when it is printed: here all stand, and a hundred would take minutes.
STILL = """
for (const name of ["beforeprint", "afterprint"]) addEventListener(name, (event) => event.stopImmediatePropagation());
const ask = matchMedia.bind(window);
window.matchMedia = (query) => (query === "print" ? Object.assign(new EventTarget(), {matches: true}) : ask(query));
"""
PAGE = """<!doctype html>
<html lang="en" data-theme="light" data-mode="light"><head><meta charset="utf-8"><title>{title}</title>
{styles}
<script>window.MathJax = {mathematics}</script>
<script>{still}</script>
<script defer src="{up}_static/mathjax/tex-chtml.js"></script>
<script src="{up}_static/explore.js"></script>
</head><body class="print-edition"><main class="bd-article">
<section class="print-title"><h1>{title}</h1>
<p>Edition {version}, commit {commit}. {address}</p>
<p>Figures stand as they start; at <a href="{site}">{site}</a> they move. The folded code of figures and measurements
is left out, and so is the reference of the library: pages and notebooks hold both. Solutions stand at the end.</p>
</section>
<nav class="print-contents"><h2>Contents</h2>
{contents}</nav>
{body}
</main></body></html>
"""


def slug(name):
    """A page's name as the beginning of an id."""
    return name.replace("/", "-")


def printed_pages():
    """The pages of the print edition, in order."""
    return [name for name in chapters() if not LEFT_OUT.match(name)]


def article(built, name):
    """(the article of a built page, its answers taken out): elements whose links and ids are still the page's own."""
    text = (built / f"{name}.html").read_text(encoding="utf-8")
    text = text[text.index("<article") : text.index("</article>") + len("</article>")]  # parsing is slow
    soup = BeautifulSoup(text, "html.parser")
    found = soup.select_one("article.bd-article")
    answers = take_answers(found, soup)
    for each in found.select(DROPPED):
        each.decompose()
    for each in answers.select("a.headerlink, button, details.hide > summary"):
        each.decompose()
    for each in found.select(".cell_output"):
        if STUB.search(each.get_text()):
            each.decompose()
    for each in [*found.select("details"), *answers.select("details")]:
        each.name = "div"  # what is folded on a page is open on paper
    return found, answers


def take_answers(found, soup):
    """Move solutions, with the cells that follow them, and what is said of predictions, to an element of their own."""
    answers = soup.new_tag("div", attrs={"class": "print-answers"})
    for box in found.select("[data-predict], div.solution"):
        if box.get("data-predict"):
            answers.append(_said_of(box, soup))
            box.append(_pointer(soup, f"{box['data-predict']}-answer", "Answer"))
            continue
        parts = [box]
        while (following := parts[-1].find_next_sibling()) is not None and "cell" in following.get("class", []):
            parts.append(following)
        box.insert_before(_pointer(soup, box["id"], "Solution"))
        answers.extend([each.extract() for each in parts])
    return answers


def _said_of(box, soup):
    """What a prediction says of its options, taken out of it."""
    element = soup.new_tag("div", attrs={"class": "print-answer", "id": f"{box['data-predict']}-answer"})
    link = soup.new_tag("a", href=f"#{box['data-predict']}")
    link.string = box.select_one("p:not(.admonition-title)").get_text(" ", strip=True)
    reasons = soup.new_tag("ol")
    for feedback in box.select("details.predict-feedback"):
        item = soup.new_tag("li")
        item.extend([each for each in feedback.extract().contents if each.name != "summary"])
        reasons.append(item)
    right = soup.new_tag("p")
    right.append(link)
    right.append(f" Answer {box['data-answer']} is right.")
    element.extend([right, reasons])
    return element


def _pointer(soup, place, word):
    """A line that leads to an answer, and has room for its page."""
    line, link = soup.new_tag("p", attrs={"class": "print-pointer"}), soup.new_tag("a", href=f"#{place}")
    link.append(f"{word}: page ")
    link.append(soup.new_tag("span", attrs={"data-page-of": place}))
    line.append(link)
    return line


def settle(element, name, printed, up):
    """Make ids unique, lead links to `printed` pages inside and others out, find pictures. up: leads to the pages."""
    seen = set()
    for each in [element, *element.find_all(True)]:
        if each.get("id"):
            each["id"] = f"{slug(name)}--{each['id']}"
            if each["id"] in seen:  # of exercises' and solutions' contents: all have one, and nothing leads to it
                del each["id"]
            seen.add(each.get("id"))
        for key in IDS:
            if each.get(key):
                each[key] = f"{slug(name)}--{each[key]}"
        if each.name == "a" and each.get("href"):
            each["href"] = lead(each["href"], name, printed)
        if each.get("src") and not urlsplit(each["src"]).scheme:
            each["src"] = up + _beside(name, each["src"])


def _beside(name, link):
    """A link of page `name`, from the folder of all pages."""
    return os.path.normpath(os.path.join(os.path.dirname(name), link)).replace(os.sep, "/")


def lead(link, name, printed):
    """Where a link of page `name` leads in the print edition."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return link
    target = _beside(name, parts.path) if parts.path else f"{name}.html"
    page = target.removesuffix(".html")
    if page not in printed:
        return site() + target + (f"#{parts.fragment}" if parts.fragment else "")
    return f"#{slug(page)}--{parts.fragment}" if parts.fragment else f"#{slug(page)}"


def contents(titles):
    """The table of contents: parts as in _toc.yml, with room for the page of each chapter. titles: {name: title}."""
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    groups = [
        ("", [toc["root"]]),
        *((part["caption"], [each["file"] for each in part["chapters"]]) for part in toc["parts"]),
    ]
    groups.append(("", ["solutions"]))
    lines = []
    for caption, names in groups:
        here = [name for name in names if name in titles]
        lines += [f'<p class="print-part">{html.escape(caption)}</p>'] if caption and here else []
        lines += [
            f'<p><a href="#{slug(name)}">{titles[name]}</a> <span data-page-of="{slug(name)}"></span></p>'
            for name in here
        ]
    return "\n".join(lines)


def compose(built, target, printed=None):
    """Write the print edition of the pages in `built` as one page, `target`. Returns `target`.

    printed: names of the pages, in order; all that are printed where it is left out.
    """
    printed, bodies, solutions, titles = printed or printed_pages(), [], [], {}
    up = os.path.relpath(built, target.parent).replace(os.sep, "/") + "/"
    for name in printed:
        found, answers = article(built, name)
        for element in (found, answers):
            settle(element, name, printed, up)
        titles[name] = found.h1.decode_contents()
        bodies.append(f'<section class="print-chapter" id="{slug(name)}">{found.decode_contents()}</section>')
        if answers.contents:
            solutions.append(f"<h2>{titles[name]}</h2>{answers}")
    titles["solutions"] = "Solutions, and what is said of predictions"
    bodies.append(
        f'<section class="print-chapter" id="solutions"><h1>{titles["solutions"]}</h1>{"".join(solutions)}</section>'
    )
    paths = [path for style in STYLES for path in sorted(built.glob(f"_static/**/{style}"))]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        PAGE.format(
            title="Efficient Attention, from Softmax to Two Bits",
            styles="\n".join(
                f'<link rel="stylesheet" href="{up}{path.relative_to(built).as_posix()}">' for path in paths
            ),
            up=up,
            mathematics=MATHEMATICS,
            still=STILL,
            version=project()["version"],
            commit=commit(7),
            address=address(),
            site=site(),
            contents=contents(titles),
            body="\n".join(bodies),
        ),
        encoding="utf-8",
    )
    return Path(target)
