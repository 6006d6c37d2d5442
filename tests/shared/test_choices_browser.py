"""The table of methods in a browser with the network cut: by keyboard, on a phone, in both themes, without a script."""

import re

import pytest
from support.accessible import violations
from support.alone import opened, page_of

from effattn_core import choices
from effattn_core.choices import Reader, reasons
from figures import choices as draw

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("explorables")]

METHODS = choices.methods()
SHOWN = """[...document.querySelectorAll("tbody[data-method]")].filter((each) => each.checkVisibility())
  .map((each) => each.dataset.method)"""
HIDDEN = '[...document.querySelectorAll(".which-hidden li")].map((each) => each.textContent)'


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return page_of(draw.choosing().to_html(), tmp_path_factory.mktemp("which"), "explore.css", "which.js")


@pytest.fixture
def open_page(browser, address):
    with opened(browser, address) as open_:
        yield open_


def choose(page, question, words):
    """Answer a question by keyboard: from the first option down to the one with these words."""
    page.locator(f"#which--{question}").focus()
    page.keyboard.press("Home")
    options = [text for _, text in next(each[2] for each in draw.QUESTIONS if each[0] == question)]
    for _ in range(options.index(words)):
        page.keyboard.press("ArrowDown")


def assert_as_in_python(page, reader):
    wanted = {method.name: reasons(method, reader) for method in METHODS}
    assert page.evaluate(SHOWN) == [name for name, why in wanted.items() if not why]
    assert page.evaluate(HIDDEN) == [f"{name}: {'; '.join(why)}." for name, why in wanted.items() if why]


def test_answers_by_keyboard_hide_what_does_not_suit_each_with_its_reasons(open_page):
    page = open_page()
    assert_as_in_python(page, Reader())
    assert not page.locator(".which-hidden").is_visible()
    choose(page, "memory", "24 GB")
    choose(page, "recall", "yes")
    choose(page, "task", "serve a language model")
    assert_as_in_python(page, Reader(memory=24e9, recall=True, task="text"))
    choose(page, "context", "1M tokens")
    choose(page, "memory", "80 GB")
    choose(page, "training", "a short time")
    assert_as_in_python(page, Reader(1 << 20, 80e9, "short", True, "text"))
    page.locator(".which-reset").focus()
    page.keyboard.press("Enter")
    assert_as_in_python(page, Reader())


def test_the_count_is_announced_and_focus_goes_by_tab_through_all_questions(open_page):
    page = open_page()
    count = page.get_by_role("status")
    assert count.inner_text() == f"{len(METHODS)} methods."
    choose(page, "recall", "yes")
    left = sum(not reasons(method, Reader(recall=True)) for method in METHODS)
    assert re.match(rf"{left} of {len(METHODS)} methods suit; {len(METHODS) - left} are hidden", count.inner_text())
    page.locator("#which--context").focus()
    for question in ("memory", "training", "recall", "task"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == f"which--{question}"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "which-reset"


def test_cells_are_those_of_the_chosen_length(open_page):
    page = open_page()
    for context, words in ((8192, "8K tokens"), (1 << 20, "1M tokens")):
        choose(page, "context", words)
        for method in METHODS:
            if method.lines is None:
                continue
            for key in ("cache", "decode", "prefill"):
                cell = page.locator(f'tbody[data-method="{method.name}"] [data-cell="{key}"]')
                assert cell.text_content() == method.lines(context)[key].amount()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 390])
def test_the_table_is_accessible_in_both_themes_and_does_not_widen_a_phone(open_page, scheme, width):
    page = open_page(width=width)
    page.evaluate(f"document.documentElement.dataset.theme = '{scheme}'")
    choose(page, "recall", "yes")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    if width == 390:
        box = page.locator(".which")
        assert box.evaluate("(each) => each.scrollWidth <= each.clientWidth"), "the table scrolls sideways"


def test_without_a_script_every_method_is_shown_and_no_question_asked(open_page):
    page = open_page(java_script_enabled=False)
    for method in METHODS:
        assert page.get_by_role("link", name=method.name, exact=True).is_visible()
    assert not page.locator("fieldset").is_visible() and not page.locator(".which-hidden").is_visible()
