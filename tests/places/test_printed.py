"""The print edition: the built pages as one, solutions at the end, and a table of contents with page numbers."""

import re
from urllib.parse import unquote

import printed
import printed_page
import pytest
from bs4 import BeautifulSoup
from repository import site
from support.house import chapters

SOME = ["index", "how-to", "0-before/token", "4-sparse/channels", "8-whole/papers"]

# What reaches beyond the right edge of the paper. Plotly and MathJax keep measures of their own outside it.
WIDE = """() => {
    const edge = document.querySelector("main").getBoundingClientRect().right + 4;
    return [...document.querySelectorAll("main *:not(svg *, mjx-container *, .explorable-chart *)")]
        .filter((each) => each.getBoundingClientRect().right > edge)
        .map((each) => `${each.tagName} ${each.textContent.slice(0, 40)}`); }"""
# Cells of a table in which no word fits.
CRUSHED = """() => [...document.querySelectorAll("td")]
    .filter((each) => each.clientWidth < 40 && each.textContent.trim().length > 20).map((each) => each.textContent)"""


@pytest.fixture(scope="module")
def source(pages, tmp_path_factory):
    return printed_page.compose(pages, tmp_path_factory.mktemp("print") / "print" / "book.html", SOME)


@pytest.fixture(scope="module")
def soup(source):
    return BeautifulSoup(source.read_text(encoding="utf-8"), "html.parser")


def test_every_page_of_the_book_is_printed_but_the_library_and_the_table_of_ticks():
    left = set(chapters()) - set(printed_page.printed_pages())
    assert left and all(re.match(r"reference($|-)|exercises$", name) for name in left), left
    assert "references" in printed_page.printed_pages()


def test_ids_are_unique_and_every_link_inside_leads_somewhere(source, soup):
    ids = [each["id"] for each in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    inside = [each["href"][1:] for each in soup.select('a[href^="#"]')]
    assert len(inside) > 50 and [each for each in inside if unquote(each) not in ids] == []
    for each in soup.find_all("a", href=True):
        assert each["href"].startswith(("#", "http", "mailto:")), each
    for key in ("aria-labelledby", "data-page-of"):
        assert {each[key] for each in soup.select(f"[{key}]")} <= set(ids)
    for each in soup.select("[src], link[href]"):
        assert (source.parent / each.get("src", each.get("href"))).exists(), each


def test_a_link_to_a_page_that_is_not_printed_leads_to_the_site():
    assert printed_page.lead("../reference.html#a.b", "0-before/token", SOME) == f"{site()}reference.html#a.b"
    assert printed_page.lead("../how-to.html", "0-before/token", SOME) == "#how-to"
    assert printed_page.lead("#part", "0-before/token", SOME) == "#0-before-token--part"
    assert printed_page.lead("https://arxiv.org/abs/1", "index", SOME) == "https://arxiv.org/abs/1"


def test_solutions_and_what_is_said_of_predictions_stand_at_the_end(pages, soup):
    written = "".join((pages / f"{name}.html").read_text() for name in SOME)
    solutions, predictions = written.count('class="solution '), written.count("data-predict=")
    assert solutions > 10 and predictions > 2
    end = soup.find(id="solutions")
    assert len(end.select("div.solution")) == len(soup.select("div.solution")) == solutions
    assert (
        len(end.select(".print-answer")) == predictions
        and len(soup.select(".print-pointer")) == solutions + predictions
    )
    assert not soup.select(".predict-feedback") and len(end.select(".print-answer li")) >= 2 * predictions
    graded = [cell for cell in soup.select("div.cell") if ").passed" in cell.get_text()]
    assert graded and all(cell.find_parent(id="solutions") for cell in graded)


def test_figures_keep_what_they_say_and_nothing_asks_to_be_pressed(pages, soup):
    figures = soup.select("figure.explorable")
    assert len(figures) == sum(
        (pages / f"{name}.html").read_text().count('<figure class="explorable"') for name in SOME
    )
    assert all(figure.select_one(".explorable-says").get_text(strip=True) for figure in figures)
    assert not soup.select("button, details, .headerlink, .exercise-done, .lab, .lab-try, .lab-field")
    assert "It is not written yet" not in soup.get_text()


@pytest.mark.browser
def test_the_contents_name_the_page_of_each_chapter_and_controls_are_left_out(source, browser):
    page = browser.new_page()
    printed.draw(page, source)
    assert page.locator(".explorable-controls").count() > 10
    assert not page.locator(".explorable-controls").first.is_visible()
    assert page.locator(".explorable-says").first.is_visible() and page.locator("mjx-container").count() > 50
    assert page.evaluate(CRUSHED) == []
    assert page.evaluate(WIDE) == []
    pdf = printed.print_with_contents(page)
    places = printed.destinations(pdf)
    assert pdf.startswith(b"%PDF") and printed.pages_of(pdf) > 40
    numbers = [places[printed_page.slug(name)] for name in [*SOME, "solutions"]]
    assert numbers == sorted(set(numbers)) and numbers[0] == 3 and numbers[-1] < printed.pages_of(pdf)
    assert page.locator(".print-contents [data-page-of]").all_text_contents() == [*map(str, numbers)]
    assert "" not in page.locator("[data-page-of]").all_text_contents()
    page.close()


def test_a_machine_without_chromium_or_pages_is_told_what_is_missing(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="run `make book` first"):
        printed.main(tmp_path)
    monkeypatch.setattr(printed.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="needs Chromium, and none of .* is on the path: apt-get install chromium"):
        printed.chromium()
    monkeypatch.setitem(printed.sys.modules, "playwright.sync_api", None)
    with pytest.raises(SystemExit, match="needs playwright: `make print` installs it"):
        printed.playwright()


def test_destinations_are_read_in_the_order_of_pages():
    pdf = b"""9 0 obj
<</Type /Pages
/Kids [2 0 R 5 0 R]>>
2 0 obj
<</Type /Page
5 0 obj
<</Type /Page
<</second [5 0 R /XYZ 0 1 0]
/a#20b--c [2 0 R /XYZ 0 842.88 0]>>"""
    assert printed.destinations(pdf) == {"second": 2, "a b--c": 1} and printed.pages_of(pdf) == 2
