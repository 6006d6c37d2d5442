"""Figures of rule nets: slopes that vanish, a threshold that is moved, a rule edited by the reader, and scores."""

import functools
from statistics import fmean

import torch

from effattn_core.discrete.activations import ACTIVATIONS, mean_slope
from effattn_core.discrete.reading import Rule, truth
from effattn_core.discrete.tables import Encoder, table
from effattn_core.recordings import measured
from figures import theme

RUN = "discrete/training-cpu"
INPUTS = tuple(2**power for power in range(3, 13))
CUTS = (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)
LOOKS = dict(zip(ACTIVATIONS, (
    (theme.VERMILLION, "x"), (theme.BLUE, "circle"), (theme.GREEN, "diamond"), (theme.ORANGE, "square"),
    (theme.PURPLE, "triangle-up"),
), strict=True))  # fmt: skip
LEAST = 1e-12  # what the axis shows; single precision ends at 1e-38


def vanishing(inputs=256):
    """How much of a gradient reaches one weight at the start? Mean slopes of five activations over n."""
    import plotly.graph_objects as go

    traces = []
    for name, (colour, symbol) in LOOKS.items():
        points = [(n, mean_slope(ACTIVATIONS[name], n)) for n in INPUTS]
        shown = [(n, value) for n, value in points if value > LEAST]
        traces.append(go.Scatter(
            x=[n for n, _ in shown], y=[float(f"{value:.3g}") for _, value in shown], name=name, mode="lines+markers",
            line=dict(color=colour, width=2), hovertemplate="n %{x}: %{y:.1e}<extra>" + name + "</extra>",
            marker=dict(symbol=symbol, size=[12 if n == inputs else 5 for n, _ in shown]),
        ))  # fmt: skip
    product, laf = (mean_slope(ACTIVATIONS[name], inputs) for name in ("product", "LAF"))
    title = f"<b>n = {inputs}: product {product:.0e}, LAF {laf:.0e}</b>"
    here = dict(
        type="line", x0=inputs, x1=inputs, yref="y domain", y0=0, y1=1, line=dict(color=theme.QUIET, dash="dot")
    )
    return theme.figure(
        *traces, height=400, annotations=[theme.heading(title)], shapes=[here], showlegend=True,
        margin=dict(l=8, r=8, t=30, b=8), legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(type="log", title=dict(text="inputs n of the rule"), tickvals=list(INPUTS)[::3]),
        yaxis=dict(type="log", title=dict(text="mean |∂y/∂W| at the start"), range=[-12, 0.2], exponentformat="power"),
    )  # fmt: skip


def vanishing_says(inputs=256):
    """`vanishing` in a sentence."""
    found = ", ".join(f"{name} {mean_slope(each, inputs):.0e}" for name, each in ACTIVATIONS.items())
    return f"With {inputs} inputs the mean slope of one weight at the start is: {found}."


@functools.cache
def _boards():
    """(literals, labels, words of literals, the recorded net of seed 0)."""
    found = table("tic-tac-toe")
    encoder = Encoder(found, slice(None))
    (row,) = measured(RUN, what="boards", seed=0)
    return encoder(found.columns), found.labels, encoder.literals, row


@functools.cache
def _cut(cut):
    """(accuracy on all boards, literals kept, nodes that are true of some boards and false of others)."""
    literals, labels, _, row = _boards()
    picked = (torch.tensor(row["weights"]) > 1000 * cut).float()
    conj, disj = picked.chunk(2, 1)
    true = torch.cat([(1 - literals) @ conj < 0.5, literals @ disj > 0.5], 1).float()
    score = true @ torch.tensor(row["votes"]) + row["own"]
    right = ((score > 0) == labels.bool()).double().mean().item()
    live = ((true.mean(0) > 0) & (true.mean(0) < 1)).sum().item()
    return right, int(picked.sum()), live


def cutting(cut=0.5):
    """Where should a weight be cut? Accuracy on the 958 boards at each threshold, one of them chosen."""
    import plotly.graph_objects as go

    found = [_cut(each)[0] for each in CUTS]
    right, kept, live = _cut(cut)
    dots = go.Scatter(
        x=list(CUTS), y=[round(each, 4) for each in found], mode="lines+markers", line=dict(color=theme.BLUE),
        marker=dict(size=[14 if each == cut else 7 for each in CUTS]),
        hovertemplate="W > %{x}: %{y:.3f}<extra></extra>",
    )  # fmt: skip
    title = f"<b>W > {cut:g}: {right:.3f} right</b>, {kept} literals in {live} live nodes"
    return theme.figure(
        dots, height=330, annotations=[theme.heading(title)], showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>{right:.3f}</b>, {kept} literals"}),
        xaxis=dict(title=dict(text="a literal is in a rule if its weight is above"), tickvals=list(CUTS)),
        yaxis=dict(title=dict(text="right of 958 boards"), range=[0, 1.04]),
    )  # fmt: skip


def cutting_says(cut=0.5):
    """`cutting` in a sentence."""
    right, kept, live = _cut(cut)
    return f"Cut at {cut:g} the net keeps {kept} literals, {live} nodes tell boards apart, and {right:.3f} are right."


@functools.cache
def editable():
    """Numbers of the recorded rules of three literals, by weight of vote: at most five."""
    row = _boards()[3]
    return tuple(number for number, each in enumerate(row["read"]) if len(each["picks"]) == 3)[:5]


DROPPED = ("none", "first", "second", "third")


def _edited(rule, dropped):
    """(literals kept, words, support, share of x wins where true, accuracy of the whole net)."""
    literals, labels, names, row = _boards()
    rules = [Rule(each["kind"], tuple(each["picks"]), (0.0, each["vote"]), each["support"]) for each in row["read"]]
    number = editable()[rule - 1]
    picks = [each for place, each in enumerate(rules[number].picks, 1) if place != DROPPED.index(dropped)]
    rules[number] = Rule(rules[number].kind, tuple(picks), rules[number].votes, 0.0)
    true = truth(rules, literals)
    score = true @ torch.tensor([each.votes[1] for each in rules]) + row["bias"]
    right = ((score > 0) == labels.bool()).double().mean().item()
    own = true[:, number]
    wins = (own * labels).sum().item() / max(own.sum().item(), 1)
    return picks, rules[number].words(names), own.mean().item(), wins, right, rules[number].votes[1]


def edited(rule=1, dropped="none"):
    """What does one literal of a rule do? The rule on the board, its support, and the accuracy of the whole net."""
    import plotly.graph_objects as go

    picks, words, support, wins, right, vote = _edited(rule, dropped)
    names = _boards()[2]
    marks = {int(names[each].feature) - 1: str(names[each].bound) for each in picks}
    edge = dict(color=theme.QUIET)
    lines = [dict(type="rect", x0=at % 3, x1=at % 3 + 1, y0=2 - at // 3, y1=3 - at // 3, line=edge) for at in range(9)]
    text = go.Scatter(
        x=[at % 3 + 0.5 for at in marks], y=[2.5 - at // 3 for at in marks], text=list(marks.values()), mode="text",
        textfont=dict(size=36, color=theme.BLUE), hoverinfo="skip", xaxis="x", yaxis="y",
    )  # fmt: skip
    bars = go.Bar(
        y=["boards where true", "of these x wins", "net right"], x=[round(each, 3) for each in (support, wins, right)],
        orientation="h", marker=dict(color=[theme.SKY, theme.ORANGE, theme.GREEN]), xaxis="x2", yaxis="y2",
        text=[f"{each:.3f}" for each in (support, wins, right)], hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    blank = dict(showgrid=False, showticklabels=False, showline=False)
    return theme.figure(
        text, bars, height=300, shapes=lines, showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(f"<b>{words}</b>, votes {vote:+.1f} for x wins")],
        meta=dict(narrow={"annotations.0.text": f"<b>{words}</b>"}),
        xaxis=dict(domain=[0, 0.36], range=[-0.05, 3.05], **blank), yaxis=dict(range=[-0.05, 3.05], **blank),
        xaxis2=dict(domain=[0.62, 1], range=[0, 1.15], tickvals=[0, 0.5, 1], anchor="y2"),
        yaxis2=dict(autorange="reversed", anchor="x2"),
    )  # fmt: skip


def edited_says(rule=1, dropped="none"):
    """`edited` in a sentence."""
    _, words, support, wins, right, _ = _edited(rule, dropped)
    kept = "with all its literals" if dropped == "none" else f"without the {dropped} of its literals"
    return (
        f"Rule {rule} {kept}, {words}, is true of {support:.3f} of the boards; x wins on "
        f"{wins:.3f} of these, and the net is right on {right:.3f}."
    )


TABLES = ("tic-tac-toe", "wine", "breast", "penguins", "digits")


def _scores(dataset):
    """arm -> (mean test accuracy, mean soft accuracy or None), in the order of the recording."""
    found = {}
    for row in measured(RUN, what="table", table=dataset):
        found.setdefault(row["arm"], []).append((row["test"], row.get("soft")))
    return {
        arm: (fmean(one for one, _ in rows), None if rows[0][1] is None else fmean(soft for _, soft in rows))
        for arm, rows in found.items()
    }


def scores(dataset="tic-tac-toe"):
    """Who is right, and what does the cut cost? Test accuracy of each arm, hard; hollow: of the soft net."""
    import plotly.graph_objects as go

    found = _scores(dataset)
    order = list(found)
    soft = [arm for arm in order if "soft" in arm]
    hard = go.Scatter(
        x=[round(found[arm][0], 4) for arm in order], y=order, mode="markers", name="as it is used",
        marker=dict(color=theme.BLUE, size=11), hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    before = go.Scatter(
        x=[round(found[arm][1], 4) for arm in soft], y=soft, mode="markers", name="soft, before the cut",
        marker=dict(color=theme.VERMILLION, size=11, symbol="circle-open"),
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    return theme.figure(
        hard, before, height=400, showlegend=True, margin=dict(l=8, r=8, t=12, b=8),
        legend=dict(y=-0.16, yanchor="top"),
        xaxis=dict(title=dict(text="test accuracy, mean of the seeds"), range=[0, 1.02]),
        yaxis=dict(autorange="reversed", showgrid=False),
    )  # fmt: skip


def scores_says(dataset="tic-tac-toe"):
    """`scores` in a sentence."""
    return (
        f"Test accuracy on {dataset}: "
        + "; ".join(f"{arm} {hard:.3f}" for arm, (hard, _) in _scores(dataset).items())
        + "."
    )
