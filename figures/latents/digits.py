"""Figures of drawn digits: one on its way from noise, generators side by side, and where in the stream errors grow."""

import functools

import torch

from effattn_core.latents import recorded
from effattn_core.latents.decoding import draw
from effattn_core.latents.digits import data_of_digits
from effattn_core.recordings import measured
from figures import theme

RUN, SIDE = "latents/training-cpu", 28
LABEL, SAMPLED, SEED = 7, 10, 0  # the digit that is drawn, steps of its sampler, its dice
STOPS, WEIGHTS = (0, 3, 6, 10), (1.0, 1.5, 3.0)
PLACES = range(1, 17)
LEVELS, BLANK = 100, -1  # of a pixel, so that one byte holds it; what is not drawn yet
UNASKED = "no class"  # the largest generator, its class hidden
SETTINGS = {"no guidance": (1.0, 20), "weight 1.5": (1.5, 20), "weight 1.5, 5 steps": (1.5, 5)}
NAMES = {
    "main": "largest", "σ-VAE": "σ-VAE", "VAE": "VAE", "unit RMS": "unit RMS", "codes": "codes", "DiT": "DiT",
    "retention": "retention", "eps": "ε, from 999", UNASKED: "no class",
}  # fmt: skip
WEIGHTS_OF_PLACES = (1.0, 1.5, 2.0, 3.0)


def _levels(images):
    """Pixels in [-1, 1] as whole levels, 0 to LEVELS."""
    return ((images.clamp(-1, 1) + 1) * (LEVELS / 2)).round().long()


def _shade():
    """From paper to ink as MNIST has it, dark to light; what is blank is the theme's grid."""
    edge = 0.5 / (LEVELS - BLANK)
    return [[0, theme.GRID], [edge, theme.GRID], [edge, "#000000"], [1, "#FFFFFF"]]


def _pictures(levels, **place):
    """A heatmap of levels, [height, width]."""
    import plotly.graph_objects as go

    return go.Heatmap(z=levels.tolist(), zmin=BLANK, zmax=LEVELS, colorscale=_shade(), showscale=False,
                      hoverinfo="skip", **place)  # fmt: skip


@functools.cache
def _trained():
    return recorded.load()


@functools.cache
def _drawing(weight):
    """The latents of one digit on their way: float [16 places, SAMPLED + 1 stops, 8], noise first."""
    trained, paths = _trained(), []
    words = torch.tensor([[LABEL]])
    generator, dice = (torch.Generator().manual_seed(SEED) for _ in range(2))

    def watch(place, trace):
        start = torch.randn(1, trace.shape[-1], generator=dice)  # what the latent started from, drawn as `draw` does
        paths.append(torch.cat((start, trace[:, 0])))

    draw(trained.model, words, without=torch.full_like(words, recorded.HIDDEN), weight=weight, steps=SAMPLED,
         generator=generator, watch=watch)  # fmt: skip
    return torch.stack(paths)


@functools.cache
def _so_far(step, weight):
    """Levels [16, 28, 28]: after each number of latents, the newest after `step` steps, the digit so far."""
    paths, trained = _drawing(weight), _trained()
    places, rows = torch.arange(len(paths)), trained.tokeniser.rows
    before, newest = places[:, None] > places, places[:, None] == places
    latents = before[..., None] * paths[:, -1] + newest[..., None] * paths[:, step]
    drawn = (before | newest).view(-1, rows, rows)
    drawn = drawn.repeat_interleave(SIDE // rows, 1).repeat_interleave(SIDE // rows, 2)
    return _levels(recorded.images_of(trained, latents)[:, 0]).where(drawn, BLANK)


@functools.cache
def _read(weight):
    """What the classifier reads the finished digit as."""
    return _trained().classifier(recorded.images_of(_trained(), _drawing(weight)[None, :, -1])).argmax(1).item()


def drawn(latent=1, step=STOPS[-1], weight=1.5):
    """How does a digit come out of noise? What is decoded so far, and the numbers of the newest latent step by step."""
    import plotly.graph_objects as go

    path = _drawing(weight)[latent - 1]
    colours = [*theme.CLASSES.values(), theme.INK, theme.QUIET]
    traces = [_pictures(_so_far(step, weight)[latent - 1])]
    traces += [
        go.Scatter(x=list(range(SAMPLED + 1)), y=numbers, mode="lines", xaxis="x2", yaxis="y2", showlegend=False,
                   line=dict(color=colour, width=2), hovertemplate="after %{x} steps: %{y:.2f}<extra></extra>")
        for numbers, colour in zip(path.T.tolist(), colours, strict=True)
    ]  # fmt: skip
    here = dict(type="line", xref="x2", yref="y2 domain", x0=step, x1=step, y0=0, y1=1,
                line=dict(color=theme.INK, width=1, dash="dot"))  # fmt: skip
    titles = f"<b>latent {latent}</b> of {len(PLACES)}", f"its 8 numbers, step <b>{step}</b> of {SAMPLED}"
    narrow = {"height": 620, "xaxis.domain": [0.1, 0.9], "yaxis.domain": [0.5, 0.95], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0.08, 0.38]}  # fmt: skip
    return theme.figure(
        *traces, height=330, meta=dict(narrow=narrow), margin=dict(l=8, r=8, t=30, b=8), shapes=[here],
        annotations=[theme.heading(titles[0]), theme.heading(titles[1], "2")],
        xaxis=dict(domain=[0, 0.42], showticklabels=False, showgrid=False, ticks=""),
        yaxis=dict(autorange="reversed", scaleanchor="x", showticklabels=False, showgrid=False, ticks="",
                   constrain="domain"),
        xaxis2=dict(domain=[0.52, 1], anchor="y2", range=[0, SAMPLED], title=dict(text="step of the sampler")),
        yaxis2=dict(anchor="x2", range=[-3.5, 3.5]),
    )  # fmt: skip


def drawn_says(latent=1, step=STOPS[-1], weight=1.5):
    """`drawn` in a sentence."""
    path = _drawing(weight)[latent - 1]
    left = (path[step] - path[-1]).abs().mean().item()
    return (
        f"Weight {weight:g}, latent {latent} of {len(PLACES)} after {step} of {SAMPLED} steps: {latent - 1} are drawn;"
        f" its numbers are {left:.2f} from where they end on average; the finished digit is read as {_read(weight)}."
    )


@functools.cache
def _rows(setting):
    """(name, levels [28, 280]) of each row of pictures: held-out digits, then what each generator drew first."""
    weight, steps = SETTINGS[setting]
    digits = data_of_digits()
    first = [int((digits.held_labels == label).nonzero()[0]) for label in range(10)]
    rows = [("held out", _strip(digits.held_images[first, 0]))]
    for name, title in NAMES.items():
        found = [
            row["images"] for row in measured(RUN, what="sampled", name=name, weight=weight)
            if "images" in row and row["steps"] in (steps, 1) and row["sampler"] in ("2m", "softmax")
            and row["first"] in (999, None)
        ]  # fmt: skip
        if found:
            rows.append((title, _strip(recorded.unpacked(found[0])[:10] / 127.5 - 1)))
    return rows


def _strip(images):
    """Ten images side by side, in levels."""
    return torch.cat([*_levels(images)], 1)


def samples(setting="no guidance"):
    """Do the generators draw digits? Ten of each, in the order in which they came, under ten that nobody drew."""
    names, strips = zip(*_rows(setting), strict=True)
    height = len(strips) * SIDE
    middles = [SIDE * row + SIDE / 2 - 0.5 for row in range(len(strips))]
    return theme.figure(
        _pictures(torch.cat(strips)), height=60 * len(strips) + 20, margin=dict(l=8, r=8, t=8, b=8),
        xaxis=dict(showticklabels=False, showgrid=False, ticks="", range=[-0.5, 10 * SIDE - 0.5]),
        yaxis=dict(range=[height - 0.5, -0.5], tickvals=middles, ticktext=list(names), showgrid=False),
        meta=dict(narrow={"height": 34 * len(strips) + 20}),
    )  # fmt: skip


def samples_says(setting="no guidance"):
    """`samples` in a sentence: how many of the ten the classifier reads as asked."""
    classifier, labels, told = _trained().classifier, torch.arange(10), []
    for name, strip in _rows(setting):
        if name == NAMES[UNASKED]:
            continue
        images = torch.stack(strip.split(SIDE, 1))[:, None] / (LEVELS / 2) - 1
        told.append(f"{name} {(classifier(images).argmax(1) == labels).sum().item()}")
    return f"Digits 0 to 9, {setting}; of the ten the classifier reads as asked: {', '.join(told)}."


@functools.cache
def _distances(what="places"):
    """{weight: distances of the sixteen places}, of the largest generator with 20 steps; "afresh": after the data's."""
    rows = measured(RUN, what=what, steps=20)
    return {row["weight"]: row["places"] for row in rows}


def places(weight=1.0):
    """Do errors feed on errors? How far drawn latents are from the data's by place, after drawn ones and the data's."""
    import plotly.graph_objects as go

    traces = []
    for (each, distances), colour in zip(_distances().items(), theme.CLASSES.values(), strict=False):
        chosen = each == weight
        traces.append(go.Scatter(
            x=list(PLACES), y=distances, mode="lines+markers", name=f"weight {each:g}", opacity=1 if chosen else 0.5,
            line=dict(color=colour, width=4 if chosen else 1.5), marker=dict(size=9 if chosen else 5),
            hovertemplate="place %{x}: %{y:.3f}<extra></extra>",
        ))  # fmt: skip
    traces.append(go.Scatter(
        x=list(PLACES), y=_distances("afresh")[weight], mode="lines+markers", name="after the data's own",
        line=dict(color=theme.INK, width=2, dash="dot"), marker=dict(size=6, symbol="circle-open"),
        hovertemplate="place %{x}, after the data's own latents: %{y:.3f}<extra></extra>",
    ))  # fmt: skip
    top = 1.08 * max(map(max, _distances().values()))
    return theme.figure(
        *traces, height=340, showlegend=True,
        xaxis=dict(title=dict(text="place in the stream"), tickvals=[1, 4, 8, 12, 16], range=[0.5, 16.5]),
        yaxis=dict(title=dict(text="distance to the data's latents"), range=[0, top]),
    )  # fmt: skip


def places_says(weight=1.0):
    """`places` in a sentence."""
    distances = _distances()[weight]
    half = len(distances) // 2
    early, late = sum(distances[:half]) / half, sum(distances[half:]) / half
    fresh = sum(_distances("afresh")[weight][half:]) / half
    return (
        f"Weight {weight:g}: latents drawn at the first {half} places are {theme.significant(early)} from the data's on"
        f" average, at the last {half} places {theme.significant(late)}; drawn after the data's own latents there,"
        f" {theme.significant(fresh)}."
    )
