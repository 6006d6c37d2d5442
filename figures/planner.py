"""The planner's form, which `book/_static/planner-form.js` answers on the page.

The form brings its models and devices as data, so that the script holds formulas and no sizes.
"""

import html
import json
from dataclasses import replace

from effattn_core import costs, plans
from effattn_core.devices import DEVICES
from figures import theme
from figures.plans import MIXERS, starts

# A control per row: path in `plans.settings`, label, factor from what is typed to the plan's number.
TEXT = (("context", "Tokens of each text", 1), ("batch", "Texts, on all devices", 1))
MIXING = (("window", "Window, tokens", 1), ("share", "Sparse: share of the cache read", 1))
DEGREES = (
    ("data", "Data degree", 1), ("tensor", "Tensor degree", 1), ("sequence", "Sequence degree", 1),
    ("expert", "Expert degree", 1), ("latency", "Latency of a collective, µs", 1e-6),
)  # fmt: skip
EXPERTS = (("experts", "Experts per layer", 1), ("top_k", "Experts per token, top_k", 1))
SIZES = tuple((f"model.{name}", name.replace("_", " ").capitalize(), 1) for name in plans.SIZES)
PEAKS = (
    ("device.bandwidth", "Memory bandwidth, GB/s", 1e9), ("device.flops.bfloat16", "bfloat16, TFLOP/s", 1e12),
    ("device.flops.float32", "float32, TFLOP/s", 1e12), ("device.memory", "Memory, GB", 1e9),
    ("device.link", "Link, GB/s each way", 1e9),
)  # fmt: skip


OWN = "your own"  # the choice that stands for what the reader has changed


class Form(theme.Shown):
    """The planner as a notebook shows it: native controls with a first plan. Made by `form`."""

    def __init__(self, plan, devices, offered):
        self.plan, self.devices, self.offered = plan, devices, offered

    def __str__(self):
        return "The planner, a form; without it: plans.report(plan)."

    def to_html(self):
        """The <form>, with the presets as JSON; disabled until the script that answers to it has come."""
        plan, start = self.plan, plans.settings(self.plan)
        presets = {
            kind: {name: plans.settings(replace(plan, **{kind: each}))[kind] for name, each in offered.items()}
            for kind, offered in (("model", plans.MODELS), ("device", self.devices))
        }
        presets["start"] = {
            name: plans.settings(each) | {"model": each.model.name, "device": each.device.name}
            for name, each in self.offered.items()
        }
        chosen = next((name for name, each in self.offered.items() if each == plan), OWN)
        first = {name: name for name in (*self.offered, OWN)}
        script = theme.in_script(json.dumps(presets))
        names, dtypes = {name: name for name in plans.MODELS}, {name: name for name in costs.BYTES}
        tied = '<div class="planner-tied"><input type="checkbox" id="planner--model.tied" data-path="model.tied">'
        tied += '<label for="planner--model.tied">Embedding and head are one matrix</label></div>'
        groups = (
            _group("A plan to start from", _choice("start", "Plan", first, chosen)),
            _group("Model and text", _choice("model", "Model", names, plan.model.name), *_numbers(TEXT, start),
                   _choice("mixer", "What mixes tokens", MIXERS, plan.mixer), *_numbers(MIXING, start)),
            _group("Devices, and how they split the work", *_numbers(DEGREES, start),
                   _choice("device", "Device", {name: name for name in self.devices}, plan.device.name)),
            _group("Numbers kept, and experts", _choice("weights", "Weights", dtypes, plan.weights),
                   _choice("cache", "Cache", dtypes, plan.cache), *_numbers(EXPERTS, start)),
            _folded("Sizes of the model", *_numbers(SIZES, start), tied),
            _folded("Numbers of the device", *_numbers(PEAKS, start)),
        )  # fmt: skip
        return "\n".join((
            '<form class="planner" aria-label="Planner" autocomplete="off">', '<fieldset class="planner-all" disabled>',
            *groups, "</fieldset>",
            '<p class="planner-says" role="status">This form answers on the book’s page.</p>',
            '<div class="explorable-table planner-result" role="region" tabindex="0" aria-label="The plan"></div>',
            f'<script type="application/json" class="planner-presets">{script}</script>', "</form>",
        ))  # fmt: skip


def form(plan, devices=None):
    """The planner's form with a first plan. devices: name -> Device; None: those of DEVICES.

    Raises ValueError for a plan that cannot be made, or whose model or device the form does not offer.
    """
    plans.check(plan)
    devices = DEVICES if devices is None else devices
    if plan.model.name not in plans.MODELS or plan.device.name not in devices:
        raise ValueError(
            f"the form offers the models {', '.join(plans.MODELS)} and the devices {', '.join(devices)}; "
            f"the plan has {plan.model.name} on {plan.device.name}."
        )
    return Form(plan, devices, starts())


def _group(title, *controls):
    return f"<fieldset><legend>{title}</legend>\n<div>\n" + "\n".join(controls) + "\n</div></fieldset>"


def _folded(title, *controls):
    return f"<details><summary>{title}</summary>\n<div>\n" + "\n".join(controls) + "\n</div></details>"


def _choice(path, label, words, chosen):
    options = "".join(
        f'<option value="{html.escape(value)}"{" selected" if value == chosen else ""}>{html.escape(text)}</option>'
        for value, text in words.items()
    )
    return (
        f'<div><label for="planner--{path}">{label}</label>'
        f'<select id="planner--{path}" data-path="{path}">{options}</select></div>'
    )


def _numbers(fields, start):
    """A number input per field; the script takes whatever number is typed, and says what is wrong with it."""
    for path, label, factor in fields:
        value = start
        for name in path.split("."):
            value = value[name]
        yield (
            f'<div><label for="planner--{path}">{label}</label><input type="number" step="any" inputmode="decimal" '
            f'id="planner--{path}" data-path="{path}" data-factor="{factor:g}" value="{value / factor:.10g}"></div>'
        )
