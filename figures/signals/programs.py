"""Figures of programs: a question that can be asked, what four filters keep, a claim's programs, labels on a scale."""

import functools
import textwrap
from statistics import fmean

import torch

from effattn_core.recordings import measured
from effattn_core.signals import questions, tables
from effattn_core.signals.programs import SKELETONS, Program, execute, joined, knowledge
from figures import theme

RUN = "signals/training-cpu"
QUESTIONS = tuple(SKELETONS)
PLAYS = ("Hamlet", "Julius Caesar", "Antony and Cleopatra", "Henry IV, Part I", "The Merchant of Venice")
PERSONS = ("HAMLET", "HORATIO", "ANTONY", "FALSTAFF", "PORTIA", "GRATIANO")
WIDE, NARROW = 84, 44  # letters of a line


def _wrapped(lines, width):
    return "<br>".join("<br>".join(textwrap.wrap(each, width)) for each in lines)


def program_of(question, play, person):
    """The Program that the controls ask for: what they do not choose is the play's genre, its leader, another play."""
    base = knowledge()
    genre, leader = base.objects[play, "genre"][0], sorted(execute(Program("leader", (play,))))[0]
    others = sorted(execute(Program("plays", (person,))) - {play})
    second = others[0] if others else next(each for each in PLAYS if each != play)
    rival = leader if leader != person else next(each for each in PERSONS if each != person)
    chosen = {"person": [person, rival], "play": [play, second], "genre": [genre]}
    used = {kind: iter(each) for kind, each in chosen.items()}
    return Program(question, tuple(next(used[kind]) for kind in SKELETONS[question].types))


@functools.cache
def _asked(question, play, person):
    """(program, its question in words, patterns with arguments, rows after each, sorted answer)."""
    program = program_of(question, play, person)
    skeleton, given = SKELETONS[question], {f"${n}": each for n, each in enumerate(program.arguments)}
    rows = [len(each) for each in joined(skeleton.body, given)[1:]]
    patterns = [" ".join(given.get(word, word) for word in pattern) for pattern in skeleton.body]
    wording = questions.PHRASINGS[question][0][0].format(*program.arguments)
    return program, f"{wording[0].upper()}{wording[1:]}?", patterns, rows, sorted(map(str, execute(program)))


def _few(answer, most=6):
    if not answer:
        return "nothing: the set is empty"
    rest = f" and {len(answer) - most} more" if len(answer) > most else ""
    return ", ".join(answer[:most]) + rest


def asking(question="with", drama="Hamlet", person="HAMLET"):
    """What does the executor answer, and how many rows stand after each pattern of its program?"""
    import plotly.graph_objects as go

    program, words, patterns, rows, answer = _asked(question, drama, person)
    places = list(range(len(patterns)))[::-1]
    bars = go.Bar(
        x=[each + 1 for each in rows], y=places, orientation="h", width=0.34, marker=dict(color=theme.BLUE),
        customdata=rows, hovertemplate="%{customdata} rows<extra></extra>",
    )  # fmt: skip
    lines = [words, str(program), f"Answer: {_few(answer)}"]
    wide, narrow = (_wrapped(lines, width) for width in (WIDE, NARROW))
    rowed = [
        theme.heading(f"{pattern}: {count:,} row{'s' * (count != 1)}", row=place - 0.06)
        for pattern, count, place in zip(patterns, rows, places, strict=True)
    ]
    return theme.figure(
        bars, height=430, annotations=[theme.heading(wide), *rowed], showlegend=False,
        margin=dict(l=8, r=8, t=125, b=8), meta=dict(narrow={"annotations.0.text": narrow}),
        xaxis=dict(type="log", range=[0, 4], title=dict(text="rows that the patterns so far allow, plus 1"),
                   tickvals=[1, 10, 100, 1000, 10000], ticktext=["1", "10", "100", "1,000", "10,000"]),
        yaxis=dict(range=[-0.5, 5.75], showticklabels=False, showgrid=False),
    )  # fmt: skip


def asking_says(question="with", drama="Hamlet", person="HAMLET"):
    """`asking` in a sentence."""
    program, words, _, rows, answer = _asked(question, drama, person)
    mark = f", for {person} and {drama}" if len(program.arguments) < 2 else f", with {person} chosen"
    return (
        f"{words} The program {program}{mark} has {' then '.join(map(str, rows))} rows after its patterns; "
        f"answer: {_few(answer)}."
    )


ROUNDS = (1, 2, 3)
MARKS = {
    "keep all": (theme.VERMILLION, "x"),
    "confidence": (theme.ORANGE, "diamond"),
    "executes": (theme.GREEN, "square"),
    "best that executes": (theme.BLUE, "circle"),
}


def _kept(rule, number):
    """(coverage, purity), means over seeds."""
    rows = measured(RUN, what="round", arm=rule, round=number)
    return fmean(row["coverage"] for row in rows), fmean(row["purity"] for row in rows)


def filters(round=1):
    """What does each filter keep of the student's own parses, and how much of it is right?"""
    import plotly.graph_objects as go

    traces = []
    for rule, (colour, symbol) in MARKS.items():
        walked = [_kept(rule, each) for each in ROUNDS[: ROUNDS.index(round) + 1]]
        traces.append(
            go.Scatter(
                x=[x for x, _ in walked], y=[y for _, y in walked], mode="lines+markers", name=rule,
                line=dict(color=colour, width=2),
                marker=dict(symbol=symbol, size=[6] * (len(walked) - 1) + [13], color=colour),
                hovertemplate="kept %{x:.2f}, right %{y:.2f}<extra>" + rule + "</extra>",
            )
        )  # fmt: skip
    coverage, purity = _kept("best that executes", round)
    title = f"<b>best that executes keeps {coverage:.0%}, {purity:.0%} of it right</b>"
    return theme.figure(
        *traces, height=380, annotations=[theme.heading(title)], showlegend=True, margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>keeps {coverage:.0%}, {purity:.0%} right</b>"}),
        legend=dict(y=-0.22, yanchor="top"),
        xaxis=dict(title=dict(text="coverage: share of questions kept"), range=[0, 1.06]),
        yaxis=dict(title=dict(text="purity: share of kept that is right"), range=[0, 1.06]),
    )  # fmt: skip


def filters_says(round=1):
    """`filters` in a sentence."""
    parts = [f"{rule} keeps {_kept(rule, round)[0]:.2f}, {_kept(rule, round)[1]:.2f} of it right" for rule in MARKS]
    return f"In round {round}: {'; '.join(parts)}."


@functools.cache
def _claims():
    """A Student of synthetic claims, and a user's claim per program with its logits, true and false in turn."""
    import random

    generator = random.Random(11)
    made = tables.claims(200, generator)
    student, found = tables.Student(made).fit(made, steps=100), {}
    wanted = {name: number % 2 == 0 for number, name in enumerate(tables.PROGRAMS)}
    for claim in tables.claims(300, generator, users=True):
        if claim.verdict == wanted[claim.program]:
            found.setdefault(claim.program, claim)
    shown = [found[name] for name in tables.PROGRAMS]
    return shown, student.logits(shown).detach()


SHOWN = tuple(range(1, len(tables.PROGRAMS) + 1))
VERDICTS = ("not told", "true", "false")


def _beliefs(claim, verdict):
    """(claim, {program: (p, what it returns)}) of the programs that fit, given a verdict or not."""
    shown, logits = _claims()
    one, row = shown[claim - 1], logits[claim - 1]
    fits, returned = (each[0] for each in tables.outcomes([one]))
    allowed = fits if verdict == "not told" else fits & (returned == (verdict == "true"))
    weights = torch.softmax(row.masked_fill(~allowed, float("-inf")), -1) if allowed.any() else torch.zeros(len(row))
    return one, {
        name: (round(weights[place].item(), 3), bool(returned[place]))
        for place, name in enumerate(tables.PROGRAMS) if fits[place]
    }  # fmt: skip


def claim(claim=1, verdict="not told"):
    """Which programs may a claim mean, what do they return, and what does a verdict leave of the belief in them?"""
    import plotly.graph_objects as go

    one, beliefs = _beliefs(claim, verdict)
    names, true = list(beliefs)[::-1], sum(p for p, says in beliefs.values() if says)
    returns = {True: (theme.BLUE, "returns true", ""), False: (theme.VERMILLION, "returns false", "/")}
    traces = [
        go.Bar(x=[beliefs[name][0] if beliefs[name][1] == kind else None for name in names], y=names, name=word,
               orientation="h", marker=theme.hatched(colour, shape), hovertemplate="%{y}: %{x:.2f}<extra></extra>")
        for kind, (colour, word, shape) in returns.items()
    ]  # fmt: skip
    lines = [f"{one.words} ({one.table.play})", f"p(true) = {true:.2f}; meant: {one.program}"]
    wide, narrow = (_wrapped(lines, width) for width in (WIDE, NARROW))
    return theme.figure(
        *traces, height=340, annotations=[theme.heading(wide)], showlegend=True, barmode="stack",
        margin=dict(l=8, r=8, t=90, b=8), meta=dict(narrow={"annotations.0.text": narrow}),
        legend=dict(y=-0.25, yanchor="top"), xaxis=dict(title=dict(text="p(program | words)"), range=[0, 1.02]),
        yaxis=dict(showgrid=False),
    )  # fmt: skip


def claim_says(claim=1, verdict="not told"):
    """`claim` in a sentence."""
    one, beliefs = _beliefs(claim, verdict)
    told = "without a verdict" if verdict == "not told" else f"told that it is {verdict}"
    parts = ", ".join(f"{name} {p:.2f} returns {'true' if says else 'false'}" for name, (p, says) in beliefs.items())
    return f"“{one.words}” in {one.table.play}, {told}: {parts}; meant is {one.program}."


WORDS = ("their own", "shuffled")


@functools.cache
def shown_texts():
    """The recorded texts with their scores, one row each."""
    return measured(RUN, what="shown")


def labels(text=1, behind="their own"):
    """Which of six label words looks least replaced behind a text?"""
    import plotly.graph_objects as go

    row = next(each for each in measured(RUN, what="shown") if each["text"] == text and each["words"] == behind)
    names, scores = row["labels"], row["scores"]
    order = sorted(range(len(names)), key=lambda place: -scores[place])
    truth, least = row["truth"], min(range(len(names)), key=lambda place: scores[place])
    chance = [1 / (1 + 2.718281828459045 ** scores[place]) for place in order]
    mark = [theme.BLUE if place == truth else theme.QUIET for place in order]
    dots = go.Scatter(
        x=[scores[place] for place in order], y=list(range(len(order))), mode="markers",
        marker=dict(size=12, color=mark, symbol=["circle" if place == truth else "circle-open" for place in order]),
        customdata=chance, hovertemplate="logit %{x:.2f}, P %{customdata:.2f}<extra></extra>",
    )  # fmt: skip
    verdict = "right" if least == truth else "wrong"
    lines = [f"… {row['says']} …", f"least replaced: {names[least]} ({row['plays'][least]}), {verdict}"]
    wide, narrow = (_wrapped(lines, width) for width in (64, 36))
    ticks = [f"{names[place]} = {row['plays'][place]}" for place in order]
    return theme.figure(
        dots, height=400, annotations=[theme.heading(wide)], showlegend=False, margin=dict(l=8, r=8, t=135, b=8),
        meta=dict(
            narrow={"annotations.0.text": narrow, "margin.t": 185, "height": 450,
                    "xaxis.title.text": "logit of “replaced”", "yaxis.ticktext": [names[place] for place in order]}
        ),
        xaxis=dict(title=dict(text="original ←  logit of “replaced”, with bias  → replaced"), range=[-3, 6]),
        yaxis=dict(tickvals=list(range(len(order))), ticktext=ticks, range=[-0.6, len(order) - 0.4]),
    )  # fmt: skip


def labels_says(text=1, behind="their own"):
    """`labels` in a sentence."""
    row = next(each for each in measured(RUN, what="shown") if each["text"] == text and each["words"] == behind)
    order = sorted(range(len(row["labels"])), key=lambda place: row["scores"][place])
    listed = ", ".join(f"{row['labels'][place]} {row['scores'][place]:.2f}" for place in order)
    play = row["plays"][row["truth"]]
    return f"A passage of {play}, label words {behind}, from most original to most replaced: {listed}."
