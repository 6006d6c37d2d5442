"""What the papers on recurrences say, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core.ledger import Claim, Figure, at_least, beyond, exact
from effattn_core.recordings import measured
from effattn_core.recurrences import recurrence, unit_keys
from effattn_core.recurrences.recall import memory_recall, read, written


def _case(time=130, size=16):
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, time, size, dtype=torch.float64, generator=generator)
    beta, gate = torch.rand(2, 1, 2, time, dtype=torch.float64, generator=generator)
    return (query, unit_keys(key), value), beta, -0.2 * gate


def _delta_by_chunks():
    inputs, beta, log_gate = _case()
    errors = []
    for rule, settings in (("delta", {}), ("gated_delta", {"log_gate": log_gate})):
        truth, _ = recurrence(*inputs, rule=rule, beta=beta, implementation="oracle", **settings)
        ours, _ = recurrence(*inputs, rule=rule, beta=beta, chunk_size=32, **settings)
        errors.append((ours - truth).abs().max().item())
    return max(errors)


def _duality():
    (query, key, value), _, log_gate = _case()
    total = log_gate.cumsum(-1)
    seen = torch.ones(2 * total.shape[-1:], dtype=torch.bool).tril()
    fade = (total[..., :, None] - total[..., None, :]).masked_fill(~seen, -torch.inf).exp()
    whole = 0.25 * (query @ key.mT * fade) @ value
    steps, _ = recurrence(query, key, value, rule="gated", log_gate=log_gate, implementation="oracle")
    return (whole - steps).abs().max().item()


def _overwritten():
    """What the delta rule still holds of old values, keys at right angles, each written twice."""
    generator = torch.Generator().manual_seed(0)
    key = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=generator)).Q[None, None]
    old, new = torch.randn(2, 1, 1, 8, 4, dtype=torch.float64, generator=generator)
    state = written("delta", torch.cat([key, key], 2), torch.cat([old, new], 2))
    return (read("delta", key, state) - new).abs().max().item()


def _gain(once):
    """Right answers of the delta rule over those of a plain sum: 8 pairs, keys of 16, written once or rewritten."""
    delta, plain = (memory_recall(rule, 8, 16, rewritten=not once)[0] for rule in ("delta", "gated"))
    return delta - plain


def _letters(rule):
    """The recorded losses of a rule on held-out letters, one per seed."""
    return [row["loss"] for row in measured("recurrences/training-cpu", what="text", name=rule)]


def _gap(worse, better):
    """By how much a rule's mean loss on letters lies above another's, in nats."""
    return fmean(_letters(worse)) - fmean(_letters(better))


def _apart(*rules):
    """The half ranges of the seeds of these rules, summed: a smaller gap may be chance."""
    return sum((max(_letters(rule)) - min(_letters(rule))) / 2 for rule in rules)


GLA, LETTERS = "Yang et al. 2023 (GLA)", "two layers of width 64, letters of Shakespeare, mean of 3 seeds, recorded"


def _hybrid(rule, layer):
    """The recorded recalls of 64 pairs, one per seed, of a rule with attention in one layer."""
    rows = measured("recurrences/hybrid-cpu", what="recall", name=rule, layer=layer, pairs=64)
    return [row["accuracy"] for row in rows]


def _range(values):
    return (max(values) - min(values)) / 2


def _saved():
    """By how many per cent less a hybrid keeps than attention in every layer does."""
    hybrid, whole = (
        measured("recurrences/hybrid-cpu", what="kept", name=rule, layer=layer)[0]["bytes"]
        for rule, layer in (HYBRID, ("softmax", "all"))
    )
    return 100 * (1 - hybrid / whole)


KIMI, HYBRID = "Kimi Team 2025", ("gated_delta", 3)
DELTA, RECALL = "Yang et al. 2024 (DeltaNet)", "abstract: more effective at associative recall"

CLAIMS = [
    Claim(
        topic="recurrences",
        paper=GLA,
        where="abstract of the first version",
        statement="A decay, the same for all tokens, improves on a state that only adds.",
        measured=Figure(lambda: _gap("linear", "retention"), "nats lower"),
        rule=beyond(lambda: _apart("linear", "retention"), at_least(0.0)),
        conditions=f"RetNet below linear attention: {LETTERS}",
    ),
    Claim(
        topic="recurrences",
        paper=GLA,
        where="abstract of the first version",
        statement="A gate that the text sets improves on a decay that is the same for all tokens.",
        measured=Figure(lambda: _gap("retention", "gla"), "nats lower"),
        rule=beyond(lambda: _apart("retention", "gla"), at_least(0.0)),
        conditions=f"gated linear attention below RetNet: {LETTERS}",
    ),
    Claim(
        topic="recurrences",
        paper="Schlag et al. 2021",
        where="abstract: correct the current mapping from keys to values",
        statement="A delta rule lets a fast weight memory replace the value that a key held.",
        measured=Figure(_overwritten, "largest error"),
        rule=exact(),
        conditions="8 orthonormal keys, each written twice, beta 1, float64",
    ),
    Claim(
        topic="recurrences",
        paper=DELTA,
        where="abstract: products of Householder matrices",
        statement="The delta rule can be computed in parallel over the text.",
        measured=Figure(_delta_by_chunks, "largest error"),
        rule=exact(),
        conditions="delta and gated delta, 130 tokens in chunks of 32 against the loop, float64",
    ),
    Claim(
        topic="recurrences",
        paper="Dao and Gu 2024",
        where="as the abstract of Hu et al. 2025 (arXiv 2510.04944) restates it",
        read=False,
        statement="A state-space model with a scalar gate equals attention with a mask of products of gates.",
        measured=Figure(_duality, "largest error"),
        rule=exact(),
        conditions="130 tokens, two heads of 16, float64",
    ),
    Claim(
        topic="recurrences",
        paper=DELTA,
        where=RECALL,
        statement="The delta rule recalls better than additive updates: here, when every key was rewritten.",
        measured=Figure(lambda: 100 * _gain(once=False), "points of right answers, delta rule minus sum"),
        rule=at_least(0.0),
        conditions="untrained: 8 random keys of 16, each first written with an old value",
    ),
    Claim(
        topic="recurrences",
        paper=KIMI,
        where="README, abstract: by up to 75 %",
        statement="Three layers with a state to one of attention keep a quarter of the cache.",
        published=75,
        unit="% of the cache less",
        measured=Figure(_saved, "% less kept"),
        rule=exact(0.5),
        conditions="four layers of width 64, one of them attention, 4,096 tokens, states counted",
    ),
    Claim(
        topic="recurrences",
        paper=KIMI,
        where="README, abstract: under fair comparisons",
        statement="Such a hybrid outperforms attention in every layer, by the same recipe.",
        measured=Figure(lambda: 100 * (fmean(_hybrid(*HYBRID)) - fmean(_hybrid("softmax", "all"))), "points of recall"),
        rule=beyond(lambda: 100 * (_range(_hybrid(*HYBRID)) + _range(_hybrid("softmax", "all"))), at_least(0.0)),
        conditions="recall of 64 pairs, gated delta rule, attention last of four layers, 3 seeds, recorded",
    ),
    Claim(
        topic="recurrences",
        paper=DELTA,
        where=RECALL,
        statement="The delta rule recalls better than additive updates: here, when every key was written once.",
        measured=Figure(lambda: 100 * _gain(once=True), "points of right answers, delta rule minus sum"),
        rule=at_least(0.0),
        conditions="untrained: 8 random keys of 16, each written once; the nearest value counts",
    ),
]


PAGES = {
    "gates": (GLA, "Dao and Gu 2024"),
    "delta": (DELTA, "Schlag et al. 2021", KIMI),
}  # which page shows whose claims


def on_page(rows, page):
    """Those rows of `ledger("recurrences")` that one of the topic's two pages shows: "gates" or "delta"."""
    return [row for row in rows if any(f"*{paper}, " in row["statement"] for paper in PAGES[page])]
