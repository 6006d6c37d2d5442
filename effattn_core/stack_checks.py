"""The hidden cases of the capstone's exercises, which treat all topics at once."""

import torch

from effattn_core import stacks
from effattn_core.exercises import compare_number, exercise
from effattn_core.stack_models import reader_of
from effattn_core.states import kept_bytes

CONTEXT = 131072
GIB = 2.0**30
# (bytes kept, bytes of the optimizer's states): the first two leave one line free, in the last both bind.
BUDGETS = ((2 * GIB, 1000 * GIB), (1000 * GIB, 12 * GIB), (0.6 * GIB, 8 * GIB))
VOCABULARY, LETTERS, SHARE = 96, 200, 0.5


def of_text(stack, tokens):
    """Bytes that a Stack keeps of a text at the bill's sizes."""
    return stacks.bill(stack, tokens)["cache"].value


def break_even():
    """Tokens after which the hybrid keeps as much as the plain Transformer: two lines that cross."""
    plain, hybrid = stacks.Stack(), stacks.PRESETS["Hybrid, one in four"]
    (few, more), step = ([of_text(each, tokens) for each in (plain, hybrid)] for tokens in (4096, 8192)), 4096
    slopes = [(late - early) / step for early, late in zip(few, more, strict=True)]
    return (few[1] - few[0]) / (slopes[0] - slopes[1]) + step


@exercise("stack.break_even", level="pencil")
def crossing(answer):
    """Tokens at which the hybrid's cache and states weigh as much as the plain Transformer's cache."""
    right = break_even()
    return compare_number(
        answer, right,
        [
            (0.75 * right, "That is where the states alone weigh as much as the plain cache: the hybrid has one, too."),
            (3 * right, "That is where the states weigh as much as the hybrid's own quarter of the cache."),
        ],
    )  # fmt: skip


@exercise("stack.cheapest", level="code")
def cheapest(choose):
    """choose(kept, optimizer): of the Stacks within both budgets one that reads the fewest bytes per decoded token."""
    bills = {stack: stacks.bill(stack, CONTEXT) for stack in stacks.every() if stack.stream == "text"}
    for kept, states in BUDGETS:
        within = [
            lines for lines in bills.values() if lines["cache"].value <= kept and lines["optimizer"].value <= states
        ]
        best, found = min(lines["decode"].value for lines in within), choose(kept, states)
        if not isinstance(found, stacks.Stack):
            return f"choose returns a Stack; it returned a {type(found).__name__}."
        given, asked = stacks.bill(found, CONTEXT), f"for {kept / GIB:g} GiB kept and {states / GIB:g} GiB of states"
        for key, most in (("cache", kept), ("optimizer", states)):
            if given[key].value > most:
                return (
                    f"{asked} it chose one with {given[key].amount()} of {given[key].name.lower()}, over that budget."
                )
        if given["decode"].value > 1.0001 * best:
            return f"{asked} another reads {given['decode'].amount(best)} per token; yours {given['decode'].amount()}."
    return None


def kept_of(stack):
    """Bytes that a small model of a Stack keeps of LETTERS tokens, measured from its states."""
    model = stacks.make(stack, VOCABULARY, seed=0)
    tokens = torch.arange(LETTERS)[None] % VOCABULARY
    with torch.no_grad():
        _, states = reader_of(model).prefill(tokens, stacks.states_of(stack, model, LETTERS + 1))
    return kept_bytes(states)


@exercise("stack.own", level="open")
def own(stack_of):
    """stack_of(): a Stack that keeps at most SHARE of the plain Transformer's bytes and is no preset."""
    found = stack_of()
    if not isinstance(found, stacks.Stack):
        return f"stack_of returns a Stack; it returned a {type(found).__name__}."
    if found in stacks.PRESETS.values():
        return "That is a preset: change a part."
    kept, plain = kept_of(found), kept_of(stacks.Stack())
    if kept > SHARE * plain:
        return (
            f"After {LETTERS} letters it keeps {kept:,} bytes, {kept / plain:.0%} of the plain Transformer's {plain:,}."
        )
    return None
