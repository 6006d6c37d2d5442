"""Claims on attention over graphs: GTAN, MVMN, LARSON, knowledge injection for G-XLT, DRL-SRe."""

from statistics import fmean, stdev

import torch

from effattn_core.coattention import languages, slices
from effattn_core.ledger import Claim, Figure, at_least, beyond, exact
from effattn_core.recordings import measured

RUN = "coattention/graphs-cpu"
ABSTRACT = "abstract"


def scores(mechanism, arm, field="score", **wanted):
    """One number per seed of an arm of the recording."""
    return [row[field] for row in measured(RUN, mechanism=mechanism, arm=arm, **wanted)]


def crossed(arm):
    """Per seed the mean accuracy of the two ways between languages."""
    return [(each["1 → 2"] + each["2 → 1"]) / 2 for each in scores("languages", arm)]


def differences(ours, theirs):
    """Per seed, ours less theirs, in points of 100."""
    return [100 * (one - other) for one, other in zip(ours, theirs, strict=True)]


def noise(values):
    """Two standard errors of the mean of differences."""
    return 2 * stdev(values) / len(values) ** 0.5


def voted():
    return differences(scores("votes", "sum, 3"), scores("votes", "count"))


def viewed(field="all"):
    """Three views against time with log-sum-exp, the best view alone."""
    return differences(scores("views", "three views", field), scores("views", "time with log-sum-exp", field))


def both_trees(error=0.1, depth=2):
    """Both trees against the better one, per seed."""
    told = {arm: scores("trees", arm, error=error, depth=depth) for arm in ("dependency", "constituency", "both trees")}
    best = [max(pair) for pair in zip(told["dependency"], told["constituency"], strict=True)]
    return differences(told["both trees"], best)


def injected():
    return differences(crossed("100% mixed"), crossed("no triples"))


def gained():
    """MRR of slices at κ 3 above that of one graph, three hops, in per cent."""
    (ours,), (one,) = scores("slices", "3, 3"), scores("slices", "global, 3")
    return 100 * (ours / one - 1)


def gained_noise():
    """Two standard errors of the two means, taken as independent: too wide, for the queries are the same."""
    rows = [measured(RUN, mechanism="slices", arm=arm)[0] for arm in ("3, 3", "global, 3")]
    return 200 * sum(row["se"] ** 2 for row in rows) ** 0.5 / rows[1]["score"]


def _off_symmetric():
    """How far attention with its log-sum-exp is from the oracle of the graph step, weighted, with a lone node."""
    drawn = torch.rand(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.triu(drawn * (drawn > 0.6), 1)
    weights = weights + weights.T
    weights[4] = weights[:, 4] = 0
    table = torch.linspace(-1, 1, 27, dtype=torch.float64).view(9, 3)
    return (slices.propagated(weights, table) - slices.oracle(weights, table)).abs().max().item()


def _off_gauge():
    """How far scores within a language move where all of its entities are turned by four places."""
    entities, turned = languages.cycle(), languages.cycle() @ languages.rotation(4).mT
    moved = [
        languages.tail_scores(turned, turned, languages.rotation(each))
        - languages.tail_scores(entities, entities, languages.rotation(each))
        for each in languages.RELATIONS
    ]
    return torch.stack(moved).abs().max().item()


VOTES = Claim(
    topic="coattention",
    paper="Zhang et al. 2021 (GTAN)",
    where=ABSTRACT,
    statement="Relations among the answers to a question, and a view of respondents by target, rank answers better.",
    unit="outperforms",
    measured=Figure(lambda: fmean(voted()), "points of P@1 above a count of votes"),
    rule=beyond(lambda: noise(voted()), at_least(0.0)),
    conditions="reconstruction; planted people answer about real digits, competence by a kernel of width 3, 3 seeds",
)
VIEWS = Claim(
    topic="coattention",
    paper="Zhang et al. 2023 (MVMN)",
    where=ABSTRACT,
    statement="Views by place, time and relation together infer links better.",
    unit="outperforms",
    measured=Figure(lambda: fmean(viewed()), "points of AUC above time alone"),
    rule=beyond(lambda: noise(viewed()), at_least(0.0)),
    conditions="reconstruction; speakers of 38 plays, logistic regression, 12 plays held out, 3 draws of them",
)
TREES = Claim(
    topic="coattention",
    paper="Duan et al. 2022 (LARSON)",
    where=ABSTRACT,
    statement="Dependency and constituency trees together serve relation extraction.",
    unit="outperforms",
    measured=Figure(lambda: fmean(both_trees()), "points of accuracy above the better tree"),
    rule=beyond(lambda: noise(both_trees()), at_least(0.0)),
    conditions="reconstruction; sentences of a planted grammar, a tenth of all heads and spans wrong, 3 seeds",
)
LANGUAGES = Claim(
    topic="coattention",
    paper="Duan et al. 2023 (knowledge injection)",
    where=ABSTRACT,
    statement="Triples that mix languages help where question and context are of different languages.",
    published=13.18,
    unit="points of F1 above the baseline, MLQA",
    measured=Figure(lambda: fmean(injected()), "points of accuracy above no triples"),
    rule=beyond(lambda: noise(injected()), at_least(0.0)),
    conditions="reconstruction; two sets of digits are the languages, pointing among five pictures, 3 seeds",
)
SLICES = Claim(
    topic="coattention",
    paper="Chen et al. 2021 (DRL-SRe)",
    where="table of results, from notes of a third party: the least gain of three data sets",
    statement="Graphs of slices of time recommend better than the best baseline.",
    published=3.39,
    unit="% of NDCG@10",
    measured=Figure(gained, "% of MRR above one graph"),
    rule=beyond(gained_noise, at_least(0.0)),
    conditions="no training and no GRU: walks of three hops over 12 slices of each of 19 plays, weights falling by κ 3",
)
GRAPHS: list[Claim] = [
    VOTES,
    VIEWS,
    TREES,
    LANGUAGES,
    SLICES,
    Claim(
        topic="coattention",
        paper="Chen et al. 2021 (DRL-SRe)",
        where="propagation, as in the released code",
        statement="A hop is D^-½ A D^-½ X: attention with zero scores, and its log-sum-exp.",
        formula=Figure(_off_symmetric, "largest difference"),
        rule=exact(),
        conditions="nine nodes, weighted edges, one node without, float64",
    ),
    Claim(
        topic="coattention",
        paper="this book, of link prediction as in Duan et al. 2023",
        where="derived in the chapter",
        statement="Triples of one language each leave a turn of every language undetermined.",
        formula=Figure(_off_gauge, "largest difference of a score"),
        rule=exact(),
        conditions="ten entities on a cycle, three relations, a turn by four places, float64",
    ),
]
