"""Figures of fusion, facts, pooled columns and aspects: a builder per question, and a sentence for each."""

import functools
from statistics import fmean

import torch

from effattn_core.coattention import canvases, facts, pooling
from effattn_core.coattention.fusion import fused, most_weight
from effattn_core.recordings import measured
from figures import theme

NORMS, NOISES, SHOWN = (1.6, 4.0, 8.0, 16.0), (0.0, 0.2, 0.4), (2, 4, 8, 13)
RUN, SEEN = "coattention/training-cpu", "coattention/shown-cpu"
WINE = ("alcohol", "malic acid", "ash", "alkalinity", "magnesium", "phenols", "flavanoids", "nonflavanoids",
        "proanthocyanins", "colour", "hue", "OD280", "proline")  # fmt: skip


@functools.cache
def _fused(norm):
    """(weights of 36 cells, of 4 boxes by quadrant), w along the fused product of the asked cell and box."""
    given = canvases.draw(1, torch.Generator().manual_seed(3))
    found, generator = [], torch.Generator().manual_seed(0)
    for regions, asked in ((given["cells"][0], 7), (given["boxes"][0], given["order"][0].argsort()[0].item())):
        x = torch.tanh(regions @ torch.randn(regions.shape[1], 64, generator=generator) / 4).double()
        product = x[asked] * torch.randn(64, generator=generator).double().tanh()
        context = product / x[asked]
        weight = norm * product / product.norm()
        _, shares = fused(x, context, weight[None], x)
        found.append(tuple(round(each, 3) for each in shares[0].tolist()))
    by_quadrant = [found[1][place] for place in given["order"][0].argsort().tolist()]
    return found[0], tuple(by_quadrant)


def bound(norm=1.6):
    """How sharp can a question be? Weights of cells and of boxes where w points at one of them, by the size of w."""
    import plotly.graph_objects as go

    cells, boxes = _fused(norm)
    scale = dict(colorscale=theme.MAGNITUDE, zmin=0, zmax=1)
    traces = [
        go.Heatmap(z=[cells[6 * r : 6 * r + 6] for r in range(6)], showscale=False, **scale,
                   hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra></extra>"),
        go.Heatmap(z=[boxes[:2], boxes[2:]], xaxis="x2", yaxis="y2", colorbar=dict(title="weight", thickness=12),
                   **scale,
                   hovertemplate="row %{y}, column %{x}: %{z:.3f}<extra></extra>"),
    ]  # fmt: skip
    limits = [most_weight(torch.full((1,), norm), count).item() for count in (36, 4)]
    blank = dict(showticklabels=False, showgrid=False)
    heads = [theme.heading(f"<b>cells: {max(cells):.2f}</b> ≤ {limits[0]:.2f}"),
             theme.heading(f"<b>boxes: {max(boxes):.2f}</b> ≤ {limits[1]:.2f}", axis="2")]  # fmt: skip
    return theme.figure(
        *traces, height=330, annotations=heads, margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(domain=[0, 0.46], **blank), xaxis2=dict(domain=[0.54, 1], **blank),
        yaxis=dict(autorange="reversed", **blank), yaxis2=dict(autorange="reversed", anchor="x2", **blank),
    )  # fmt: skip


def bound_says(norm=1.6):
    """`bound` in a sentence."""
    cells, boxes = _fused(norm)
    limits = [most_weight(torch.full((1,), norm), count).item() for count in (36, 4)]
    return (
        f"With a weight vector of norm {norm:g} the largest weight is {max(cells):.2f} among 36 cells, where at most "
        f"{limits[0]:.2f} is possible, and {max(boxes):.2f} among 4 boxes, of at most {limits[1]:.2f}."
    )


@functools.cache
def _accuracies(noise):
    """arm -> accuracies of the seeds."""
    return {arm: [row["accuracy"] for row in measured(RUN, what="facts", arm=arm, noise=noise)] for arm in facts.ARMS}


def _bars(values, title, unit, top):
    import plotly.graph_objects as go

    means = {name: fmean(each) for name, each in values.items()}
    spread = [max(each) - means[name] for name, each in values.items()]
    below = [means[name] - min(each) for name, each in values.items()]
    bars = go.Bar(x=list(means.values()), y=list(means), orientation="h", marker=dict(color=theme.BLUE),
                  error_x=dict(type="data", array=spread, arrayminus=below, color=theme.INK),
                  hovertemplate="%{y}: %{x:.3f}<extra></extra>")  # fmt: skip
    return theme.figure(
        bars, height=90 + 45 * len(means), annotations=[theme.heading(title)], margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(title=dict(text=unit), range=[0, top]), yaxis=dict(autorange="reversed"), showlegend=False,
    )  # fmt: skip


def noisy(noise=0.2):
    """Does the picture help when facts are wrong? Accuracy of four models by the noise of their facts."""
    found = _accuracies(noise)
    best = max(found, key=lambda arm: fmean(found[arm]))
    return _bars(found, f"<b>best: {best}</b>, {fmean(found[best]):.2f}", "accuracy, three seeds", 1.05)


def noisy_says(noise=0.2):
    """`noisy` in a sentence."""
    told = ", ".join(f"{arm} {fmean(each):.3f}" for arm, each in _accuracies(noise).items())
    return f"With {noise:.0%} of the elements of facts replaced, accuracy is {told}."


def _columns(form, causal):
    (row,) = measured(SEEN, what="columns", causal=causal)
    weight = torch.tensor(row["weight"], dtype=torch.float64)
    # Without a mask all rows see a token: divided by their number, sums keep their shares. The state says so.
    share = pooling.column_weights(weight, "sum" if form == "norm" and not causal else form)
    return row["tokens"], row["weight"], share.tolist()


@functools.cache
def _even(form, causal, count):
    """The same weights where each row looks evenly at all that it sees: what counting alone gives a column."""
    weight = torch.ones(count, count, dtype=torch.float64)
    weight = weight.tril() if causal else weight
    weight = weight / weight.sum(1, keepdim=True)
    return pooling.column_weights(weight, "sum" if form == "norm" and not causal else form).tolist()


def columns(form="sum", causal=True):
    """Which tokens are looked at? SmolLM2's last layer over a sentence, and the weight that each column gets."""
    import plotly.graph_objects as go

    tokens, weight, share = _columns(form, causal)
    place, top = list(range(len(tokens))), max(range(len(share)), key=share.__getitem__)
    even = _even(form, causal, len(tokens))
    traces = [
        go.Bar(x=place, y=[round(each, 4) for each in share], marker=dict(color=theme.BLUE), customdata=tokens,
               hovertemplate="%{customdata}: %{y:.3f}<extra></extra>"),
        go.Scatter(x=place, y=[round(each, 4) for each in even], mode="markers", customdata=tokens,
                   marker=dict(color=theme.VERMILLION, symbol="diamond"),
                   hovertemplate="%{customdata}, even attention: %{y:.3f}<extra></extra>"),
        go.Heatmap(x=place, y=place, z=weight, yaxis="y2", colorscale=theme.MAGNITUDE, zmin=0, zmax=0.5,
                   colorbar=dict(title="weight", thickness=12, len=0.6, y=0.3),
                   hovertemplate="from %{y} to %{x}: %{z:.3f}<extra></extra>"),
    ]  # fmt: skip
    title = f"<b>“{tokens[top]}” gets {share[top]:.2f}</b>, evenly {even[top]:.2f}{_same(form, causal)}"
    ticks = dict(tickvals=place, ticktext=tokens)
    return theme.figure(
        *traces, height=520, annotations=[theme.heading(title)], showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(tickangle=-90, showgrid=False, anchor="y2", **ticks), yaxis=dict(domain=[0.72, 1], range=[0, 0.8]),
        yaxis2=dict(domain=[0, 0.68], autorange="reversed", showgrid=False, **ticks),
    )  # fmt: skip


def _same(form, causal):
    """What is to be said of norm without a mask: it is no third picture."""
    return "; norm is sum here" if form == "norm" and not causal else ""


def columns_says(form="sum", causal=True):
    """`columns` in a sentence."""
    tokens, _, share = _columns(form, causal)
    top = max(range(len(share)), key=share.__getitem__)
    sight = "causal" if causal else "without a mask"
    return (
        f"SmolLM2's last layer, {sight}, weights by the {form} of columns: of {len(tokens)} tokens “{tokens[top]}” at "
        f"place {top + 1} gets {share[top]:.3f}, by even attention "
        f"{_even(form, causal, len(tokens))[top]:.3f}; the last gets {share[-1]:.3f}{_same(form, causal)}."
    )


def aspects(shown=4, graph=True):
    """Does the model find what a user cares for? Weights over 13 aspects beside the true preference."""
    import plotly.graph_objects as go

    (row,) = measured(SEEN, what="aspects", shown=shown, graph=graph)
    head = f"<b>error {_errors(shown, graph):.2f}</b>, all users; unguided {_unguided(shown, graph):.2f}"
    traces = [
        go.Bar(x=row["truth"], y=WINE, orientation="h", name="true preference",
               marker=theme.hatched(theme.ORANGE, "/")),
        go.Bar(x=row["weight"], y=WINE, orientation="h", name="learnt weight", marker=dict(color=theme.BLUE)),
    ]  # fmt: skip
    return theme.figure(
        *traces, height=480, annotations=[theme.heading(head)],
        showlegend=True, barmode="group", legend=dict(y=-0.15, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(title=dict(text="share"), range=[0, 1]), yaxis=dict(autorange="reversed"),
    )  # fmt: skip


def _mean_error(arm, shown):
    return fmean(row["error"] for row in measured(RUN, what="aspects", arm=arm, shown=shown))


def _errors(shown, graph):
    return _mean_error("guided + graph" if graph else "guided", shown)


def _unguided(shown, graph):
    """Where all aspects that are shown count alike."""
    return _mean_error("mean + graph" if graph else "mean of aspects", shown)


def aspects_says(shown=4, graph=True):
    """`aspects` in a sentence."""
    (row,) = measured(SEEN, what="aspects", shown=shown, graph=graph)
    top = [WINE[max(range(13), key=row[name].__getitem__)] for name in ("truth", "weight")]
    how = "with the graph" if graph else "without the graph"
    return (
        f"{shown} of 13 aspects shown, {how}: the user cares most for {top[0]}, the model for {top[1]}; the "
        f"error over all users, unguided {_unguided(shown, graph):.3f}, is {_errors(shown, graph):.3f}."
    )
