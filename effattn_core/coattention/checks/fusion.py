"""The hidden cases on co-attention, facts, pooling and aspects."""

import math

import torch

from effattn_core.coattention.aspects import guided
from effattn_core.coattention.attend import attend
from effattn_core.coattention.fusion import fused, likeliest_facts
from effattn_core.coattention.pooling import uniform_tilt
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise
from kernels import runtime


def _drawn(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _far(ours, wanted):
    if not torch.is_tensor(ours) or ours.shape != wanted.shape:
        return f"a tensor {list(wanted.shape)} is wanted; you gave {getattr(ours, 'shape', type(ours).__name__)}."
    if not ours.isfinite().all():
        return "There is nan or infinity in it."
    return None if torch.allclose(ours.double(), wanted.double(), atol=1e-6, rtol=1e-5) else ""


@exercise("coattention.tilt", level="pencil")
def tilt(answer):
    """How many times the mean column sum that of the first of four tokens is, attention uniform and causal."""
    return compare_number(
        answer,
        uniform_tilt(4)[0].item(),
        [
            (4, "That is the largest column sum possible. Row i gives each of its i tokens 1 / i."),
            (1, "That holds without a causal mask. With it, later tokens are seen by fewer rows."),
            (25 / 48, "That is the column's mean. Its share of the mean weight 1 / 4 is four times as much."),
        ],
    )


@exercise("coattention.sharpest", level="pencil")
def sharpest(answer):
    """The most weight of one of 196 regions, norm of w 1.6."""
    right = math.exp(3.2) / (math.exp(3.2) + 195)
    return compare_number(
        answer,
        right,
        [
            (math.exp(1.6) / (math.exp(1.6) + 195), "The others' logits may be as low as -‖w‖: the gap is 2 ‖w‖."),
            (1 / 196, "That is even attention."),
        ],
    )


@exercise("coattention.fusion", level="code")
def fusion(function):
    """weights_of(x, c, w) of several questions, without the products formed per question."""
    for seed in range(3):
        x, c, w = _drawn(seed, 7, 5), _drawn(seed + 9, 3, 5), _drawn(seed + 20, 2, 5)
        ours, wanted = function(x, c, w), fused(x, c, w, x)[1]
        if (sentence := _far(ours, wanted)) is None:
            continue
        unit = c / c.norm(dim=1, keepdim=True)
        apart = ((w * unit[:, None]) @ (x / x.norm(dim=1, keepdim=True)).mT).softmax(-1)
        if torch.is_tensor(ours) and ours.shape == apart.shape and torch.allclose(ours, apart):
            return "x and c are normalised apart: that is another ranking. The norm is that of their product."
        plain = ((w * c[:, None]) @ x.mT).softmax(-1)
        if torch.is_tensor(ours) and ours.shape == plain.shape and torch.allclose(ours, plain):
            return "The scores are not divided by the norm of x ∘ c."
        return sentence or "The weights differ; the root is taken after the sum over hidden, and c has signs."
    return None


@exercise("coattention.facts", level="code")
def facts(function):
    """best(subject, relation, object, count): indices [count, 3] of the likeliest facts."""
    for seed in range(3):
        heads = [_drawn(seed + n, n).log_softmax(0) for n in (6, 4, 5)]
        ours, wanted = function(*heads, 4), likeliest_facts(*heads, 4)[1]
        if torch.is_tensor(ours) and ours.shape == wanted.shape and torch.equal(ours.long(), wanted):
            continue
        paired = torch.stack([head.topk(4).indices for head in heads], -1)
        if torch.is_tensor(ours) and ours.shape == wanted.shape and torch.equal(ours.long(), paired):
            return "Each relation stands once: the k-th of each list were paired. The best facts share elements."
        return "These are not the facts with the largest sums of log-probabilities, best first."
    return None


@exercise("coattention.unseen", level="code")
def unseen(function):
    """output(query, key, value, shown), 0 for an item of which nothing is shown."""
    query, key, value = _drawn(0, 3, 4), _drawn(1, 3, 5, 4), _drawn(2, 3, 5, 2)
    shown = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    ours, wanted = function(query, key, value, shown), guided(query, key, value, shown)[0]
    if (sentence := _far(ours, wanted)) is None:
        return None
    if torch.is_tensor(ours) and ours.shape == wanted.shape:
        if ours[1].isnan().any():
            return "Item 1 shows nothing and gives nan: its scores are all -inf, and their softmax is 0 / 0."
        if torch.allclose(ours[[0, 2]], wanted[[0, 2]]):
            return "Item 1 shows nothing, yet its output is not 0: a large negative score is even over hidden aspects."
    return sentence or "The output differs; the scores have scale 1."


@kernel_exercise("coattention.columns")
def columns():
    """mass(query, key, log_sum_exp): the attention that each key gets, causal, by a kernel of the reader's."""

    def case(time):
        query, key = (_drawn(time + n, 2, time, 32).float().to(runtime.device()) for n in range(2))
        mask = torch.ones(time, time, dtype=torch.bool, device=query.device).tril()
        _, weight, log_sum_exp = attend(query.double(), key.double(), key.double(), mask=mask)
        wanted = weight.sum(1).float()
        mistakes = [
            (torch.ones_like(wanted), "these are sums of rows, which are all 1. A column's sum is wanted."),
            (wanted / time, "that is divided by the number of tokens; the sum is wanted."),
        ]
        says = dict(hint="do rows above the diagonal or past the end count?", nan="there is nan or infinity in it.")
        return Case(f"query [2, {time}, 32]", (query, key, log_sum_exp.float()), wanted, mistakes=mistakes, **says)

    return list(map(case, (1, 33, 70)))


@exercise("coattention.rest", level="open")
def rest(answer):
    """(difference, what is left): of one mechanism written as attention, beside its direct form."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "A pair is asked: the largest difference, and the largest log-sum-exp."
    difference, log_sum_exp = answer
    if not difference <= 1e-12:
        return f"The forms differ by {difference:.1e}: scale=1? bias before the softmax? a mean where a sum is meant?"
    return None if math.isfinite(log_sum_exp) else "The log-sum-exp is not finite: a row sees nothing."
