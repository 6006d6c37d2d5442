"""What a latent should mean: a teacher's features of each patch, brought down to the latent's size by a downsampler.

The paper's teacher is DINOv2, trained on images without labels. Ours is a patch Transformer trained here to name
digits: its features know the labels, which makes them a better target for ten classes than a fair teacher's would be.
"""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.autoencoders.blocks import Attention, Block, normed
from effattn_core.autoencoders.sphere import semantic_loss, unit_rms
from effattn_core.calls import require_count
from effattn_core.latents.training import fit

WIDTH, HEADS, INNER = 64, 4, 160


class Teacher(nn.Module):
    """Images [batch, 1, side, side] to features of each patch, [batch, tokens, width], and logits of their mean."""

    def __init__(self, side=28, patch=7, width=WIDTH, layers=2):
        super().__init__()
        require_count("patch", patch)
        if side % patch:
            raise ValueError(f"patch must divide the side of {side} pixels; it is {patch}.")
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn((side // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, HEADS, INNER) for _ in range(layers))
        self.head = nn.Linear(width, 10)

    def features(self, images):
        """[batch, tokens, width], each of unit RMS: what the downsampler reads."""
        hidden = self.patches(images).flatten(2).mT + self.places
        for block in self.blocks:
            hidden = block(hidden)
        return normed(hidden)

    def forward(self, images):
        """Logits [batch, 10]."""
        return self.head(self.features(images).mean(1))


def new_teacher(digits, *, patch=7, seed=0):
    """A Teacher with drawn weights: the control of the experiment that asks what training gives the target."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Teacher(digits.side, patch).eval()


def train_teacher(digits, *, patch=7, steps=600, batch=128, rate=2e-3, seed=0):
    """A Teacher trained on Digits to name them."""
    teacher = new_teacher(digits, patch=patch, seed=seed)

    def loss_of(places, generator):
        return functional.cross_entropy(teacher(digits.images[places]), digits.labels[places])

    fit(teacher, loss_of, count=len(digits.labels), steps=steps, batch=batch, rate=rate, seed=seed)
    return teacher


def windows(hidden, side):
    """Tokens of a square grid as windows of side × side: [batch, tokens, n] to [batch, tokens / side², side² · n].

    Raises ValueError for a grid that is no square or that windows of this side do not fill.
    """
    require_count("side", side)
    rows = round(hidden.shape[1] ** 0.5)
    if rows**2 != hidden.shape[1] or rows % side:
        raise ValueError(f"windows of {side} × {side} must fill a square grid; there are {hidden.shape[1]} tokens.")
    split = hidden.unflatten(1, (rows // side, side, rows // side, side))
    return split.transpose(2, 3).flatten(3, 5).flatten(1, 2)


def from_windows(held, side):
    """The way back from `windows`: [batch, tokens / side², side² · n] to [batch, tokens, n]."""
    across = round(held.shape[1] ** 0.5)
    split = held.unflatten(2, (side, side, -1)).unflatten(1, (across, across))
    return split.transpose(2, 3).flatten(1, 4)


class Downsampler(nn.Module):
    """Features [batch, tokens, width] to a target for each latent, [batch, tokens, latent], of unit RMS (B3).

    One attention without a residual, then one matrix for all tokens of a window. window: its side, in tokens; 1 makes
    latents one by one. The decoder that trains it, `restore`, is thrown away.
    """

    def __init__(self, tokens=16, width=WIDTH, latent=8, window=2, layers=1):
        super().__init__()
        self.window = window
        self.places, self.places_back = (nn.Parameter(0.02 * torch.randn(tokens, width)) for _ in range(2))
        self.attention = Attention(width, HEADS)
        self.down = nn.Linear(window**2 * width, window**2 * latent, bias=False)
        self.up = nn.Linear(latent, width)
        self.blocks = nn.ModuleList(Block(width, HEADS, INNER) for _ in range(layers))

    def forward(self, features):
        mixed = normed(self.attention(normed(features + self.places)))
        return unit_rms(from_windows(self.down(windows(mixed, self.window)), self.window))

    def restore(self, target):
        """Features of unit RMS again, [batch, tokens, width]."""
        hidden = self.up(target) + self.places_back
        for block in self.blocks:
            hidden = block(hidden)
        return normed(hidden)


def train_downsampler(features, *, latent=8, window=2, steps=400, batch=128, rate=2e-3, seed=0):
    """(Downsampler, losses): trained to bring back the direction of features [images, tokens, width], 2 - 2 cos."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        down = Downsampler(features.shape[1], features.shape[2], latent, window)

    def loss_of(places, generator):
        these = features[places]
        return semantic_loss(down.restore(down(these)), these)

    return down, fit(down, loss_of, count=len(features), steps=steps, batch=batch, rate=rate, seed=seed)


@torch.no_grad()
def features_of(teacher, images, pooled=False):
    """Features [images, tokens, width]; pooled: their mean over tokens, one per image, at unit RMS again."""
    found = torch.cat([teacher.features(each) for each in images.split(500)])
    return normed(found.mean(1, keepdim=True)) if pooled else found


@torch.no_grad()
def targets_of(down, features):
    """Targets [images, tokens, latent] of features."""
    return torch.cat([down(each) for each in features.split(500)])
