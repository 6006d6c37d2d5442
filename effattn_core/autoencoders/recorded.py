"""Reading what the book's run recorded: images as text, and the steps that a generator takes to a distance."""

import base64
import math
import zlib

import torch


def packed(images):
    """Images in [-1, 1], [count, 1, side, side], as text: base64 of zlib of their bytes."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return base64.b64encode(zlib.compress(pixels.cpu().numpy().tobytes(), 9)).decode()


def unpacked(text, side=28):
    """The images of `packed`: uint8 [count, side, side], 255 is ink."""
    data = bytearray(zlib.decompress(base64.b64decode(text)))
    return torch.frombuffer(data, dtype=torch.uint8).view(-1, side, side)


def mosaic(images, columns):
    """Images [count, side, side] beside each other, row by row: [rows · side, columns · side].

    Raises ValueError for a last row that is not full.
    """
    if len(images) % columns:
        raise ValueError(f"{len(images)} images do not fill rows of {columns}.")
    split = images.unflatten(0, (-1, columns))
    return split.transpose(1, 2).flatten(2, 3).flatten(0, 1)


def steps_to(curve, distance):
    """The step at which a generator's curve, pairs (step, distance), first reaches `distance`; None if it never does.

    Between two of its points the logarithms of both are taken to lie on a line.
    """
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
