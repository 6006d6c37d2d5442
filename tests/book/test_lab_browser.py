"""The boxes in a browser, with the network cut: kernels run, are judged and stopped; numbers are judged as in Lab."""

import random
import re
import shutil

import lab
import lab_shown
import lab_vendor
import pytest
from lab_equality import shown, solutions
from lab_found import TRY
from support import lab_site
from support.accessible import violations
from support.lab_site import box, focus_editor, press, write

from effattn_core.exercises import grade

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
RACES, STRAYS = lab_shown.FAULTY
NUMBERS = "primer.loaded_bytes", "latents.bits"
FEW = "primer.scale_add", f"{TRY}primer.triple_kernel", f"{TRY}{RACES}", "retention.step_kernel", *NUMBERS
ENDLESS = "def scale_add(left, right, factor, block):\n    while True:\n        pass\n"


@pytest.fixture(scope="module")
def site(small_book, boxes):
    """The address of a folder with a page of all boxes, one of a few, and all that they need."""
    if reason := lab_vendor.prepare():
        pytest.skip(f"kernels do not run on the pages here: {reason}")
    folder = small_book[0] / "_build" / "html" / "_static"
    lab_site.write_page(folder, boxes.values(), "all")
    lab_site.write_page(folder, [boxes[name] for name in FEW], "few")
    with lab_site.served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def everything(browser, site):
    """One page with all boxes, and one Python for them; what it complains of is asserted to be nothing."""
    wrong, context = [], browser.new_context(viewport={"width": 1000, "height": 900})
    yield lab_site.visited(context, f"{site}all.html", wrong)
    context.close()
    assert wrong == []


@pytest.fixture
def visit(browser, site):
    """visit() opens the page of a few boxes; what it complains of, or asks of another site, must be nothing."""
    contexts, wrong = [], []

    def go(after="", context=None, **settings):
        context = context or browser.new_context(**{"viewport": {"width": 1000, "height": 900}} | settings)
        contexts.append(context)
        page = lab_site.visited(context, f"{site}few.html{after}", wrong)
        page.wait_for_selector(".lab .cm-editor")
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def opened(page, name):
    """The box of a shown kernel, opened by the keyboard if it is folded."""
    if page.locator(f'[id="{TRY}{name}"] details[open]').count() == 0:
        page.locator(f'[id="{TRY}{name}"] summary').focus()
        page.keyboard.press("Enter")
    place = box(page, TRY + name)
    place.locator(".cm-content").wait_for()
    return place


# ---- all of the book, on one page with one Python --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(solutions()))
def test_a_stub_fails_and_the_answer_of_its_own_box_passes(everything, boxes, name):
    page, place = everything, box(everything, name)
    assert "It is not written yet." in press(page, place, "Check", "Not yet.")
    press(page, place, "Answer", "")
    write(page, place, place.locator(".lab-answer").inner_text())
    said = press(page, place, "Check", "Passed.")
    assert re.fullmatch(r"Right for (all \d+ cases|.*)\. Passed\.", said), said
    assert page.locator(f'input[data-done="{boxes[name][0]["label"]}"]').is_checked()
    assert place.locator("canvas").count() and "bytes loaded" in place.locator("figcaption").first.inner_text()


@pytest.mark.parametrize("name", sorted(shown()))
def test_a_shown_kernel_is_drawn_by_run_and_passes_unchanged(everything, name):
    assert box(everything, TRY + name).locator("button").count() == 0  # nothing is made before it is opened
    page, place = everything, opened(everything, name)
    assert [each.inner_text() for each in place.locator("button").all()] == ["Run", "Check", "Stop", "Reset"]
    if name == STRAYS:
        assert "reads outside source_pointer" in press(page, place, "Run", "Not yet.")
        assert place.locator("output").inner_text() == "(2, 0, 0)"  # the program that goes astray
    elif name == RACES:
        assert "meet at total_pointer[0]" in press(page, place, "Run", "Not yet.")
    else:
        press(page, place, "Run", "The same as the kernel shown gives, for ")
        press(page, place, "Check", "Passed.")
    assert place.locator("canvas").count() >= len(
        [each for each in lab_shown.LAUNCHES[name][0][1] if hasattr(each, "shape")]
    )
    assert "Check compares with what the kernel as shown gives" in place.locator(".lab-keys").inner_text()


ANSWER = """numbers => Object.fromEntries(Object.entries(numbers).map(([name, answer]) => {
  const box = document.getElementById(name);
  box.querySelectorAll(".lab-field input").forEach((field, place) => { field.value = answer[place] });
  box.querySelector("form").requestSubmit();
  return [name, [box.querySelector(".lab-says").textContent, box.querySelector("input[data-done]").checked]];
}))"""


def test_every_right_number_passes_and_ticks_its_exercise(everything, boxes):
    right = {name: [repr(part["wanted"]) for part in data.get("parts", [])] for name, (data, _) in boxes.items()}
    right = {name: texts for name, texts in right.items() if texts}
    assert everything.evaluate(ANSWER, right) == {name: ["Right. Passed.", True] for name in right} and len(right) == 65


def candidates(part, generator):
    """Answers to a question: right ones, known mistakes, near ones, some of another size or sign, ties of rounding."""
    wanted = part["wanted"]
    yield from (wanted, -wanted, 0.0, -0.0, 1e-7 * wanted, 1.125 * wanted, 8 / 9 * wanted, 1e300, 123456.5, 1000000.0)
    for number in (wanted, *(number for number, _ in part["mistakes"])):
        for scale in (1, 1 + 0.999 * part["within"], 1 + 1.02 * part["within"]):
            yield number * scale
    for _ in range(6):
        yield generator.choice((-1, 1, 1)) * 10 ** generator.uniform(-8, 12)


JUDGED = "all => all.map(([parts, answers]) => answers.map((texts) => effattnNumbers.judgeAll(texts, parts) ?? ''))"


def test_javascript_says_of_many_numbers_what_python_says(everything, boxes):
    generator, asked, said = random.Random(0), [], []
    for name, (data, _) in boxes.items():
        parts, answers = data.get("parts", []), []
        for place, part in enumerate(parts):
            for number in candidates(part, generator):
                answers.append([number if at == place else each["wanted"] for at, each in enumerate(parts)])
        asked.append([parts, [list(map(repr, answer)) for answer in answers]])
        said.append([grade(name, tuple(each) if len(each) > 1 else each[0]).reason for each in answers])
    found = everything.evaluate(JUDGED, asked)
    for there, here, (_, answers) in zip(said, found, asked, strict=True):
        assert [*zip(answers, here, strict=True)] == [*zip(answers, there, strict=True)]
    assert sum(map(len, said)) > 1500


def test_javascript_writes_and_reads_numbers_as_python_does(everything):
    generator = random.Random(1)
    numbers = [generator.choice((-1, 1)) * 10 ** generator.uniform(-12, 20) for _ in range(2000)]
    numbers += [whole + half for whole in range(100000, 100050) for half in (0, 0.5)] + [n / 16 for n in range(1, 400)]
    numbers += [999999.5, 99999.95, 9.995, 0.00009999995, 1e15, 0.0, -0.0, 5e-324, 1.7e308]
    for digits in (6, 3):
        found = everything.evaluate(f"all => all.map(each => effattnNumbers.general(each, {digits}))", numbers)
        assert found == [f"{number:.{digits}g}" for number in numbers]
    texts = {
        "1,024": 1024, "1 024.5": 1024.5, "−3": -3, "+.5": 0.5, "2e3": 2000, " 7. ": 7, "1,02": None, "1,5": None,
        "12 3": None, "0x10": None, "1e999": None, "Infinity": None, "nan": None, "1/2": None, "--1": None,
    }  # fmt: skip
    assert everything.evaluate("all => all.map(each => effattnNumbers.read(each))", list(texts)) == list(texts.values())


# ---- what goes wrong, on the same page -------------------------------------------------------------------------------


def test_a_stray_lane_and_a_race_are_named_and_python_was_fetched_once(everything):
    page, place, right = everything, box(everything, "primer.scale_add"), solutions()["primer.scale_add"].text
    write(page, place, right.replace("sums, mask=inside)", "sums)"))
    assert "writes outside target_pointer" in press(page, place, "Check", "outside")
    assert "writes outside target_pointer" in place.locator(".lab-picture pre").first.inner_text()
    twice = right.replace("triton.cdiv(left.numel(), block)", "triton.cdiv(2 * left.numel(), block)")
    write(page, place, twice.replace("program * BLOCK + ", "program // 2 * BLOCK + "))
    assert "meet at target_pointer" in press(page, place, "Check", "meet at")
    place.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert place.locator("output").inner_text() == "(1, 0, 0)"
    assert len([url for url in page.fetched if url.endswith("pyodide.asm.wasm")]) == 1


def test_a_race_that_is_shown_can_be_mended_there_and_a_change_is_told_from_what_was_shown(everything, boxes):
    page, place = everything, opened(everything, RACES)
    shown_text = boxes[f"{TRY}{RACES}"][0]["stub"]
    store = "tl.store(total_pointer, tl.load(total_pointer) + mine)"
    write(page, place, shown_text.replace(store, "tl.atomic_add(total_pointer, mine)"))
    press(page, place, "Check", "Passed.")
    write(page, place, shown_text.replace(store, "tl.atomic_add(total_pointer, 2 * mine)"))
    assert lab_shown.AS_SHOWN in press(page, place, "Check", "Not yet.")
    press(page, place, "Reset", "first text")
    assert store in place.locator(".cm-content").inner_text()


def test_a_loop_without_end_is_stopped_and_the_next_run_works(everything, boxes):
    page = everything
    first, second = box(page, "primer.scale_add"), box(page, "retention.step_kernel")
    write(page, second, boxes["retention.step_kernel"][0]["answer"])
    write(page, first, ENDLESS)
    press(page, first, "Run", "Running.")
    page.wait_for_timeout(300)
    assert second.get_by_role("button", name="Run").is_disabled()
    press(page, first, "Stop", "Stopped.")
    assert first.get_by_role("button", name="Run").evaluate("e => e === document.activeElement")
    press(page, second, "Run", "Right for")


def test_ctrl_enter_runs_what_is_printed_outlives_stop_and_a_verdict_is_of_the_text_that_it_judged(everything):
    page, place = everything, box(everything, "primer.scale_add")
    write(page, place, 'print("before the loop")\n' + ENDLESS)
    page.keyboard.press("Control+Enter")
    place.get_by_text("Still running. Stop ends it.").wait_for(timeout=20000)
    press(page, place, "Stop", "Stopped.")
    assert place.locator(".lab-printed").first.inner_text() == "before the loop\n"
    assert place.locator(".cm-content").inner_text().startswith("print")  # and no line was inserted
    write(page, place, solutions()["primer.scale_add"].text)
    assert press(page, place, "Check", "Passed.").endswith("Passed.")
    write(page, place, "x = 1")
    said = place.locator(".lab-says")
    assert "The text has changed since." in said.inner_text() and said.get_attribute("data-verdict") == ""


# ---- a page as it is opened ------------------------------------------------------------------------------------------


def test_nothing_is_fetched_or_made_before_it_is_wanted(visit):
    page = visit()
    assert page.locator("textarea, .cm-editor").count() == 2 and page.locator(".lab-field input").count() == 3
    opened(page, "primer.triple_kernel")
    assert page.locator(".cm-editor").count() == 3
    assert not [url for url in page.fetched if re.search("pyodide|lab-worker|lab-cases", url)]


def test_on_the_screen_a_box_stands_for_the_cell_and_the_hint_that_it_holds_too(visit):
    page, cell, hint = visit(), "> .cell", "> details:has(> summary:text-is('Hint'))"
    for name in ("primer.scale_add", NUMBERS[0]):
        assert not page.locator(f'[id="{name}"] {cell}').is_visible()
    assert page.locator(f'[id="{TRY}primer.triple_kernel"] {cell}').is_visible()
    place = box(page, "primer.scale_add")
    assert not page.locator(f'[id="primer.scale_add"] {hint}').is_visible()
    press(page, place, "Hint", "")
    assert place.locator(".lab-hint").inner_text() == "A hint."
    page.emulate_media(media="print")
    assert page.locator(f'[id="primer.scale_add"] {cell}').is_visible() and not place.is_visible()


def test_what_is_written_is_kept_until_reset_and_nothing_of_an_address_is_run(visit):
    page = visit("?code=print(1)#scale_add=print(1)")
    place = box(page, "primer.scale_add")
    assert "print" not in place.locator(".cm-content").inner_text()
    write(page, place, "# mine\n")
    write(page, opened(page, "primer.triple_kernel"), "# mine too\n")
    again = visit(context=page.context)
    assert "# mine" in box(again, "primer.scale_add").locator(".cm-content").inner_text()
    for place in (box(again, "primer.scale_add"), opened(again, "primer.triple_kernel")):
        assert "# mine" in place.locator(".cm-content").inner_text()
        press(again, place, "Reset", "first text")
        assert "def " in place.locator(".cm-content").inner_text()
    assert again.evaluate("localStorage.length") == 0
    assert not [url for url in page.fetched + again.fetched if "lab-worker" in url]


def test_tab_goes_through_a_box_and_leaves_it_and_hint_and_answer_open_below(visit):
    page = visit()
    place = box(page, "primer.scale_add")
    focus_editor(place)
    # Stop has nothing to stop, and below the buttons is one link.
    for name in ("Run", "Check", "Reset", "Hint", "Answer", "What the editor can tell"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == name
    page.keyboard.press("Tab")
    assert not place.evaluate("e => e.contains(document.activeElement)")
    assert not place.locator(".lab-hint").is_visible() and not place.locator(".lab-answer").is_visible()
    press(page, place, "Hint", "")
    press(page, place, "Answer", "")
    assert place.locator(".lab-hint").is_visible() and "scale_add_kernel" in place.locator(".lab-answer").inner_text()
    assert place.get_by_role("button", name="Answer").get_attribute("aria-expanded") == "true"


def test_numbers_are_answered_by_keyboard_and_each_mistake_has_its_sentence(visit):
    page = visit()
    single, pair = (box(page, name) for name in NUMBERS)
    assert single.get_by_role("status").inner_text() == ""
    single.get_by_label("Your number").focus()
    for text, said in (
        ("", "It is not written yet."),
        ("many", "One number is asked, in digits such as 1,024 or 1.5e9; you gave 'many'."),
        ("33,554,432", "That counts elements: a float32 has four bytes."),
        ("1", "1 is too small, by a factor of 1.34e+08."),
    ):  # fmt: skip
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(text) if text else page.keyboard.press("Delete")
        page.keyboard.press("Enter")
        assert said in single.get_by_role("status").inner_text(), text
    assert not page.locator('input[data-done="exercise-loaded-bytes"]').is_checked()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("134,217,728")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Check"
    page.keyboard.press("Enter")
    assert single.get_by_role("status").inner_text().endswith("Right. Passed.")
    assert page.locator('input[data-done="exercise-loaded-bytes"]').is_checked()
    pair.get_by_label("Latents").fill("2048")
    pair.get_by_label("Codes").press("Enter")
    assert pair.get_by_role("status").inner_text().endswith("Not yet. Codes: It is not written yet.")
    pair.get_by_label("Codes").fill("7")
    pair.get_by_label("Codes").press("Enter")
    assert pair.get_by_role("status").inner_text().endswith("Codes: That is one code; an image has 16.")


def test_it_fits_a_phone_and_axe_finds_nothing(visit, boxes):
    page = visit(viewport={"width": 390, "height": 844})
    place, name = box(page, "primer.scale_add"), "primer.triple_kernel"
    write(page, place, boxes["primer.scale_add"][0]["answer"])
    press(page, place, "Answer", "")
    press(page, place, "Check", "Passed.")
    press(page, opened(page, name), "Run", "The same")
    box(page, NUMBERS[0]).get_by_label("Your number").press("Enter")
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert violations(page, severe=False) == []


@pytest.mark.parametrize("missing", [False, True])
def test_from_a_file_or_without_node_a_sentence_says_how_to_serve_it_and_numbers_work(
    browser, boxes, tmp_path, missing
):
    for path in [*(lab_vendor.BOOK / "_static").glob("lab*"), lab_vendor.BOOK / "_static" / "explore.css"]:
        shutil.copy(path, tmp_path)
    few = [boxes[name] for name in FEW]
    lab_site.write_page(tmp_path, [(data, lab.markup(data, data.get("parts"), missing)) for data, _ in few])
    context = browser.new_context(offline=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.goto((tmp_path / "index.html").as_uri())
    page.locator(".lab-try > summary").first.click()
    for name in FEW[:2]:
        said = box(page, name).locator(".lab-serve").inner_text()
        assert "make serve" in said and ("without node" in said) == missing
        assert page.locator(f'[id="{name}"] > .cell').is_visible()
    assert page.locator(".lab button").count() == 0
    field = box(page, NUMBERS[0]).get_by_label("Your number")
    field.fill("134217728")
    field.press("Enter")
    assert page.locator('input[data-done="exercise-loaded-bytes"]').is_checked() and wrong == []
    context.close()
