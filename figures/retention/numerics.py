"""Figures of the retention chapter on numbers: what 16 bits do to a decay, to a product of factors, to a state."""

import functools
import math

import torch

from figures import theme
from figures.retention.forms import HEADS, count, life, schedule_of

DTYPES = ("bfloat16", "float16", "float32")
LONGEST = 131072  # tokens: as far as the products of factors are followed
STEPS = 8192  # tokens: as far as the states are followed


def _rounded(dtype, schedule, heads):
    """Each head's decay as `dtype` stores it, as floats."""
    return torch.tensor(schedule_of(schedule, heads)).to(getattr(torch, dtype)).double().tolist()


def _merged(decays):
    """Heads that share a decay below 1 with the head before them."""
    return [head for head in range(1, len(decays)) if decays[head] == decays[head - 1] < 1]


def rounded_decays(dtype="bfloat16", schedule="code", heads=HEADS):
    """What becomes of a long half-life when the decay itself is stored in 16 bits? Half-lives by head, true and stored.

    The decays are rounded by PyTorch. One that rounds to 1 never fades, and stands on the uppermost line.
    """
    import plotly.graph_objects as go

    true, stored = schedule_of(schedule, heads), _rounded(dtype, schedule, heads)
    powers = list(range(1, 1 + math.ceil(math.log10(max(map(life, true))))))
    top = 10.0 ** (powers[-1] + 1)
    places = [min(life(decay), top) for decay in stored]
    names = list(range(heads))
    lost = [decay == 1 for decay in stored]
    words = ["never fades" if decay == 1 else f"{count(life(decay))} tokens" for decay in stored]
    gaps = [[head, head, None] for head in names], [[life(true[head]), places[head], None] for head in names]
    gone = dict(type="line", xref="x domain", x0=0, x1=1, y0=top, y1=top, line=dict(color=theme.INK, dash="longdash"))
    traces = [
        go.Scatter(x=sum(gaps[0], []), y=sum(gaps[1], []), mode="lines", hoverinfo="skip", showlegend=False,
                   line=dict(color=theme.QUIET, dash="dot", width=2)),
        go.Scatter(x=names, y=[life(decay) for decay in true], mode="markers", name="as defined",
                   marker=dict(symbol="circle-open", size=17, color=theme.INK, line=dict(width=2)),
                   hovertemplate="head %{x}: %{y:,.0f} tokens<extra>as defined</extra>"),
        go.Scatter(x=names, y=places, mode="markers", name=f"stored in {dtype}; ▲ rounded to 1",
                   marker=dict(symbol=["triangle-up" if each else "circle" for each in lost], size=12,
                               color=[theme.VERMILLION if each else theme.BLUE for each in lost]),
                   text=words, hovertemplate="head %{x}: %{text}<extra>stored</extra>"),
    ]  # fmt: skip
    return theme.figure(
        *traces, height=380, shapes=[gone], showlegend=True,
        xaxis=dict(title=dict(text="head"), tickvals=names, range=[-0.6, heads - 0.4], showgrid=False),
        yaxis=dict(type="log", title=dict(text="half-life, tokens"), range=[0.9, powers[-1] + 1.25],
                   tickvals=[*(10.0**power for power in powers), top],
                   ticktext=[*(theme.significant(10.0**power) for power in powers), "never"]),
    )  # fmt: skip


def rounded_decays_says(dtype="bfloat16", schedule="code", heads=HEADS):
    """`rounded_decays` in a sentence."""
    stored = _rounded(dtype, schedule, heads)
    lost, merged = [head for head, decay in enumerate(stored) if decay == 1], _merged(stored)
    if not lost and not merged:
        return f"Stored in {dtype}, the decays of the {schedule}'s {heads} heads keep their half-lives."
    parts = []
    if lost:
        one, many = (
            f"head {lost[0]} rounds to 1 and never fades",
            f"heads {lost[0]} to {lost[-1]} round to 1 and never fade",
        )
        parts.append(one if len(lost) == 1 else many)
    if merged:
        listed = " and ".join(filter(None, (", ".join(map(str, merged[:-1])), str(merged[-1]))))
        many = f"head {listed} fades" if len(merged) == 1 else f"heads {listed} fade"
        parts.append(f"{many} just like the head before")
    return f"Stored in {dtype}, of the {schedule}'s {heads} heads, {'; '.join(parts)}."


@functools.cache
def _factors(head, dtype):
    """decay^-n and decay^n for n = 0 … LONGEST, rounded to `dtype`, and the first n with infinity, with zero."""
    exponent = torch.arange(LONGEST + 1, dtype=torch.float64) * math.log(schedule_of("code")[head])
    growing, shrinking = (torch.exp(sign * exponent).to(getattr(torch, dtype)).double() for sign in (-1, 1))
    first = [int(found[0]) if len(found := bad.nonzero()) else None for bad in (growing.isinf(), shrinking == 0)]
    return growing, shrinking, *first


def factors(head=0, dtype="float16", chunk=64):
    """What if decay^(i − j) is computed as a product, decay^i · decay^−j? The two factors over the text, and a chunk's.

    The factors are rounded by PyTorch to `dtype`; a cross stands where one becomes infinite, or nought.
    """
    import plotly.graph_objects as go

    growing, shrinking, infinite, nought = _factors(head, dtype)
    limits = torch.finfo(getattr(torch, dtype))
    places = [round(2 ** (step / 3)) for step in range(3 * int(math.log2(LONGEST)) + 1)]
    places = sorted({*places, chunk, *(end - 1 for end in (infinite, nought) if end)})
    traces, annotations = [], []
    for name, values, end, colour, dash in (
        ("decay<sup>−j</sup>, on keys", growing, infinite, theme.VERMILLION, "dash"),
        ("decay<sup>i</sup>, on queries", shrinking, nought, theme.ORANGE, "dot"),
    ):
        shown = [place for place in places if end is None or place < end]
        traces.append(go.Scatter(x=shown, y=values[shown].tolist(), mode="lines", name=name,
                                 line=dict(color=colour, dash=dash, width=3),
                                 hovertemplate="%{x} tokens: %{y:.2g}<extra></extra>"))  # fmt: skip
        traces.append(go.Scatter(x=shown[-1:], y=values[shown[-1:]].tolist(), mode="markers", visible=end is not None,
                                 showlegend=False, hoverinfo="skip",
                                 marker=dict(symbol="x", size=12, color=colour)))  # fmt: skip
    kept = shrinking[[min(place, chunk) for place in places]].tolist()
    traces.append(go.Scatter(x=places, y=kept, mode="lines", name=f"smallest by chunks of {chunk}",
                             line=dict(color=theme.BLUE, width=5),
                             hovertemplate="%{x} tokens: %{y:.2g}<extra></extra>"))  # fmt: skip
    top = math.log10(limits.max)
    stroke = dict(color=theme.INK, dash="longdash", width=1)
    smallest = math.log10(limits.smallest_normal * limits.eps)
    shapes = [dict(type="line", xref="x domain", x0=0, x1=1, y0=y, y1=y, line=stroke)
              for y in (limits.max, 10.0**smallest)]  # fmt: skip
    for text, y, anchor, end in (("largest", top, "bottom", infinite), ("smallest", smallest, "top", nought)):
        right = end is not None and end < LONGEST**0.5  # where the curve is not
        annotations.append(dict(text=f"{text} {dtype}", x=int(right), xref="x domain", y=y, yanchor=anchor,
                                xanchor="right" if right else "left", showarrow=False, font=dict(size=theme.SMALL),
                                ))  # fmt: skip
    ticks = [-30, -15, 0, 15, 30] if top > 10 else [-6, -3, 0, 3]
    contexts = [1 << power for power in (4, 8, 12, 16)]
    narrow = {"height": 460}
    return theme.figure(
        *traces, height=400, shapes=shapes, annotations=annotations, showlegend=True, meta=dict(narrow=narrow),
        xaxis=dict(type="log", title=dict(text="tokens from the start"), tickvals=contexts,
                   ticktext=[theme.tokens(each) for each in contexts], range=[0, math.log10(LONGEST)]),
        yaxis=dict(type="log", title=dict(text="factor"), range=[1.18 * smallest, 1.25 * top],
                   tickvals=[10.0**power for power in ticks],
                   ticktext=["1" if power == 0 else f"10<sup>{power}</sup>".replace("-", "−") for power in ticks]),
    )  # fmt: skip


def factors_says(head=0, dtype="float16", chunk=64):
    """`factors` in a sentence."""
    _, shrinking, infinite, nought = _factors(head, dtype)
    fate = f"is infinite from {infinite:,} tokens on" if infinite else f"stays finite up to {LONGEST:,} tokens"
    other = f"nought from {nought:,} on" if nought else "above nought"
    least = shrinking[chunk].item()
    return (
        f"Head {head} in {dtype}: the growing factor {fate}, the shrinking one is {other}; "
        f"by chunks of {chunk} every factor lies between {theme.significant(least, 2)} and 1."
    )


@functools.cache
def _sums(dtype):
    """Σ decay^i of every head, as it is and scaled, kept in `dtype` after 0 … STEPS tokens: [STEPS + 1, 2, heads].

    The scaled one is divided by sqrt(Σ decay^i) as the released recurrent form does it, by a factor at every step.
    """
    decay = torch.tensor(schedule_of("code"), dtype=torch.float64)
    totals = [torch.zeros_like(decay)]
    for _ in range(STEPS):
        totals.append(decay * totals[-1] + 1)
    before, after = torch.stack(totals[:-1]), torch.stack(totals[1:])
    keep = torch.stack([decay.expand(STEPS, -1), decay * (before / after).sqrt()], 1)
    write = torch.stack([torch.ones_like(after), 1 / after.sqrt()], 1)
    kept = getattr(torch, dtype)
    wide = torch.promote_types(kept, torch.float32)
    states = [torch.zeros(2, len(decay), dtype=wide)]
    for share, one in zip(keep.to(wide).unbind(), write.to(wide).unbind(), strict=True):
        states.append((share * states[-1] + one).to(kept).to(wide))
    return torch.stack(states).double()


def state_size(head=7, dtype="bfloat16", scaled=False):
    """How large does a state grow, and do 16 bits hold it? One number of it, when every token writes 1 to it.

    The state is computed in float32 and rounded to `dtype` after every token, by PyTorch; the exact sum is dashed,
    those of the other heads thin. scaled: divided by the square root of the sum of decays.
    """
    import plotly.graph_objects as go

    places = sorted({round(2 ** (step / 3)) for step in range(3 * int(math.log2(STEPS)) + 1)})
    exact, held = (_sums(each)[places, int(scaled)].mT.tolist() for each in ("float64", dtype))
    last, number = places[-1], [str(each) for each in range(HEADS)]
    traces = [
        go.Scatter(x=[*places, None] * HEADS, y=[value for each in exact for value in [*each, None]], mode="lines",
                   line=dict(color=theme.QUIET, width=1), hoverinfo="skip", showlegend=False),
        go.Scatter(x=[1.1 * last] * HEADS, y=[each[-1] for each in exact], mode="text", text=number, hoverinfo="skip",
                   textposition="middle right", textfont=dict(size=theme.SMALL, color=theme.INK), cliponaxis=False,
                   showlegend=False),
        go.Scatter(x=places, y=held[head], mode="lines", name=f"head {head}, kept in {dtype}",
                   line=dict(color=theme.BLUE, width=6), hovertemplate="%{x} tokens: %{y:.5g}<extra>kept</extra>"),
        go.Scatter(x=places, y=exact[head], mode="lines", name="exact",
                   line=dict(color=theme.VERMILLION, width=3, dash="dash"),
                   hovertemplate="%{x} tokens: %{y:.5g}<extra>exact</extra>"),
    ]  # fmt: skip
    note = dict(
        text=f"<b>{theme.significant(held[head][-1])}</b> kept of <b>{theme.significant(exact[head][-1])}</b>",
        x=0.02, xref="x domain", xanchor="left", y=0.97, yref="y domain", yanchor="top", showarrow=False,
        font=dict(size=theme.LARGE),
    )  # fmt: skip
    contexts = [1 << power for power in range(0, 13, 3)]
    ticks = [1, 10, 100, 1000] if not scaled else [1, 10, 100]
    return theme.figure(
        *traces, height=400, annotations=[note], showlegend=True,
        xaxis=dict(type="log", title=dict(text="tokens read; numbers: heads"), tickvals=contexts,
                   ticktext=[theme.tokens(each) for each in contexts], range=[-0.05, math.log10(STEPS) + 0.15]),
        yaxis=dict(type="log", title=dict(text="state, divided by √Σ decay" if scaled else "state"),
                   range=[-0.1, 2.1 if scaled else 4], tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks]),
    )  # fmt: skip


def state_size_says(head=7, dtype="bfloat16", scaled=False):
    """`state_size` in a sentence."""
    exact, held = (_sums(each)[-1, int(scaled), head].item() for each in ("float64", dtype))
    lost = 1 - held / exact
    loss = f"{lost:.0%} of it is lost to rounding" if lost > 0.005 else "nothing of note is lost"
    how = ", scaled by the root of the sum of decays," if scaled else ""
    return (
        f"After {theme.tokens(STEPS)} tokens that each write 1, the state of head {head}{how} is "
        f"{theme.significant(exact)}; kept in {dtype} it is {theme.significant(held)}: {loss}."
    )
