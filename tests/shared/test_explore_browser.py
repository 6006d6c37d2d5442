"""Explorables in a real browser with the network cut: they answer to mouse, keyboard, address and theme."""

import re
import shutil
from pathlib import Path

import book_pages
import pytest
from support.accessible import violations

from figures import bill, explore, theme
from figures.attention import forms as attention

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("explorables")]

STATIC = Path(__file__).parents[2] / "book" / "_static"
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Figures</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="explore.css">
<script src="book.js"></script><script src="explore.js"></script>
<style>body {{ max-width: 46rem; margin: 1rem auto; padding: 0 1rem;
background: var(--explorable-paper); color: var(--explorable-ink) }}
/* as the book's theme has it: a light sheet under outputs on a dark page */
html[data-theme=dark] .bd-content div.cell_output .text_html:not(:has(table.dataframe)) {{ background-color: #ced6dd;
padding: .5rem }}</style></head><body><main class="bd-content"><h1>Figures</h1>{}</main></body></html>"""


def figures():
    import plotly.graph_objects as go

    def lines(step, kind, tall):
        """More than sixteen points, so that they travel as typed arrays; a number in the middle that can be read."""
        values = [step * 1.5 + i / 10 * (2 if tall else 1) for i in range(20)]
        return theme.figure(go.Scatter(y=values, name=kind), title=dict(text=f"{kind} {step}"), height=200)

    return [
        explore.explore(
            lines, name="demo", caption="A line that moves.", alt="The line starts at {step}, {kind}.".format,
            play="step", default=dict(step=1), step=range(4), kind=["plain", "très; a=1, b"], tall=[False, True],
            words=dict(step="{} steps".format),
        ),
        explore.explore(
            attention.online_softmax, name="online-softmax", caption="The walk along a row.", play="step",
            alt=attention.online_softmax_says, step=range(7),
        ),
        explore.explore(
            bill.conversation, name="bill", caption="The bill.", alt=bill.conversation_says,
            context=bill.CONTEXTS, key_value_heads=bill.HEADS, words=dict(key_value_heads=bill.heads_words),
        ),
        explore.explore(
            attention.schedule, name="schedule", caption="The blocks.", alt=attention.schedule_says,
            block=[32, 64], window=[None, 128], causal=[True, False],
        ),
        explore.explore(
            attention.cache, name="cache", caption="The cache.", alt=attention.cache_says, context=bill.CONTEXTS[:3]
        ),
        explore.explore(
            attention.visibility, name="visibility", caption="The mask.", alt=attention.visibility_says, window=[2, 6]
        ),
        theme.table([dict(form="tiled", error=1e-7)], caption="A table."),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    book_pages.unpack(folder / "vendor")
    for name in ("book.js", "explore.js", "explore.css"):
        shutil.copy(STATIC / name, folder)
    outputs = (each._repr_mimebundle_()["text/html"] for each in figures())
    body = "\n".join(f'<div class="cell_output"><div class="text_html">{html}</div></div>' for html in outputs)
    (folder / "index.html").write_text(PAGE.format(body), encoding="utf-8")
    return (folder / "index.html").as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the page in a context of its own, offline; afterwards nothing may have been said on the console."""
    contexts, complaints = [], []

    def open_(fragment="", *, width=1000, reduced_motion="no-preference", **settings):
        context = browser.new_context(viewport=dict(width=width, height=900), reduced_motion=reduced_motion, **settings)
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda each: each.url.startswith(("file:", "data:", "blob:")) or complaints.append(each.url))
        page.goto(address + fragment)
        if settings.get("java_script_enabled", True):
            page.wait_for_selector("#demo[data-drawn] .main-svg", timeout=60_000)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def first_value(page):
    return page.evaluate("document.querySelector('#demo .explorable-chart')._fullData[0].y[0]")


def wait_for_value(page, value):
    page.wait_for_function(
        "wanted => Math.abs(document.querySelector('#demo .explorable-chart')._fullData[0].y[0] - wanted) < 1e-5",
        arg=value, timeout=10_000,
    )  # fmt: skip


def drawn_title(page):
    return page.text_content("#demo .gtitle")


def test_the_slider_answers_to_mouse_and_keyboard(open_page):
    page = open_page()
    slider = page.get_by_label("step", exact=True).first
    assert first_value(page) == 1.5 and drawn_title(page) == "plain 1"
    path = page.get_attribute("#demo .lines path", "d")
    slider.press("ArrowRight")
    wait_for_value(page, 3)
    assert drawn_title(page) == "plain 2" and slider.get_attribute("aria-valuetext") == "2 steps"
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    wait_for_value(page, 4.5)
    page.select_option("#demo--kind", label="très; a=1, b")
    page.wait_for_function("document.querySelector('#demo .gtitle').textContent === 'très; a=1, b 3'")
    page.get_by_label("tall").check()
    page.wait_for_function("document.querySelector('#demo .explorable-chart')._fullData[0].y[19] > 8")
    assert page.get_attribute("#demo .lines path", "d") != path or first_value(page) == 4.5


def test_a_change_is_announced_in_words_after_a_rest(open_page):
    page = open_page()
    said = page.locator("#demo .explorable-says")
    assert said.get_attribute("aria-live") == "polite" and said.text_content() == "The line starts at 1, plain."
    page.press("#demo--step", "ArrowRight")
    page.wait_for_function("document.querySelector('#demo--says').textContent === 'The line starts at 2, plain.'")


def test_play_walks_to_the_end_and_reset_returns(open_page):
    page = open_page()
    play = page.locator("#demo .explorable-play")
    assert play.text_content() == "Play step"
    play.click()
    assert play.text_content() == "Pause"
    wait_for_value(page, 4.5)
    page.wait_for_function("document.querySelector('#demo .explorable-play').textContent === 'Play step'")
    page.check("#demo--tall")
    page.click("#demo .explorable-reset")
    wait_for_value(page, 1.5)
    assert page.input_value("#demo--step") == "1" and not page.is_checked("#demo--tall")
    page.wait_for_function("location.hash === ''")


def test_with_reduced_motion_a_press_is_one_step(open_page):
    page = open_page(reduced_motion="reduce")
    play = page.locator("#demo .explorable-play")
    assert play.text_content() == "Step step"
    play.click()
    wait_for_value(page, 3)
    page.wait_for_timeout(1200)
    assert first_value(page) == 3


def test_states_of_two_figures_share_the_address_and_come_back(open_page):
    page = open_page()
    page.select_option("#demo--kind", label="très; a=1, b")
    page.check("#demo--tall")
    page.locator("#online-softmax--step").press("End")
    page.wait_for_function("location.hash.includes('online-softmax:step=6')")
    fragment = page.evaluate("location.hash")
    assert fragment == "#demo:kind=tr%C3%A8s%3B%20a%3D1%2C%20b,tall=1;online-softmax:step=6"
    again = open_page(fragment)
    assert drawn_title(again) == "très; a=1, b 1" and again.is_checked("#demo--tall")
    assert again.input_value("#online-softmax--step") == "6"
    assert "direct softmax" in again.text_content("#online-softmax--says")
    again.evaluate("location.hash = '#demo:step=3'")
    wait_for_value(again, 4.5)
    assert again.input_value("#online-softmax--step") == "6" and not again.is_checked("#demo--tall")


def test_an_address_that_names_nothing_changes_nothing(open_page):
    page = open_page("#demo:step=99,colour=%E0,step;nowhere:a=1")
    assert first_value(page) == 1.5


def test_the_chart_takes_the_colours_of_the_page_s_theme(open_page):
    page = open_page()
    colour = "getComputedStyle(document.querySelector('#demo .xtick text')).fill"
    light = page.evaluate(colour)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{colour} !== '{light}'")
    sheets = "[...document.querySelectorAll('.text_html')].map((sheet) => getComputedStyle(sheet).backgroundColor)"
    assert set(page.evaluate(sheets)) == {"rgba(0, 0, 0, 0)"}
    assert (light, page.evaluate(colour)) == ("rgb(36, 41, 47)", "rgb(230, 232, 235)")


def contrast(first, second):
    """WCAG's contrast of two computed colours."""

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


LABEL = "getComputedStyle(document.querySelector('#demo .xtick text')).fill"
GROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_can_be_read_in_forced_colours_whichever_theme_was_chosen(open_page, theme, scheme):
    page = open_page(color_scheme=scheme)
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    drawn = page.get_attribute("#demo", "data-drawn")
    page.emulate_media(forced_colors="active")
    page.wait_for_function(f"document.getElementById('demo').dataset.drawn > {drawn}")
    page.wait_for_timeout(100)
    label, ground = page.evaluate(LABEL), page.evaluate(GROUND)
    assert contrast(label, ground) > 7, (label, ground)


def test_on_paper_every_figure_is_drawn_as_on_a_light_page_and_no_wider_than_paper(open_page):
    page = open_page()
    page.wait_for_function("window.Plotly")
    assert page.locator("#visibility[data-drawn]").count() == 0
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.evaluate("""() => window.addEventListener("beforeprint", () => {
      const widths = [...document.querySelectorAll(".main-svg")].map((svg) => svg.width.baseVal.value);
      const labels = [...document.querySelectorAll(".xtick text")].map((label) => getComputedStyle(label).fill);
      window.printed = [document.querySelectorAll("figure.explorable:not(:has(.main-svg))").length,
        Math.max(...widths), [...new Set(labels)], document.documentElement.dataset.theme]; })""")
    page.pdf()
    assert page.evaluate("window.printed") == [0, 640, ["rgb(36, 41, 47)"], "light"]
    page.wait_for_function(f"{LABEL} === 'rgb(230, 232, 235)'")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.emulate_media(media="print")
    page.wait_for_function(f"{LABEL} === 'rgb(36, 41, 47)'")


def draw_all(page):
    for each in page.locator("figure.explorable").all():
        each.scroll_into_view_if_needed()
        page.wait_for_selector(f"#{each.get_attribute('id')}[data-drawn] .main-svg", timeout=20_000)


def test_figures_far_down_wait_until_they_come_near_and_keep_their_place(open_page):
    page = open_page()
    assert page.locator("#visibility[data-drawn]").count() == 0
    height = page.evaluate("document.documentElement.scrollHeight")
    draw_all(page)
    assert abs(page.evaluate("document.documentElement.scrollHeight") - height) <= 8


def test_a_phone_needs_no_sideways_scrolling_and_answers_to_touch(open_page):
    page = open_page(width=390, has_touch=True, is_mobile=True)
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('#schedule .explorable-chart').clientHeight") == 740
    page.locator("#demo--step").scroll_into_view_if_needed()
    box = page.locator("#demo--step").bounding_box()
    assert box["height"] >= 24
    page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    wait_for_value(page, 4.5)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_no_serious_violation(open_page, colours):
    pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: the extra `test` brings it")
    page = open_page()
    page.evaluate(f"document.documentElement.dataset.theme = '{colours}'")
    draw_all(page)
    assert violations(page) == []


def test_without_javascript_the_words_remain(open_page):
    page = open_page(java_script_enabled=False)
    figure = page.locator("#demo")
    text = figure.inner_text()
    assert "needs JavaScript" in text and "The line starts at 1, plain." in text and "A line that moves." in text
    assert page.is_disabled("#demo--step")
