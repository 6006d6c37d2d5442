"""Glossary and notation: each term and each name that they give exists, and stands where a reader looks for it."""

import ast
import re

import pytest
from support import contract
from support.house import ROOT

BOOK = ROOT / "book"


def glossary():
    """The entries of the glossary, in order: (terms, definition)."""
    (block,) = [each for each in contract.blocks((BOOK / "glossary.md").read_text()) if each.name == "glossary"]
    found = []
    for line in block.body.splitlines():
        if line and not line.startswith(" "):
            if not found or found[-1][1]:
                found.append(([], []))
            found[-1][0].append(line)
        elif line.strip():
            found[-1][1].append(line.strip())
    return [(terms, " ".join(lines)) for terms, lines in found]


def used():
    """(page, term) of each reference to a term."""
    for path in sorted(BOOK.rglob("*.md")):
        for text in re.findall(r"\{term\}`([^`]+)`", path.read_text()):
            name = re.search(r"<([^<>]+)>$", text)
            yield path.name, " ".join((name[1] if name else text).split())


def test_each_term_that_a_page_uses_is_in_the_glossary():
    known = {term.lower() for terms, _ in glossary() for term in terms}
    assert [(page, term) for page, term in used() if term.lower() not in known] == []


def test_no_line_of_prose_begins_with_a_percent_sign():
    """Such a line is a comment in MyST: it would vanish from the page, and its paragraph would break there."""
    found = []
    for path in sorted(BOOK.rglob("*.md")):
        lines = enumerate(path.read_text().splitlines(), 1)
        found += [(path.name, number) for number, line in lines if re.match(r"\s*%(\s|$)", line)]
    assert found == []


def test_the_glossary_is_alphabetical_short_and_leads_to_a_chapter():
    entries = glossary()
    assert len(entries) > 60
    names = [terms[0].lower() for terms, _ in entries]
    assert names == sorted(names) and len({each for terms, _ in entries for each in terms}) >= len(names)
    for terms, definition in entries:
        meaning, _, where = definition.rpartition("Explained in ")
        assert re.fullmatch(r"\[[^\]]+\]\([\w./-]+\)\.", where), terms
        assert 1 <= contract.sentences(meaning) <= 4 and len(meaning.split()) <= 60, (terms, len(meaning.split()))
        assert "$" not in meaning, f"{terms}: the preview shows plain text"


def identifiers():
    """All names that the library's code defines or uses; words of its prose do not count."""
    found = set()
    for path in [path for room in ("effattn_core", "kernels") for path in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            found |= {getattr(node, name) for name in ("id", "attr", "arg", "name") if hasattr(node, name)}
    return found


def named(text):
    """(symbol, name) of each name that the tables of symbols give "in the code"."""
    for table in re.findall(r"^\| symbol \| meaning \| in the code \|\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            symbol, *_, code = [cell.strip() for cell in row.strip("|").split(" | ")]
            yield from ((symbol, name) for part in re.findall(r"`([^`]+)`", code) for name in re.findall(r"\w+", part))


@pytest.mark.parametrize("page", ["notation", *contract.CHAPTERS])
def test_each_name_beside_a_symbol_exists_in_the_code(page):
    known = identifiers()
    found = list(named((BOOK / f"{page}.md").read_text()))
    assert len(found) > 5
    assert [(symbol, name) for symbol, name in found if name not in known] == []


def test_no_symbol_has_two_rows_in_one_section_of_the_notation():
    for section in (BOOK / "notation.md").read_text().split("\n## ")[1:]:
        symbols = re.findall(r"^\| (\$[^|]+?) \|", section, re.MULTILINE)
        assert len(symbols) == len(set(symbols)), section.splitlines()[0]
