"""The built pages in a real browser with the network cut."""

import re
import time

import pytest
from support.house import chapters

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SEVERE = ("serious", "critical")


@pytest.fixture
def visit(browser, pages):
    """Open a page: visit(chapter, width, scheme) gives (page, what went wrong)."""
    contexts = []

    def go(chapter, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        page.goto((pages / f"{chapter}.html").as_uri())
        for place in range(0, page.evaluate("document.documentElement.scrollHeight"), 500):
            page.evaluate(f"window.scrollTo(0, {place})")
            page.wait_for_timeout(40)
        for figure in page.query_selector_all("figure.explorable"):
            page.wait_for_selector(f"#{figure.get_attribute('id')}[data-drawn]", timeout=15000)
        return page, wrong

    yield go
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("chapter", chapters())
def test_a_page_is_whole_quiet_and_accessible(visit, chapter, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page, wrong = visit(chapter, scheme=scheme)
    assert wrong == []
    for figure in page.query_selector_all("figure.explorable"):
        assert figure.query_selector(".main-svg"), "an empty figure"
        assert figure.query_selector("figcaption").inner_text().strip()
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert "$" not in "".join(each.inner_text() for each in page.query_selector_all("span.math, div.math"))
    found = Axe().run(page, context="main").response["violations"]
    severe = [(each["id"], each["nodes"][0]["html"][:120]) for each in found if each["impact"] in SEVERE]
    assert severe == []


@pytest.mark.parametrize("chapter", chapters())
def test_a_phone_does_not_scroll_sideways(visit, chapter):
    page, wrong = visit(chapter, width=390)
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_controls_answer_to_keyboard_and_mouse_and_the_address_keeps_them(visit):
    page, wrong = visit("1-attention/attention")
    figure, slider = page.locator("#online-softmax"), page.locator("#online-softmax--step")
    before, drawn = figure.locator(".main-svg").first.inner_html(), figure.get_attribute("data-drawn")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"document.getElementById('online-softmax').dataset.drawn > {drawn}")
    assert figure.locator(".main-svg").first.inner_html() != before
    page.wait_for_function("location.hash.includes('online-softmax:step=5')")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    page.wait_for_function("location.hash.includes('online-softmax:step=0')")
    assert "No key is read yet" in figure.locator(".explorable-says").inner_text()
    page.locator("#schedule--causal").uncheck()
    page.wait_for_function("location.hash.includes('schedule:causal=0')")
    assert wrong == []


def test_mathematics_and_search_need_no_network(visit):
    page, wrong = visit("1-attention/attention")
    page.wait_for_selector("mjx-container", timeout=15000)
    assert page.locator("mjx-container").count() > 20 and wrong == []
    page, wrong = visit("search")
    page.goto(page.url + "?q=rotary")
    page.wait_for_selector("#search-results li a", timeout=15000)
    assert not [each for each in wrong if each.startswith("http")]


@pytest.mark.parametrize("chapter", [each for each in chapters() if each == "index" or re.match("[1-6]-", each)])
def test_a_page_is_usable_soon(browser, pages, chapter):
    """Target: 2 s until the first figure answers. Measured in the page's own processor time, so that waiting for a
    core does not count. Slow, shared cores take up to three seconds for the longest page, so five is the limit.

    The time by the clock is printed, and is what a reader waits where nothing else runs.
    """
    waited, worked = [], []
    for _ in range(3):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        begin = time.perf_counter()
        page.goto((pages / f"{chapter}.html").as_uri(), wait_until="commit")
        page.wait_for_selector("figure.explorable fieldset:not([disabled])")
        waited.append(time.perf_counter() - begin)
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        worked.append(metrics["TaskDuration"])
        context.close()
    print(f"{chapter}: controls answer after {sorted(waited)[1]:.2f} s, {sorted(worked)[1]:.2f} s of work")
    assert 0.01 < sorted(worked)[1] < 5
