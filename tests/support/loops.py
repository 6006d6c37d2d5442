"""Small looped models of every kind, in float64, and a text to give them."""

import torch

from effattn_core.model import configuration
from effattn_core.universal import UniversalTransformer, UniversalYOCO

LETTERS = 11
TINY = dict(width=32, head_dim=8, heads=4, key_value_heads=2, feed_forward=48, context=160)
KINDS = {
    "window": dict(window=5, layers=4, cross_layers=2),
    "gated": dict(mixer="gated", value_dim=8, layers=4, cross_layers=2),
    "window, all that may enter": dict(window=5, layers=4, cross_layers=2, reinject=True, loop_embedding=True),
    "one layer of each": dict(window=3, layers=2, cross_layers=1),
    "Transformer": dict(layers=2),
    "Transformer, all that may enter": dict(layers=2, reinject=True, loop_embedding=True),
}


def sizes_of(kind, loops=1, **changes):
    return configuration("tiny", LETTERS, **{**TINY, **KINDS[kind], "loops": loops, **changes})


def made(kind, loops=1, **changes):
    """A small looped model in float64, whose weights are large enough for positions, gates and loops to matter."""
    torch.manual_seed(0)
    sizes = sizes_of(kind, loops, **changes)
    model = (UniversalYOCO if sizes.cross_layers else UniversalTransformer)(sizes).double().eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 8
    for number, vector in enumerate(model.loop_embedding):
        vector.data += torch.randn(vector.shape, generator=torch.Generator().manual_seed(number))
    return model


def text(length, batch=2, seed=1):
    return torch.randint(LETTERS, (batch, length), generator=torch.Generator().manual_seed(seed))
