"""How often does the wrong system win, and how many cases do published decimals admit?"""

from functools import cache

from effattn_core.splits.comparison import sizes_that_fit, winners
from figures import theme

CASES, GAPS, DISAGREE = (20, 38, 61, 100, 200, 400), (0.01, 0.03, 0.05, 0.1), 0.2
PUBLISHED = {
    "ADNI, .820 and .852": (".820", ".852"),
    "PUMCH, .737 and .789": (".737", ".789"),
    "PUMCH, all four": (".737", ".789", ".632", ".763"),
}
UPTO = 200


@cache
def _shares(cases, gap):
    return winners(cases, gap, DISAGREE)


def wrong_winner(cases=61, gap=0.03):
    """Which system wins an experiment? Shares over all experiments, for a number of cases and a true gap."""
    import plotly.graph_objects as go

    colours = (
        ("right", "better wins", theme.BLUE),
        ("tie", "tie", theme.SKY),
        ("wrong", "worse wins", theme.VERMILLION),
    )
    traces = [
        go.Scatter(x=list(CASES), y=[round(_shares(each, gap)[key], 4) for each in CASES], name=name,
                   mode="lines+markers", line=dict(color=colour, width=2),
                   hovertemplate="n = %{x}: %{y:.3f}<extra></extra>")
        for key, name, colour in colours
    ] + [
        go.Scatter(x=list(CASES), y=[round(_shares(each, gap)["seen"], 4) for each in CASES], name="better, p < .05",
                   mode="lines+markers", line=dict(color=theme.GREEN, dash="dot", width=2),
                   hovertemplate="n = %{x}: %{y:.3f}<extra></extra>")
    ]  # fmt: skip
    wrong = _shares(cases, gap)["wrong"]
    mark = dict(type="line", x0=cases, x1=cases, yref="y domain", y0=0, y1=1, line=dict(color=theme.INK, dash="dash"))
    return theme.figure(
        *traces, height=380, showlegend=True, shapes=[mark], margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(f"<b>{wrong:.0%} of experiments on {cases} cases crown the worse</b>")],
        meta=dict(narrow={"annotations.0.text": f"<b>worse wins {wrong:.0%} at {cases}</b>"}),
        legend=dict(y=-0.22, yanchor="top"),
        xaxis=dict(type="log", title=dict(text="test cases"), tickvals=list(CASES), ticktext=list(map(str, CASES))),
        yaxis=dict(title=dict(text="share of experiments"), range=[0, 1.02]),
    )  # fmt: skip


def wrong_winner_says(cases=61, gap=0.03):
    """`wrong_winner` in a sentence."""
    found = _shares(cases, gap)
    return (
        f"With {cases} test cases, a true gap of {gap:g} and disagreement on {DISAGREE:g} of all people, the worse "
        f"system wins {found['wrong']:.3f} of experiments and ties {found['tie']:.3f}; the better one reaches "
        f"p below .05 in {found['seen']:.3f}."
    )


def sizes(published="ADNI, .820 and .852"):
    """Which numbers of test cases could have given these decimals? A mark for each that fits, up to 200."""
    import plotly.graph_objects as go

    found = sizes_that_fit(PUBLISHED[published], UPTO)
    traces = [
        go.Scatter(x=found, y=[0] * len(found), mode="markers", showlegend=False,
                   hovertemplate="n = %{x}<extra></extra>",
                   marker=dict(color=theme.BLUE, symbol="line-ns", size=26, line=dict(color=theme.BLUE, width=2)))
    ]  # fmt: skip
    return theme.figure(
        *traces, height=170, annotations=[theme.heading(f"<b>at least {found[0]} cases</b>")],
        margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>at least {found[0]}</b>"}),
        xaxis=dict(title=dict(text="test cases that fit"), range=[0, UPTO + 2]),
        yaxis=dict(visible=False, range=[-1, 1]),
    )  # fmt: skip


def sizes_says(published="ADNI, .820 and .852"):
    """`sizes` in a sentence."""
    found = sizes_that_fit(PUBLISHED[published], UPTO)
    return f"{published}: the least number of test cases that fits is {found[0]}; up to {UPTO} there are {len(found)}."
