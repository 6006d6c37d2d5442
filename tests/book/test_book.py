"""The built book: every page is there, no link is broken, nothing is asked of the network."""

import re

import pytest
from support.house import ROOT, chapters, notebooks
from support.links import broken, outside


def test_every_chapter_is_a_page_of_substance(pages):
    for chapter in chapters():
        page = pages / f"{chapter}.html"
        assert page.exists(), chapter
        words = len(re.sub(r"<[^>]+>", " ", page.read_text().split("<article", 1)[-1]).split())
        print(f"{chapter}: {page.stat().st_size / 1024:.0f} KiB, {words} words")
        assert words > 100, chapter
        assert 'class="colophon"' in page.read_text()


def test_no_link_between_pages_is_broken(pages):
    assert list(broken(pages)) == []


def test_no_page_asks_another_machine_for_anything(pages):
    assert outside(pages) == []


def test_names_in_code_cells_link_to_the_reference(pages):
    text = (pages / "1-attention" / "attention.html").read_text()
    assert re.search(r'href="../reference.html#effattn_core.attention.attention"', text)


def test_a_chapter_can_be_launched_edited_and_shared(pages):
    text = (pages / "1-attention" / "attention.html").read_text()
    for service in ("colab.research.google.com", "mybinder.org"):
        assert re.search(rf'href="https://{re.escape(service)}[^"]*attention.ipynb"', text), service
    assert re.search(r'href="[^"]*/edit/main/book/1-attention/attention.md"', text)
    for name in ("og:title", "og:image", "og:description"):
        assert f'property="{name}"' in text
    assert "not set" not in "".join(re.findall(r"<meta[^>]*>", text))


def test_every_module_is_in_the_reference(pages):
    named = set(re.findall(r'id="module-([\w.]+)"', (pages / "reference.html").read_text()))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("effattn_core", "kernels", "figures")
        for path in (ROOT / package).rglob("*.py")
    }
    assert modules == named


def test_figures_keep_to_the_budget_of_a_page():
    from figures.explore import page_weight

    for path in notebooks():
        print(f"{path.name}: {page_weight(path) / 1024:.0f} KiB of figures")


@pytest.mark.parametrize("chapter", [each for each in chapters() if re.match("[1-6]-", each)])
def test_a_chapter_has_the_parts_of_its_contract(chapter):
    text = (ROOT / "book" / f"{chapter}.md").read_text()
    parts = ["bill", "literalinclude", "explore(", "train(", "ledger(", "grade(", "could lie to", "Where to read on"]
    for part in parts:
        assert part in text, part
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert 1500 <= len(prose.split()) <= 3500, len(prose.split())
