"""The capstone's form in a browser with the network cut: what it says of every stack, by keyboard, on a phone."""

import itertools
import json
from dataclasses import asdict, replace

import pytest
from support.accessible import violations
from support.alone import opened, page_of

from effattn_core import stacks
from figures import stacks as draw

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
ASK = """(all) => {
  const data = JSON.parse(document.querySelector(".stacks-data").textContent);
  return all.map((chosen) => {
    const bill = stacks.billOf(data, chosen);
    const amounts = Object.entries(bill).filter(([, cell]) => cell).map(([key, cell]) => [key, cell[0]]);
    return [stacks.reasonsOf(data, chosen), Object.fromEntries(amounts), stacks.saysOf(data, bill),
      stacks.writtenOf(data, chosen)];
  });
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return page_of(draw.form().to_html(), tmp_path_factory.mktemp("stacks"), "explore.css", "stacks.css", "stacks.js")


@pytest.fixture
def open_page(browser, address):
    with opened(browser, address) as open_:
        yield open_


def choose(page, part, option):
    """Answer by keyboard: from the first option down to this one, past those that are greyed."""
    chosen = page.locator(f"#stacks--{part}")
    chosen.focus()
    page.keyboard.press("Home")
    for _ in stacks.CHOICES[part].options:
        if chosen.input_value() == option:
            return
        page.keyboard.press("ArrowDown")
    assert chosen.input_value() == option


def shown(page):
    """What the form says at this moment: (Python, sentence, greyed options with their reasons)."""
    return (
        page.locator(".stacks-code code").text_content(),
        page.get_by_role("status").text_content(),
        page.evaluate('[...document.querySelectorAll(".stacks-greyed li")].map((each) => each.textContent)'),
    )


def told(stack):
    """The same from Python."""
    greyed = [f"{what}: {why}" for what, why in draw.greyed(stack)]
    return draw.written(stack), draw.says(stack), greyed


def test_the_page_says_of_every_stack_what_python_says(open_page):
    every = stacks.every()
    found = open_page().evaluate(ASK, [asdict(stack) for stack in every])
    assert len(every) > 300
    for stack, (reasons, amounts, says, written) in zip(every, found, strict=True):
        lines = stacks.bill(stack, draw.CONTEXT)
        assert amounts == {key: line.amount() for key, line in lines.items()}, stack
        assert (reasons, says, written) == (stacks.reasons(stack), draw.says(stack), draw.written(stack))


def test_the_line_of_python_builds_the_stack():
    names = {"Stack": stacks.Stack}
    assert all(eval(draw.written(stack), names) == stack for stack in stacks.every())


def test_the_data_of_the_form_is_small_and_looks_up_every_combination():
    data = draw.data()
    assert len(json.dumps(data)) < 60_000
    table, parts = data["refusals"], data["parts"]
    grid = list(itertools.product(*(parts[name] for name in table["parts"])))
    for options, said in draw.combinations().items():
        chosen = dict(zip(parts, options, strict=True))
        why = table["values"][table["of"][grid.index(tuple(chosen[name] for name in table["parts"]))]]
        assert why == (said if isinstance(said, str) else "")


def test_options_and_presets_are_chosen_by_keyboard_and_what_does_not_fit_is_greyed(open_page):
    page = open_page()
    assert shown(page) == told(stacks.BEST)
    page.locator('[data-preset="Plain Transformer"]').focus()
    page.keyboard.press("Enter")
    assert shown(page) == told(stacks.Stack())
    choose(page, "mixer", "gated")
    choose(page, "sharing", "yoco")
    choose(page, "optimizer", "SOLO 2/2")
    stack = stacks.Stack(mixer="gated", sharing="yoco", optimizer="SOLO 2/2")
    assert shown(page) == told(stack) and stacks.reasons(stack)["drafting"]
    disabled = page.evaluate(
        "[...document.querySelectorAll('#stacks--drafting option:disabled')].map((each) => each.value)"
    )
    assert disabled == list(stacks.reasons(stack)["drafting"])
    pressed = page.locator('[aria-pressed="true"]')
    assert pressed.count() == 0
    page.locator('[data-preset="YOCO"]').click()
    assert pressed.inner_text() == "YOCO" and shown(page) == told(replace(stack, optimizer="AdamW"))


def test_tab_goes_from_the_presets_through_all_parts_to_the_copy(open_page):
    page = open_page()
    page.locator("[data-preset]").last.focus()
    for part in stacks.CHOICES:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == f"stacks--{part}"


def test_the_line_is_copied(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy")
    button.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == draw.written(stacks.BEST)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 390])
def test_the_form_is_accessible_in_both_themes_and_does_not_widen_a_phone(open_page, scheme, width):
    page = open_page(width=width)
    page.evaluate(f"document.documentElement.dataset.theme = '{scheme}'")
    choose(page, "mixer", "window")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page, severe=False) == []
    table = page.locator(".stacks-bill")
    assert table.evaluate("(each) => each.scrollWidth <= each.clientWidth"), "the bill scrolls sideways"


def test_without_a_script_the_first_stack_is_told_whole(open_page):
    page = open_page(java_script_enabled=False)
    assert not page.locator("fieldset").is_visible() and not page.locator(".stacks-presets").is_visible()
    assert page.locator(".stacks-says").inner_text() == draw.says(stacks.BEST)
    assert page.locator(".stacks-code code").inner_text() == draw.written(stacks.BEST)
    lines = stacks.bill(stacks.BEST, draw.CONTEXT)
    for key, line in lines.items():
        assert page.locator(f'[data-line="{key}"] [data-amount]').inner_text() == line.amount()
