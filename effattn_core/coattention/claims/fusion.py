"""Claims on co-attention, facts, pooling and aspects: Dual-MFA, R-VQA, MGH with ATA pooling, KCF-PLM."""

from statistics import fmean

import torch

from effattn_core.coattention.attend import attend
from effattn_core.coattention.fusion import fused, fused_scores
from effattn_core.coattention.pooling import pooled
from effattn_core.ledger import Claim, Figure, at_least, beyond, exact, two_errors
from effattn_core.recordings import measured

RUN = "coattention/training-cpu"


def of(field, **wanted):
    """The field of each seed's row, in the order of seeds."""
    return [row[field] for row in measured(RUN, **wanted)]


def both_kinds(arm):
    """Per seed the mean accuracy over digits and textures."""
    pairs = zip(of("digit", what="fusion", arm=arm), of("texture", what="fusion", arm=arm), strict=True)
    return [sum(pair) / 2 for pair in pairs]


def over(ours, other):
    """100 times the mean difference of paired seeds."""
    return 100 * fmean(one - two for one, two in zip(ours, other, strict=True))


def noise(ours, other):
    """Two standard errors of that difference."""
    return 100 * two_errors(one - two for one, two in zip(ours, other, strict=True))


def _compared(ours, other, conditions):
    """(figure, rule, conditions) of a comparison over seeds: a direction, unless noise covers it; the noise is told."""
    unit = "points, mean of three seeds"
    return dict(
        measured=Figure(lambda: over(ours(), other()), unit),
        rule=beyond(lambda: noise(ours(), other()), at_least(0.0)),
        conditions=f"{conditions}; noise is two standard errors of the paired seeds",
    )


def _best_branch():
    return max((both_kinds(arm) for arm in ("grid only", "boxes only")), key=fmean)


def _facts(arm):
    return lambda: of("accuracy", what="facts", arm=arm, noise=0.2)


def _ranks(arm):
    return lambda: of("rank", what="pooling", arm=arm, causal=True)


def _errors(arm):
    return lambda: [-each for each in of("error", what="aspects", arm=arm, shown=4)]


def _drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def _two_products():
    x, c, w, v = _drawn(19, 8), _drawn(8), _drawn(2, 8), _drawn(19, 4)
    return (fused_scores(x, c, w).softmax(-1) - fused(x, c, w, v)[1]).abs().max().item()


def _one_more_hop():
    query, key, hidden = _drawn(3, 9, 4), _drawn(3, 9, 5)[..., :4], _drawn(9, 6)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()
    output, _, _ = attend(query, key, hidden.expand(3, 9, 6), mask=mask)
    return (pooled(query, key, hidden, mask) - output.mean((0, 1))).abs().max().item()


DUAL, RVQA, MGH, KCF = (
    "Lu et al. 2018a (Dual-MFA)",
    "Lu et al. 2018b (R-VQA)",
    "Pan et al. 2025 (MGH, ATA)",
    "Wang et al. 2023 (KCF-PLM)",
)
CANVAS = "four digits on four textures, 1,400 steps, three seeds, settings tuned on the first of them"

FUSION = [
    Claim(
        topic="coattention",
        paper=DUAL,
        where="abstract",
        statement="Free-form regions and detection boxes answer more together than either alone.",
        **_compared(lambda: both_kinds("dual"), _best_branch, CANVAS),
    ),
    Claim(
        topic="coattention",
        paper=DUAL,
        where="released code, netdef/MFA.lua",
        statement="Each branch gains by a factor that hears of the other.",
        **_compared(lambda: both_kinds("dual"), lambda: both_kinds("dual, no cross term"), CANVAS),
    ),
    Claim(
        topic="coattention",
        paper=DUAL,
        where="released code, netdef/ATT.lua",
        statement="Attention over normalised products needs two matrix products, and no product per question.",
        measured=Figure(_two_products, "largest difference of weights"),
        rule=exact(),
        conditions="19 regions, two glimpses, signed numbers, float64",
    ),
    Claim(
        topic="coattention",
        paper=RVQA,
        where="abstract",
        statement="Facts are to be asked after the picture has been looked at: in sequence.",
        **_compared(
            _facts("sequential"),
            _facts("parallel"),
            "four digits, a fifth of the elements of eight facts replaced, 600 steps, three seeds",
        ),
    ),
    Claim(
        topic="coattention",
        paper=MGH,
        where="abstract, and reading notes of the method",
        statement="Weighting states by the attention that they get is better than their mean.",
        read=False,
        **_compared(
            _ranks("sum"),
            _ranks("mean"),
            "halves of Shakespeare's speeches, two causal layers, 150 steps, rank among 1,000, three seeds",
        ),
    ),
    Claim(
        topic="coattention",
        paper=MGH,
        where="reading notes of the method",
        statement="Summed columns are the mean of one more hop of attention, over rows and heads.",
        measured=Figure(_one_more_hop, "largest difference"),
        rule=exact(),
        read=False,
        conditions="three heads, nine tokens, causal, float64",
    ),
    Claim(
        topic="coattention",
        paper=KCF,
        where="abstract",
        statement="Attention guided by the user and a knowledge graph predict ratings better than unguided aspects.",
        **_compared(
            _errors("guided + graph"),
            _errors("mean of aspects"),
            "178 wines, 4 of 13 aspects shown, 120 synthetic users, three seeds; RECONSTRUCTION",
        ),
    ),
]
