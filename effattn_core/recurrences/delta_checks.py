"""The hidden cases of the exercises on the delta rule."""

import torch

from effattn_core.exercises import exercise
from effattn_core.recurrences import recurrence, unit_keys
from effattn_core.recurrences.recall import read


def _case(time, heads=2, key_dim=4, value_dim=3):
    """(query, unit key, value), beta and a state, in float64, the same on every machine."""
    generator = torch.Generator().manual_seed(time)
    query, key, value = (
        torch.randn(1, heads, time, size, dtype=torch.float64, generator=generator)
        for size in (key_dim, key_dim, value_dim)
    )
    beta = torch.rand(1, heads, time, dtype=torch.float64, generator=generator)
    state = torch.randn(1, heads, key_dim, value_dim, dtype=torch.float64, generator=generator)
    return (query, unit_keys(key), value), beta, state


@exercise("recurrences.delta_step", level="code")
def delta_step(function):
    for time in (1, 2, 7):
        (query, key, value), beta, state = _case(time)
        wanted, last = recurrence(query, key, value, rule="delta", beta=beta, state=state, scale=1.0)
        memory, outputs = state, []
        for token in range(time):
            rows = [each[:, :, token] for each in (query, key, value, beta)]
            output, memory = function(*rows, memory)
            if memory.shape != state.shape:
                return f"The state is {tuple(memory.shape)}; it must stay {tuple(state.shape)}."
            if output.shape != value[:, :, token].shape:
                return f"The output is {tuple(output.shape)}; it must be {tuple(value[:, :, token].shape)}."
            outputs.append(output)
        got = torch.stack(outputs, 2)
        if torch.allclose(got, wanted) and torch.allclose(memory, last):
            continue
        if torch.allclose(got[:, :, :1], query[:, :, :1] @ state):
            return "Token 0 does not see itself: write into the state first, then read it."
        added = state + beta[:, :, :1, None] * key[:, :, :1].mT @ value[:, :, :1]
        if torch.allclose(got[:, :, :1], query[:, :, :1] @ added):
            return "Nothing is erased: take what the key reads from the value before it is written."
        whole, _ = recurrence(query, key, value, rule="delta", beta=torch.ones_like(beta), state=state, scale=1.0)
        if torch.allclose(got, whole):
            return "Every write is whole: beta says how much of the difference is written."
        if torch.allclose(got, wanted):
            return "The outputs are right, but the state that is handed on is not the one that was read."
        return f"Over {time} tokens the outputs are off by {(got - wanted).abs().max():.2g}."
    return None


RULES_ASKED = ("gated", "delta", "gated_delta")


@exercise("recurrences.read_after", level="code")
def read_after(function):
    key = torch.tensor([[0.6, 0.8], [0.6, 0.8]], dtype=torch.float64)[None, None]
    for old, new, keep, beta in ((1.0, 4.0, 1.0, 1.0), (2.0, -1.0, 0.5, 1.0), (3.0, 5.0, 0.9, 0.25)):
        for rule in RULES_ASKED:
            # The first write is whole and into an empty state: only what follows is asked.
            first = key[:, :, :1].mT @ torch.tensor([[old]], dtype=torch.float64)
            settings = {"log_gate": torch.full((1, 1, 1), keep, dtype=torch.float64).log()} if rule != "delta" else {}
            if rule != "gated":
                settings["beta"] = torch.full((1, 1, 1), beta, dtype=torch.float64)
            value = torch.full((1, 1, 1, 1), new, dtype=torch.float64)
            one = key[:, :, :1]
            _, state = recurrence(one, one, value, rule=rule, state=first, scale=1.0, **settings)
            wanted = read(rule, one, state).item()
            got = float(function(rule, old, new, keep, beta))
            if abs(got - wanted) < 1e-9:
                continue
            case = f"For {rule!r}, old {old:g}, new {new:g}, keep {keep:g}, beta {beta:g}"
            if rule == "gated" and abs(got - new) < 1e-9:
                return f"{case}: a gate fades what was there and adds to it, it does not replace; wanted {wanted:g}."
            if rule == "gated_delta" and abs(got - ((1 - beta) * old + beta * new)) < 1e-9:
                return f"{case}: the state fades first, then the delta rule works on what is left; wanted {wanted:g}."
            if rule == "delta" and abs(got - (old + beta * new)) < 1e-9:
                return f"{case}: the delta rule takes beta of the old away as well; wanted {wanted:g}."
            return f"{case}: {got:g} is not {wanted:g}."
    return None
