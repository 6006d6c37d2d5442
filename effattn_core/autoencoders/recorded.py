"""Reading what the book's run recorded: images as text, and the steps that a generator takes to a distance."""

import math

from effattn_core.calls import require_count
from effattn_core.latents.recorded import packed, unpacked

__all__ = ["mosaic", "packed", "steps_to", "unpacked"]


def mosaic(images, columns):
    """Images [count, side, side] beside each other, row by row: [rows · side, columns · side].

    Raises ValueError for a last row that is not full.
    """
    require_count("columns", columns)
    if len(images) % columns:
        raise ValueError(f"{len(images)} images do not fill rows of {columns}.")
    split = images.unflatten(0, (-1, columns))
    return split.transpose(1, 2).flatten(2, 3).flatten(0, 1)


def steps_to(curve, distance):
    """The step at which a generator's curve, pairs (step, distance), first reaches `distance`; None if it never does.

    Between two of its points the logarithms of both are taken to lie on a line.
    Raises ValueError for a distance that is not positive.
    """
    if distance <= 0:
        raise ValueError(f"distance must be above 0; it is {distance}.")
    before = None
    for step, found in curve:
        if found <= distance:
            if before is None:
                return float(step)
            was, far = before
            share = math.log(far / distance) / math.log(far / found)
            return was * (step / was) ** share
        before = step, found
    return None
