"""Chapters keep the contract of the second edition, and each of its rules is seen to turn red."""

import re

import pytest
from support import contract
from support.house import ROOT, chapters, notebooks

from effattn_core.exercises import EXERCISES, register_all

BOOK = ROOT / "book"
SKELETON = (ROOT / ".ci" / "topic" / "book" / "part" / "newtopic.md").read_text()


def page(chapter):
    return (BOOK / f"{chapter}.md").read_text()


@pytest.mark.parametrize("chapter", contract.CHAPTERS)
def test_a_chapter_keeps_the_contract(chapter):
    found = list(contract.faults(page(chapter)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("chapter", contract.INTRODUCTIONS)
def test_an_introduction_keeps_its_part_of_the_contract(chapter):
    found = list(contract.introduction_faults(page(chapter)))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("chapter", contract.TRAVELS)
def test_a_chapter_of_mechanisms_that_travel_keeps_its_part_of_the_contract(chapter):
    kernel = (ROOT / "kernels" / chapter.rpartition("/")[2]).exists()
    found = list(contract.travel_faults(page(chapter), kernel=kernel))
    assert not found, "\n".join(found)


WIDER = "Math.max(each.scrollWidth, each.offsetWidth) > each.parentElement.clientWidth + 1"
# Their tables become cards on a phone; those of the chapters scroll in a place of their own.
CARDS = [name for name in chapters() if name.startswith("8-whole/")] + ["how-to"]


@pytest.mark.parametrize("chapter", chapters())
@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_code_tables_and_equations_of_every_page_fit_it(chapter, browser, pages):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = context.new_page()
    opened.goto((pages / f"{chapter}.html").as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    wide = opened.evaluate(
        """[...document.querySelectorAll("article table, article div.highlight pre")]
      .filter((each) => each.closest("div.cell_output pre") === null)
      .filter((each) => WIDER)
      .map((each) => each.innerText.slice(0, 60))""".replace("WIDER", WIDER)
    )
    opened.wait_for_function(
        "[...document.querySelectorAll('.math')].every((each) => each.querySelector('mjx-container'))", timeout=15000
    )
    cut = opened.evaluate("""[...document.querySelectorAll("mjx-container[display=true]")]
      .filter((each) => each.scrollWidth > each.clientWidth + 1)
      .map((each) => `${each.parentElement.id}: ${each.scrollWidth} of ${each.clientWidth}`)""")
    opened.set_viewport_size({"width": 390, "height": 900})
    hidden = opened.evaluate(f"""[...document.querySelectorAll("article table")].filter((each) => {WIDER})
      .map((each) => each.innerText.slice(0, 60))""")
    context.close()
    assert wide == [] and cut == []
    assert chapter not in CARDS or hidden == []


def test_every_chapter_of_the_book_is_under_the_contract():
    numbered = [name for name in chapters() if re.match(r"\d+-", name) and not name.startswith("8-whole/")]
    assert sorted(contract.CHAPTERS + contract.TRAVELS + contract.INTRODUCTIONS) == sorted(numbered)


def test_an_exercise_has_the_same_level_on_its_page_and_in_its_check():
    """The level on the page is that of the check that its cells call, wherever a page names one."""
    register_all()
    compared = 0
    for path in notebooks():
        level = ""
        for block in contract.blocks(path.with_suffix(".md").read_text()):
            level = block.options.get("class", "") if block.name == "exercise" else level
            if block.name == "code-cell" and level and (name := re.search(r'\bgrade\("([\w.]+)"', block.body)):
                assert EXERCISES[name[1]].level == level, name[1]
                compared += 1
    print(f"{compared} exercises name their level")


# ---- the rules themselves ----


def specimen():
    """The skeleton of `make new` as a chapter that keeps the contract: four more exercises, and reasons."""
    text = SKELETON.replace("TO WRITE", "written")
    part = text[text.index("````{exercise} written: a function") : text.index("````{exercise} written: a kernel")]
    more = "".join(part.replace("exercise-newtopic-code", f"exercise-newtopic-{number}") for number in range(4))
    return text.replace("## Takeaways", f"{more}## Takeaways")


def test_the_skeleton_of_a_new_chapter_lacks_only_exercises():
    assert list(contract.faults(SKELETON)) == ["there are 4 exercises and 1 predictions; 8 to 10 are wanted"]
    assert list(contract.faults(specimen())) == []


LONG = "x = " + "1 + " * 18 + "1"
SPOILED = {
    "box": ("In one minute\n:class: minute", "In one minute", "the box *In one minute* is missing"),
    "before": ("*Know before.*", "*Before.*", "what to know before is missing"),
    "bill": ("[the bill](../index.ipynb)", "the bill", "the line of the bill is missing"),
    "figure": ("explore(\n", "explore (\n", "a first figure is missing"),
    "mathematics": ("```{math}", "```text", "the mathematics is missing"),
    "short kernel": ("first in fifteen lines", "first", "a kernel in few lines is missing"),
    "real kernel": (", block by block", "", "the real kernel is missing"),
    "microscope": ("## Under the microscope", "## Traffic", "## Under the microscope is missing"),
    "model": ("## A real model, trained here", "## A model", "a real model is missing"),
    "measured": (", and what we measured", "", "what the papers report, and what was measured is missing"),
    "lie": (":class: warning", "", "the box *How this could lie to you* is missing"),
    "seen in": ("## Seen in", "## Models", "## Seen in is missing"),
    "misconceptions": ("## Misconceptions", "## Later", "## Misconceptions is missing"),
    "symbols": ("## Symbols of this chapter", "## Symbols", "## Symbols of this chapter is missing"),
    "end": ("## Where to read on", "## Sources", "## Where to read on is missing"),
    "levels": (":class: open", ":class: hard", "has level 'hard'; a level is one of"),
    "a level": (":class: kernel", ":class: code", "no exercise has level kernel"),
    "prediction": ("{predict}", "{note}", "no exercise has level predict"),
    "solution": ("{solution} exercise-newtopic-open", "{note} Answer", "exercise-newtopic-open has no solution"),
    "reason": (" written: its reason, in two or three sentences.", "", "gives no reason: two sentences or three"),
    "wide": ("# written: the kernel.", LONG, "line 1 of the cell has 77 columns; at most 72 fit"),
    "tall": ("# written: the kernel.", "x = 1\n" * 26, "a cell has 26 lines; at most 25 are read"),
    "unlabelled": ("code_prompt_show", "code_prompt", "a folded cell says in code_prompt_show what it holds"),
    "answer": ("tags: [hide-cell]", "tags: [hide-input]", "is folded with what it prints"),
    "crowded": ("## The oracle\n", "## The oracle\n\n" + "```{code-cell} ipython3\nx\n```\n" * 3, "6 cells are open"),
    "included": ("{excerpt}", "{literalinclude}", "the library is shown by {excerpt}, in 72 columns"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_each_rule_turns_red(what):
    old, new, said = SPOILED[what]
    text = specimen()
    assert old in text
    found = list(contract.faults(text.replace(old, new, 1)))
    assert any(said in each for each in found), found


def test_a_chapter_that_travels_may_lack_a_kernel_and_the_bill_but_no_more():
    start, stop = "## The kernel, first", "## A real model"
    text = specimen()
    text = text[: text.index(start)] + text[text.index(stop) :]
    text = text.replace("[the bill](../index.ipynb)", "the bill").replace(":class: kernel", ":class: code")
    text = text.replace("## A real model", "```{code-cell} ipython3\nx = 1\n```\n\n## A real model")
    assert list(contract.travel_faults(text, kernel=False)) == []
    assert list(contract.travel_faults(text, kernel=True)) == ["no exercise has level kernel"]
    spoiled = text.replace("## Misconceptions", "## Later")
    assert list(contract.travel_faults(spoiled, kernel=False)) == ["## Misconceptions is missing"]


def test_parts_in_another_order_are_said():
    swapped = {"## Takeaways": "## Seen in", "## Seen in": "## Takeaways"}
    text = re.sub("## Takeaways|## Seen in", lambda match: swapped[match[0]], specimen())
    assert "## Seen in stands too early" in contract.faults(text)


def test_too_many_exercises_and_too_few_open_cells_are_said():
    text = specimen()
    part = text[text.index("````{exercise} written: a function") : text.index("````{exercise} written: a kernel")]
    assert "there are 12 exercises and 1 predictions; 8 to 10 are wanted" in contract.faults(
        text.replace("## Takeaways", part * 4 + "## Takeaways")
    )
    bare = text.replace(
        "```{code-cell} ipython3\n# written", "```{code-cell} ipython3\n:tags: [remove-cell]\n# written"
    )
    assert any("0 cells are open" in each for each in contract.faults(bare))


# ---- what a reader must not find on any page, nor in the library that prints it ----

HEARSAY = (
    "as we recall",
    "we have not read",
    "by summaries",
    r"\b(?:from|of|and|by)(?: \w+)? summaries\b",
    r"\bsummaries of the paper\b",
)


def hearsay(text):
    """The places of a text where a paper is cited that was not read; a comment goes on over its lines."""
    flat = re.sub(r"\s+", " ", re.sub(r"^\s*#+ ", "", text.lower(), flags=re.MULTILINE))
    return [
        flat[max(0, match.start() - 60) : match.end() + 40] for each in HEARSAY for match in re.finditer(each, flat)
    ]


def test_hearsay_is_found_across_lines():
    assert hearsay("It is faster, as\nwe recall, than before.") == ["it is faster, as we recall, than before."]
    assert hearsay("    # of CLSA by two\n    # summaries") == ["of clsa by two summaries"]
    assert hearsay('where="ablation, by summaries"') and hearsay("We know the abstract and summaries.")
    assert not hearsay("Attention over summaries of blocks, and block_summaries(key)")


def citing():
    """Each text that may cite a paper: pages, and the source of the library, its kernels, figures and drivers."""
    yield from (path for path in BOOK.rglob("*.md") if "_build" not in path.parts)
    yield from (path for room in ("effattn_core", "kernels", "figures", "book") for path in (ROOT / room).rglob("*.py"))
    yield from ROOT.glob("*.md")


def test_nothing_repeats_what_was_not_read():
    texts = sorted(set(citing()))
    assert {"claims.py", "indexing.md", "README.md", "run.py"} <= {path.name for path in texts}
    found = {str(path.relative_to(ROOT)): places for path in texts if (places := hearsay(path.read_text()))}
    assert not found, found
