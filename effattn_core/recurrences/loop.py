"""Every rule as a loop over tokens: the form that the others answer to."""

import torch

from effattn_core.calls import wide
from effattn_core.recurrences.rules import new_state, rule_named


def gates(log_gate, rule, query):
    """log_gate of any rule as [batch, heads, time, 1] or [batch, heads, time, key_dim]; zeros where it has none."""
    batch, heads, time, _ = query.shape
    if rule.gate == "none":
        log_gate = query.new_zeros(())
    elif rule.gate == "constant":
        log_gate = log_gate[:, None]
    elif rule.gate == "vector":
        return log_gate
    return log_gate.expand(batch, heads, time)[..., None]


def features(query, key, value, rule):
    """(query, key, value) through the rule's feature map, the value with a column of ones more, to sum the weights."""
    if rule.feature_map is None:
        return query, key, value
    # A positive factor of a query cancels. Where all its numbers are negative the largest becomes 0: exp(-110) is 0.
    query = query - query.detach().amax(-1, keepdim=True).clamp(max=0)
    return rule.feature_map(query), rule.feature_map(key), torch.cat([value, torch.ones_like(value[..., :1])], -1)


def normalised(output, rule):
    """The output over the sum of its weights, its last column, for a rule that has a feature map; 0 where that is 0."""
    return output if rule.feature_map is None else mean(output[..., :-1], output[..., -1:])


def mean(output, total):
    """output / total, and 0 where nothing weighs anything: where every key's features round to 0."""
    return output / torch.where(total == 0, 1.0, total)


def oracle(query, key, value, *, rule, log_gate=None, beta=None, bonus=None, scale, state=None, dtype=torch.float64):
    """The recurrence as the chapter's table writes it: obvious on purpose, every other form answers to it.

    Shapes as in `recurrence`. Computed in `dtype`; returns (output, state after the last token) in the inputs'
    precision. form="recurrent" is this loop in float32.
    """
    given, rule = value.dtype, rule_named(rule)
    state = (new_state(query, value, rule=rule.name) if state is None else state).to(dtype)
    gate = gates(log_gate, rule, query).to(dtype).exp()
    query, key, value = features(query.to(dtype), key.to(dtype), value.to(dtype), rule)
    outputs = [value[:, :, :0]]
    for token in range(query.shape[2]):
        q, k, v = query[:, :, token, None], key[:, :, token, None], value[:, :, token, None]  # rows: [..., 1, dim]
        kept = gate[:, :, token, :, None] * state
        if rule.erases:
            v = beta[:, :, token, None, None].to(dtype) * (v - k @ kept)
        read = state + bonus.to(dtype)[..., None] * k.mT @ v if rule.bonus else kept + k.mT @ v
        state = kept + k.mT @ v
        outputs.append(scale * q @ read)
    return normalised(torch.cat(outputs, 2), rule).to(given), state.to(wide(given))
