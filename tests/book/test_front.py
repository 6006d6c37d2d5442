"""The front page: what its picture shows is the bill's, little is said before it, and its three figures answer soon."""

import gzip
import html
import re
import time
import urllib.parse
from pathlib import Path

import pytest
import yaml
from support.house import ROOT
from support.timed import KEY, QUIET, measured_page, plotly_alone

from effattn_core import bill
from figures import front
from figures.retention import forms

BOOK = ROOT / "book"
TEXT = (BOOK / "index.md").read_text()
NAMES = ("bill", "kept", "read")  # what it costs, what can be kept instead, what need not be read
PAGE, SENT = 450_000, 1_650_000  # bytes: of the page itself; of all that is asked for it, compressed
LONGEST = 3  # seconds of a quiet core until all three figures have answered


def areas(square):
    """Colour -> cells that a square's drawing fills with it."""
    found = {}
    for width, colour in re.findall(r'<rect [^>]*width="([\d.e-]+)" height="1" fill="([^"]+)"', front._svg(square)):
        found[colour] = found.get(colour, 0) + float(width)
    return found


def test_the_picture_fills_as_many_cells_as_the_bill_has_gibibytes():
    shown = front.squares()
    wanted = [bill.lines(topic)["cache"] for topic in (None, "attention", "retention", "yoco")]
    for square, line in zip(shown, wanted, strict=False):
        assert square.amount == line.amount()
        assert sum(areas(square).values()) == pytest.approx(line.value / 2**30, abs=1e-3)
    read, bits = shown[4:]
    decode = bill.lines("rectified")["decode"]
    assert read.amount == decode.amount(decode.text)
    assert areas(read)[front.PALE] == pytest.approx(wanted[1].value / 2**30)
    assert areas(read)[front.LOWERED] == pytest.approx(decode.text / 2**30, abs=1e-3)
    moments = 8 * bill.lines("lowbit")["optimizer"].value / bill.MODEL.parameters
    assert sum(areas(bits).values()) == pytest.approx(moments, abs=1e-3) and bits.amount == f"{moments:g} bits"


def test_each_square_says_what_it_shows_and_needs_no_script_and_no_page_s_colour():
    text = front.picture().to_html()
    told = [html.unescape(each) for each in re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', text)]
    assert told == [square.says() for square in front.squares()] and len(told) == 6
    assert "<script" not in text and " id=" not in text and "currentColor" in text
    assert "16 of 64 cells are full." in told and "3.1 of 64 cells are full, 16 pale." in told
    assert all(square.words in str(front.picture()) for square in front.squares())


def test_a_square_that_its_start_does_not_fill_is_refused(monkeypatch):
    monkeypatch.setattr(front, "CELLS", 100)
    with pytest.raises(ValueError, match=r"must be full, with 100 GiB of text; the bill starts with 64\."):
        front.squares()


def test_every_part_has_a_card_and_every_chapter_of_it_a_link():
    cards = dict(re.findall(r"\{grid-item-card\} (.+)\n((?:.*\n)*?):::", TEXT))
    for part in yaml.safe_load((BOOK / "_toc.yml").read_text())["parts"]:
        for chapter in (each["file"] for each in part["chapters"]):
            topic = re.match(r"\d|how-to|exercises|glossary|notation|reference$", chapter)
            assert not topic or re.search(rf"\]\({chapter}\.(md|ipynb)\)", cards[part["caption"]]), chapter


def test_little_is_said_before_the_picture_and_before_the_first_figure():
    before = re.sub(r"```.*?```", "", TEXT.split("\n# ", 1)[1].split("explore(\n")[0].rpartition("```{code-cell}")[0],
                    flags=re.DOTALL)  # fmt: skip
    assert len(before.split()) < 90
    assert TEXT.index("front.picture()") < TEXT.index("explore(\n") < TEXT.index("{grid-item-card}")
    assert tuple(re.findall(r'name="(\w+)"', TEXT)) == NAMES


def test_what_the_captions_and_lead_ins_say_in_words_is_so():
    decode = bill.lines()["decode"]
    assert 4 < decode.text / decode.weights < 5  # more than four times as much cache as weights
    line, read = len(forms.PASSAGE.split("\n")[0]), forms.READ[-1]
    assert 0.4 < forms._kept(0, read, 0.5) / line < 0.6  # half a line in mind
    assert forms._kept(forms.HEADS - 1, read, 0.5) == read  # the last head has all of it
    assert bill.lines("retention")["cache"].value == bill.lines("retention", 1 << 20)["cache"].value
    assert bill.lines("lowbit")["optimizer"].value < bill.MODEL.parameters  # less than one byte per weight


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_all_three_figures_answer_to_the_keyboard_soon_and_the_page_is_light(browser, pages):
    """Work is the page's own processor time, as a multiple of what plotly alone takes here in the same minute."""
    for _ in range(3):  # a neighbour can only add to it
        with measured_page(browser) as (page, used):
            asked, first = [], None
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            begin = time.perf_counter()
            page.goto((pages / "index.html").as_uri(), wait_until="commit")
            for name in NAMES:
                answer(page, name)
                first = first or (time.perf_counter() - begin, used())
            every = time.perf_counter() - begin, used()
        unit = plotly_alone(browser, pages)
        print(f"the first figure answers after {first[0]:.2f} s, {first[1]:.2f} of work; all after {every[0]:.2f} s, "
              f"{every[1]:.2f} of work; plotly alone {unit:.2f}")  # fmt: skip
        if every[1] / unit < LONGEST / QUIET:
            break
    assert 0.01 < every[1] / unit < LONGEST / QUIET
    files = {Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)) for url in asked if url.startswith("file:")}
    sizes = {file.name: (file.stat().st_size, len(gzip.compress(file.read_bytes(), 6))) for file in files}
    whole, sent = map(sum, zip(*sizes.values(), strict=True))
    print(f"index.html {sizes['index.html'][0]:,} bytes; {len(sizes)} files of {whole:,} bytes, compressed {sent:,}")
    assert {"index.html", "plotly.min.js", "explore.js"} <= {*sizes}
    assert sizes["index.html"][0] < PAGE and sent < SENT and "searchindex.js" not in sizes


def answer(page, name):
    """Bring a figure in view by its first control, move that by a key: what is drawn and what is said change."""
    figure = f"document.getElementById('{name}')"
    page.wait_for_function(f"{figure}?.querySelector('[data-parameter]:enabled')", polling=10)
    page.evaluate(f"{figure}.querySelector('[data-parameter]').focus()")
    page.wait_for_function(f"{figure}.dataset.drawn", polling=10)
    says = page.evaluate(f"{figure}.querySelector('.explorable-says').textContent")
    drawn = page.evaluate(f"Number({figure}.dataset.drawn)")
    page.keyboard.press(page.evaluate(KEY))
    page.wait_for_function(f"Number({figure}.dataset.drawn) > {drawn}", polling=10)
    page.wait_for_function(f"{figure}.querySelector('.explorable-says').textContent !== {says!r}", polling=10)
