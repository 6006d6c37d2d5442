"""The rules by which a state remembers, as one table: what each keeps, writes and reads.

A state S: [key_dim, value_dim] per head changes once per token, and the output is read from it. Rows q, k, v of a token
are [1, dim]; γ, α, w are exp(log_gate); β erases and writes; φ is a feature map; u is a bonus for the token itself.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass

import torch

from effattn_core.calls import wide


@dataclass(frozen=True)
class Rule:
    """A row of the table. transition · S + write is the new state, read is the output: TeX, without dollar signs.

    gate: "none", "constant" (one number per head), "scalar" (per head and token), "vector" (per head, token and key
    dimension). erases: a write first removes what the key held (beta). bonus: the token itself is read with weight u,
    and the state before it. feature_map: of queries and keys; with one, the output is divided by its weights' sum.
    """

    name: str
    title: str
    transition: str
    write: str
    read: str
    gate: str
    source: str
    erases: bool = False
    bonus: bool = False
    feature_map: Callable | None = None


def positive_features(tensor):
    """elu(x) + 1, positive everywhere: exp(x) below 0 rather than (exp(x) - 1) + 1, which rounds to 0 near x = -17."""
    return torch.where(tensor > 0, tensor + 1, torch.exp(tensor.clamp(max=0)))


_ROWS = (
    Rule(
        "linear", "Linear attention", "S_{t-1}", r"\phi(k_t)^\top v_t", r"\phi(q_t) S_t / \phi(q_t) z_t", "none",
        "Katharopoulos et al. 2020 (arXiv 2006.16236)", feature_map=positive_features,
    ),
    Rule(
        "retention", "RetNet", r"\gamma S_{t-1}", r"k_t^\top v_t", "q_t S_t", "constant",
        "Sun et al. 2023 (arXiv 2307.08621)",
    ),
    Rule(
        "gated", "Gated retention", r"\gamma_t S_{t-1}", r"k_t^\top v_t", "q_t S_t", "scalar",
        "Sun et al. 2024, YOCO (arXiv 2405.05254)",
    ),
    Rule(
        "mamba2", "Mamba-2", r"e^{a \Delta_t} S_{t-1}", r"\Delta_t k_t^\top v_t", "q_t S_t", "scalar",
        "Dao and Gu 2024 (arXiv 2405.21060)",
    ),
    Rule(
        "gla", "Gated linear attention", r"\mathrm{diag}(\alpha_t) S_{t-1}", r"k_t^\top v_t", "q_t S_t", "vector",
        "Yang et al. 2023 (arXiv 2312.06635)",
    ),
    Rule(
        "rwkv6", "RWKV-6", r"\mathrm{diag}(w_t) S_{t-1}", r"k_t^\top v_t",
        r"q_t (S_{t-1} + \mathrm{diag}(u) k_t^\top v_t)", "vector", "Peng et al. 2024 (arXiv 2404.05892)", bonus=True,
    ),
    Rule(
        "delta", "Delta rule", r"(I - \beta_t k_t^\top k_t) S_{t-1}", r"\beta_t k_t^\top v_t", "q_t S_t", "none",
        "Schlag et al. 2021 (arXiv 2102.11174); Yang et al. 2024 (arXiv 2406.06484)", erases=True,
    ),
    Rule(
        "gated_delta", "Gated delta rule", r"\gamma_t (I - \beta_t k_t^\top k_t) S_{t-1}", r"\beta_t k_t^\top v_t",
        "q_t S_t", "scalar", "Yang et al. 2024 (arXiv 2412.06464)", erases=True,
    ),
)  # fmt: skip
RULES = types.MappingProxyType({row.name: row for row in _ROWS})


def rule_named(name):
    """The Rule of that name. Raises ValueError for another."""
    if name not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}; it is {name!r}.")
    return RULES[name]


def new_state(query, value, *, rule):
    """A state of nothing: zeros [batch, heads, key_dim, value_dim], float32 or wider.

    Linear attention carries the sum of its weights in one more column: [batch, heads, key_dim, value_dim + 1].
    """
    columns = value.shape[3] + (rule_named(rule).feature_map is not None)
    shape = (*query.shape[:2], query.shape[3], columns)
    return torch.zeros(shape, dtype=wide(value.dtype), device=value.device)


def unit_keys(key):
    """Keys of length 1, as the delta rules want: then beta = 1 replaces what a key held, and beta ≤ 2 is stable."""
    return torch.nn.functional.normalize(key, dim=-1)


def discretised(key, a, delta):
    """Mamba-2's (log_gate, scaled key) from its rate and step: exp(a · delta) is kept and delta · key is written.

    key: [batch, heads, time, key_dim]; a: [heads], at most 0; delta: [batch, heads, time], at least 0 (a softplus, as
    a rule). Raises ValueError for another sign. (State-space duality, Dao and Gu 2024)
    """
    if not torch.compiler.is_compiling() and a.device.type == "cpu" and ((a > 0).any() or (delta < 0).any()):
        largest, smallest = a.max().item(), delta.min().item() if delta.numel() else 0.0
        raise ValueError(f"a must be at most 0 and delta at least 0; their extremes are {largest:g} and {smallest:g}.")
    return a[:, None] * delta, (key * delta[..., None]).to(key.dtype)
