"""A learned mask of voxels: scores are smoothed on their grid, then the best are kept, then training starts again hot.

Source: the abstract of TROI (ICASSP 2025, arXiv 2502.00412); no formula and no code was readable. All of this is a
RECONSTRUCTION: z = (v ⊙ m) A + b, with a penalty on the sum of absolute m.
"""

import math

import torch
from torch.nn import functional

from effattn_core.channels.masks import keep_top


def oracle(voxels, mask, weight, bias):
    """(v ⊙ m) A + b (eq. discrete-mask). voxels: [trials, voxels]; mask: [voxels]; weight: [voxels, dim]."""
    return (voxels * mask) @ weight + bias


def low_pass(score: torch.Tensor, sigma: float) -> torch.Tensor:
    """The scores [rows, columns] smoothed by a Gaussian of `sigma` voxels, whose weights sum to 1 also at an edge.

    sigma 0 leaves them. Raises ValueError for a negative one.
    """
    if sigma < 0:
        raise ValueError(f"sigma is a width in voxels, 0 or more; it is {sigma}.")
    if sigma == 0:
        return score
    reach = math.ceil(4 * sigma)
    place = torch.arange(-reach, reach + 1, dtype=score.dtype)
    bell = (-(place**2) / (2 * sigma**2)).exp()
    kernel = (bell[:, None] * bell)[None, None]
    total, seen = (
        functional.conv2d(each[None, None], kernel, padding=reach)[0, 0] for each in (score, torch.ones_like(score))
    )
    return total / seen


def chosen(mask: torch.Tensor, weight: torch.Tensor, count: int, sigma: float) -> torch.Tensor:
    """The `count` voxels to keep, bool [rows, columns]: smooth first, threshold after (eq. discrete-kept).

    mask: [rows, columns]; weight: [rows, columns, dim]. The score is absolute m times the norm of a voxel's weights,
    for m may shrink while A grows and the product stays.
    """
    if not 0 <= count <= mask.numel():
        raise ValueError(f"count must be at most {mask.numel()} voxels; it is {count}.")
    score = low_pass(mask.abs() * weight.norm(dim=-1), sigma)
    return keep_top(score.flatten(), count).view(mask.shape)


def folded(mask: torch.Tensor, weight: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The input layer of the kept voxels, [kept, dim]: diag(m) A, so that the mask costs nothing afterwards."""
    return (mask[..., None] * weight)[kept]


def rate(step: int, steps: int, start: float, stop: float) -> float:
    """The learning rate of a step on a cosine from start to stop. Rewinding begins stage two at the first `start`."""
    return stop + (start - stop) * (1 + math.cos(math.pi * step / max(steps - 1, 1))) / 2


def overlap(one: torch.Tensor, other: torch.Tensor) -> float:
    """Intersection over union of two bool masks."""
    return ((one & other).sum() / (one | other).sum().clamp(min=1)).item()
