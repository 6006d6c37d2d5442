"""Votes (after GTAN, rebuilt from its abstract): answers that agree should add up, and softmax divides by how many.

`gathered` is attention with all scores zero: its output is a mean, and exp(log_sum_exp) is what the mean was divided
by. The product of both is the sum. What GTAN adds to that, three attentions in a row, is `tri_attention`.
"""

import math
from dataclasses import dataclass

import torch

from effattn_core.coattention.attend import attend
from effattn_core.latents.digits import data_of_digits

SURE = 0.02, 0.98  # between which an estimated competence is kept


def gathered(value, mask=None, bias=None):
    """(mean, log_sum_exp): `attend` with zero scores, so that only mask and bias, the logarithm of a weight, speak.

    value: [..., keys, dim]   mask: bool [..., queries, keys]   bias: [..., queries, keys]; at least one of them.
    Returns [..., queries, dim] and [..., queries]. A query that sees nothing gets 0 and -inf.
    Raises ValueError if both are missing: the number of queries would be unknown.
    """
    shape = mask if mask is not None else bias
    if shape is None:
        raise ValueError("gathered needs a mask or a bias, whose rows are the queries; both are None.")
    query, key = value.new_zeros(*shape.shape[:-1], 1), value.new_zeros(*value.shape[:-1], 1)
    output, _, log_sum_exp = attend(query, key, value, bias=bias, mask=mask, scale=1.0)
    return output, log_sum_exp


def agreement(answers):
    """bool [..., answers, answers]: whether two respondents gave the same answer, as each does with itself."""
    return answers[..., :, None] == answers[..., None, :]


def log_odds(competence, classes):
    """ln((K-1) p / (1-p)): the weight of a voter who is right with p and else errs evenly over K-1 classes."""
    return torch.log((classes - 1) * competence / (1 - competence))


def oracle(answers, competence, classes):
    """The Bayes score of each answer (eq. coattention-votes), voter by voter: obvious on purpose.

    answers: int64 [answers]   competence: float64 [answers], in (0, 1)   classes: K.   Returns [answers].
    """
    scores = torch.zeros_like(competence)
    for one, mine in enumerate(answers.tolist()):
        for other, theirs in enumerate(answers.tolist()):
            if mine == theirs:
                scores[one] += log_odds(competence[other], classes)
    return scores


def votes(answers, weight):
    """The sum of `weight` over those who agree, by attention: exp(log_sum_exp) · output. Shapes [..., answers]."""
    output, log_sum_exp = gathered(weight[..., None], agreement(answers))
    return log_sum_exp.exp() * output[..., 0]


def averaged(answers, weight):
    """What softmax gives by itself: the mean weight of those who agree. How many they are is divided away."""
    return gathered(weight[..., None], agreement(answers))[0][..., 0]


def competence(question, history, right, width):
    """How often a respondent was right on questions like this one: Nadaraya-Watson, a softmax of -distance² / 2 width².

    question: [..., 1, dim]   history: [..., past, dim]   right: [..., past], 0 or 1   width: δ > 0, inf for the mean.
    Returns [...]. As attention: query the question, key the past questions, value whether right, scale 1/δ²;
    -‖key‖²/2δ² is a bias.
    """
    if not width > 0:
        raise ValueError(f"width must be above 0, inf for the plain mean; it is {width}.")
    sharp = 0.0 if width == math.inf else width**-2
    bias = -sharp * (history**2).sum(-1)[..., None, :] / 2
    return attend(question, history, right[..., None], bias=bias, scale=sharp)[0][..., 0, 0]


def tri_attention(question, answers, histories, mix, ask, read, beta=1.0):
    """GTAN's three views, a RECONSTRUCTION: (respondents, questions, readings), each [answers, dim].

    question: words [words, dim]   answers: [answers, words, dim]   histories: [answers, past, dim]
    mix: [dim, dim]   ask, read: [2 dim, dim]   beta: by how much likeness counts in the graph of answers.
    """
    mean, mine = question.mean(0), answers.mean(1)
    unit = torch.nn.functional.normalize(mine, dim=-1)
    beside = mine + torch.tanh(attend(mine, mine, mine, bias=beta * unit @ unit.mT)[0] @ mix)
    asked = torch.cat([mean.expand_as(beside), beside], -1) @ ask
    respondents = attend(asked[:, None], histories, histories)[0][:, 0]
    questions = attend(beside, question, question)[0]
    reading = torch.cat([questions, respondents], -1) @ read
    return respondents, questions, attend(reading[:, None], answers, answers)[0][:, 0]


@dataclass(frozen=True)
class Crowd:
    """Real digits, planted people. questions: float64 [questions, 20]; labels, answers: int64 [questions(, 5)];
    true: who is right how often, [questions, 5]; histories: [questions, 5, past, 20]; right: [questions, 5, past]."""

    questions: torch.Tensor
    labels: torch.Tensor
    answers: torch.Tensor
    true: torch.Tensor
    histories: torch.Tensor
    right: torch.Tensor

    def estimated(self, width):
        """Each respondent's competence for each question, by the past, kept within SURE."""
        return competence(self.questions[:, None, None], self.histories, self.right, width).clamp(*SURE)


def crowd(seed, questions=1500, people=60, asked=5, past=30, expert=0.95, other=0.35):
    """A Crowd: everyone knows three digits, is right there with `expert`, and else with `other`; errors are uniform."""
    found, generator = data_of_digits(), torch.Generator().manual_seed(seed)
    images = _components(found.images.flatten(1).double() / 2)  # of pixels from 0 to 1, but for the mean
    knows = torch.rand(people, 10, generator=generator).argsort(1)[:, :3]
    able = torch.full((people, 10), other, dtype=torch.float64).scatter(1, knows, expert)
    before = torch.randint(0, len(images) // 2, (people, past), generator=generator)
    correct = torch.rand(people, past, generator=generator) < able.gather(1, found.labels[before])
    now = torch.randint(len(images) // 2, len(images), (questions,), generator=generator)
    who = torch.rand(questions, people, generator=generator).argsort(1)[:, :asked]
    labels = found.labels[now]
    true = able[who, labels[:, None]]
    slips = (labels[:, None] + torch.randint(1, 10, (questions, asked), generator=generator)) % 10
    answers = torch.where(torch.rand(questions, asked, generator=generator) < true, labels[:, None], slips)
    return Crowd(images[now], labels, answers, true, images[before][who], correct[who].double())


def _components(images, count=20):
    """The leading principal components of images, as [images, count]."""
    centred = images - images.mean(0)
    return centred @ torch.linalg.eigh(centred.mT @ centred)[1][:, -count:]


def precision(scores, answers, labels):
    """The share of questions whose best-scored answer is right, among those that someone answered rightly.

    Where several have the best score, one of them is drawn, and its expectation counts.
    """
    best = scores >= scores.max(-1, keepdim=True).values - 1e-9
    right = answers == labels[:, None]
    hits = (best & right).sum(-1) / best.sum(-1)
    return hits[right.any(-1)].mean().item()


def methods(found, widths=(1.0, 3.0, 4.0, math.inf)):
    """name -> P@1 on a Crowd."""
    even, told = torch.zeros_like(found.true), {}

    def judged(scores):
        return precision(scores, found.answers, found.labels)

    told["count"] = judged(votes(found.answers, even + 1))
    told["true competence, sum"] = judged(votes(found.answers, log_odds(found.true, 10)))
    for width in widths:
        weight = log_odds(found.estimated(width), 10)
        told[f"alone, {width:g}"] = judged(weight)
        told[f"sum, {width:g}"] = judged(votes(found.answers, weight))
        told[f"mean, {width:g}"] = judged(averaged(found.answers, weight))
    return told
