"""The hidden cases of the exercises on the delta rule."""

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, in_float32, kernel_exercise
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


def _second_write(leaning=0.8, values=(5.0, 10.0), beta=1.0):
    """What the first of two keys reads after both were written, by the library; their cosine is `leaning`."""
    keys = torch.tensor([[1.0, 0.0], [leaning, (1 - leaning**2) ** 0.5]], dtype=torch.float64)[None, None]
    rates = torch.full((1, 1, 2), beta, dtype=torch.float64)
    value = torch.tensor(values, dtype=torch.float64)[None, None, :, None]
    _, state = recurrence(keys, keys, value, rule="delta", beta=rates, scale=1.0)
    return (keys @ state)[0, 0, 0].item()


@exercise("recurrences.delta_second_write", level="pencil")
def delta_second_write(answer):
    return compare_number(
        answer,
        _second_write(),
        [
            (13.0, "That is the sum: first take what the second key reads already from its value."),
            (5.0, "The keys lean towards each other: the second write changes what the first reads."),
            (4.8, "That is what was added to what the first key reads; it read 5 before."),
            (10.0, "That is what the second key reads."),
        ],
    )


@exercise("recurrences.delta_system", level="pencil")
def delta_system(answer):
    """The three writes of a chunk, by substitution."""
    if not isinstance(answer, tuple) or len(answer) != 3:
        return "Three numbers are asked: (r1, r2, r3)."
    wanted = (8.0, 6.0, 1.0)  # b = (8, 10, 6), L21 = 0.5, L31 = 0.25, L32 = 0.5
    if all(abs(got - each) < 0.01 for got, each in zip(answer, wanted, strict=True)):
        return None
    if all(abs(got - each) < 0.01 for got, each in zip(answer, (8.0, 6.0, -1.0), strict=True)):
        return "In the third row L32 multiplies r2, which is what was really written, not b2."
    if abs(answer[0] - wanted[0]) < 0.01 and abs(answer[1] - 14) < 0.01:
        return "What earlier tokens wrote is subtracted, not added."
    row = next(at for at in range(3) if abs(answer[at] - wanted[at]) >= 0.01)
    return (
        f"r{row + 1} is not {answer[row]:g}: take from b{row + 1} each earlier write times its number in row {row + 1}."
    )


@exercise("recurrences.delta_crossover", level="pencil")
def delta_crossover(answer):
    states = 36 * 32 * 128 * 128 * 4
    per_token = 12 * 2 * 2 * 256 * 2
    return compare_number(
        answer,
        states / per_token,
        [
            (2 * states / per_token, "Keys and values are two."),
            (
                states / (2 * per_token),
                "That is half of it: a number of a state takes four bytes, one of the cache two, and each of the 32 "
                "value heads has a state.",
            ),
            (states / (4 * per_token), "Three layers of four have a state, and one of four a cache."),
            (states / (per_token // 12), "Twelve layers keep keys and values."),
            (states / 36 / per_token, "Thirty-six layers have states."),
        ],
    )


def _chunk(time):
    """(unit key [time, 4], value [time, 3], beta [time], state [4, 3]), float64."""
    (_, key, value), beta, state = _case(time, heads=1)
    return key[0, 0], value[0, 0], beta[0, 0], state[0, 0]


@exercise("recurrences.delta_writes", level="code")
def delta_writes(function):
    for time in (1, 2, 9):
        key, value, beta, state = _chunk(time)
        memory, wanted = state, []
        for token in range(time):
            wanted.append(beta[token] * (value[token] - key[token] @ memory))
            memory = memory + key[token, :, None] * wanted[-1]
        wanted, got = torch.stack(wanted), function(key, value, beta, state)
        if got.shape != wanted.shape:
            return f"A row per token is wanted, {tuple(wanted.shape)}; got the shape {tuple(got.shape)}."
        if torch.allclose(got, wanted):
            continue
        if torch.allclose(got, beta[:, None] * (value - key @ state)):
            return "No token sees the writes before it: solve for them."
        overlap = beta[:, None] * (key @ key.T)
        for wrong, sentence in (
            ((key @ key.T).tril(-1), "Each row of L has its token's beta as a factor."),
            (overlap.triu(1), "L is zero above the diagonal: a token sees earlier ones only."),
            (overlap.tril(), "The diagonal of L is zero: a token does not correct itself."),
            (-overlap.tril(-1), "The sum of earlier writes goes to the left with a plus."),
        ):
            system = torch.eye(time, dtype=key.dtype) + wrong
            if torch.allclose(got, torch.linalg.solve(system, beta[:, None] * (value - key @ state))):
                return sentence
        if torch.allclose(got[:1], beta[:1, None] * value[:1]):
            return "The first token meets a state already: take what its key reads there from its value."
        return f"Over {time} tokens the writes are off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("recurrences.delta_parity", level="code")
def delta_parity(function):
    for bits in ([1], [0], [1, 1, 0, 1], [0, 1, 0, 1, 1, 0, 0, 1]):
        rates = torch.as_tensor(function(list(bits))).double()
        if rates.shape != (len(bits),):
            return f"A strength per bit is wanted, ({len(bits)},); got the shape {tuple(rates.shape)}."
        if (rates < 0).any() or (rates > 2).any():
            return f"Strengths lie in [0, 2]; yours go from {rates.min():g} to {rates.max():g}."
        one = torch.ones(1, 1, len(bits), 1, dtype=torch.float64)
        start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        _, state = recurrence(one, one, 0 * one, rule="delta", beta=rates[None, None], state=start, scale=1.0)
        wanted = (-1.0) ** sum(bits)
        if abs(state.item() - wanted) < 1e-9:
            continue
        if state.item() == 0:
            return "A strength of 1 leaves 0, from which nothing comes back: the state must change its sign."
        return f"After {bits} the state is {state.item():g}; wanted {wanted:g}."
    return None


@kernel_exercise("recurrences.delta_kernel")
def delta_kernel():
    def step(query, key, value, log_gate, beta, state):
        rows = (each[None, :, None].double() for each in (query, key, value))
        gates = dict(log_gate=log_gate[None, :, None].double(), beta=beta[None, :, None].double())
        settings = dict(rule="gated_delta", scale=1.0, implementation="oracle", state=state[None].double(), **gates)
        output, after = recurrence(*rows, **settings)
        return in_float32(output[0, :, 0], after[0])

    def case(heads, key_dim, value_dim):
        generator = torch.Generator().manual_seed(heads)
        query, key, value = (torch.randn(heads, size, generator=generator) for size in (key_dim, key_dim, value_dim))
        key, beta = unit_keys(key), torch.rand(heads, generator=generator)
        log_gate = -torch.rand(heads, generator=generator)
        state = torch.randn(heads, key_dim, value_dim, generator=generator)
        given = query, key, value, log_gate, beta, state
        output, after = step(*given)
        mistakes = [
            (
                (None, step(query, key, value, 0 * log_gate, beta, state)[1]),
                "nothing fades: multiply the state by exp(log_gate) first.",
            ),
            (
                (None, after),
                "the state is right and the output is not: read after the write, and with the query.",
            ),
        ]
        if heads > 1:
            # One program for all, or the first head's place in one of the arguments.
            lost = [torch.cat([after[:1], torch.zeros_like(after[1:])]), after[:1].expand_as(after)]
            for at in range(1, len(given)):
                first = given[at][:1].expand_as(given[at])
                lost.append(step(*given[:at], first, *given[at + 1 :])[1])
            rows = "the first head is right, and another is not: its program must find its own rows."
            mistakes += [((None, each), rows) for each in lost]
        return Case(
            f"{heads} head{'s' * (heads > 1)} with states of {key_dim} by {value_dim}",
            in_float32(*given),
            (output, after),
            mistakes=mistakes,
            names=("output", "state"),
            hint="is beta · (value − what the key reads of the faded state) written along the key?",
        )

    return [case(*sizes) for sizes in ((1, 4, 4), (3, 16, 8), (2, 8, 32))]


@exercise("recurrences.delta_rounds", level="open")
def delta_rounds(function):
    for leaning in (0.6, 0.9, 0.99, 0.3):
        errors, state = [], torch.zeros(2, dtype=torch.float64)
        keys = torch.tensor([[1.0, 0.0], [leaning, (1 - leaning**2) ** 0.5]], dtype=torch.float64)
        value = torch.tensor([10.0, 20.0], dtype=torch.float64)
        while len(errors) < 2000:
            for key, want in zip(keys, value, strict=True):
                state = state + key * (want - key @ state)
            errors.append((keys @ state - value).abs().max().item())
        wanted = next(at + 1 for at, error in enumerate(errors) if error <= 0.01 * errors[0])
        got = function(leaning)
        if got == wanted:
            continue
        half = next((at + 1 for at, error in enumerate(errors) if error <= 0.1 * errors[0]), None)
        if got == wanted - 1:
            return (
                f"With the cosine {leaning:g} one round is missing: count the first, which the error is held against."
            )
        if got == half:
            return "That is a tenth of the first error; a hundredth is asked."
        return f"With the cosine {leaning:g} it takes {wanted} rounds, not {got}: how does the error change per round?"
    return None
