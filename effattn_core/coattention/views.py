"""Views of two people (after MVMN, rebuilt from its abstract): soft alignment of their visits, by place and by time.

A row of softmax sums to 1: a visit that nothing matches returns its nearest all the same. The log-sum-exp is then low,
and a null key, with the value 0, turns it into a weight.
"""

import math
from dataclasses import dataclass

import torch

from effattn_core.coattention.attend import attend
from effattn_core.coattention.votes import gathered
from effattn_core.plays import plays

WIDTHS = 3.0, 10.0, 30.0  # of the time view, in speeches
EARLY = 3  # acts that are seen; who answers whom in later ones is asked
FEWEST = 4  # speeches in the early acts, of a speaker who is asked about


def closeness(times, others, width):
    """-(t_i - t_j)² / 2 width²: bias of the time view, [..., visits, other visits]. Raises ValueError if width ≤ 0."""
    if not width > 0:
        raise ValueError(f"width must be above 0; it is {width}.")
    return -((times[..., :, None] - others[..., None, :]) ** 2) / (2 * width**2)


def oracle(times, others, value, width):
    """Nadaraya and Watson's estimate (eq. coattention-time): Σ_j K(t_i - t_j) v_j / Σ_j K(t_i - t_j), Gaussian K."""
    kernel = torch.exp(closeness(times, others, width))
    return kernel @ value / kernel.sum(-1, keepdim=True)


def by_time(times, others, value, width):
    """The same as attention with zero scores: (output, log_sum_exp), and the latter is the log of the kernel's sum."""
    return gathered(value, bias=closeness(times, others, width))


def with_null(query, key, value, score, bias=None, mask=None, scale=None):
    """`attend` with one key more: it has the score `score` for every query, and the value 0."""
    asks, answers = query.shape[-2], key.shape[-2]
    everyone = query.shape[:-2]
    null = key.new_full((*everyone, asks, 1), score)
    bias = key.new_zeros(*everyone, asks, answers) if bias is None else bias.expand(*everyone, asks, answers)
    if mask is not None:
        mask = torch.cat([mask.expand(*everyone, asks, answers), torch.ones_like(null, dtype=torch.bool)], -1)
    key, value = (torch.cat([each, torch.zeros_like(each[..., :1, :])], -2) for each in (key, value))
    return attend(query, key, value, torch.cat([bias, null], -1), mask, scale)


def damped(output, log_sum_exp, score):
    """What the null key does: σ(log_sum_exp - score) · output, without a key more."""
    return torch.sigmoid(log_sum_exp - score)[..., None] * output


@dataclass(frozen=True)
class Pair:
    """Two speakers of a play. features: name of a view -> its numbers, a list; linked: do they answer each other
    later; new: did they not before."""

    play: str
    features: dict
    linked: bool
    new: bool


def timeline(play, speaker):
    """(times float64 [visits], scenes int64 [visits]) of a speaker's speeches in the early acts."""
    told = [each for each in play.speeches if each.act <= EARLY and each.speaker == speaker]
    times = torch.tensor([float(each.place) for each in told], dtype=torch.float64)
    return times, torch.tensor([100 * each.act + each.scene for each in told], dtype=torch.int64)


def _ties(play, early):
    """Pairs that answer each other, a set of frozensets."""
    return {frozenset((one.speaker, other.speaker)) for one, other in play.answers() if (one.act <= EARLY) == early}


def pairs(play):
    """A Pair for every two speakers with FEWEST early speeches and one later. Features are symmetric."""
    before, after = _ties(play, True), _ties(play, False)
    late = {each.speaker for each in play.speeches if each.act > EARLY}
    visits = {name: timeline(play, name) for name in play.speakers}
    asked = [name for name in play.speakers if len(visits[name][0]) >= FEWEST and name in late]
    beside = {name: {other for tie in before if name in tie for other in tie - {name}} for name in play.speakers}
    known = torch.tensor([math.log1p(len(beside[name])) for name in play.speakers], dtype=torch.float64)[:, None]
    found = []
    for place, one in enumerate(asked):
        for other in asked[place + 1 :]:
            common = torch.tensor([[name in beside[one] and name in beside[other] for name in play.speakers]])
            mean, log_count = gathered(known, common)
            counts = sorted(math.log(len(visits[each][0])) for each in (one, other))
            tie = frozenset((one, other))
            features = {
                "activity": [*counts, math.log(len(asked))],
                "relation": [mean.item(), math.log1p(log_count.exp().item())],
                **_matched(visits[one], visits[other]),
            }
            found.append(Pair(play.title, features, tie in after, tie not in before))
    return found


def _matched(one, other):
    """The views by place and time, both directions added: name -> numbers."""
    told = {"location": [0.0, 0.0], "time, normalised": [0.0] * len(WIDTHS), "time, log-sum-exp": [0.0] * len(WIDTHS)}
    for (times, scenes), (others, there) in ((one, other), (other, one)):
        place = (scenes[:, None] == there[None]).double()  # the dot product of one-hot scenes
        weight = torch.softmax(4 * place, -1)
        told["location"][0] += (weight * place).sum(-1).mean().item() / 2
        told["location"][1] += place.any(-1).double().mean().item() / 2
        for number, width in enumerate(WIDTHS):
            # The scene is the value: its one-hot output, at one's own scene, is a weighted sum over `place`.
            bias = closeness(times, others, width)
            log_sum_exp = bias.logsumexp(-1)
            same = ((bias - log_sum_exp[:, None]).exp() * place).sum(-1)
            told["time, normalised"][number] += same.mean().item() / 2
            told["time, log-sum-exp"][number] += log_sum_exp.clamp(min=-20).mean().item() / 2
    return told


def all_pairs(count=38):
    """The pairs of the first `count` plays."""
    return [pair for play in plays()[:count] for pair in pairs(play)]


ACTIVITY, LOCATION, NORMALISED, EVIDENCE, RELATION = (
    "activity", "location", "time, normalised", "time, log-sum-exp", "relation",
)  # fmt: skip
ARMS = {
    "activity": (ACTIVITY,),
    "location": (LOCATION,),
    "time, normalised": (NORMALISED,),
    "time with log-sum-exp": (NORMALISED, EVIDENCE),
    "relation": (RELATION,),
    "three views": (LOCATION, NORMALISED, EVIDENCE, RELATION),
    "three views and activity": (LOCATION, NORMALISED, EVIDENCE, RELATION, ACTIVITY),
}


def areas(found, views, seed, held=12):
    """(AUC of all held pairs, of those that are new) of a logistic regression; `held` plays are held out by `seed`,
    drawn by their place among `found`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    titles = list(dict.fromkeys(pair.play for pair in found))  # in the order of plays: a title may yet change
    drawn = torch.randperm(len(titles), generator=torch.Generator().manual_seed(seed))[:held].tolist()
    out = {titles[each] for each in drawn}
    table = [[number for view in views for number in pair.features[view]] for pair in found]
    training = [place for place, pair in enumerate(found) if pair.play not in out]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit([table[each] for each in training], [found[each].linked for each in training])
    areas = []
    for only_new in (False, True):
        held = [k for k, pair in enumerate(found) if pair.play in out and (pair.new or not only_new)]
        scores = model.predict_proba([table[each] for each in held])[:, 1]
        areas.append(float(roc_auc_score([found[each].linked for each in held], scores)))
    return tuple(areas)
