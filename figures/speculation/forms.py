"""Figures of speculative sampling: a draft tree that is grown and verified, the law that comes out, the best length."""

import functools
import math

import torch

from effattn_core import speculation
from effattn_core.speculation import costs as costs_speculation
from figures import theme

CLEAR = "rgba(0,0,0,0)"
# The running example: six words in the order of their frequency, the target's law, and two drafters.
WORDS = ("the", "a", "his", "my", "some", "every")
TARGET = (0.40, 0.25, 0.15, 0.10, 0.06, 0.04)
DRAFTERS = {
    "a good drafter": (0.35, 0.30, 0.15, 0.08, 0.07, 0.05),
    "a poor drafter": (0.10, 0.10, 0.10, 0.20, 0.20, 0.30),
}


@functools.cache
def _laws(kept, drafter):
    """(target, the drafter's law cut to its first `kept` words), float64 [6]."""
    target, draft = (torch.tensor(law, dtype=torch.float64) for law in (TARGET, DRAFTERS[drafter]))
    draft = torch.where(torch.arange(len(draft)) < kept, draft, 0)
    return target, draft / draft.sum()


def law(kept=3, drafter="a good drafter"):
    """Why is the law the target's, whoever drafts? Of each word the share taken and, on top, the share replaced.

    kept: words that the drafter may propose, the most frequent ones.
    """
    import plotly.graph_objects as go

    target, draft = _laws(kept, drafter)
    taken = torch.minimum(target, draft)
    replaced = (1 - taken.sum()) * speculation.residual(target, draft)
    bar = dict(x=WORDS, width=0.62, hovertemplate="%{x}: %{y:.3f}")
    traces = [
        go.Bar(y=taken.tolist(), name="proposed and taken", marker=dict(color=theme.BLUE), **bar),
        go.Bar(y=replaced.tolist(), name="after a refusal", marker=theme.hatched(theme.ORANGE, "/"), **bar),
        go.Scatter(x=WORDS, y=target.tolist(), mode="markers", name="the target's law", hoverinfo="skip",
                   marker=dict(symbol="line-ew", size=26, line=dict(width=3, color=theme.INK))),
        go.Scatter(x=WORDS, y=draft.tolist(), mode="markers", name="the drafter's law", hoverinfo="skip",
                   marker=dict(symbol="diamond-open", size=12, color=theme.VERMILLION, line=dict(width=3))),
    ]  # fmt: skip
    title = f"<b>{taken.sum():.0%} taken</b>; all bars end at the marks"
    return theme.figure(
        *traces, height=380, barmode="stack", showlegend=True, annotations=[theme.heading(title)],
        legend=dict(y=-0.16, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(type="category", showgrid=False),
        yaxis=dict(range=[0, 0.62], tickformat=".0%", title=dict(text="probability")),
    )  # fmt: skip


def law_says(kept=3, drafter="a good drafter"):
    """`law` in a sentence."""
    target, draft = _laws(kept, drafter)
    taken, covered = speculation.acceptance(target, draft).item(), target[:kept].sum().item()
    off = (speculation.emitted(target, draft) - target).abs().max().item()
    equal = "which is the target's law" if off < 1e-12 else f"which misses the target's law by {off:.1e}"
    return (
        f"{drafter[:1].upper()}{drafter[1:]} that may propose {kept} of 6 words, which hold {covered:.0%} of the "
        f"target's law, is taken {taken:.0%} of the time; with what replaces the refused words, each word comes out "
        f"with {', '.join(f'{share:.0%}' for share in speculation.emitted(target, draft).tolist())}, {equal}."
    )


RATES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
PRICES = (0.02, 0.05, 0.1, 0.2, 0.4)
LENGTHS = tuple(range(17))


def lengths(rate=0.8, price=0.1):
    """How many words to guess? The speed-up over the length of the chain, and what a free drafter would give.

    rate: how likely each word is taken; price: of a drafted word, drafting and verifying it, over one pass.
    """
    import plotly.graph_objects as go

    made = [costs_speculation.speed_up(rate, price, length) for length in LENGTHS]
    free = [speculation.expected_tokens(rate, length) for length in LENGTHS]
    best = costs_speculation.best_length(rate, price, LENGTHS[-1])
    top = costs_speculation.speed_up(rate, price, best)
    traces = [
        go.Scatter(x=LENGTHS, y=free, mode="lines", name="words per cycle: were drafts free",
                   line=dict(color=theme.GREEN, width=3, dash="dash"), hovertemplate="%{x}: %{y:.2f} words"),
        go.Scatter(x=LENGTHS, y=made, mode="lines+markers", name="speed-up", marker=dict(size=7),
                   line=dict(color=theme.BLUE, width=3), hovertemplate="%{x}: %{y:.2f} times"),
        go.Scatter(x=[best], y=[top], mode="markers", showlegend=False, hoverinfo="skip", cliponaxis=False,
                   marker=dict(symbol="circle-open", size=17, color=theme.INK, line=dict(width=3))),
    ]  # fmt: skip
    words = f"best: {best} drafted, {top:.2f} times" if best else "best: do not draft"
    edge = dict(type="line", x0=0, x1=LENGTHS[-1], y0=1, y1=1, line=dict(color=theme.QUIET, width=1, dash="dot"))
    return theme.figure(
        *traces, height=360, showlegend=True, shapes=[edge], legend=dict(y=-0.2, yanchor="top"),
        annotations=[theme.heading(f"<b>{words}</b>")], margin=dict(l=8, r=14, t=30, b=8),
        xaxis=dict(range=[-0.3, LENGTHS[-1] + 0.3], dtick=2, title=dict(text="words drafted per cycle")),
        yaxis=dict(range=[0, 8.4], title=dict(text="times plain decoding")),
    )  # fmt: skip


def lengths_says(rate=0.8, price=0.1):
    """`lengths` in a sentence."""
    best = costs_speculation.best_length(rate, price, LENGTHS[-1])
    top, long = (costs_speculation.speed_up(rate, price, each) for each in (best, LENGTHS[-1]))
    told = f"the best chain has {best} words and is {top:.2f} times as fast" if best else "no chain pays"
    return (
        f"Words taken {rate:.0%} of the time that cost {price:.0%} of a pass each: {told}; "
        f"{LENGTHS[-1]} words give {long:.2f} times."
    )


def shown(word):
    """A piece of text as a node shows it: without its space, a line's end as an arrow."""
    return word.replace("\n", "⏎").strip(" ") or "␣"


def stages(trees):
    """The states of `tree`: (number of the cycle, depth grown so far), and (number, None) where it is verified."""
    return [(cycle, depth) for cycle, tree in enumerate(trees) for depth in (*range(1, _deepest(tree) + 1), None)]


def verified(trees):
    """The step of `tree` in which the cycle with the longest path of all is verified."""
    best = max(range(len(trees)), key=lambda cycle: len(trees[cycle]["path"]))
    return stages(trees).index((best, None))


def _depths(tree):
    return [int(depth) for depth in speculation.depths(torch.tensor(tree["parents"], dtype=torch.int64))]


def _deepest(tree):
    return max(_depths(tree), default=0)


def stage_words(trees, step):
    """A step of `tree`, as its control says it."""
    cycle, depth = stages(trees)[step]
    return f"cycle {cycle + 1}, " + ("verified" if depth is None else f"depth {depth} drafted")


def _places(tree):
    """The height of each node: leaves one below the other, parents in the middle of their children."""
    heights, leaves = {}, 0

    def place(node):
        nonlocal leaves
        children = [each for each, parent in enumerate(tree["parents"]) if parent == node]
        if children:
            below = [place(each) for each in children]
            heights[node] = (below[0] + below[-1]) / 2
        else:
            heights[node] = leaves
            leaves += 1
        return heights[node]

    place(speculation.ROOT)
    return heights, max(leaves, 1)


def tree(trees, step=0):
    """How is a draft grown and verified? The nodes drafted so far; verified, the path that won, and the word after it.

    trees: consecutive cycles of one text, dicts with before, words, parents, scores, path and last.
    """
    import plotly.graph_objects as go

    cycle, grown = stages(trees)[step]
    now = trees[cycle]
    heights, leaves = _places(now)
    depths, won = [0, *_depths(now)], set(now["path"])
    there = [node for node in range(len(now["words"])) if grown is None or depths[node + 1] <= grown]
    lines = {True: ([], []), False: ([], [])}
    for node in there:
        parent = now["parents"][node]
        x, y = lines[grown is None and node in won]
        x += [depths[parent + 1], depths[node + 1], None]
        y += [heights[parent], heights[node], None]
    quiet = dict(color=theme.QUIET, width=1.5, dash="solid" if grown else "dot")
    traces = [
        go.Scatter(x=lines[False][0], y=lines[False][1], mode="lines", line=quiet, hoverinfo="skip", showlegend=False),
        go.Scatter(x=lines[True][0], y=lines[True][1], mode="lines", hoverinfo="skip", showlegend=False,
                   line=dict(color=theme.BLUE, width=4)),
    ]  # fmt: skip
    notes = [_node(0, heights[speculation.ROOT], f"<b>{_tail(now['before'])}</b>", None)]
    for node in there:
        colour = None if grown is not None else theme.BLUE if node in won else CLEAR
        word = f"<b>{shown(now['words'][node])}</b>" if colour == theme.BLUE else shown(now["words"][node])
        likely = f"<br>{100 * math.exp(now['scores'][node]):.0f} %" if grown is not None else ""
        notes.append(_node(depths[node + 1], heights[node], word + likely, colour))
    deepest = _deepest(now) + 1
    if grown is None:
        last = now["path"][-1] if now["path"] else speculation.ROOT
        children = [each for each, parent in enumerate(now["parents"]) if parent == last]
        drop = min(
            leaves - 0.4, max([heights[each] for each in children], default=heights[last]) + 0.62 * bool(children)
        )
        own = dict(x=[depths[last + 1], depths[last + 1] + 1], y=[heights[last], drop], mode="lines")
        traces.append(go.Scatter(line=dict(color=theme.ORANGE, width=4), hoverinfo="skip", showlegend=False, **own))
        notes.append(_node(depths[last + 1] + 1, drop, f"<b>{shown(now['last'])}</b>", theme.ORANGE))
    hidden = dict(showgrid=False, showticklabels=False, ticks="")
    return theme.figure(
        *traces, height=420, showlegend=False, annotations=[theme.heading(_title(now, grown, there)), *notes],
        margin=dict(l=8, r=8, t=30, b=8), meta=dict(narrow={"height": 400}),
        xaxis=dict(range=[-0.75, max(deepest, 5) + 0.55], **hidden),
        yaxis=dict(range=[max(leaves, 6) - 0.2, -0.8], **hidden),
    )  # fmt: skip


def _tail(text, letters=14):
    """The last letters of a text, from a word's beginning."""
    flat = " ".join(text.split())
    return flat if len(flat) <= letters else "…" + flat[-letters:].partition(" ")[2]


def _title(now, grown, there):
    if grown is None:
        words = len(now["path"])
        return f"<b>{words} of {len(now['words'])} taken</b>, and one of the target's own"
    return f"<b>{len(there)} drafted</b>, {grown} deep; how likely each path"


def _node(x, y, text, fill):
    """A word in a box. fill: None for a word not judged yet, CLEAR for one refused."""
    ink = {theme.BLUE: "#ffffff", theme.ORANGE: "#000000"}.get(fill, theme.INK)
    return dict(x=x, y=y, text=text, showarrow=False, font=dict(size=theme.SMALL, color=ink), borderpad=3,
                bgcolor=fill if fill in (theme.BLUE, theme.ORANGE) else theme.PAPER,
                bordercolor=CLEAR if fill == CLEAR else theme.QUIET)  # fmt: skip


def tree_says(trees, step=0):
    """`tree` in a sentence."""
    cycle, grown = stages(trees)[step]
    now = trees[cycle]
    if grown is None:
        taken = " ".join(shown(now["words"][node]) for node in now["path"]) or "none"
        return (
            f"Cycle {cycle + 1}: of {len(now['words'])} drafted words the target takes {len(now['path'])} ({taken}) "
            f"and adds {shown(now['last'])}, in one pass."
        )
    count = sum(depth <= grown for depth in _depths(now))
    return f"Cycle {cycle + 1}: after {_tail(now['before'])}, {count} words are drafted, up to {grown} deep."
