"""How often does the wrong system win?"""

from functools import cache

from effattn_core.splits.comparison import winners
from figures import theme

CASES, GAPS, DISAGREE = (20, 38, 61, 100, 200, 400), (0.01, 0.03, 0.05, 0.1), 0.2


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
