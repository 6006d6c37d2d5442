"""The hidden cases of the retention chapter's exercises. Functions there are of one head: [time, size], no batch."""

import math

import torch

from effattn_core import costs
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, in_float32, kernel_exercise
from effattn_core.retention import costs as costs_retention
from effattn_core.retention import parallel

# Of the pencil exercise on three tokens: a state of one number.
QUERIES, KEYS, VALUES, DECAY = (1.0, 2.0, 3.0), (2.0, 1.0, 3.0), (1.0, 4.0, 2.0), 0.5


def _case(time, key_dim=4, value_dim=3, dtype=torch.float64):
    """Query, key, value and a state of one head, the same on every machine."""
    generator = torch.Generator().manual_seed(time + 10 * key_dim)
    shapes = (time, key_dim), (time, key_dim), (time, value_dim), (key_dim, value_dim)
    return [torch.randn(*shape, dtype=dtype, generator=generator) for shape in shapes]


def _truth(query, key, value, decay, state=None):
    """(output, state after) of one head, without a scale, by the oracle in float64."""
    inputs = (each.double()[None, None] for each in (query, key, value))
    state = None if state is None else state.double()[None, None]
    decay = torch.tensor([decay], dtype=torch.float64)
    return (each[0, 0] for each in parallel(*inputs, decay, scale=1.0, state=state))


def _shape(name, got, wanted):
    """None, or a sentence where `got` is no tensor of the shape of `wanted`."""
    if not isinstance(got, torch.Tensor):
        return f"The {name} must be a tensor; it is a {type(got).__name__}."
    if got.shape == wanted.shape:
        return None
    if name == "state" and got.shape == wanted.mT.shape:
        return f"The state is {tuple(got.shape)}, values by keys: it is kᵀv, keys by values, {tuple(wanted.shape)}."
    return f"The {name} is {tuple(got.shape)}; it must be {tuple(wanted.shape)}."


def _close(got, wanted):
    tolerance = 1e-4 if got.dtype == torch.float32 else 1e-5  # a Python float to the power of integers is float32
    return torch.allclose(got.double(), wanted.double(), rtol=tolerance, atol=tolerance)


def _one_step(function, query, key, value, decay, state):
    """What is wrong with one token's (output, state), or None; each known mistake gives numbers of its own."""
    kept = state.clone()
    pair = function(query, key, value, decay, state)
    if not isinstance(pair, tuple) or len(pair) != 2:
        return "Return two things: the output, and the state after the token."
    output, after = pair
    wanted, mistakes = _step_mistakes(query, key, value, decay, kept)
    wrong = _shape("output", output, value) or _shape("state", after, kept)
    if wrong or all(map(_close, pair, wanted)):
        return wrong
    for results, sentence in mistakes:
        if all(each is None or _close(got, each) for got, each in zip(pair, results, strict=True)):
            return sentence[0].upper() + sentence[1:]
    return f"The state is off by {(after.double() - wanted[1].double()).abs().max():.2g}."


def _step_mistakes(query, key, value, decay, state):
    """(output, state) after one token, and [((output, state), sentence)] of the known mistakes."""
    written = torch.outer(key, value)
    new, faded = decay * state + written, decay * state
    late = "the token does not see itself: write it into the state first, then read the state."
    return (query @ new, new), [
        ((None, state + written), "nothing fades: multiply the state by the decay before the token is written."),
        (
            (None, decay * (state + written)),
            "the new token has faded too: it counts decay⁰ = 1 at its own step. Fade first, then write.",
        ),
        ((None, state + decay * written), "the decay is on the new token; it belongs on the old state."),
        ((None, faded), "the token is never written: add the outer product of its key and value."),
        ((query @ state, None), late),
        ((query @ faded, None), late),
        ((query @ new, None), "the output is right, and the state that is handed on is not the one that was read."),
        ((None, new), "the state is right, the output is not: it is query @ state, with the state after the token."),
    ]


@exercise("retention.by_hand", level="pencil")
def by_hand(answer):
    state, read = 0.0, 0.0
    plain = late = 0.0
    for query, key, value in zip(QUERIES, KEYS, VALUES, strict=True):
        before, state = state, DECAY * state + key * value
        plain, late = plain + key * value, DECAY * (late + key * value)
        read = query * state
    query = QUERIES[-1]
    return compare_number(
        answer,
        read,
        [
            (query * plain, "Nothing faded: before each write the state is halved."),
            (query * late, "The new token was halved too: fade the state first, then write."),
            (query * before, "You read the state before the third token was written; a token sees itself."),
            (query * DECAY * before, "The third token is missing: it is written before the state is read."),
            (state, "That is the state; the output is the query times the state."),
        ],
    )


@exercise("retention.same_size", level="pencil")
def same_size(answer):
    model, heads, sizes = costs.LLAMA_8B, costs_retention.HEADS, (costs_retention.KEY_DIM, costs_retention.VALUE_DIM)
    kept = costs_retention.state_bytes(model.layers, heads, *(size // 2 for size in sizes))
    wanted = kept / costs.cache_bytes(model, 1)
    return compare_number(
        answer,
        wanted,
        [
            (wanted * 4, "That is the opening's RetNet; here keys and values are half as wide, 128 and 256."),
            (wanted / 2, "A state is kept in float32: four bytes per number, where the cache takes two."),
            (wanted * 2, "A token leaves a key and a value: count both."),
            (wanted * model.key_value_heads / model.heads, "The cache holds key-value heads, which query heads share."),
            (wanted * model.layers, "The layers cancel: both sides have one state, or one cache, per layer."),
            (wanted / heads, "There are as many states as heads."),
        ],
    )


@exercise("retention.even_chunk", level="pencil")
def even_chunk(answer):
    key_dim, value_dim = 128, 256
    wanted = 2 * key_dim * value_dim / (key_dim + value_dim)
    return compare_number(
        answer,
        wanted,
        [
            (wanted / 2, "The state costs 4DE: it is written once and read once, 2DE each."),
            (wanted * 2, "Scores cost 2CD and weighted values 2CE: a multiply and an add are two operations."),
            (float(key_dim), "C = D holds where keys and values have the same size; here E = 2D."),
        ],
    )


@exercise("retention.step", level="code")
def step(function):
    for key_dim, value_dim, decay in ((4, 3, 0.5), (2, 5, 0.9), (1, 1, 0.75)):
        query, key, value, state = _case(3, key_dim, value_dim)
        wanted = state
        for token in range(3):
            row = query[token], key[token], value[token]
            wrong = _one_step(function, *row, decay, wanted.clone())
            if wrong:
                return wrong
            wanted = decay * wanted + torch.outer(key[token], value[token])
    return None


@exercise("retention.chunk", level="code")
def chunk(function):
    for time, size, decay in ((8, 4, 0.5), (12, 3, 0.9), (10, 4, 0.75)):
        query, key, value, _ = _case(time)
        wanted, _ = _truth(query, key, value, decay)
        got = function(query, key, value, decay, size)
        wrong = _shape("output", got, wanted)
        if wrong:
            return wrong
        if _close(got, wanted):
            continue
        case = f"With {time} tokens in chunks of {size}"
        first, second = slice(0, size), slice(size, 2 * size)
        if not _close(got[first], wanted[first]):
            return (
                f"{case} the first chunk, which has no past, is already off: its cross term must read the state from "
                "*before* the chunk, which is zero."
            )
        return f"{case} {_second_chunk(got[second], query, key, value, decay, second)}"
    return None


def _second_chunk(got, query, key, value, decay, second):
    """Why the second chunk is off: its cross term, the only thing that is not the first chunk's, is tried."""
    size = second.stop - second.start
    inner, _ = _truth(query[second], key[second], value[second], decay)
    place = torch.arange(size, dtype=torch.float64)[:, None]
    past = slice(0, second.start)
    leaving = decay ** (size - 1 - place)
    for keys, what in (
        (leaving * key[past], None),
        (key[past], "the keys that the state sums have not faded: token j is decay^(size − 1 − j) at the chunk's end."),
        (decay * leaving * key[past], "the state fades by one step too many: its last token is decay⁰ at the end."),
        (leaving.flip(0) * key[past], "keys fade the wrong way: the chunk's last token has faded least."),
    ):
        memory = query[second] @ (keys.mT @ value[past])
        for power, late in (
            (place + 1, None),
            (place, "the cross term is a step short: at place i, counted from zero, decay^(i + 1) is left."),
            (torch.zeros_like(place), "the state that is read does not fade inside the chunk."),
        ):
            if _close(got, inner + decay**power * memory):
                return what or late or "all is well there, and a later chunk is off: does the state fade by decay^size?"
    if _close(got, inner):
        return "the second chunk does not see the first: is the cross term added, and the state carried?"
    return f"the first chunk is right, the second off by {(got - inner).abs().max():.2g} from its inner part."


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


@exercise("retention.linear", level="code")
def linear(function):
    for time in (1, 5, 9):
        query, key, value, _ = _case(time)
        query, key = query.exp(), key.exp()  # features are positive
        weight = (query @ key.mT).tril()
        wanted = weight @ value / weight.sum(-1, keepdim=True)
        got = function(query, key, value)
        wrong = _shape("output", got, wanted)
        if wrong:
            return wrong
        if _close(got, wanted):
            continue
        if _close(got, weight @ value):
            return "The weights do not sum to one: divide by the query times the running sum of keys."
        if _close(got, weight @ value / weight[-1:].sum() if time > 1 else wanted):
            return "One divisor serves all tokens; each token has its own, the sum of the weights that it gives."
        whole = query @ key.mT
        if _close(got, whole @ value / whole.sum(-1, keepdim=True)):
            return "A token sees later ones: sum up to the token itself, not over the whole text."
        if _close(got, weight @ value / whole.sum(-1, keepdim=True)):
            return "The divisor counts later tokens: the sum of keys must run as the state does."
        return f"With {time} tokens the outputs are off by {(got - wanted).abs().max():.2g}."
    return None


PAIR = ("output", "state")  # what launchers return


@kernel_exercise("retention.step_kernel")
def step_kernel():
    def case(key_dim, value_dim, decay):
        query, key, value, state = (each.float().double() for each in _case(1, key_dim, value_dim))
        token = query[0], key[0], value[0]
        wanted, mistakes = _step_mistakes(*token, decay, state)
        return Case(
            f"keys of {key_dim} and values of {value_dim}",
            (*in_float32(*token), decay, *in_float32(state)),
            in_float32(*wanted),
            mistakes=[(in_float32(*results), sentence) for results, sentence in mistakes],
            names=PAIR,
            hint="is the state decay · state + kᵀv, and the output what the query reads of it?",
            kept="the state that was given has changed: write the new one into a tensor of its own.",
        )

    return [case(*sizes) for sizes in ((16, 16, 0.5), (32, 16, 0.9), (16, 64, 0.75))]


@kernel_exercise("retention.ragged_kernel")
def ragged_kernel():
    def case(time, decay):
        given = in_float32(*_case(time, 16, 16)[:3])
        output, state = in_float32(*_truth(*given, decay))
        short = time % 16
        too_many = (
            f"the outputs are right, and the last state has faded by 16 − {short} steps too many: a chunk fades by the "
            "tokens that it has."
        )
        unlike = "the outputs are right, the last state is not: how far do it and each key fade?"
        mistakes = [((output, None), unlike)]
        if short:
            mistakes.insert(0, ((output, decay ** (16 - short) * state), too_many))
        hint = "are the rows past the end masked, in loads and in the store?" if short else "whole chunks are off."
        arguments = (*given, decay)
        return Case(f"{time} tokens", arguments, (output, state), names=PAIR, hint=hint, mistakes=mistakes)

    return [case(*each) for each in ((32, 0.9), (16, 0.5), (40, 0.9), (7, 0.75), (33, 0.5))]
