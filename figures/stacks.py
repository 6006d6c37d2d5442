"""A model built from its parts: the capstone's form, on the page and in JupyterLab.

All that the page's script knows is made here: which combinations the library refuses and in what words, and the bill of
the others. `book/_static/stacks.js` looks it up; `figures.stack_live` is the same form where a kernel answers.
"""

import functools
import html
import itertools
import json
from dataclasses import asdict

from effattn_core import bill, stacks
from figures import page, theme
from figures.explore import is_live

CONTEXT = bill.CONTEXT


@functools.cache
def combinations():
    """Every choice of an option per part, in order -> its Stack, or the sentence that refuses it."""
    found = {}
    for options in itertools.product(*(part.options for part in stacks.CHOICES.values())):
        try:
            found[options] = stacks.Stack(**dict(zip(stacks.CHOICES, options, strict=True)))
        except ValueError as error:
            found[options] = str(error)
    return found


def lookup(found):
    """A value that depends on few parts, as a list that a script can look it up in.

    found: options of every part, in order -> value, or nothing where there is none. Returns the parts that decide, the
    different values, and for each choice of an option per deciding part the place of its value; -1 for none.
    """
    places = list(range(len(stacks.CHOICES)))
    for place in tuple(places):
        fewer = [each for each in places if each != place]
        if _decide(found, fewer):
            places = fewer
    names = [list(stacks.CHOICES)[place] for place in places]
    number = {value: place for place, value in enumerate(dict.fromkeys(found.values()))}
    known = {tuple(options[place] for place in places): number[value] for options, value in found.items()}
    grid = itertools.product(*(stacks.CHOICES[name].options for name in names))
    return {"parts": names, "values": list(number), "of": [known.get(options, -1) for options in grid]}


def _decide(found, places):
    known = {}
    keys = (tuple(options[place] for place in places) for options in found)
    return all(known.setdefault(key, value) == value for key, value in zip(keys, found.values(), strict=True))


@functools.cache
def priced(context=CONTEXT):
    """Options of every part -> the lines of the bill (key -> Line) of the Stack that they make."""
    return {
        options: stacks.bill(stack, context) for options, stack in combinations().items() if not isinstance(stack, str)
    }


@functools.cache
def axes(context=CONTEXT):
    """Key -> (name, the largest value of any design) of every line, those of chapter 0's bill first."""
    found = {}
    for lines in (bill.lines(None, context), *priced(context).values()):
        for key, line in lines.items():
            found[key] = line.name, max(line.value, found.get(key, ("", 0))[1])
    return found


def cell(key, lines, context=CONTEXT):
    """A line as the form shows it: (amount, percent of its axis, what moved from chapter 0); None for no such line."""
    if key not in lines:
        return None
    line, was = lines[key], bill.lines(None, context).get(key)
    moved = "" if was is None or was.amount() == line.amount() else f"{_lower(line)} {was.amount()} → {line.amount()}"
    return line.amount(), round(100 * line.value / axes(context)[key][1], 1), moved


def _lower(line):
    return line.name[0].lower() + line.name[1:]


def says(stack, context=CONTEXT):
    """The bill of a Stack beside chapter 0's, in a sentence."""
    lines = stacks.bill(stack, context)
    cells = (cell(key, lines, context) for key in axes(context))
    return _sentence([each[2] for each in cells if each and each[2]], context)


def _sentence(moved, context=CONTEXT):
    """The same words as the script's: what moved, against chapter 0's bill."""
    return f"Against chapter 0 at {theme.tokens(context)} tokens: {'; '.join(moved) or 'the same bill'}."


def greyed(stack):
    """Pairs (part and options, why) of what would not fit the rest of a Stack, options of one reason together."""
    for name, why in stacks.reasons(stack).items():
        for reason in dict.fromkeys(why.values()):
            options = ", ".join(option for option in why if why[option] == reason)
            yield f"{stacks.CHOICES[name].label}, {options}", reason


def written(stack):
    """The Python that builds a Stack: the options in which it is not the plain Transformer."""
    plain, given = asdict(stacks.Stack()), asdict(stack)
    changed = ", ".join(f'{part}="{given[part]}"' for part in given if given[part] != plain[part])
    return f"Stack({changed})"


def data(context=CONTEXT):
    """What the page's script needs, as plain lists and dicts."""
    refused = {options: stack if isinstance(stack, str) else "" for options, stack in combinations().items()}
    bills = priced(context)
    lines = {key: lookup({options: cell(key, bills[options], context) for options in bills}) for key in axes(context)}
    return {
        "parts": {name: list(part.options) for name, part in stacks.CHOICES.items()},
        "words": {name: dict(part.options) for name, part in stacks.CHOICES.items()},
        "plain": asdict(stacks.Stack()),
        "presets": {name: asdict(stack) for name, stack in stacks.PRESETS.items()},
        "refusals": lookup(refused),
        "lines": lines,
        "says": _sentence(["{}"], context),
        "same": _sentence([], context),
        "start": list(bill.lines(None, context)),
    }


def form(stack=None, context=CONTEXT):
    """The form, at first with `stack`: the stated best one unless given. Raises ValueError for another thing."""
    stack = stacks.BEST if stack is None else stack
    if not isinstance(stack, stacks.Stack):
        raise ValueError(f'the form starts from a Stack, as Stack(mixer="gated"); it was given {stack!r}.')
    return Form(stack, context)


class Form(theme.Shown):
    """The form as a notebook shows it: widgets where a kernel answers, else the page's HTML. Made by `form`."""

    def __init__(self, stack, context=CONTEXT):
        self.stack, self.context = stack, context

    def _repr_mimebundle_(self, include=None, exclude=None):
        if is_live():
            from figures import stack_live

            static = {"text/html": page.unstored("A model built from its parts"), "text/plain": str(self)}
            return {**stack_live.Workbench(self.stack).box._repr_mimebundle_(), **static}
        return super()._repr_mimebundle_(include, exclude)

    def __str__(self):
        return f"{written(self.stack)}\n{says(self.stack, self.context)}"

    def to_html(self):
        """Native controls, away until the script has come, and what is true of the first Stack without any script."""
        script = theme.in_script(json.dumps(data(self.context), ensure_ascii=False, separators=(",", ":")))
        return "\n".join((
            '<div class="stacks" data-stacks="">', _buttons(), _controls(self.stack),
            f'<p class="stacks-says" role="status">{html.escape(says(self.stack, self.context))}</p>',
            '<details class="stacks-greyed" open hidden><summary>Greyed, and why</summary><ul></ul></details>',
            _bill_table(self.stack, self.context),
            f'<div class="stacks-code"><pre tabindex="0" aria-label="Python"><code>{html.escape(written(self.stack))}'
            '</code></pre><button type="button" hidden>Copy</button></div>',
            f'<script type="application/json" class="stacks-data">{script}</script>', "</div>",
        ))  # fmt: skip


def _buttons():
    names_ = "".join(
        f'<button type="button" data-preset="{html.escape(name)}">{html.escape(name)}</button>'
        for name in stacks.PRESETS
    )
    return f'<div class="explorable-buttons stacks-presets" role="group" aria-label="Presets" hidden>{names_}</div>'


def _controls(stack):
    chosen, rows = asdict(stack), []
    for name, part in stacks.CHOICES.items():
        entries = "".join(
            f'<option value="{html.escape(option)}"{" selected" if option == chosen[name] else ""}>'
            f"{html.escape(option)}</option>"
            for option in part.options
        )
        words = html.escape(part.options[chosen[name]])
        rows.append(
            f'<div class="explorable-choice"><label for="stacks--{name}">{html.escape(part.label)}</label><select '
            f'id="stacks--{name}" data-part="{name}" aria-describedby="stacks--{name}-words" autocomplete="off">'
            f'{entries}</select><span id="stacks--{name}-words" class="stacks-words">{words}</span></div>'
        )
    legend = "<legend>The parts of the model</legend>"
    return f'<fieldset class="explorable-controls" hidden>{legend}\n' + "\n".join(rows) + "\n</fieldset>"


def _bill_table(stack, context):
    """The bill of a Stack beside chapter 0's: a row per line, the bars of a row on one linear axis from zero."""
    start, lines, rows = bill.lines(None, context), stacks.bill(stack, context), []
    for key, (name, _) in axes(context).items():
        was, now = cell(key, start, context), cell(key, lines, context)
        bars = "".join(
            f'<span class="stacks-bar stacks-{kind}" style="width: {each[1] if each else 0}%"></span>'
            for kind, each in (("start", was), ("now", now))
        )
        amounts = f'<td class="number">{was[0] if was else "–"}</td>'
        amounts += f'<td class="number" data-amount="">{now[0] if now else "–"}</td>'
        rows.append(
            f'<tr data-line="{key}"{"" if now or was else " hidden"}><th scope="row">{html.escape(name)}</th>'
            f'{amounts}<td class="stacks-bars" aria-hidden="true">{bars}</td></tr>'
        )
    caption = (
        f"The bill at {theme.tokens(context)} tokens, at Llama 3 8B's sizes. Bars: hollow chapter 0, full this stack; "
        "each row from zero to the most that any stack pays."
    )
    return (
        '<div class="explorable-table stacks-bill" role="region" tabindex="0" aria-label="The bill">'
        f'<table class="table"><caption>{html.escape(caption)}</caption><thead><tr><th scope="col">line</th>'
        '<th scope="col" class="number">chapter 0</th><th scope="col" class="number">this stack</th>'
        '<th scope="col">both</th></tr></thead><tbody>\n' + "\n".join(rows) + "\n</tbody></table></div>"
    )
