"""Predictions, levels, boxes "done" and previews of terms: a small book of their own, in a browser without network."""

import json
import shutil
from pathlib import Path

import exercise_pages
import pytest
from playwright.sync_api import expect
from support.accessible import SEVERE
from support.house import ROOT, build

from effattn_core.exercises import LEVELS

CHAPTER = """# A chapter

A {term}`prefill` and a {term}`GQA`.

:::{admonition} In one minute
:class: minute
**Question.** How many bytes?
:::

```{excerpt} kernels.attention.forward.absorb
:without-docstring:
```

`````{predict} Before you double it
:label: exercise-double
:answer: 2

How much does $x^2$ grow when $x$ doubles?

1. It doubles.

   That is what a line does.
2. It is four times as large.

   The square of two is four.
3. It stays.

   Only a constant stays.
`````

See [the question](#exercise-double) and {ref}`exercise-double`.

## Exercises

```{exercise} Count the bytes
:label: exercise-bytes
:class: pencil

How many?
```

```{exercise} Write it
:label: exercise-write
:class: code

In five lines.
```

```{solution} exercise-bytes
:class: dropdown

Eight. Each of two numbers takes four.
```
"""
GLOSSARY = """# Glossary

```{glossary}
grouped-query attention
GQA
  Attention with <fewer> key heads.

  Explained in [a chapter](chapter.md).

prefill
  Reading the prompt, all of it at once.

  Explained in [a chapter](chapter.md).
```
"""


def lay_out(folder, chapter):
    """A book of a chapter, a glossary and the page of all exercises, with the real book's extensions and style."""
    book = folder / "book"
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / name, book / name, ignore=shutil.ignore_patterns("vendor", "__pycache__"))
    for name in ("kernels", "effattn_core", "figures"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("references.bib", "exercises.md"):
        shutil.copy(ROOT / "book" / name, book / name)
    (book / "index.md").write_text("# A book\n\nIt has one chapter.\n")
    (book / "chapter.md").write_text(chapter)
    (book / "glossary.md").write_text(GLOSSARY)
    names = "".join(f"      - file: {name}\n" for name in ("chapter", "exercises", "glossary"))
    (book / "_toc.yml").write_text(f"format: jb-book\nroot: index\nparts:\n  - caption: All\n    chapters:\n{names}")
    return build(folder, folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    done = lay_out(folder, CHAPTER)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "_build" / "html"


@pytest.fixture
def open_page(browser, small):
    """open_page("chapter", …) gives a page of the small book; what went wrong on any is asserted to be nothing.

    after: a label that another page of the context has put into the record.
    """
    contexts, wrong = [], []

    def go(name, context=None, after="", **settings):
        if context is None:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "offline": True} | settings)
            contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        page.goto((small / f"{name}.html").as_uri())
        if after:  # another page wrote this; a browser's processes hear of it one after another
            page.wait_for_function(f"localStorage.getItem('effattn-progress')?.includes('{after}')")
            page.reload()
        return page

    go.wrong = wrong
    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def test_levels_of_the_pages_are_those_of_the_library():
    assert exercise_pages.LEVELS == LEVELS


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
class TestInTheBrowser:
    def test_a_prediction_is_answered_by_keyboard_before_its_reasons_are_shown(self, open_page):
        page = open_page("chapter")
        box = page.locator("#exercise-double")
        assert box.locator("details:visible").count() == 0
        box.get_by_role("button", name="Answer").click()
        assert box.get_by_role("status").inner_text() == "Choose one of the answers first."
        box.get_by_role("radio").first.focus()
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert box.get_by_role("status").inner_text() == "Not this one: the reason stands below it. Choose again."
        assert [each.inner_text() for each in box.locator("details:visible").all()] == ["That is what a line does."]
        assert page.locator(".exercise-count").inner_text() == "1 of 3 done"
        box.get_by_label("It is four times as large.").check()
        box.get_by_role("button", name="Answer").click()
        assert box.get_by_role("status").inner_text() == "Right. Your first answer was 1, not right."
        # The first answer is the one that is kept.
        again = open_page("chapter", page.context, after="exercise-double")
        expect(again.get_by_label("It doubles.")).to_be_checked()
        expect(again.locator("#exercise-double [data-verdict=wrong]")).to_have_count(1)
        state = open_page("exercises", page.context, after="exercise-double").locator(
            "[data-exercise=exercise-double] .exercise-state"
        )
        expect(state).to_have_text("first answer 1, not right")

    def test_an_answer_given_in_one_page_is_shown_in_another_that_stands_open(self, open_page):
        page = open_page("chapter")
        other = open_page("chapter", page.context)
        page.get_by_label("It doubles.").check()
        page.get_by_role("button", name="Answer").click()
        expect(other.get_by_label("It doubles.")).to_be_checked()
        expect(other.locator("#exercise-double [data-verdict=wrong]")).to_have_count(1)

    def test_a_box_is_ticked_by_keyboard_counted_and_kept(self, open_page):
        page = open_page("chapter")
        box = page.get_by_role("checkbox", name="done: Count the bytes")
        box.focus()
        page.keyboard.press("Space")
        assert page.locator(".exercise-count").inner_text() == "1 of 3 done"
        again = open_page("chapter", page.context, after="exercise-bytes")
        expect(again.get_by_role("checkbox", name="done: Count the bytes")).to_be_checked()
        assert not again.get_by_role("checkbox", name="done: Write it").is_checked()
        again.get_by_role("checkbox", name="done: Count the bytes").uncheck()
        expect(page.locator(".exercise-count")).to_have_text("0 of 3 done")  # told of it

    def test_progress_is_exported_and_imported_and_the_earlier_date_stands(self, open_page, tmp_path):
        page = open_page("exercises")
        given = {
            "format": "effattn progress 1",
            "done": {"exercise-bytes": "2025-01-02", "exercise-lost": "2025-01-01"},
        }
        given["answers"] = {"exercise-double": {"option": 2, "right": True, "date": "2025-01-03"}}
        file = tmp_path / "there.json"
        file.write_text(json.dumps(given))
        page.set_input_files("input[type=file]", file)
        page.wait_for_function("document.querySelector('.exercise-said').textContent !== ''")
        said = page.locator(".exercise-said").inner_text()
        assert said == "2 exercises are taken over; 1 are not of this book and are left out."
        assert page.locator(".exercise-total").inner_text() == "2 of 3 done"
        with page.expect_download() as download:
            page.get_by_role("button", name="Export my progress").click()
        assert download.value.suggested_filename == "effattn-progress.json"
        record = json.loads(Path(download.value.path()).read_text())
        del given["done"]["exercise-lost"]
        assert record == given
        later = given | {"done": {"exercise-bytes": "2025-06-01"}}
        file.write_text(json.dumps(later))
        page.set_input_files("input[type=file]", file)
        file.with_name("other.json").write_text('{"done": 3}')
        page.wait_for_timeout(100)
        page.set_input_files("input[type=file]", file.with_name("other.json"))
        page.wait_for_function("document.querySelector('.exercise-said').textContent.includes('not a file')")
        assert page.locator("[data-exercise=exercise-bytes] .exercise-state").inner_text() == "done 2025-01-02"

    def test_a_browser_that_keeps_nothing_says_so_and_works_on(self, open_page, browser):
        context = browser.new_context(offline=True)
        refuse = "throw new DOMException('no', 'SecurityError')"
        context.add_init_script(f"Object.defineProperty(window, 'localStorage', {{get() {{ {refuse}; }}}})")
        page = open_page("chapter", context)
        page.get_by_role("checkbox", name="done: Write it").check()
        said = page.locator(".exercise-count").inner_text()
        assert said == "1 of 3 done (until you close the page: this browser keeps nothing)"
        open_page.wrong.clear()  # the theme complains of it
        context.close()

    def test_without_scripts_the_reasons_are_folded_and_no_box_is_shown(self, open_page):
        page = open_page("chapter", java_script_enabled=False)
        assert page.locator("#exercise-double details:visible:not([open])").count() == 3
        assert page.locator(".exercise-done:visible").count() == 0
        assert page.locator(".exercise-count").inner_text() == "3 exercises"
        assert open_page("exercises", page.context).locator("tr[data-exercise]").count() == 3

    def test_a_term_s_meaning_is_shown_for_pointer_keyboard_and_touch_and_escape_hides_it(self, open_page):
        page = open_page("chapter")
        preview = page.locator("#preview-term-GQA")
        link = page.get_by_role("link", name="GQA")
        assert link.get_attribute("aria-describedby") == "preview-term-GQA" and not preview.is_visible()
        link.hover()
        preview.wait_for(state="visible")
        assert preview.inner_text() == "Attention with <fewer> key heads."
        preview.hover()  # it stays while the pointer is on it
        page.wait_for_timeout(400)
        assert preview.is_visible()
        page.keyboard.press("Escape")
        assert not preview.is_visible()
        page.get_by_role("link", name="prefill").focus()
        page.keyboard.press("Tab")
        assert preview.is_visible() and not page.locator("#preview-term-prefill").is_visible()
        touched = open_page("chapter", has_touch=True, viewport={"width": 390, "height": 800})
        touched.get_by_role("link", name="prefill").tap()
        assert touched.locator("#preview-term-prefill").is_visible() and touched.url.endswith("chapter.html")
        box = touched.locator("#preview-term-prefill").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        touched.get_by_role("link", name="prefill").tap()
        touched.wait_for_url("**/glossary.html#term-prefill")

    @pytest.mark.parametrize("name", ["chapter", "exercises", "glossary"])
    def test_pages_are_accessible_answered_in_both_themes_and_on_a_phone(self, open_page, name):
        from axe_playwright_python.sync_playwright import Axe

        page = open_page("chapter")
        page.get_by_label("It doubles.").check()
        page.get_by_role("button", name="Answer").click()
        page.get_by_role("checkbox", name="done: Write it").check()
        if name != "chapter":
            page = open_page(name, page.context)
        else:
            page.get_by_role("link", name="GQA").focus()
            page.keyboard.press("Shift+Tab")
            page.keyboard.press("Tab")
        for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 390)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = Axe().run(page, context="body", options=dict(preload=False)).response["violations"]
            mine = [(each["id"], node["html"][:160]) for each in found for node in each["nodes"]
                    if each["impact"] in SEVERE and "bd-" not in node["html"][:60]]  # fmt: skip
            assert mine == [], (scheme, width)


def question(label, answer, options):
    return f"`````{{predict}} Title of {label}\n:label: {label}\n:answer: {answer}\n\nWhat?\n\n{options}\n`````"


WRONG = {
    "`````{predict} Nameless\n:answer: 1\n\nWhat?\n`````": "the question 'Nameless' needs its :label:",
    question("e-far", 3, "1. a\n\n   b"): "e-far has 1 answers; the right one cannot be number 3",
    question("e-list", 1, "- a"): "e-list must be a question and then a numbered list",
    question("e-why", 1, "1. a\n2. b"): "answer 1 of e-why needs a paragraph",
    "```{excerpt} kernels.merge.lost\n```": "there is no definition kernels.merge.lost: kernels/merge.py has none",
    "{term}`lost`": "term not in glossary: 'lost'",
}


def test_what_cannot_be_built_is_said_in_a_sentence(tmp_path):
    done = lay_out(tmp_path, "# A chapter\n\n" + "\n\n".join(WRONG) + "\n")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for sentence in WRONG.values():
        assert sentence in said, said[-4000:]
