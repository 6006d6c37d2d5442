"""Figures of latents: how the noise of a tokeniser dies out, samplers on a known law, the error that one step makes."""

import functools
import math

import torch

from effattn_core.latents import cosine
from effattn_core.latents.collapse import optimum
from effattn_core.latents.exact import Gaussian, Mixture, distance, normal_quantiles
from effattn_core.latents.samplers import LAST, grid, sample
from effattn_core.latents.schedule import clean_of, target_of
from figures import theme

BETAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SPREAD = 0.75  # of "sigma" and "rms", as LatentLM's released code has it
# kind -> (name, colour, mark)
KINDS = {
    "vae": ("VAE", theme.VERMILLION, "x"),
    "sigma": ("σ-VAE", theme.BLUE, "circle"),
    "rms": ("unit RMS", theme.GREEN, "diamond"),
}
IMAGES = 9  # drawn as the means of their latents
STEPS, SAMPLERS = (5, 10, 20, 40), {"ddpm": "DDPM", "ddim": "DDIM", "2m": "DPM-Solver++ 2M"}
PATHS, DRAWN = 9, 2000  # paths that are drawn, numbers that are sampled
BINS = tuple(-3.6 + 0.2 * each for each in range(34))  # edges of the histogram
FIRSTS, BIASES, SOLVER = (999, 998, 995, 990, 950), (0.001, 0.01, 0.1), 20
WORDS = {"eps": "ε", "v": "v"}
DATA = Gaussian(0.7, 0.3)
SCHEDULE = cosine()


def _beta(value):
    """A weight in words: 10⁻³."""
    return f"10{str(round(math.log10(value))).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _here(x, y, **axes):
    """The mark of the state on a curve."""
    import plotly.graph_objects as go

    ring = dict(symbol="circle-open", size=16, color=theme.INK, line=dict(width=3))
    return go.Scatter(x=[x], y=[y], mode="markers", showlegend=False, cliponaxis=False, hoverinfo="skip", marker=ring,
                      **axes)  # fmt: skip


@functools.cache
def _means():
    """[IMAGES, 2], each column of mean 0 and deviation 1: fixed points, the example of the drawing."""
    points = torch.randn(IMAGES, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return ((points - points.mean(0)) / points.std(0)).tolist()


def collapse(beta=1e-6, kind="vae", rows=()):
    """Does the noise survive? Latents with one spread of noise around each, and spread over deviation by the weight.

    kind: of KINDS. rows: recorded ones, dicts with kind, beta and ratio, drawn as marks beside the curves.
    """
    import plotly.graph_objects as go

    found, (name, colour, _) = optimum(kind, beta, spread=SPREAD), KINDS[kind]
    radius = min(found.ratio, 20.0)
    turns = [2 * math.pi * each / 24 for each in range(25)]
    x = [value for left, _ in _means() for value in (*(left + radius * math.cos(turn) for turn in turns), None)]
    y = [value for _, up in _means() for value in (*(up + radius * math.sin(turn) for turn in turns), None)]
    line = dict(color=colour, width=2)
    traces = [
        go.Scatter(x=x, y=y, mode="lines", line=line, name="one spread of noise", hoverinfo="skip", showlegend=False),
        go.Scatter(x=[left for left, _ in _means()], y=[up for _, up in _means()], mode="markers", hoverinfo="skip",
                   marker=dict(color=theme.INK, size=7), name="mean of an image", showlegend=False),
    ]  # fmt: skip
    for each, (title, own, symbol) in KINDS.items():
        shown = [value for value in _fine() if not math.isinf(optimum(each, value, spread=SPREAD).ratio)]
        mine = [row for row in rows if row["kind"] == each and row["beta"] > 0]
        curve = [optimum(each, value, spread=SPREAD).ratio for value in shown]
        traces.append(go.Scatter(x=shown, y=curve, mode="lines", name=title, xaxis="x2", yaxis="y2",
                                 line=dict(color=own, width=4 if each == kind else 2),
                                 hovertemplate="β %{x:.0e}: %{y:.3f}<extra>" + title + "</extra>"))  # fmt: skip
        if mine:
            traces.append(go.Scatter(x=[row["beta"] for row in mine], y=[row["ratio"] for row in mine], mode="markers",
                                     name=f"{title}, measured", xaxis="x2", yaxis="y2",
                                     marker=dict(color=own, symbol=symbol, size=9),
                                     hovertemplate="β %{x:.0e}: %{y:.3f}<extra>measured</extra>"))  # fmt: skip
    traces.append(_here(beta, min(found.ratio, 9.0), xaxis="x2", yaxis="y2"))
    titles = [f"<b>{name}</b>: spread {theme.significant(radius, 2)} of the means' deviation", "spread / deviation"]
    weights = dict(type="log", tickvals=list(BETAS), ticktext=[_beta(each) for each in BETAS], range=[-6.3, -0.7])
    short = f"<b>{name}</b>: {theme.significant(radius, 2)} of the deviation"
    narrow = {"height": 680, "xaxis.domain": [0, 1], "yaxis.domain": [0.56, 1], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0, 0.4], "annotations.0.text": short, "legend.y": -0.12}  # fmt: skip
    return theme.figure(
        *traces, height=400, showlegend=True, meta=dict(narrow=narrow), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(titles[0]), theme.heading(titles[1], "2")], legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(domain=[0, 0.46], range=[-3, 3], title=dict(text="first number of a latent"), showgrid=False),
        yaxis=dict(range=[-3, 3], title=dict(text="second number"), showgrid=False),
        xaxis2=dict(domain=[0.58, 1], anchor="y2", title=dict(text="weight β of the penalty"), **weights),
        yaxis2=dict(anchor="x2", type="log", range=[-3, 1], tickvals=[0.001, 0.01, 0.1, 1, 10],
                    ticktext=["0.001", "0.01", "0.1", "1", "10"]),
    )  # fmt: skip


def _fine():
    """Weights of a curve, evenly in their logarithm."""
    return [10 ** (-6.3 + 0.2 * each) for each in range(29)]


def collapse_says(beta=1e-6, kind="vae", rows=()):
    """`collapse` in a sentence."""
    found = optimum(kind, beta, spread=SPREAD)
    touch = (
        "are dots" if found.ratio < 0.1 else "touch few neighbours" if found.ratio < 0.5 else "cover their neighbours"
    )
    weight = "whatever the weight, also" if kind == "rms" else "weight"
    return (
        f"{KINDS[kind][0]}, {weight} {_beta(beta)}: the noise has {theme.significant(found.ratio, 2)} of the deviation "
        f"of the means, so that latents {touch}; the error left is {theme.significant(found.error, 2)}."
    )


@functools.cache
def _sampled(steps, sampler):
    """(log-SNR at each stop, paths [stops][PATHS], all final numbers sorted, their distance to the data)."""
    data, times = Mixture(), grid(SCHEDULE, steps)
    start, trace = normal_quantiles(DRAWN), []
    final = sample(data.denoise, start, times, sampler=sampler, generator=torch.Generator().manual_seed(0), trace=trace)
    chosen = torch.linspace(0, DRAWN - 1, PATHS + 2).round().long()[1:-1]
    paths = [each[chosen].tolist() for each in (start, *trace)]
    return [*times.time.tolist(), 0], paths, final.sort().values, distance(final, data.quantile(_shares()))


def _shares():
    return (torch.arange(DRAWN, dtype=torch.float64) + 0.5) / DRAWN


def samplers(steps=5, sampler="ddim"):
    """Where do few steps end? Paths from noise to a mixture that is known, and where they end, over its density."""
    import plotly.graph_objects as go

    times, paths, final, gap = _sampled(steps, sampler)
    look = dict(mode="lines", line=dict(color=theme.BLUE, width=2), showlegend=False, hoverinfo="skip")
    traces = [go.Scatter(x=times, y=[stop[each] for stop in paths], **look) for each in range(PATHS)]
    counts = torch.histogram(final, torch.tensor(BINS, dtype=torch.float64)).hist / DRAWN / (BINS[1] - BINS[0])
    middles = [(low + high) / 2 for low, high in zip(BINS, BINS[1:], strict=False)]
    exact = Mixture().density(torch.tensor(middles, dtype=torch.float64)).tolist()
    traces += [
        go.Bar(x=counts.tolist(), y=middles, orientation="h", name="sampled", marker=dict(color=theme.SKY), xaxis="x2",
               yaxis="y2", width=BINS[1] - BINS[0], hoverinfo="skip"),
        go.Scatter(x=exact, y=middles, mode="lines", name="the data's density", xaxis="x2", yaxis="y2",
                   line=dict(color=theme.VERMILLION, width=3), hoverinfo="skip"),
    ]  # fmt: skip
    title = f"<b>{SAMPLERS[sampler]}</b>, {steps} steps"
    short = f"<b>{SAMPLERS[sampler].rsplit(' ', 1)[-1]}</b>, {steps} steps"
    narrow = {"xaxis.domain": [0, 0.56], "xaxis2.domain": [0.64, 1], "annotations.0.text": short,
              "annotations.1.text": f"gap {gap:.4f}"}  # fmt: skip
    return theme.figure(
        *traces, height=400, showlegend=True, bargap=0, meta=dict(narrow=narrow), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(title), theme.heading(f"distance to the data <b>{gap:.4f}</b>", "2")],
        legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(domain=[0, 0.58], range=[1010, -10], title=dict(text="time, from noise to data"), showgrid=False),
        yaxis=dict(range=[-3.6, 3.2], title=dict(text="x")),
        xaxis2=dict(domain=[0.66, 1], anchor="y2", range=[0, 0.75], title=dict(text="density"), showgrid=False),
        yaxis2=dict(anchor="x2", range=[-3.6, 3.2], showticklabels=False),
    )  # fmt: skip


def samplers_says(steps=5, sampler="ddim"):
    """`samplers` in a sentence."""
    _, _, final, gap = _sampled(steps, sampler)
    left = (final < -0.7).double().mean().item()
    exact = Mixture().cumulative(torch.tensor(-0.7, dtype=torch.float64)).item()
    return (
        f"{SAMPLERS[sampler]} in {steps} steps: the mean gap between sampled and exact quantiles is {gap:.4f}; "
        f"{left:.1%} of the numbers end below -0.7, where the data have {exact:.1%}."
    )


@functools.cache
def _ended(prediction, first, bias):
    """(mean, deviation) of numbers sampled with the exact answer, wrong by `bias` in the first of SOLVER steps."""

    def denoise(noisy, time, alpha, sigma):
        clean = DATA.denoise(noisy, time, alpha, sigma)
        said = target_of(prediction, clean, (noisy - alpha * clean) / sigma, alpha, sigma)
        return clean_of(prediction, said + bias * (time == first), noisy, alpha, sigma)

    # Every step is a straight line in x, and so are all of them together: two numbers tell the whole.
    low, high = sample(denoise, torch.tensor([-1.0, 1.0], dtype=torch.float64), grid(SCHEDULE, SOLVER, first)).tolist()
    return (low + high) / 2, abs(high - low) / 2


def _factor(prediction, time):
    """How many times an error of the network is in the clean latent that it means: σ / α, or σ."""
    alpha, sigma = SCHEDULE.alpha[time].item(), SCHEDULE.sigma[time].item()
    return sigma / alpha if prediction == "eps" else sigma


def amplified(first=LAST, bias=0.01, prediction="eps"):
    """What does an error in the first step cost? Its factor against time, and the law that is sampled by the data's.

    first: time of the first step. bias: error of the network's output there. prediction: "eps" or "v".
    """
    import plotly.graph_objects as go

    mean, deviation = _ended(prediction, first, bias)
    looks = {"eps": (theme.VERMILLION, "solid"), "v": (theme.BLUE, "dash")}
    times = [*range(0, 980, 20), *range(980, 1000)]
    traces = [
        go.Scatter(x=times, y=[_factor(each, time) for time in times], mode="lines", name=f"{WORDS[each]} prediction",
                   line=dict(color=colour, dash=dash, width=3), hovertemplate="t %{x}: %{y:.3g}<extra></extra>")
        for each, (colour, dash) in looks.items()
    ]  # fmt: skip
    colour, dash = looks[prediction]
    factor = _factor(prediction, first)
    traces.append(_here(first, factor))
    reach = [-6 + 0.05 * each for each in range(180)]
    for name, (centre, width), look in (
        ("the data", (DATA.mean, DATA.spread), dict(color=theme.QUIET, width=3)),
        ("sampled", (mean, deviation), dict(color=colour, dash=dash, width=3)),
    ):
        y = [math.exp(-(((x - centre) / width) ** 2) / 2) for x in reach]
        traces.append(go.Scatter(x=reach, y=y, mode="lines", name=name, xaxis="x2", yaxis="y2", line=look,
                                 hoverinfo="skip"))  # fmt: skip
    outside = [] if -6 < mean < 3 else [dict(text=f"← sampled: −{theme.significant(-mean)}", x=-6, y=0.9, xref="x2",
                                             yref="y2", xanchor="left", showarrow=False)]  # fmt: skip
    titles = (
        f"error × <b>{theme.significant(factor)}</b> at t = {first}",
        f"sampled mean <b>{mean:.2f}</b>, data {DATA.mean:.2f}".replace("-", "−"),
    )
    narrow = {"height": 620, "xaxis.domain": [0, 1], "yaxis.domain": [0.58, 1], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0, 0.4], "legend.y": -0.14}  # fmt: skip
    return theme.figure(
        *traces, height=390, showlegend=True, meta=dict(narrow=narrow), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(titles[0]), theme.heading(titles[1], "2"), *outside],
        legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(domain=[0, 0.46], range=[0, 1010], title=dict(text="time t")),
        yaxis=dict(type="log", range=[-2.5, 5], tickvals=[0.01, 1, 100, 1e4], ticktext=["0.01", "1", "100", "10,000"]),
        xaxis2=dict(domain=[0.56, 1], anchor="y2", range=[-6, 3], title=dict(text="x")),
        yaxis2=dict(anchor="x2", range=[0, 1.08], showticklabels=False, showgrid=False),
    )  # fmt: skip


def amplified_says(first=LAST, bias=0.01, prediction="eps"):
    """`amplified` in a sentence."""
    mean, deviation = _ended(prediction, first, bias)
    return (
        f"{WORDS[prediction]} prediction, first step at t = {first}, wrong there by {bias:g}: the clean latent is "
        f"wrong by {theme.significant(bias * _factor(prediction, first))}; sampled numbers have mean {mean:.4f} and "
        f"deviation {deviation:.3f}, the data {DATA.mean:g} and {DATA.spread:g}."
    )
