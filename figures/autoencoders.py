"""Figures of autoencoders: the sphere against a growing encoder, the plane by objective, decoding under noise, walks.

Those of a trained tokeniser take the rows of the recorded run.
"""

import functools
import math

import torch

from effattn_core.autoencoders import GaussianFlow, recorded, unit_rms
from effattn_core.autoencoders.flow import random_walk, time_grid, walk
from effattn_core.autoencoders.plane import ANGLES
from figures import theme

SCALES, SPREADS, OUTPUTS = (1, 2, 4, 8), (0.1, 0.2, 0.5), 8
LAW = GaussianFlow(0.7, 0.3)
WALKS, WALK_STEPS, PATHS, DRAWN = (
    {"euler": "Euler", "heun": "Heun", "random": "Euler-Maruyama"},
    (5, 10, 25, 50),
    12,
    4000,
)
SHIFTS = (1.0, 0.7, 0.4)
# name -> colour, mark, dash of a tokeniser, the same in every figure
KINDS = {
    "KL-VAE, β 1e-6": (theme.VERMILLION, "x", "dot"),
    "KL-VAE, β 1e-2": (theme.ORANGE, "cross", "dash"),
    "σ-VAE": (theme.PURPLE, "square", "dashdot"),
    "unit RMS": (theme.SKY, "diamond", "longdash"),
    "GAE": (theme.BLUE, "circle", "solid"),
    "KL-VAE, target": (theme.GREEN, "triangle-up", "dash"),
    "GAE, untrained teacher": (theme.INK, "star", "dot"),
}
CIRCLE = [2 * math.pi * each / 48 for each in range(49)]
INKED = "Cividis"


@functools.cache
def _outputs():
    """What an encoder says of OUTPUTS images, [OUTPUTS, 2] of deviation 1."""
    drawn = torch.randn(OUTPUTS, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    return drawn / drawn.square().mean().sqrt()


def ratios(scale, spread):
    """Spread of the noise over the RMS of the latents, without and with the norm: the second ignores the scale."""
    return spread / scale, spread / unit_rms(scale * _outputs()).square().mean().sqrt().item()


def _rings(centres, radius):
    """Circles around points, as one broken line."""
    x = [value for left, _ in centres for value in (*(left + radius * math.cos(turn) for turn in CIRCLE), None)]
    y = [value for _, up in centres for value in (*(up + radius * math.sin(turn) for turn in CIRCLE), None)]
    return x, y


def escape(scale=1, spread=0.2):
    """How does an encoder escape fixed noise? Outputs times `scale` as the decoder may rescale them, and on the sphere.

    Left, latents without a norm, divided by the scale, with the noise around each; right, those of unit RMS.
    """
    import plotly.graph_objects as go

    free, held = ratios(scale, spread)
    sphere = unit_rms(scale * _outputs())
    traces = []
    for axis, centres, radius, colour in (("", _outputs(), free, theme.VERMILLION), ("2", sphere, held, theme.BLUE)):
        where = dict(xaxis=f"x{axis}", yaxis=f"y{axis}", hoverinfo="skip", showlegend=False)
        x, y = _rings(centres.tolist(), radius)
        traces.append(go.Scatter(x=x, y=y, mode="lines", line=dict(color=colour, width=2), **where))
        marker = dict(color=theme.INK, size=4)
        traces.append(
            go.Scatter(x=centres[:, 0].tolist(), y=centres[:, 1].tolist(), mode="markers", marker=marker, **where)
        )
    x, y = _rings([(0.0, 0.0)], 2**0.5)
    line = dict(color=theme.QUIET, width=2, dash="dash")
    traces.append(go.Scatter(x=x, y=y, mode="lines", line=line, xaxis="x2", yaxis="y2", hoverinfo="skip",
                             showlegend=False))  # fmt: skip
    titles = [f"<b>no norm</b>: noise {theme.significant(free, 2)} of the latents",
              f"<b>unit RMS</b>: noise {theme.significant(held, 2)}"]  # fmt: skip
    axis = dict(range=[-2.4, 2.4], showgrid=False, tickvals=[-2, 0, 2])
    narrow = {"annotations.0.text": f"<b>no norm</b>: {theme.significant(free, 2)}"}
    return theme.figure(
        *traces, height=360, meta=dict(narrow=narrow), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(titles[0]), theme.heading(titles[1], "2")],
        xaxis=dict(domain=[0, 0.47], title=dict(text="first number, over the scale"), **axis),
        yaxis=dict(title=dict(text="second number"), scaleanchor="x", **axis),
        xaxis2=dict(domain=[0.55, 1], anchor="y2", title=dict(text="first number"), **axis),
        yaxis2=dict(anchor="x2", scaleanchor="x2", **axis),
    )  # fmt: skip


def escape_says(scale=1, spread=0.2):
    """`escape` in a sentence."""
    free, held = ratios(scale, spread)
    return (
        f"Noise of mean spread {spread:g} and an encoder {scale} times as large: without a norm the noise is "
        f"{theme.significant(free, 2)} of the latents, with unit RMS it stays {theme.significant(held, 2)}."
    )


def _pixels(images, columns):
    """A heat map of images beside each other; the first row is drawn on top."""
    import plotly.graph_objects as go

    return go.Heatmap(z=recorded.mosaic(images, columns).numpy(), zmin=0, zmax=255, colorscale=INKED, showscale=False,
                      hoverinfo="skip")  # fmt: skip


def _of_plane(rows, objective):
    return next(row for row in rows if row["objective"] == objective)


def plane(rows, objective):
    """Where do digits lie? Held-out digits in the plane of two latent numbers, written as what they are.

    rows: "plane" of the recorded run. Right: what is decoded at the rings, from the rightmost on against the clock.
    """
    import plotly.graph_objects as go

    row = _of_plane(rows, objective)
    colours = list(theme.CLASSES.values())
    traces = []
    for label in range(10):
        mine = [point for point, each in zip(row["points"], row["labels"], strict=True) if each == label]
        traces.append(go.Scatter(
            x=[x / 100 for x, _ in mine], y=[y / 100 for _, y in mine], mode="text", text=[str(label)] * len(mine),
            textfont=dict(color=colours[label % len(colours)], size=theme.SMALL), showlegend=False, hoverinfo="skip",
        ))  # fmt: skip
    traces.append(_pixels(recorded.unpacked(row["around"]), 2).update(xaxis="x2", yaxis="y2"))
    places = torch.tensor(row["points"]) / 100
    radius, turns = places.square().sum(1).mean().sqrt(), torch.arange(ANGLES) * (2 * math.pi / ANGLES)
    asked = radius * torch.stack((turns.cos(), turns.sin()), 1)
    traces.append(go.Scatter(x=asked[:, 0].tolist(), y=asked[:, 1].tolist(), mode="markers", hoverinfo="skip",
                             showlegend=False, marker=dict(symbol="circle-open", size=14, color=theme.INK,
                                                           line=dict(width=2))))  # fmt: skip
    reach = 1.15 * max(radius.item(), places.abs().max().item())
    said = f"a line names <b>{row['probe']:.0%}</b>, error {row['error']:.3f}"
    bare = dict(showticklabels=False, showgrid=False, ticks="")
    narrow = {"annotations.0.text": f"<b>{row['probe']:.0%}</b> named, error {row['error']:.3f}"}
    return theme.figure(
        *traces, height=440, meta=dict(narrow=narrow), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(said), theme.heading("decoded", "2")],
        xaxis=dict(domain=[0, 0.7], range=[-reach, reach], title=dict(text="first number"), showgrid=False,
                   constrain="domain"),
        yaxis=dict(range=[-reach, reach], title=dict(text="second number"), showgrid=False, scaleanchor="x",
                   constrain="domain"),
        xaxis2=dict(domain=[0.78, 1], anchor="y2", constrain="domain", **bare),
        yaxis2=dict(anchor="x2", scaleanchor="x2", constrain="domain", autorange="reversed", **bare),
    )  # fmt: skip


def plane_says(rows, objective):
    """`plane` in a sentence."""
    row = _of_plane(rows, objective)
    return (
        f"{objective}: latents of two numbers have a deviation of {theme.significant(row['deviation'], 2)}; a line "
        f"reads {row['probe']:.0%} of held-out digits, which are decoded with error {row['error']:.3f}."
    )


def noisy(rows, noises, noise):
    """What does latent noise do to what is decoded? A row of digits for each tokeniser, at one noise.

    rows: "noisy" of the recorded run; noises: those it has, in deviations of the means; noise: the one that is shown.
    """
    place, columns = noises.index(noise), 6
    shown = [recorded.unpacked(row["images"])[columns * place :][:columns] for row in rows]
    heading = f"<b>noise {noise:g}</b> of the deviation of the means", f"<b>noise {noise:g}</b>"
    return _board(shown, [row["name"] for row in rows], columns, 110 + 76 * len(rows), *heading)


def _board(shown, names, columns, height, heading, narrow):
    """Images, a named row for each of `names`; heading: above them, on a phone `narrow`."""
    side, bare = shown[0].shape[-1], dict(showgrid=False, ticks="")
    return theme.figure(
        _pixels(torch.cat(shown), columns), height=height, margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(heading)], meta=dict(narrow={"annotations.0.text": narrow}),
        xaxis=dict(showticklabels=False, constrain="domain", **bare),
        yaxis=dict(tickvals=[side * (row + 0.5) for row in range(len(names))], ticktext=names, autorange="reversed",
                   scaleanchor="x", constrain="domain", **bare),
    )  # fmt: skip


def noisy_says(rows, noises, noise):
    """`noisy` in a sentence: the change of each tokeniser's images, in mean squared error from those without noise."""
    parts = []
    for row in rows:
        images = recorded.unpacked(row["images"]).float().unflatten(0, (len(noises), -1)) / 127.5
        parts.append(f"{row['name']} {(images[noises.index(noise)] - images[0]).square().mean():.3f}")
    return f"Six digits decoded under noise {noise:g} change by, squared and per pixel: {', '.join(parts)}."


def samples(rows):
    """What does one generator draw from each tokeniser's latents? Zero to nine, the first of each, as they came.

    rows: "generator" of the recorded run, those that hold images.
    """
    shown = [recorded.unpacked(row["images"])[:10] for row in rows]
    steps = f"<b>{rows[0]['steps']:,} steps</b>"
    return _board(shown, [row["name"] for row in rows], 10, 90 + 52 * len(rows), f"{steps} of training", steps)


def samples_says(rows):
    """`samples` in a sentence: how many of the digits that each generator draws are read as asked."""
    read = ", ".join(f"{row['name']} {row['accuracy'][-1][1]:.0%}" for row in rows)
    return (
        f"Ten digits drawn from the latents of {len(rows)} tokenizers; of all that were drawn, read as asked: {read}."
    )


def _lines(rows, points, told):
    """A line for each row with a mark on each point; the first of a name is in the legend. points: row -> pairs."""
    import plotly.graph_objects as go

    seen, traces = set(), []
    for row in rows:
        colour, symbol, dash = KINDS[row["name"]]
        pairs = points(row)
        traces.append(go.Scatter(
            x=[x for x, _ in pairs], y=[y for _, y in pairs], mode="lines+markers", name=row["name"],
            legendgroup=row["name"], showlegend=row["name"] not in seen, line=dict(color=colour, dash=dash, width=2),
            marker=dict(color=colour, symbol=symbol, size=8), hovertemplate=f"{row['name']}: {told}<extra></extra>",
        ))  # fmt: skip
        seen.add(row["name"])
    return traces


def distances(rows):
    """How soon does one generator draw digits from each tokeniser's latents? Fréchet distance over its training steps.

    rows: "generator" of the recorded run, a line per seed.
    """
    traces = _lines(rows, lambda row: row["distance"], "%{y:.1f} after %{x} steps")
    return theme.figure(
        *traces, height=440, showlegend=True, margin=dict(l=8, r=8, t=12, b=8), legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(type="log", title=dict(text="training steps of the generator"),
                   tickvals=[step for step, _ in rows[0]["distance"]]),
        yaxis=dict(type="log", title=dict(text="Fréchet distance"), tickvals=[5, 10, 20, 50, 100, 200, 500]),
    )  # fmt: skip


def distances_says(rows):
    """`distances` in a sentence: the mean over seeds after the last step."""
    return f"Fréchet distance after {rows[0]['steps']} steps, means over seeds: {_means(rows, _last)}."


def _last(row):
    return row["distance"][-1][1]


def robust(rows):
    """Which latents may be off and still be decoded? Error on held-out digits over the noise in the latents.

    rows: "tokeniser" of the recorded run, of names in KINDS, a line per seed.
    """
    traces = _lines(rows, _noise_of, "error %{y:.3f} at noise %{x}")
    return theme.figure(
        *traces, height=420, showlegend=True, margin=dict(l=8, r=8, t=12, b=8), legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(title=dict(text="noise, in deviations of the means")),
        yaxis=dict(type="log", title=dict(text="squared error per pixel"), tickvals=[0.03, 0.05, 0.1, 0.2, 0.5, 1]),
    )  # fmt: skip


def _noise_of(row):
    return [(float(noise), error) for noise, error in row["noise"].items()]


def robust_says(rows):
    """`robust` in a sentence: how many times its error without noise each has at noise 1."""
    return f"Error at noise 1 over the error without, means over seeds: {_means(rows, _rise)}."


def _rise(row):
    return row["noise"]["1"] / row["noise"]["0"]


def _means(rows, value):
    names = dict.fromkeys(row["name"] for row in rows)
    mine = {name: [value(row) for row in rows if row["name"] == name] for name in names}
    return "; ".join(f"{name} {theme.significant(sum(found) / len(found), 3)}" for name, found in mine.items())


@functools.cache
def _walked(sampler, steps, shift):
    """(times, paths [steps + 1, PATHS] of data N(0.7, 0.3²), deviation of DRAWN ends over that of the data)."""
    start = torch.randn(DRAWN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    trace = [start]
    if sampler == "random":
        times, generator = time_grid(steps - 1, shift, 1 / steps, 1 - 1 / steps), torch.Generator().manual_seed(1)
        trace.append(random_walk(LAW.velocity, start, times, generator=generator, trace=trace))
        times = torch.cat((times, torch.ones(1, dtype=torch.float64)))
    else:
        times = time_grid(steps, shift)
        walk(LAW.velocity, start, times, sampler, trace)
    return times, torch.stack(trace)[:, :PATHS], trace[-1].std().item() / LAW.spread


def walks(sampler="euler", steps=10, shift=0.4):
    """How do walks reach the data? Paths from noise at t = 0 to a normal law at t = 1, and how wide their ends lie."""
    import plotly.graph_objects as go

    times, paths, reached = _walked(sampler, steps, shift)
    x, y = [], []
    for path in paths.mT.tolist():
        x += [*times.tolist(), None]
        y += [*path, None]
    line = [each / 50 for each in range(51)]
    edges = [[each * LAW.mean + sign * 2 * LAW.deviation(each) for each in line] for sign in (1, -1)]
    exact = dict(x=[*line, None, *line], y=[*edges[0], None, *edges[1]])
    return theme.figure(
        go.Scatter(x=x, y=y, mode="lines+markers", line=dict(color=theme.BLUE, width=1.5), marker=dict(size=4),
                   name="walks", hoverinfo="skip"),
        go.Scatter(**exact, mode="lines", line=dict(color=theme.VERMILLION, dash="dash", width=2), hoverinfo="skip",
                   name="two deviations of the exact law"),
        height=380, showlegend=True, legend=dict(y=-0.2, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(f"<b>{reached:.2f}</b> of the data's deviation in {steps} steps")],
        meta=dict(narrow={"annotations.0.text": f"<b>{reached:.2f}</b> of the deviation"}),
        xaxis=dict(range=[-0.02, 1.02], title=dict(text="time: 0 is noise, 1 is data")),
        yaxis=dict(range=[-3.2, 3.2], title=dict(text="one number of a latent")),
    )  # fmt: skip


def walks_says(sampler="euler", steps=10, shift=0.4):
    """`walks` in a sentence."""
    _, _, reached = _walked(sampler, steps, shift)
    return f"{WALKS[sampler]}, {steps} steps, shift {shift:g}: the ends have {reached:.3f} of the data's deviation."
