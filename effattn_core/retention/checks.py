"""The hidden cases of the retention chapter's exercises."""

import math

import torch

from effattn_core.exercises import exercise
from effattn_core.retention import chunkwise, parallel


def _case(time, heads=2, key_dim=4, value_dim=3):
    """(query, key, value), decays and a state, in float64, the same on every machine."""
    generator = torch.Generator().manual_seed(time)
    sizes = (key_dim, key_dim, value_dim)
    tensors = [torch.randn(1, heads, time, size, dtype=torch.float64, generator=generator) for size in sizes]
    state = torch.randn(1, heads, key_dim, value_dim, dtype=torch.float64, generator=generator)
    return tensors, torch.tensor([0.5, 0.9], dtype=torch.float64)[:heads], state


@exercise("retention.step", level="code")
def step(function):
    for time in (1, 2, 7):
        (query, key, value), decay, state = _case(time)
        wanted, last = parallel(query, key, value, decay, scale=1.0, state=state)
        memory, outputs = state, []
        for token in range(time):
            row = [each[:, :, token] for each in (query, key, value)]
            output, memory = function(*row, decay, memory)
            if memory.shape != state.shape:
                return f"The state is {tuple(memory.shape)}; it must stay {tuple(state.shape)}."
            if output.shape != value[:, :, token].shape:
                return f"The output is {tuple(output.shape)}; it must be {tuple(value[:, :, token].shape)}."
            outputs.append(output)
        got = torch.stack(outputs, 2)
        if torch.allclose(got[:, :, :1], query[:, :, :1] @ state):
            return "Token 0 does not see itself: write into the state first, then read it."
        if torch.allclose(got[:, :, 0], wanted[:, :, 0]) and not torch.allclose(memory, last) and time > 1:
            return f"The first of {time} tokens is right and the last state is not: does the state fade every step?"
        if not torch.allclose(got, wanted):
            undecayed, _ = parallel(query, key, value, torch.ones_like(decay), scale=1.0, state=state)
            if torch.allclose(got, undecayed):
                return "Nothing fades: multiply the state by the decay of its head before the token is written."
            return f"Over {time} tokens the outputs are off by {(got - wanted).abs().max():.2g}."
        if not torch.allclose(memory, last):
            return "The outputs are right, but the state that is handed on is not the one that was read."
    return None


@exercise("retention.chunk", level="code")
def chunk(function):
    for time, size in ((8, 4), (12, 4), (12, 3)):
        (query, key, value), decay, _ = _case(time)
        wanted, _ = chunkwise(query, key, value, decay, scale=1.0, chunk_size=size)
        got = function(query, key, value, decay, size)
        if got.shape != wanted.shape:
            return f"The output is {tuple(got.shape)}; it must be {tuple(wanted.shape)}."
        if torch.allclose(got, wanted):
            continue
        first = slice(0, size)
        if not torch.allclose(got[:, :, first], wanted[:, :, first]):
            inner, _ = parallel(query[:, :, first], key[:, :, first], value[:, :, first], decay, scale=1.0)
            over = got[:, :, first] - inner
            if over.abs().max() > 1e-9:
                return (
                    "The first chunk, which has no past, is already off: its cross term must read the state from "
                    "*before* the chunk, which is zero."
                )
        second = got[:, :, size : 2 * size] - wanted[:, :, size : 2 * size]
        return f"The first chunk is right, the second off by {second.abs().max():.2g}: how much did the state fade?"
    return None


@exercise("retention.decays", level="code")
def decays(function):
    for half_lives in ([1.0, 2.0], [22.0, 100.0, 2839.0], [0.5]):
        got = torch.as_tensor(function(half_lives), dtype=torch.float64)
        if got.shape != (len(half_lives),):
            return f"{len(half_lives)} half-lives give {len(half_lives)} decays; got the shape {tuple(got.shape)}."
        wanted = torch.tensor([0.5 ** (1 / each) for each in half_lives], dtype=torch.float64)
        if torch.allclose(got, wanted, rtol=1e-6):
            continue
        if torch.allclose(got, torch.tensor([math.exp(-1 / each) for each in half_lives], dtype=torch.float64)):
            return "That leaves 1/e after so many tokens; a half-life leaves one half."
        if ((got <= 0) | (got > 1)).any():
            return f"A decay lies in (0, 1]; got {got.tolist()}."
        worst = (got - wanted).abs().argmax().item()
        left = got[worst].item() ** half_lives[worst]
        return f"After {half_lives[worst]:g} tokens {left:.3g} is left, not one half."
    return None
