"""A figure of votes: whether those who agree win against one expert, by the sum and by the mean."""

import functools

import torch

from effattn_core.coattention.votes import averaged, log_odds, votes
from figures import theme

AGREE, ABLE = (1, 2, 3, 4, 5), (0.3, 0.5, 0.7, 0.9)
EXPERT, CLASSES = 0.95, 10


@functools.cache
def _told(agree, able):
    """form -> (score of those who agree, score of the expert's other answer)."""
    answers = torch.tensor([7] * agree + [1])
    weight = log_odds(torch.tensor([able] * agree + [EXPERT], dtype=torch.float64), CLASSES)
    found = {"sum": votes(answers, weight), "mean": averaged(answers, weight)}
    return {form: (round(each[0].item(), 3), round(each[-1].item(), 3)) for form, each in found.items()}


def ballot(agree=3, able=0.7):
    """Do those who agree win against one expert? Scores of two answers, summed and averaged."""
    import plotly.graph_objects as go

    told, heads = _told(agree, able), []
    traces, names = [], [f"“7”, {agree} of {able:g}", f"“1”, one of {EXPERT:g}"]
    for place, (form, scores) in enumerate(told.items()):
        axis = "" if place == 0 else "2"
        traces.append(
            go.Bar(x=names, y=list(scores), marker=dict(color=[theme.BLUE, theme.VERMILLION]), xaxis=f"x{axis}",
                   yaxis=f"y{axis}", hovertemplate="%{x}: %{y:.2f}<extra></extra>")
        )  # fmt: skip
        heads.append(theme.heading(f"<b>{form}: “{7 if scores[0] > scores[1] else 1}” wins</b>", axis=axis))
    return theme.figure(
        *traces, height=320, annotations=heads, showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(domain=[0, 0.46]), xaxis2=dict(domain=[0.54, 1]),
        yaxis=dict(range=[0, 23], title=dict(text="score")), yaxis2=dict(range=[0, 23], anchor="x2"),
    )  # fmt: skip


def ballot_says(agree=3, able=0.7):
    """`ballot` in a sentence."""
    told = _told(agree, able)
    return (
        f"Answer 7, by {agree} who are right with {able:g}, has the sum {told['sum'][0]:.2f} and the mean "
        f"{told['mean'][0]:.2f}; answer 1, by one expert of {EXPERT:g}, has {told['sum'][1]:.2f} in both."
    )
