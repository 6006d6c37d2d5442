"""How far the forms of a rule lie from its loop: the numbers of the chapters' tables of equal forms."""

import torch

from effattn_core.recurrences import RULES, recurrence, unit_keys
from effattn_core.recurrences.rules import rule_named

SIZES, CUT = (1, 16, 64), 41  # chunks that are tried; where a text is cut in two


def case(rule, time=130, heads=2, size=16, seed=0):
    """((query, key, value), settings): arguments of `recurrence` for a rule, float64, the same on every machine.

    query, key, value: [1, heads, time, size]; settings: the rule's name, its gates, keeping 0.8 or more, its beta and
    its bonus where it has them; keys of a rule that erases have length 1. Raises ValueError for another rule.
    """
    row, generator = rule_named(rule), torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, 1, heads, time, size, dtype=torch.float64, generator=generator)
    shapes = {"constant": (heads,), "scalar": (1, heads, time), "vector": query.shape}
    settings = {"rule": rule}
    if row.gate != "none":
        settings["log_gate"] = -0.2 * torch.rand(shapes[row.gate], dtype=torch.float64, generator=generator)
    if row.bonus:
        settings["bonus"] = torch.rand(heads, size, dtype=torch.float64, generator=generator)
    if row.erases:
        key = unit_keys(key)
        settings["beta"] = torch.rand(1, heads, time, dtype=torch.float64, generator=generator)
    return (query, key, value), settings


def _part(settings, span):
    """The tokens of a span in the settings that have a value per token."""
    return {
        name: each[:, :, span] if torch.is_tensor(each) and each.ndim > 2 else each for name, each in settings.items()
    }


def errors(rule):
    """Largest distance of each form from the loop, float64: {"chunks of 1": …, …, "state carried": …}.

    The last: the text is cut in two, and the second part starts from the state of the first; its distance is that of
    the outputs and of the last state.
    """
    inputs, settings = case(rule)
    truth, last = recurrence(*inputs, implementation="oracle", **settings)
    found = {}
    for size in SIZES:
        output, _ = recurrence(*inputs, chunk_size=size, **settings)
        found[f"chunks of {size}"] = (output - truth).abs().max().item()
    outputs, state = [], None
    for span in (slice(0, CUT), slice(CUT, None)):
        given = [each[:, :, span] for each in inputs]
        output, state = recurrence(*given, state=state, **_part(settings, span))
        outputs.append(output)
    apart = (torch.cat(outputs, 2) - truth).abs().max(), (state - last).abs().max()
    return found | {"state carried": max(each.item() for each in apart)}


def kernel_errors(rule, time=40, size=32):
    """Largest error of a rule's PyTorch form and of its kernel, float32, on a CPU: {"torch": …, "triton": …}."""
    inputs, settings = case(rule, time=time, size=size)
    truth, _ = recurrence(*inputs, implementation="oracle", **settings)
    single = {name: each.float() if torch.is_tensor(each) else each for name, each in settings.items()}
    floats, found = [each.float() for each in inputs], {}
    for form in ("torch", "triton"):
        output, _ = recurrence(*floats, implementation=form, **single)
        found[form] = (output - truth).abs().max().item()
    return found


def equal_forms(rules=tuple(RULES), tolerance=1e-12):
    """A row per rule for the table of equal forms. Raises AssertionError where a form is not equal, or a kernel's error
    is above twice that of the PyTorch form."""
    rows = []
    for rule in rules:
        row, lost = {"rule": RULES[rule].title}, kernel_errors(rule)
        for form, error in errors(rule).items():
            assert error < tolerance, f"{rule}, {form}: {error:g}"
            row[form] = f"< {tolerance:g}".replace("-", "\N{NON-BREAKING HYPHEN}")
        assert lost["triton"] <= 2 * lost["torch"], f"{rule}: {lost}"
        rows.append(row | {"kernel, of its budget": f"{lost['triton'] / (2 * lost['torch']):.0%}"})
    return rows
