"""The built book: every page is there, no link is broken, nothing is asked of the network."""

import html
import re
import sys
from pathlib import Path

import book_pages
import plotly
import pytest
import reference_pages
from support.house import ROOT, chapters, notebooks
from support.links import broken, outside

from figures.page import TRACES


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


def test_a_page_loads_each_script_once_and_none_of_the_large_ones_before_its_text(pages):
    for chapter in chapters():
        text = (pages / f"{chapter}.html").read_text()
        scripts = [
            each.partition("?")[0].rpartition("/")[2] for each in re.findall(r'<script[^>]* src="([^"]+)"', text)
        ]
        assert len(scripts) == len(set(scripts)), chapter
        assert "book.js" in scripts and ("explore.js" in scripts) == ('<figure class="explorable"' in text), chapter
        assert not {"plotly.min.js", "tex-chtml.js"} & set(scripts), chapter


def test_plotly_s_archive_is_the_one_published_and_fits_the_plotly_that_draws(tmp_path, monkeypatch):
    book_pages.unpack(tmp_path)
    assert "MIT" in (tmp_path / "plotly.LICENSE").read_text()
    version = re.search(
        r"plotly.js \(cartesian - minified\) v([\d.]+)", (tmp_path / "plotly.min.js").read_text()[:200]
    )[1]
    whole = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")[:200]
    assert version.split(".")[0] == re.search(r"plotly.js v([\d.]+)", whole)[1].split(".")[0]
    drawn = re.findall(r'moduleType:"trace",name:"(\w+)"', (tmp_path / "plotly.min.js").read_text(encoding="utf-8"))
    assert {*drawn} == {*TRACES}
    changed = tmp_path / "changed.tgz"
    changed.write_bytes(book_pages.PLOTLY.read_bytes()[:-1])
    monkeypatch.setattr(book_pages, "PLOTLY", changed)
    with pytest.raises(ValueError, match=r"changed.tgz should have the digest sha512-\S+; it has sha512-\S+\."):
        book_pages.unpack(tmp_path)


def test_no_page_asks_another_machine_for_anything(pages):
    assert outside(pages) == []


def test_names_in_code_cells_link_to_the_reference(pages):
    text = (pages / "1-attention" / "attention.html").read_text()
    assert re.search(r'href="../reference-topics.html#effattn_core.attention.attention"', text)


def test_a_chapter_can_be_launched_edited_and_shared(pages):
    text = (pages / "1-attention" / "attention.html").read_text()
    for service in ("colab.research.google.com", "mybinder.org"):
        assert re.search(rf'href="https://{re.escape(service)}[^"]*attention.ipynb"', text), service
    assert re.search(r'href="[^"]*/edit/main/book/1-attention/attention.md"', text)
    for name in ("og:title", "og:image", "og:description"):
        assert f'property="{name}"' in text
    assert "not set" not in "".join(re.findall(r"<meta[^>]*>", text))


def test_every_public_module_is_in_the_library_and_no_hidden_case(pages):
    text = "".join(page.read_text() for page in pages.glob("reference*.html"))
    listed = re.findall(r'id="module-([\w.]+)"', text)
    assert sorted(listed) == sorted(reference_pages.modules())
    for path in sorted(path for package in reference_pages.PACKAGES for path in (ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        package = sys.modules[name.rpartition(".")[0] or name]
        exported = {getattr(vars(package)[each], "__module__", None) for each in getattr(package, "__all__", ())}
        hidden = any(f".{each}." in f"{name}." for each in ("checks", "claims"))
        assert (name in listed) != (hidden or name in exported - {package.__name__}), name
    assert "attention.checks" not in text


def test_arguments_of_a_call_are_a_list_that_can_be_read(pages):
    text = (pages / "reference-topics.html").read_text()
    entry = text.split('id="effattn_core.attention.attention"')[1].split("</dd></dl>")[0]
    for name in ("query", "key", "value", "window", "sinks", "scale", "implementation"):
        assert f"<strong>{name}</strong>" in entry, name
    assert "Raises" in entry and "RuntimeError" in entry


def test_a_folded_cell_is_called_what_its_label_says(pages):
    labels = 0
    for notebook in notebooks():
        text = notebook.with_suffix(".md").read_text()
        page = html.unescape((pages / notebook.relative_to(ROOT / "book").with_suffix(".html")).read_text())
        assert "Toggle hidden content" not in page, (
            notebook.name
        )  # a name that would hide the label from a reader's ear
        for label in re.findall(r'^ +code_prompt_(?:show|hide): ["\']?(.*?)["\']?$', text, re.MULTILINE):
            label = label.replace("''", "'")  # as YAML writes it between single quotes
            assert re.search(rf"<summary>(?:(?!</summary>).)*{re.escape(label)}", page, re.DOTALL), label
            labels += 1
    print(f"{labels} labels of folded cells")


def test_figures_keep_to_the_budget_of_a_page():
    from figures.explore import page_weight

    for path in notebooks():
        print(f"{path.name}: {page_weight(path) / 1024:.0f} KiB of figures")


@pytest.mark.parametrize("chapter", [each for each in chapters() if re.match("[1-7]-", each)])
def test_a_chapter_has_the_parts_of_its_contract(chapter):
    text = (ROOT / "book" / f"{chapter}.md").read_text()
    assert "{literalinclude}" in text or "{excerpt}" in text
    assert re.search(r"\b(train\w*|fit)\(", text), "nothing is trained"
    for part in ["bill", "explore(", "ledger(", "grade(", "could lie to", "Where to read on"]:
        assert part in text, part
    prose = re.sub(
        r"\A---.*?\n---|```.*?```|^\|.*?$", "", text, flags=re.DOTALL | re.MULTILINE
    )  # no head, code, tables
    assert 1500 <= len(prose.split()) <= 3500, len(prose.split())
