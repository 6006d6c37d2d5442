"""The map of the field: which efficient attention remembers in which way, after the frame of a survey (2507.19595)."""

from typing import NamedTuple

from figures import theme


class Entry(NamedTuple):
    """One paper. kind: a row of KINDS; year: of its first version; key: its entry in the book's references, or ""."""

    name: str
    kind: str
    arxiv: str
    key: str = ""

    @property
    def year(self):
        return 2000 + int(self.arxiv[:2])


# What a token may use of the past, from a fixed state to chosen tokens: (family, kind).
KINDS = {
    "kernelised": "linear",
    "fades at a fixed pace": "linear",
    "fades as the text says": "linear",
    "learns in context": "linear",
    "fixed pattern": "sparse",
    "chosen blocks": "sparse",
    "clusters": "sparse",
    "across layers": "hybrid",
    "across heads": "hybrid",
}
FAMILIES = ("all", "linear", "sparse", "hybrid")
LOOKS = {
    "linear": (theme.BLUE, "circle"),
    "sparse": (theme.VERMILLION, "square"),
    "hybrid": (theme.GREEN, "diamond"),
}
YEARS = range(2019, 2026)
ENTRIES = (
    Entry("Linear Transformer", "kernelised", "2006.16236", "linear"),
    Entry("Performer", "kernelised", "2009.14794", "performer"),
    Entry("Random feature attention", "kernelised", "2103.02143"),
    Entry("cosFormer", "kernelised", "2202.08791"),
    Entry("Based", "kernelised", "2402.18668"),
    Entry("S4", "fades at a fixed pace", "2111.00396", "s4"),
    Entry("RetNet", "fades at a fixed pace", "2307.08621", "retnet"),
    Entry("TransNormerLLM", "fades at a fixed pace", "2307.14995"),
    Entry("RWKV-4", "fades at a fixed pace", "2305.13048"),
    Entry("Mamba", "fades as the text says", "2312.00752", "mamba"),
    Entry("GLA", "fades as the text says", "2312.06635", "gla"),
    Entry("RWKV-6", "fades as the text says", "2404.05892", "rwkv6"),
    Entry("HGRN2", "fades as the text says", "2404.07904"),
    Entry("xLSTM", "fades as the text says", "2405.04517"),
    Entry("Mamba-2", "fades as the text says", "2405.21060", "mamba2"),
    Entry("Fast weight programmers", "learns in context", "2102.11174", "fastweights"),
    Entry("DeltaNet", "learns in context", "2406.06484", "deltanet"),
    Entry("Test-time training", "learns in context", "2407.04620", "ttt"),
    Entry("Gated DeltaNet", "learns in context", "2412.06464", "gateddelta"),
    Entry("Titans", "learns in context", "2501.00663"),
    Entry("Sparse Transformer", "fixed pattern", "1904.10509"),
    Entry("Longformer", "fixed pattern", "2004.05150", "longformer"),
    Entry("BigBird", "fixed pattern", "2007.14062"),
    Entry("StreamingLLM", "fixed pattern", "2309.17453", "sinks"),
    Entry("Quest", "chosen blocks", "2406.10774"),
    Entry("MInference", "chosen blocks", "2407.02490"),
    Entry("Native sparse attention", "chosen blocks", "2502.11089"),
    Entry("MoBA", "chosen blocks", "2502.13189"),
    Entry("Reformer", "clusters", "2001.04451"),
    Entry("Routing Transformer", "clusters", "2003.05997"),
    Entry("Griffin", "across layers", "2402.19427"),
    Entry("Jamba", "across layers", "2403.19887"),
    Entry("YOCO", "across layers", "2405.05254", "yoco"),
    Entry("Samba", "across layers", "2406.07522"),
    Entry("MiniMax-01", "across layers", "2501.08313"),
    Entry("DuoAttention", "across heads", "2410.10819"),
    Entry("LoLCATs", "across heads", "2410.10254"),
    Entry("Hymba", "across heads", "2411.13676"),
)


def chosen(family="all", until=2025):
    """The entries of a family whose first version is of the year `until` or earlier. ValueError for another family."""
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}; it is {family!r}.")
    return [entry for entry in ENTRIES if family in ("all", KINDS[entry.kind]) and entry.year <= until]


LINE, AXIS = 17, 60  # pixels: of a paper, and of what stands over and under them


def _rows(family):
    """The papers of a family from the top down, all years: by kind, then by date; each has a row of its own."""
    order = list(KINDS)
    return sorted(chosen(family, YEARS[-1]), key=lambda entry: (order.index(entry.kind), entry.arxiv))


def field_map(family="all", until=2025):
    """Who remembers how? Papers by year and kind, each with its name; hover for the arXiv number."""
    import plotly.graph_objects as go

    rows = _rows(family)
    traces = []
    for name, (colour, symbol) in LOOKS.items():
        mine = [(at, each) for at, each in enumerate(rows) if KINDS[each.kind] == name and each.year <= until]
        when = [each.year + (int(each.arxiv[2:4]) - 0.5) / 12 for _, each in mine]
        traces.append(go.Scatter(
            x=when, y=[at for at, _ in mine], name=name, cliponaxis=False, mode="markers+text",
            visible=family in ("all", name), text=[each.name for _, each in mine],
            textposition=["middle left" if x > 2023 else "middle right" for x in when],
            textfont=dict(size=theme.SMALL, color=theme.INK),
            marker=dict(color=colour, symbol=symbol, size=10, line=dict(width=1, color=theme.INK)),
            customdata=[f"arXiv {each.arxiv}" for _, each in mine],
            hovertemplate="%{text}, %{customdata}<extra></extra>",
        ))  # fmt: skip
    kinds = list(dict.fromkeys(each.kind for each in rows))
    places = {kind: [at for at, each in enumerate(rows) if each.kind == kind] for kind in kinds}
    lines = [
        dict(type="line", xref="paper", x0=0, x1=1, y0=places[kind][-1] + 0.5, y1=places[kind][-1] + 0.5,
             line=dict(color=theme.GRID, width=1))
        for kind in kinds[:-1]
    ]  # fmt: skip
    return theme.figure(
        *traces, height=LINE * len(rows) + AXIS + 40, showlegend=True, shapes=lines,
        xaxis=dict(range=[2018.9, 2026.1], dtick=1, tick0=2019, tickformat="d", title=dict(text="first version")),
        yaxis=dict(tickvals=[sum(places[kind]) / len(places[kind]) for kind in kinds],
                   ticktext=[kind.replace(" as ", "<br>as ").replace(" at ", "<br>at ").replace(" in ", "<br>in ")
                             for kind in kinds],
                   range=[len(rows) - 0.4, -0.6], showgrid=False),
        meta=dict(narrow={"yaxis.tickangle": 0, "xaxis.dtick": 2}),
    )  # fmt: skip


def field_map_says(family="all", until=2025):
    """`field_map` in a sentence: for a family every paper with its number, else how many there are of each kind."""
    entries = chosen(family, until)
    if not entries:
        return f"No {family} paper of this list was out by the end of {until}."
    parts = []
    for kind in KINDS:
        mine = sorted((entry for entry in entries if entry.kind == kind), key=lambda entry: entry.arxiv)
        if mine and family == "all":
            parts.append(f"{kind} {len(mine)}")
        elif mine:
            parts.append(f"{kind}: " + ", ".join(f"{entry.name} ({entry.arxiv})" for entry in mine))
    return f"Up to {until}, {len(entries)} papers of this list. " + "; ".join(parts) + "."
