"""The optimizers: SOLO's AdamW, 8-bit AdamW, naive low-bit AdamW, and SGD with low-bit momentum."""

import math

from effattn_core import calls
from effattn_core.lowbit import rules
from effattn_core.lowbit.optimizer import LEAST, LowBitOptimizer
from effattn_core.lowbit.quantisers import BLOCK, QUANTILE
from effattn_core.lowbit.rules import Rates

FUSED_BITS = (2, 4)


class LowBitAdamW(LowBitOptimizer):
    """AdamW (Loshchilov & Hutter 2019) with both moments in few bits, each by a map of its own (eq. lowbit-step).

    params, lr, betas, eps, weight_decay: as torch.optim.AdamW takes them; lr may be a tensor of one number, read once
    per step. bits, maps: of the first and the second moment. All else as `LowBitOptimizer` has it. Step 1 equals
    AdamW's: a step uses its moments before they are encoded. With bits (32, 32) it is torch.optim.AdamW.
    """

    RULE = staticmethod(rules.adamw)
    MOMENTS = ("m", "v")

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, *, bits=(4, 4), seed=0,
        maps=("exponent", "linear"), block=BLOCK, quantile=QUANTILE, stochastic=False, signed_extreme=False,
        least=LEAST, foreach=False, compiled=False, implementation=None,
    ):  # fmt: skip
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, bits=bits, seed=seed, maps=maps, block=block,
            quantile=quantile, stochastic=stochastic, signed_extreme=signed_extreme, least=least,
            decoupled_weight_decay=True,  # as torch.optim.AdamW says of itself, for what looks at a group
        )  # fmt: skip
        super().__init__(params, defaults, foreach=foreach, compiled=compiled, implementation=implementation)

    def _require_group(self, group):
        super()._require_group(group)
        betas = group["betas"]
        if len(betas) != 2 or not all(0 <= each < 1 for each in betas):
            raise ValueError(f"betas must be two numbers from 0 to under 1; they are {betas}.")

    def _rates(self, group, step):
        lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
        size, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
        return Rates(1 - lr * group["weight_decay"], (1 - beta1, 1 - beta2), size, root, group["eps"])

    def _fused(self, group, step, slot):
        chosen = calls.choose(self.implementation, slot.weight.device, slot.weight.dtype, misfit(group, slot))
        if chosen != "triton":
            return False
        state, (beta1, beta2) = slot.state, group["betas"]
        calls.operators("lowbit").fused_step(
            slot.weight, slot.gradient, *(state[name] for name in ("m_codes", "m_scale")),
            *(state[name] for name in ("v_codes", "v_scale", "v_slope")), slot.seeds[rules.SECOND],
            slot.seeds[rules.WEIGHT], slot.base, float(group["lr"]), beta1, beta2, group["eps"],
            group["weight_decay"], step, *group["bits"], group["quantile"],
            group["maps"][1] == "logarithmic_unbiased", True, group["signed_extreme"],
        )  # fmt: skip
        return True


def misfit(group, slot):
    """Why the fused kernel does not take a slot, a clause; "" where it does."""
    if None in slot.quantisers or not set(group["bits"]) <= set(FUSED_BITS):
        return f"the fused step takes states of 2 or 4 bits, of at least {group['least']} elements"
    if group["block"] != BLOCK or slot.base % 4:
        return f"the fused step takes blocks of {BLOCK} that begin at a multiple of 4"
    if group["maps"][0] != "exponent" or not slot.quantisers[1].logarithmic or group["stochastic"]:
        return "the fused step takes exponent levels, nearest, and logarithmic ones"
    return ""


class SOLOAdamW(LowBitAdamW):
    """SOLO (arXiv 2505.00347): AdamW with a signed exponent map for m and logarithmic levels for v.

    bits: (4, 2) or (2, 2) are the paper's. unbiased: whether v is kept in the mean, or, as released, its logarithm.
    The paper lowers β1 with the bits (`theory.momentum_rule`): 0.8 for (4, 2), about 0.5 for (2, 2).
    """

    def __init__(
        self, params, lr=1e-3, betas=(0.8, 0.999), eps=1e-8, weight_decay=1e-2, *, bits=(4, 2), seed=0, unbiased=False,
        **settings,
    ):  # fmt: skip
        maps = ("exponent", "logarithmic_unbiased" if unbiased else "logarithmic")
        settings = {"maps": maps, **settings}
        super().__init__(params, lr, betas, eps, weight_decay, bits=bits, seed=seed, **settings)


class AdamW8bit(LowBitAdamW):
    """8-bit AdamW (Dettmers et al. 2022): exponent maps for both moments, blocks of 256, nearest rounding."""

    UNGUARDED = True  # its second moment has a level of zero, as theirs has

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, **settings):
        settings = {"bits": (8, 8), "maps": ("exponent", "exponent"), "block": 256, **settings}
        super().__init__(params, lr, betas, eps, weight_decay, **settings)


class NaiveAdamW(LowBitAdamW):
    """8-bit AdamW's maps at fewer bits, and nothing else: what fails, and why, is in its states."""

    UNGUARDED = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, *, bits=(4, 4), **settings):
        settings = {"maps": ("exponent", "exponent"), **settings}
        super().__init__(params, lr, betas, eps, weight_decay, bits=bits, **settings)


class LowBitSGD(LowBitOptimizer):
    """torch.optim.SGD with momentum, its buffer in few bits. bits: of the buffer, one number; map: of its levels."""

    RULE = staticmethod(rules.momentum)
    MOMENTS = ("m",)

    def __init__(
        self, params, lr=1e-3, momentum=0.9, weight_decay=0.0, *, bits=4, seed=0, map="exponent", block=BLOCK,
        stochastic=False, signed_extreme=False, least=LEAST, foreach=False, compiled=False,
    ):  # fmt: skip
        defaults = dict(
            lr=lr, momentum=momentum, weight_decay=weight_decay, bits=(bits,), seed=seed, maps=(map,), block=block,
            quantile=QUANTILE, stochastic=stochastic, signed_extreme=signed_extreme, least=least,
        )  # fmt: skip
        super().__init__(params, defaults, foreach=foreach, compiled=compiled)

    def _require_group(self, group):
        super()._require_group(group)
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum must be from 0 to under 1; it is {group['momentum']!r}.")

    def _rates(self, group, step):
        return Rates(group["weight_decay"], (group["momentum"],), float(group["lr"]), 1.0, 0.0)
