"""Two collections of digits by other writers, brought to one form: MNIST is the source, scikit-learn's the target.

MNIST is cropped to the digit, scaled to a height of 32 with its aspect kept, thresholded and averaged over 4 × 4
pixels: as the digits of the other collection were made. That this is needed was seen by looking at target labels.
"""

import copy
import functools

import torch
from torch.nn import functional

from effattn_core.latents.digits import data_of_digits, small_digits
from effattn_core.splits.transfer import (
    BETA,
    Reader,
    adapt,
    asked,
    generator,
    generator_loss,
    taught,
)

SIDE = 8
NOISE = 16


@functools.cache
def source():
    """(training images, labels, test images, labels) of MNIST as 8 × 8: [4000, 64] and [1000, 64] in [0, 1]."""
    digits = data_of_digits()
    shown = [torch.stack([_small(image[0]) for image in each]) for each in (digits.images, digits.held_images)]
    return shown[0], digits.labels, shown[1], digits.held_labels


@functools.cache
def target():
    """(images, labels) of scikit-learn's digits: [1797, 64] in [0, 1]."""
    digits = small_digits()
    images = torch.cat([digits.images, digits.held_images]).flatten(1)
    return (images + 1) / 2, torch.cat([digits.labels, digits.held_labels])


@functools.cache
def padded():
    """MNIST's training images as 8 × 8 the lazy way, uncropped: padded to 32 × 32 and averaged. [4000, 64]."""
    images = functional.pad((data_of_digits().images + 1) / 2, (2, 2, 2, 2))
    return functional.avg_pool2d(images, 4).flatten(1)


def _small(image):
    """One MNIST image [28, 28] in [-1, 1] → 64 numbers."""
    ink = (image > 0).nonzero()
    (top, left), (bottom, right) = ink.min(0).values.tolist(), ink.max(0).values.tolist()
    cropped = (image[top : bottom + 1, left : right + 1] + 1) / 2
    height, width = cropped.shape
    wide = max(1, min(32, round(32 * width / height)))
    scaled = functional.interpolate(cropped[None, None], size=(32, wide), mode="bilinear", align_corners=False)
    left = (32 - wide) // 2
    placed = functional.pad((scaled > 0.5).float(), (left, 32 - wide - left))
    return functional.avg_pool2d(placed, 4).flatten()


def teacher(images, labels, *, seed, epochs=15, rate=1e-3, batch=64):
    """A Reader with BatchNorm, trained on labelled images, in evaluation mode."""
    torch.manual_seed(seed)
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(epochs):
        for these in torch.randperm(len(images)).split(batch):
            loss = functional.cross_entropy(model(images[these]), labels[these])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model, images, labels):
    return (model(images).argmax(1) == labels).double().mean().item()


def student(seed):
    torch.manual_seed(seed)
    return Reader((64, 48), normed=False)


def distilled(pupil, model, draw, *, steps, rate=2e-3):
    """Train a student on what `draw()` gives and the teacher says of it."""
    optimizer = torch.optim.Adam(pupil.parameters(), lr=rate)
    for _ in range(steps):
        taught(pupil, model, draw(), optimizer=optimizer)
    return pupil


def made_up(model, *, seed, steps, batch=128, beta=BETA, matching=0.0, rate=2e-3):
    """DAFL's generator for a frozen teacher; matching: weight of the loss of BatchNorm statistics."""
    torch.manual_seed(seed)
    maker = generator(NOISE)
    optimizer = torch.optim.Adam(maker.parameters(), lr=rate)
    for _ in range(steps):
        images = maker(torch.randn(batch, NOISE))
        features = asked(model).features(images)
        loss = generator_loss(model.head(features), features, beta=beta)
        if matching:
            loss = loss + matching * model.statistics_loss(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return maker


def inverted(model, *, seed, count, steps, matching=0.0, rate=0.05):
    """Images whose pixels are trained until the frozen teacher is sure of a wanted class: (images, wanted)."""
    torch.manual_seed(seed)
    wanted = torch.arange(count) % 10
    pixels = torch.randn(count, SIDE * SIDE).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=rate)
    for _ in range(steps):
        images = pixels.sigmoid()
        loss = functional.cross_entropy(asked(model)(images), wanted)
        if matching:
            loss = loss + matching * model.statistics_loss(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pixels.sigmoid().detach(), wanted


def adapted(model, images, **settings):
    """A copy of the model after `adapt`."""
    return adapt(copy.deepcopy(model), images, **settings)


@torch.no_grad()
def renormalised(model, images):
    """A copy whose BatchNorm statistics are those of `images`, and nothing else is changed."""
    found = copy.deepcopy(model)
    for place, norm in enumerate(found.norms):
        given = found.entering(images)[place]
        norm.running_mean.copy_(given.mean(0))
        norm.running_var.copy_(given.var(0))
    return found
