"""The planner: the form that `book/_static/planner.js` answers on the page, and what a token costs over the context.

The form brings its models and devices as data, so that the script holds formulas and no sizes.
"""

import html
import json
from dataclasses import replace

from effattn_core import costs, plans
from figures import theme

MIXERS = {
    "softmax": "softmax, grouped heads",
    "window": "window",
    "retention": "retention, one state",
    "yoco": "YOCO, one cache",
    "sparse": "sparse decoding",
}
# A control per row: path in `plans.settings`, label, factor from what is typed to the plan's number.
TEXT = (("context", "Tokens of each text", 1), ("batch", "Texts, on all devices", 1))
MIXING = (("window", "Window, tokens", 1), ("share", "Sparse: share of the cache read", 1))
DEGREES = (
    ("data", "Data degree", 1), ("tensor", "Tensor degree", 1), ("sequence", "Sequence degree", 1),
    ("expert", "Expert degree", 1), ("latency", "Latency of a collective, µs", 1e-6),
)  # fmt: skip
EXPERTS = (("experts", "Experts per layer", 1), ("top_k", "Experts per token", 1))
SIZES = tuple((f"model.{name}", name.replace("_", " ").capitalize(), 1) for name in plans.SIZES)
PEAKS = (
    ("device.bandwidth", "Memory bandwidth, GB/s", 1e9), ("device.flops.bfloat16", "bfloat16, TFLOP/s", 1e12),
    ("device.flops.float32", "float32, TFLOP/s", 1e12), ("device.memory", "Memory, GB", 1e9),
    ("device.link", "Link, GB/s each way", 1e9),
)  # fmt: skip


class Form:
    """The planner as a notebook shows it: native controls with a first plan. Made by `form`."""

    def __init__(self, plan, devices):
        self.plan, self.devices = plan, devices

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.to_html(), "text/plain": "The planner, a form; without it: plans.report(plan)."}

    def to_html(self):
        """The <form>, with the presets as JSON; disabled until the script that answers to it has come."""
        plan, start = self.plan, plans.settings(self.plan)
        presets = {
            kind: {name: plans.settings(replace(plan, **{kind: each}))[kind] for name, each in offered.items()}
            for kind, offered in (("model", plans.MODELS), ("device", self.devices))
        }
        script = json.dumps(presets).replace("<", "\\u003c")
        names, dtypes = {name: name for name in plans.MODELS}, {name: name for name in costs.BYTES}
        tied = '<div class="planner-tied"><input type="checkbox" id="planner--model.tied" data-path="model.tied">'
        tied += '<label for="planner--model.tied">Embedding and head are one matrix</label></div>'
        groups = (
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
    """The planner's form with a first plan. devices: name -> plans.Device; None: those of plans.DEVICES.

    Raises ValueError for a plan that cannot be made, or whose model or device the form does not offer.
    """
    plans.check(plan)
    devices = plans.DEVICES if devices is None else devices
    if plan.model.name not in plans.MODELS or plan.device.name not in devices:
        raise ValueError(
            f"the form offers the models {', '.join(plans.MODELS)} and the devices {', '.join(devices)}; "
            f"the plan has {plan.model.name} on {plan.device.name}."
        )
    return Form(plan, devices)


def _group(title, *controls):
    return f"<fieldset><legend>{title}</legend>\n" + "\n".join(controls) + "\n</fieldset>"


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


# ---- what a token costs over the context ---------------------------------------------------------------------------

CONTEXTS = tuple(1 << power for power in range(12, 21))
TENSORS = (1, 2, 4, 8)
LOOKS = {
    "softmax": (theme.BLUE, "solid"), "window": (theme.ORANGE, "dot"), "retention": (theme.GREEN, "dash"),
    "yoco": (theme.PURPLE, "dashdot"), "sparse": (theme.VERMILLION, "longdash"),
}  # fmt: skip


def plan_of(context, mixer="softmax", tensor=8, batch=8):
    """The plan of the figure: Llama 3 70B on H100s, all in bfloat16."""
    return plans.Plan(
        plans.LLAMA_70B, plans.DEVICES["H100 SXM"], context, batch=batch, mixer=mixer, tensor=tensor
    )  # fmt: skip


def over_context(tensor, batch):
    """Where does the text begin to cost? Milliseconds of a token over the context; hollow: it does not fit."""
    import plotly.graph_objects as go

    traces = []
    for mixer, (colour, dash) in LOOKS.items():
        found = [plans.report(plan_of(context, mixer, tensor, batch)) for context in CONTEXTS]
        traces.append(go.Scatter(
            x=list(CONTEXTS), y=[1000 * each["decode"]["seconds"] for each in found], name=MIXERS[mixer],
            mode="lines+markers", line=dict(color=colour, dash=dash, width=3),
            marker=dict(size=10, symbol=["circle" if each["fits"] else "circle-open" for each in found]),
            hovertemplate="%{y:.3g} ms<extra>" + MIXERS[mixer] + "</extra>",
        ))  # fmt: skip
    ticks = CONTEXTS[::2]
    return theme.figure(
        *traces, height=440, showlegend=True,
        xaxis=dict(type="log", tickvals=list(ticks), ticktext=[theme.tokens(each) for each in ticks],
                   title=dict(text="tokens of each text")),
        yaxis=dict(type="log", range=[0.3, 3.2], dtick=1, title=dict(text="milliseconds per token")),
        meta=dict(narrow={"height": 520}),
    )  # fmt: skip


def over_context_says(tensor, batch):
    """`over_context` in a sentence: the least and the most of each mixer, and whether the longest text fits."""
    parts = []
    for mixer, name in MIXERS.items():
        first, last = (plans.report(plan_of(context, mixer, tensor, batch)) for context in (CONTEXTS[0], CONTEXTS[-1]))
        least, most = (theme.significant(1000 * each["decode"]["seconds"], 2) for each in (first, last))
        parts.append(f"{name} {least} to {most} ms, {'which fits' if last['fits'] else 'which does not fit'}")
    devices = "1 device" if tensor == 1 else f"{tensor} devices"
    texts = "1 text" if batch == 1 else f"{batch} texts"
    return f"A token of {texts} on {devices}, from {theme.tokens(CONTEXTS[0])} to 1M tokens: {'; '.join(parts)}."
