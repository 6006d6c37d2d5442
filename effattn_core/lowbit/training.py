"""The optimizers of the recorded runs by name, and what is watched while one trains."""

import math

import torch

from effattn_core.lowbit.optimizer import moment
from effattn_core.lowbit.variants import AdamW8bit, LowBitAdamW, NaiveAdamW, SOLOAdamW

DECAY, BETA2 = 0.1, 0.999


def _plain(parameters, beta1, settings):
    return torch.optim.AdamW(parameters, betas=(beta1, BETA2), **settings)


def _by(kind, **fixed):
    return lambda parameters, beta1, settings: kind(parameters, betas=(beta1, BETA2), **fixed, **settings)


# name -> what makes it of (groups, β1, settings of all)
MAKERS = {
    "AdamW": _plain,
    "8-bit": _by(AdamW8bit),
    "SOLO 4/2": _by(SOLOAdamW),
    "SOLO 3/3": _by(SOLOAdamW, bits=(3, 3)),
    "SOLO 2/2": _by(SOLOAdamW, bits=(2, 2)),
    "SOLO 4/2, unbiased": _by(SOLOAdamW, unbiased=True),
    "SOLO 2/2, signed extreme": _by(SOLOAdamW, bits=(2, 2), signed_extreme=True),
    "4/4, linear v": _by(LowBitAdamW),
    "4/2, linear v": _by(LowBitAdamW, bits=(4, 2)),
    "naive 4/4": _by(NaiveAdamW),
    "naive 2/2": _by(NaiveAdamW, bits=(2, 2)),
}


def optimizer_of(name: str, model: torch.nn.Module, beta1: float, **settings) -> torch.optim.Optimizer:
    """The optimizer `name` of MAKERS for a model: matrices decay by DECAY, vectors do not. settings: lr, seed …"""
    if name not in MAKERS:
        raise ValueError(f"name must be one of {', '.join(MAKERS)}; it is {name!r}.")
    weights = list(model.parameters())
    groups = [
        {"params": [each for each in weights if (each.ndim == 2) == decayed], "weight_decay": DECAY * decayed}
        for decayed in (True, False)
    ]
    return MAKERS[name](groups, beta1, settings)


class Moves:
    """The largest move of a weight in each step, over the learning rate: what no step of a sound AdamW makes large.

    Watches an optimizer until `close`; `largest`: one number per step, weight decay included.
    """

    def __init__(self, optimizer):
        self.largest, self._before = [], []
        self._hooks = [
            optimizer.register_step_pre_hook(self._note),
            optimizer.register_step_post_hook(self._measure),
        ]

    def _weights(self, optimizer):
        return [each.detach() for group in optimizer.param_groups for each in group["params"]]

    def _note(self, optimizer, *_):
        self._before = [each.clone() for each in self._weights(optimizer)]

    def _measure(self, optimizer, *_):
        pairs = zip(self._before, self._weights(optimizer), strict=True)
        found = max((after - before).abs().max().item() for before, after in pairs if after.numel())
        self.largest.append(found / float(optimizer.param_groups[0]["lr"]))

    def close(self):
        """Stop watching."""
        for each in self._hooks:
            each.remove()


def zero_shares(optimizer) -> dict:
    """Of all elements kept in codes, the shares whose v is 0 ("zero"), and whose v is 0 while their m is not ("lost").

    None where none is. Where v is 0, AdamW divides m by eps alone.
    """
    zeros = lost = count = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if "v_codes" not in state:
                continue
            m, v = (moment(optimizer, group, parameter, each) for each in "mv")
            zeros, lost, count = (
                zeros + (v == 0).sum().item(), lost + ((v == 0) & (m != 0)).sum().item(), count + v.numel(),
            )  # fmt: skip
    return {"zero": zeros / count if count else None, "lost": lost / count if count else None}


def histogram(values: torch.Tensor, per_decade: int = 4) -> dict:
    """Counts of values above 0 by their decimal logarithm: {"first": of the lowest edge, "counts", "zeros"}."""
    live = values[values > 0].double().log10()
    if not live.numel():
        return {"first": 0.0, "counts": [], "zeros": values.numel()}
    first = math.floor(live.min().item() * per_decade) / per_decade
    place = ((live - first) * per_decade).floor().long()
    return {"first": first, "counts": place.bincount().tolist(), "zeros": values.numel() - live.numel()}
