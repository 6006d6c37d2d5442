"""The contract of a chapter, second edition: what each chapter has, in which order. `faults` says what it lacks.

A chapter is under it as soon as it stands in the table of contents; CONTRIBUTING.md sends the next author here, and
what `make new` makes is a skeleton of it.
"""

import re
from dataclasses import dataclass, field

import yaml
from support.house import chapters

from effattn_core.exercises import LEVELS

CHAPTERS = [name for name in chapters() if re.match("[1-6]-", name)]
# Mechanisms that travel: each page holds many in small, and moves no line of the bill.
TRAVELS = [name for name in chapters() if name.startswith("7-")]
# What comes before all methods: no paper, no oracle and no bill of its own.
INTRODUCTIONS = [name for name in chapters() if name.startswith("0-")]
WIDTH, LINES = 72, 25  # of a cell
OPEN_CELLS = range(3, 6)  # cells that a learner would type
FEWEST, MOST = 8, 10  # exercises: at least 8 with the predictions, at most 10 without
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
# In this order: what it is, and the line by which it is known.
ORDER = [
    ("the box *In one minute*", r"\{admonition\} In one minute\n:class: minute$"),
    ("what to know before", r"Know before"),
    ("the line of the bill", r"\[the bill\]\(\.\./index\.ipynb\)"),
    ("a first figure", r"^\s*(explore|show)\($"),
    ("the mathematics", r"^```\{math\}$"),
    ("the oracle", r"\boracle\b"),
    ("a kernel in few lines", r"^## .*[Kk]ernel\b.* in [\w-]+ lines$"),
    ("the real kernel", r"^## .*[Kk]ernels?\b.*, block by block$"),
    ("## Under the microscope", r"^## Under the microscope$"),
    ("a real model", r"^## A real (model|run)\b.*$"),
    (
        "what the papers report, and what was measured",
        r"^## What the papers? reports?, and what (we|was) measured\b.*$",
    ),
    ("the box *How this could lie to you*", r"\{admonition\} How this could lie to you\n:class: warning$"),
    ("## Exercises", r"^## Exercises$"),
    ("## Takeaways", r"^## Takeaways$"),
    ("## When not to use it", r"^## When not to use it$"),
    ("## Misconceptions", r"^## Misconceptions$"),
    ("## Seen in", r"^## Seen in$"),
    ("## The bill again", r"^## The bill again$"),
    ("## Symbols of this chapter", r"^## Symbols of this chapter$"),
    ("## Where to read on", r"^## Where to read on$"),
]
TRAVELLED = [
    ("the box *In one minute*", r"\{admonition\} In one minute\n:class: minute$"),
    ("what to know before", r"Know before"),
    ("a first figure", r"^\s*(explore|show)\($"),
    ("the mathematics", r"^```\{math\}$"),
    ("the oracle", r"\boracle\b"),
    ("a real run", r"^## A real (model|run)\b.*$"),
    ("what the papers report, and what was measured", r"^## What the papers report, and what (we|was) measured\b.*$"),
    ("the box *How this could lie to you*", r"\{admonition\} How this could lie to you\n:class: warning$"),
    ("## Exercises", r"^## Exercises$"),
    ("## Takeaways", r"^## Takeaways$"),
    ("## When not to use it", r"^## When not to use it$"),
    ("## Misconceptions", r"^## Misconceptions$"),
    ("## Symbols of this chapter", r"^## Symbols of this chapter$"),
    ("## Where to read on", r"^## Where to read on$"),
]
INTRODUCED = [
    ("the box *In one minute*", r"\{admonition\} In one minute\n:class: minute$"),
    ("a first figure", r"^\s*(explore|show)\($"),
    ("the box *How this could lie to you*", r"\{admonition\} How this could lie to you\n:class: warning$"),
    ("## Exercises", r"^## Exercises$"),
    ("## Takeaways", r"^## Takeaways$"),
    ("## Misconceptions", r"^## Misconceptions$"),
    ("## Symbols of this chapter", r"^## Symbols of this chapter$"),
    ("## Where to read on", r"^## Where to read on$"),
]


@dataclass
class Block:
    """A directive of a page: its name, argument, options and body; line: where it starts, from 1."""

    name: str
    argument: str
    body: str
    line: int
    options: dict = field(default_factory=dict)


def blocks(text):
    """The outermost directives of a page, in order."""
    found, fence = [], None
    for number, line in enumerate(text.splitlines(), start=1):
        if fence is None:
            if match := re.fullmatch(r"(`{3,}|:{3,})\{([\w:-]+)\} ?(.*)", line):
                fence = match[1]
                found.append(Block(match[2], match[3], "", number))
        elif line == fence:
            fence = None
            _split_options(found[-1])
        else:
            found[-1].body += line + "\n"
    return found


def _split_options(block):
    """Move the options of a directive, in either of MyST's forms, out of its body."""
    if match := re.match(r"---\n(.*?)^---\n", block.body, re.DOTALL | re.MULTILINE):
        block.options = yaml.safe_load(match[1])
        block.body = block.body[match.end() :]
        return
    while match := re.match(r":([\w-]+): *(.*)\n", block.body):
        block.options[match[1]] = yaml.safe_load(match[2]) if match[1] == "tags" else match[2]
        block.body = block.body[match.end() :]


def faults(text):
    """A sentence for each thing that the page of a chapter lacks, or has in the wrong place."""
    yield from _faults(text, ORDER, LEVELS)


def travel_faults(text, *, kernel):
    """The same of a chapter of mechanisms that travel. kernel: whether its topic has one, and so an exercise on it."""
    yield from _faults(text, TRAVELLED, [level for level in LEVELS if kernel or level != "kernel"])


def _faults(text, parts, levels):
    found = blocks(text)
    start = text.find("\n## Exercises\n")
    stop = text.find("\n## ", start + 1)
    section = range(text.count("\n", 0, start), text.count("\n", 0, stop)) if start >= 0 else range(0)
    yield from order(text, parts)
    opened = yield from cells([block for block in found if block.name == "code-cell"], section)
    if opened not in OPEN_CELLS:
        wanted = f"{OPEN_CELLS[0]} to {OPEN_CELLS[-1]}"
        yield f"{opened} cells are open beside those of the exercises; a learner would type {wanted}"
    yield from exercises(found, levels)
    yield from included(found)


def introduction_faults(text):
    """The same of an introduction: its code is what it teaches, so any number of cells may be open, of any level."""
    found = blocks(text)
    yield from order(text, INTRODUCED)
    yield from cells([block for block in found if block.name == "code-cell"], range(0))
    yield from exercises(found, ())
    yield from included(found)


def included(found):
    """Where the library is shown by a directive that does not narrow it."""
    for block in found:
        if block.name == "literalinclude":
            yield f"line {block.line}: the library is shown by {{excerpt}}, in {WIDTH} columns, not by literalinclude"


def order(text, parts):
    """The parts that are missing, or stand before what should come before them."""
    place = 0
    for what, pattern in parts:
        if match := re.compile(pattern, re.MULTILINE).search(text, place):
            place = match.end()
        elif re.search(pattern, text, re.MULTILINE):
            yield f"{what} stands too early"
        else:
            yield f"{what} is missing"


def cells(found, section):
    """What is wrong with the code cells; returns how many are open. section: the exercises' lines, not counted."""
    opened = 0
    for cell in found:
        tags = set(cell.options.get("tags", []))
        lines = cell.body.strip("\n").splitlines()
        opened += not tags & FOLDED and cell.line not in section
        if tags & {"hide-input", "hide-cell"} and not cell.options.get("mystnb", {}).get("code_prompt_show"):
            yield f"line {cell.line}: a folded cell says in code_prompt_show what it holds"
        if "assert grade(" in cell.body and "hide-cell" not in tags:
            yield f"line {cell.line}: the cell that grades the answer is folded with what it prints: tags: [hide-cell]"
        if tags & {"remove-cell", "remove-input"}:
            continue
        if len(lines) > LINES:
            yield f"line {cell.line}: a cell has {len(lines)} lines; at most {LINES} are read"
        for number, line in enumerate(lines, start=1):
            if len(line) > WIDTH:
                yield f"line {cell.line}: line {number} of the cell has {len(line)} columns; at most {WIDTH} fit"
    return opened


def exercises(found, wanted):
    """What is wrong with the exercises: their number, levels and answers. wanted: levels that must be there."""
    asked = [block for block in found if block.name == "exercise"]
    predictions = [block for block in found if block.name == "predict"]
    solutions = {block.argument: block for block in found if block.name == "solution"}
    if len(asked) + len(predictions) < FEWEST or len(asked) > MOST:
        yield f"there are {len(asked)} exercises and {len(predictions)} predictions; {FEWEST} to {MOST} are wanted"
    levels = [block.options.get("class", "") for block in asked] + ["predict"] * bool(predictions)
    yield from (f"no exercise has level {level}" for level in wanted if level not in levels)
    for block in asked:
        label, level = block.options.get("label"), block.options.get("class", "")
        if level not in LEVELS:
            yield f"{label} has level {level!r}; a level is one of {', '.join(LEVELS)}"
        if label not in solutions:
            yield f"{label} has no solution"
        elif sentences(solutions[label].body) < 2:
            yield f"the solution of {label} gives no reason: two sentences or three are wanted"


def sentences(text):
    """Sentences of prose: ends of sentences, formulas and code left out."""
    prose = re.sub(r"```.*?```|\$[^$]*\$|`[^`]*`", "x", text, flags=re.DOTALL)
    return len(re.findall(r"[.!?](?=[\s)*]|$)", prose))
