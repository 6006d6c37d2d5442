"""Moving knowledge without the data it came from: a teacher is asked, or a model adapts itself.

Two families of a survey (arXiv 2112.15278, of which the abstract was read). Data-free distillation: DAFL's generator
and DeepInversion's matching of BatchNorm statistics. Source-free adaptation: SHOT. Constants marked so
are from memory.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

ALPHA, BETA = 0.1, 5.0  # DAFL: of the features' size, of the classes' balance. UNVERIFIED
PSEUDO = 0.3  # SHOT: of the loss against pseudo-labels. UNVERIFIED, .1 to .3


def entropy(probability):
    """−Σ p log p over the last axis, with 0 log 0 = 0; nats."""
    return -torch.special.xlogy(probability, probability).sum(-1)


def information(probability, *, diverse=True):
    """SHOT's loss: the mean entropy of predictions, less the entropy of the mean prediction (eq. splits-information).

    probability: [batch, classes], rows that sum to 1. Least, −log(classes), where each row is sure and classes are
    balanced; 0 where all rows are alike, sure or not. diverse: without it the second term is left out.
    """
    if probability.dim() != 2 or not len(probability):
        raise ValueError(f"probabilities have shape {tuple(probability.shape)}; [batch, classes] is wanted.")
    loss = entropy(probability).mean()
    return loss - entropy(probability.mean(0)) if diverse else loss


def batchnorm_loss(inputs, means, variances):
    """Σ over layers ‖mean of a batch − running mean‖² + ‖its variance − running variance‖² (eq. splits-batchnorm).

    inputs: of each layer, what enters its BatchNorm, [batch, features]; means, variances: its running statistics.
    A batch's variance is the biased one, by which BatchNorm normalises. PyTorch stores the unbiased one in running_var,
    larger by the batch's B / (B - 1): a factor that is left alone here.
    """
    return sum(
        (given.mean(0) - mean).square().sum() + (given.var(0, correction=0) - variance).square().sum()
        for given, mean, variance in zip(inputs, means, variances, strict=True)
    )


def generator_loss(output, features, *, alpha=ALPHA, beta=BETA):
    """DAFL: what a made-up batch should do to a frozen teacher (eq. splits-dafl).

    output: the teacher's logits [batch, classes]; features: its last hidden layer [batch, size]. Be sure of some class,
    excite the features, and let the batch's mean prediction be uniform.
    """
    mean = output.softmax(1).mean(0)
    sure = functional.cross_entropy(output, output.argmax(1))
    return sure - alpha * features.abs().mean() - beta * entropy(mean)


class Reader(nn.Module):
    """A digit's class from its pixels: linear layers, each with BatchNorm (if `normed`) and ReLU, and a linear head.

    Called with [batch, 64] it gives logits [batch, 10]; `features` gives what the last layer reads, `entering` what
    enters each BatchNorm.
    """

    def __init__(self, sizes=(64, 128, 64), classes=10, *, normed=True):
        super().__init__()
        pairs = list(zip(sizes, sizes[1:], strict=False))
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(after) if normed else nn.Identity() for _, after in pairs)
        self.head = nn.Linear(sizes[-1], classes)

    def _walk(self, images) -> Iterable:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            entering = layer(images)
            images = functional.relu(norm(entering))
            yield entering, images

    def features(self, images):
        *_, (_, last) = self._walk(images)
        return last

    def entering(self, images):
        return [entering for entering, _ in self._walk(images)]

    def forward(self, images):
        return self.head(self.features(images))

    def statistics_loss(self, images):
        """`batchnorm_loss` of a batch. Raises ValueError in training mode, which would change what is matched."""
        asked(self)
        means, variances = zip(*((norm.running_mean, norm.running_var) for norm in self.norms), strict=True)
        return batchnorm_loss(self.entering(images), means, variances)


def asked(teacher):
    """The teacher, if it is in evaluation mode; in training mode each question would move its statistics."""
    if teacher.training:
        raise ValueError("the teacher is in training mode: each batch moves its running statistics; call eval() first.")
    return teacher


def generator(noise=16, hidden=64, pixels=64):
    """Noise [batch, noise] → images [batch, pixels] in [0, 1]."""
    return nn.Sequential(nn.Linear(noise, hidden), nn.ReLU(), nn.Linear(hidden, pixels), nn.Sigmoid())


def taught(student, teacher, images, *, optimizer):
    """One step of distillation: KL from the teacher's predictions on `images` to the student's. Returns the loss."""
    with torch.no_grad():
        wanted = asked(teacher)(images).softmax(1)
    loss = functional.kl_div(student(images).log_softmax(1), wanted, reduction="batchmean")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def centroids(features, probability):
    """Class centres Σ p_k f / Σ p_k of unit features, [classes, size], themselves of length 1; empty classes are 0."""
    centres = probability.mT @ functional.normalize(features, dim=1)
    return functional.normalize(centres, dim=1)


@torch.no_grad()
def pseudo_labels(features, probability):
    """SHOT's labels: the nearest class centre by cosine, then once more with centres of the labels just found.

    features [count, size] get a 1 appended; probability [count, classes]. Written as attention the first step is
    query = an example, key = a class centre, the largest score taken; the value is the class itself.
    """
    if len(features) != len(probability):
        raise ValueError(f"{len(features)} features were given for {len(probability)} predictions; as many are wanted.")
    classes = probability.shape[1]
    extended = functional.normalize(torch.cat([features, features.new_ones(len(features), 1)], 1), dim=1)
    labels = (extended @ centroids(extended, probability).mT).argmax(1)
    present = labels.bincount(minlength=classes) > 0
    again = centroids(extended, functional.one_hot(labels, classes).to(extended.dtype))
    return (extended @ again.mT).masked_fill(~present, -math.inf).argmax(1)


def adapt(model, images, *, epochs, rate, seed, sure=True, diverse=True, pseudo=0.0, batch=64):
    """SHOT: move all but the head so that predictions on unlabelled `images` [count, 64] are sure and diverse.

    sure, diverse: the two terms of `information`; pseudo: weight of the loss against pseudo-labels, which are found
    anew in each epoch. The model is changed in place and left in evaluation mode.
    """
    for part in model.head.parameters():
        part.requires_grad_(False)
    moving = [part for part in model.parameters() if part.requires_grad]
    optimizer, order = torch.optim.SGD(moving, lr=rate, momentum=0.9), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        model.eval()
        with torch.no_grad():
            labels = pseudo_labels(model.features(images), model(images).softmax(1))
        model.train()
        for these in torch.randperm(len(images), generator=order).split(batch):
            if len(these) < 2:
                continue
            output = model(images[these])
            loss = pseudo * functional.cross_entropy(output, labels[these])
            if sure:
                loss = loss + information(output.softmax(1), diverse=diverse)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()
