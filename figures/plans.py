"""Tables and a figure of the planner's page: plans of all sizes, a text that is cut, and published rows laid over."""

from effattn_core import costs, plans, served
from effattn_core.devices import DEVICES
from figures import theme

MIXERS = {
    "softmax": "softmax, grouped heads",
    "window": "window",
    "retention": "retention, one state",
    "yoco": "YOCO, one cache",
    "sparse": "sparse decoding",
}
CONTEXTS = tuple(1 << power for power in range(12, 21))
MILLION = CONTEXTS[-1]
TENSORS = (1, 2, 4, 8)
H100, H200, B200, LAPTOP = (DEVICES[name] for name in ("H100 SXM", "H200 SXM", "B200 SXM", "M1 Max, a laptop"))
LOOKS = {
    "softmax": (theme.BLUE, "solid"), "window": (theme.ORANGE, "dot"), "retention": (theme.GREEN, "dash"),
    "yoco": (theme.PURPLE, "dashdot"), "sparse": (theme.VERMILLION, "longdash"),
}  # fmt: skip


def plan_of(context, mixer="softmax", tensor=8, batch=8):
    """The plan of the figure: Llama 3 70B on H100s, all in bfloat16."""
    return plans.Plan(plans.LLAMA_70B, H100, context, batch=batch, mixer=mixer, tensor=tensor)


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
        yaxis=dict(type="log", range=[0.5, 4], dtick=1, title=dict(text="milliseconds per token")),
        meta=dict(narrow={"height": 520}),
    )  # fmt: skip


def over_context_says(tensor, batch):
    """`over_context` in a sentence: each mixer at the shortest and at the longest text, and whether that fits."""
    parts = []
    for mixer, name in MIXERS.items():
        first, last = (plans.report(plan_of(context, mixer, tensor, batch)) for context in (CONTEXTS[0], MILLION))
        least, most = (theme.significant(1000 * each["decode"]["seconds"], 2) for each in (first, last))
        change = f"{least} ms throughout" if least == most else f"{least} to {most} ms"
        parts.append(f"{name} {change}, {'fits' if last['fits'] else 'does not fit'}")
    devices = "1 device" if tensor == 1 else f"{tensor} devices"
    texts = "1 text" if batch == 1 else f"{batch} texts"
    return f"A token of {texts} on {devices}, from {theme.tokens(CONTEXTS[0])} to 1M tokens: {'; '.join(parts)}."


def seconds(value):
    """Seconds in words, three digits: 0.0154 is "15.4 ms", 372 is "6.2 min"."""
    if value >= 120:
        return f"{value / 60:.3g} min" if value < 7200 else f"{value / 3600:.3g} h"
    for size, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{1e6 * value:.3g} µs"


def starts():
    """name -> Plan: the plans that the form offers to start from."""
    big, eight = plans.LLAMA_70B, costs.LLAMA_8B
    return {
        "the question above: 70B, one text of 1M tokens, 8 H100s": plan_of(MILLION, batch=1),
        "a laptop: 8B in 4 bits, 8K tokens": plans.Plan(eight, LAPTOP, 8192, weights="int4"),
        "one card: 8B, 128K tokens, H100": plans.Plan(eight, H100, 131072),
        "one larger card: 70B in 8 bits, 32K tokens, H200": plans.Plan(big, H200, 32768, weights="float8"),
        "70B on eight: 8 texts of 128K, 8 H100s": plan_of(131072),
        "70B in 8 experts, 2 per token: 8 texts of 128K, 8 B200s": plans.Plan(
            big, B200, 131072, batch=8, expert=8, experts=8, top_k=2),
        "a million tokens on many: 70B, 8 texts of 1M, 64 H100s": plans.Plan(
            big, H100, MILLION, batch=8, tensor=8, sequence=8),
        "405B in 8 bits, one text of 1M tokens, 128 H100s": plans.Plan(
            plans.LLAMA_405B, H100, MILLION, weights="float8", tensor=8, sequence=16),
    }  # fmt: skip


def ladder(cpu):
    """name -> Plan, from a small model on the recorded CPU to a million tokens on 128 GPUs."""
    first, *others = starts().items()
    *smaller, many, most = others
    return {
        "SmolLM2 135M, 1K tokens, two CPU threads": plans.Plan(
            costs.SMOLLM2, cpu, 1024, weights="float32", cache="float32"),
        **dict(smaller),
        "70B, one text of 1M tokens, 8 H100s": first[1],
        "the same with sparse decoding, an eighth": plan_of(MILLION, "sparse", batch=1),
        "the same with one cache": plan_of(MILLION, "yoco", batch=1),
        "the same with states": plan_of(MILLION, "retention", batch=1),
        "70B, 8 texts of 1M, 32 H100s": plans.Plan(plans.LLAMA_70B, H100, MILLION, batch=8, tensor=8, sequence=4),
        **dict((many, most)),
    }  # fmt: skip


WAYS = {
    "data": dict(data=8),
    "tensor": dict(tensor=8),
    "sequence": dict(sequence=8),
    "expert, 8 experts, 2 per token": dict(expert=8, experts=8, top_k=2),
}


def split_plan(way):
    """Llama 3 8B for eight texts of 128K tokens on eight H100s, split in one of WAYS."""
    return plans.Plan(costs.LLAMA_8B, H100, 131072, batch=8, **WAYS[way])


def split_rows():
    """A table's rows: the same work on eight devices, split in each of the four ways alone."""
    rows = []
    for way in WAYS:
        found = plans.report(split_plan(way))
        kept, prompt, token = found["memory"], found["prompt"], found["decode"]
        rows.append({
            "split": way, "weights": costs.format_bytes(kept["weights"]),
            "caches": costs.format_bytes(kept["growing"]), "prompt sent": costs.format_bytes(prompt["sent"]),
            "prompt": seconds(prompt["seconds"]), "token sent": costs.format_bytes(token["sent"]),
            "token": seconds(token["seconds"]),
        })  # fmt: skip
    return rows


def reached(rows):
    """How far from the bound is a real system? A dot per published row: its speed over the planner's."""
    import plotly.graph_objects as go

    kinds = {"decode": ("a token", theme.BLUE, "circle"), "prompt": ("a prompt", theme.VERMILLION, "diamond"),
             "both": ("both", theme.GREEN, "square")}  # fmt: skip
    traces = []
    for what, (name, colour, symbol) in kinds.items():
        group = [row for row in rows if row.what == what]
        traces.append(go.Scatter(
            x=[round(row.reached, 3) for row in group], y=[_source(row) for row in group], mode="markers", name=name,
            marker=dict(size=12, color=colour, symbol=symbol, opacity=0.75),
            text=[f"{row.plan.model.name}, {row.plan.devices} devices, {theme.tokens(row.plan.context)} tokens"
                  for row in group],
            hovertemplate="%{x:.2f} of the bound<br>%{text}<extra></extra>",
        ))  # fmt: skip
    lines = list(dict.fromkeys(map(_source, rows)))
    return theme.figure(
        *traces, height=150 + 40 * len(lines), showlegend=True,
        xaxis=dict(range=[0, 1.02], title=dict(text="published over planned speed (1: the bound)")),
        yaxis=dict(type="category", categoryorder="array", categoryarray=lines[::-1]),
    )  # fmt: skip


def _source(row):
    return f"{row.source},<br>{row.plan.device.name.partition(' ')[0]}"


def reached_says(rows):
    """`reached` in a sentence: how many rows there are, and the share of the least and the most by source."""
    parts = []
    for source in dict.fromkeys(row.source for row in rows):
        found = [row.reached for row in rows if row.source == source]
        parts.append(f"{source} {min(found):.2f} to {max(found):.2f}")
    return f"{len(rows)} published speeds over the planner's, none above 1: {'; '.join(parts)}."


def table_rows(named):
    """A table's rows: what one device keeps, and how long the prompt and a token take, by plan."""
    rows = []
    for name, plan in named.items():
        found = plans.report(plan)
        rows.append({
            "plan": name, "devices": found["devices"], "kept": costs.format_bytes(found["memory"]["total"]),
            "fits": "yes" if found["fits"] else "no", "prompt": seconds(found["prompt"]["seconds"]),
            "token": seconds(found["decode"]["seconds"]), "bound by": plans.decode(plan).bound,
            "all texts": theme.significant(found["tokens_per_second"], 3),
        })  # fmt: skip
    return rows


def cut_rows(devices=8):
    """A table's rows: Llama 3 8B reads one text of 1M tokens, cut among devices, by mixer."""
    rows = []
    for mixer, name in MIXERS.items():
        plan = plans.Plan(costs.LLAMA_8B, H100, MILLION, mixer=mixer, sequence=devices)
        kept, prompt, token = plans.memory(plan), plans.prompt(plan), plans.decode(plan)
        rows.append({
            "mixer": name, "cache, window or state": costs.format_bytes(kept.growing + kept.constant),
            "prompt sent": costs.format_bytes(prompt.sent), "taking": seconds(prompt.communication),
            "prompt computed": seconds(prompt.compute), "token sent": costs.format_bytes(token.sent),
            "token": seconds(token.seconds),
        })  # fmt: skip
    return rows


def _fit():
    """gpt-fast's rows, the two that fix the numbers, and these: (share, seconds per collective)."""
    found = served.rows(served.FAST)
    two = found[0], found[3]
    return found, two, served.fitted(*two)


def fitted_rows():
    """A table's rows: published tokens per second, those from two numbers, and the one over the other."""
    found, two, fitted = _fit()
    return [
        {"model": row.plan.model.name, "devices": row.plan.devices, "published": f"{row.value:g}",
         "from two numbers": f"{served.predicted(row, *fitted):.4g}",
         "over published": f"{served.predicted(row, *fitted) / row.value:.2f}" + (" (fixed)" if row in two else "")}
        for row in found
    ]  # fmt: skip


def facts():
    """name -> words, for the sentences of the page."""
    plan, yoco = plan_of(MILLION, batch=1), plan_of(MILLION, "yoco", batch=1)
    found, two, fitted = _fit()
    others = [served.predicted(row, *fitted) / row.value for row in found if row not in two]
    return {
        "plan-weights": costs.format_bytes(costs.weight_bytes(plans.LLAMA_70B)),
        "plan-room": costs.format_bytes(H100.hardware.memory),
        "plan-kept": costs.format_bytes(plans.memory(plan).total),
        "plan-prompt": seconds(plans.prompt(plan).seconds),
        "plan-token": seconds(plans.decode(plan).seconds),
        "plan-yoco-kept": costs.format_bytes(plans.memory(yoco).total),
        "plan-yoco-token": seconds(plans.decode(yoco).seconds),
        "plan-share": f"{fitted[0]:.0%}",
        "plan-latency": seconds(fitted[1]),
        "plan-others": f"{len(others)}",
        "plan-low": f"{min(others):.0%}",
        "plan-high": f"{max(others):.0%}",
    }
