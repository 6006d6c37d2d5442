"""Arguments for every rule of the recurrences, the truth about them, and parts of them."""

import pytest
import torch
from torch.nn.functional import logsigmoid

from effattn_core.recurrences import RULES, oracle, unit_keys

GATE_SHAPES = {"constant": lambda b, h, t, d: (h,), "scalar": lambda b, h, t, d: (b, h, t),
               "vector": lambda b, h, t, d: (b, h, t, d)}  # fmt: skip
ALL = pytest.mark.parametrize("rule", RULES)


def inputs(rule, time, *, batch=2, heads=2, key_dim=4, value_dim=3, strength=1.0, dtype=torch.float64):
    """Arguments of `recurrence` for a rule, with a state that is not zero."""
    generator = torch.Generator().manual_seed(time)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    made, row = {}, RULES[rule]
    made["query"], made["key"] = normal(2, batch, heads, time, key_dim)
    made["value"] = normal(batch, heads, time, value_dim)
    if row.gate != "none":
        made["log_gate"] = strength * logsigmoid(normal(*GATE_SHAPES[row.gate](batch, heads, time, key_dim)))
    if row.erases:
        made["beta"] = 2 * normal(batch, heads, time).sigmoid()
        made["key"] = unit_keys(made["key"])
    if row.bonus:
        made["bonus"] = normal(heads, key_dim)
    # Linear attention divides by a sum of weights: a sum that could be negative would not be one.
    made["state"] = normal(batch, heads, key_dim, value_dim + (row.feature_map is not None)).abs()
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def truth(rule, given_):
    return oracle(**given_, rule=rule, scale=given_["query"].shape[-1] ** -0.5)


def part(given_, rule, begin, end):
    """The tokens begin..end of all inputs."""
    timeless = {"state", "bonus"} | ({"log_gate"} if RULES[rule].gate == "constant" else set())
    return {name: each if name in timeless else each[:, :, begin:end] for name, each in given_.items()}


def close(ours, wanted, tolerance=1e-10):
    for name, given_, exact in zip(("output", "state"), ours, wanted, strict=True):
        assert given_.shape == exact.shape, name
        torch.testing.assert_close(given_, exact, rtol=tolerance, atol=tolerance)
