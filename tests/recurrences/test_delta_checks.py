"""The exercises on the delta rule: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved


def delta_step(query, key, value, beta, state, erase=True, whole=False, late=False):
    wanted = value[..., None, :] - (key[..., None, :] @ state if erase else 0)
    after = state + key[..., :, None] @ (wanted if whole else beta[..., None, None] * wanted)
    return (query[..., None, :] @ (state if late else after))[..., 0, :], after


def read_after(rule, old, new, keep, beta):
    if rule == "gated":
        return keep * old + new
    kept = keep * old if rule == "gated_delta" else old
    return kept + beta * (new - kept)


def delta_writes(key, value, beta, state, factor=True, diagonal=-1, sign=1, upper=False, first=True, solve=True):
    overlap = (beta[:, None] if factor else 1) * (key @ key.T)
    overlap = overlap.triu(1) if upper else overlap.tril(diagonal)
    wanted = beta[:, None] * (value - (key @ state if first else 0))
    return torch.linalg.solve(torch.eye(len(key)).double() + sign * overlap, wanted) if solve else wanted


@triton.jit
def delta_kernel_(Q, K, V, G, B, S, Out, After, D: tl.constexpr, E: tl.constexpr):
    head, rows, columns = tl.program_id(0), tl.arange(0, D), tl.arange(0, E)
    place = head * D * E + rows[:, None] * E + columns[None, :]
    key = tl.load(K + head * D + rows)[:, None]
    query = tl.load(Q + head * D + rows)[:, None]
    state = tl.load(S + place) * tl.exp(tl.load(G + head))
    held = tl.sum(key * state, 0)
    write = tl.load(B + head) * (tl.load(V + head * E + columns) - held)
    state += key * write[None, :]
    tl.store(Out + head * E + columns, tl.sum(query * state, 0))
    tl.store(After + place, state)


def delta_kernel(query, key, value, log_gate, beta, state, programs=None, made=torch.zeros_like):
    output, after = made(value), made(state)
    heads, key_dim, value_dim = state.shape
    delta_kernel_[(programs or heads,)](query, key, value, log_gate, beta, state, output, after, key_dim, value_dim)
    return output, after


def delta_in_torch(query, key, value, log_gate, beta, state):
    state = log_gate.exp()[:, None, None] * state
    held = (key[:, None] @ state)[:, 0]
    state = state + key[..., None] * (beta[:, None] * (value - held))[:, None]
    return (query[:, None] @ state)[:, 0], state


def delta_rounds(leaning, share=0.01):
    return 1 + math.ceil(math.log(share) / (2 * math.log(leaning)))


SOLVED = {
    "recurrences.delta_second_write": 9.8,
    "recurrences.delta_system": (8, 6, 1),
    "recurrences.delta_crossover": 3072,
    "recurrences.delta_writes": delta_writes,
    "recurrences.delta_parity": lambda bits: [2 * bit for bit in bits],
    "recurrences.delta_kernel": delta_kernel,
    "recurrences.delta_rounds": delta_rounds,
    "recurrences.delta_step": delta_step,
    "recurrences.read_after": read_after,
}
MISTAKES = [
    ("recurrences.delta_step", lambda *case: delta_step(*case, late=True), "does not see itself"),
    ("recurrences.delta_step", lambda *case: delta_step(*case, erase=False), "Nothing is erased"),
    ("recurrences.delta_step", lambda *case: delta_step(*case, whole=True), "Every write is whole"),
    ("recurrences.delta_step", lambda *case: (delta_step(*case)[0], case[-1][0]), "The state is"),
    ("recurrences.delta_step", lambda *case: (delta_step(*case)[0][0], case[-1]), "The output is"),
    ("recurrences.delta_step", lambda *case: (delta_step(*case)[0], case[-1]), "not the one that was read"),
    ("recurrences.read_after", lambda rule, old, new, keep, beta: new, "it does not replace"),
    ("recurrences.read_after", lambda rule, old, new, keep, beta: keep * old + new if rule == "gated" else
     (1 - beta) * old + beta * new, "the state fades first"),
    ("recurrences.read_after", lambda rule, old, new, keep, beta: keep * old + new if rule == "gated" else
     old + beta * new, "takes beta of the old away"),
    ("recurrences.delta_second_write", 13, "That is the sum"),
    ("recurrences.delta_second_write", 5, "lean towards each other"),
    ("recurrences.delta_second_write", 4.8, "it read 5 before"),
    ("recurrences.delta_second_write", 10, "what the second key reads"),
    ("recurrences.delta_system", 8, "Three numbers are asked"),
    ("recurrences.delta_system", (8, 6, -1), "not b2"),
    ("recurrences.delta_system", (8, 14, 15), "subtracted, not added"),
    ("recurrences.delta_system", (8, 6, 3), "r3 is not 3"),
    ("recurrences.delta_crossover", 6144, "Keys and values are two"),
    ("recurrences.delta_crossover", 1536, "four bytes"),
    ("recurrences.delta_crossover", 768, "one of four a cache"),
    ("recurrences.delta_crossover", 36864, "Twelve layers keep"),
    ("recurrences.delta_crossover", 3072 / 36, "Thirty-six layers"),
    ("recurrences.delta_writes", lambda *case: delta_writes(*case, solve=False), "solve for them"),
    ("recurrences.delta_writes", lambda *case: delta_writes(*case, factor=False), "token's beta as a factor"),
    ("recurrences.delta_writes", lambda *case: delta_writes(*case, upper=True), "zero above the diagonal"),
    ("recurrences.delta_writes", lambda *case: delta_writes(*case, diagonal=0), "does not correct itself"),
    ("recurrences.delta_writes", lambda *case: delta_writes(*case, sign=-1), "to the left with a plus"),
    ("recurrences.delta_writes", lambda *case: delta_writes(*case, first=False), "meets a state already"),
    ("recurrences.delta_writes", lambda *case: delta_writes(*case)[0], "A row per token"),
    ("recurrences.delta_writes", lambda *case: 1.1 * delta_writes(*case), "the writes are off by"),
    ("recurrences.delta_parity", lambda bits: 2.0, "A strength per bit"),
    ("recurrences.delta_parity", lambda bits: [3 * bit for bit in bits], "Strengths lie in"),
    ("recurrences.delta_parity", lambda bits: bits, "leaves 0"),
    ("recurrences.delta_parity", lambda bits: [1.5 * bit for bit in bits], "the state is -0.5; wanted -1"),
    ("recurrences.delta_kernel", delta_in_torch, "No Triton kernel was launched"),
    ("recurrences.delta_kernel", lambda *case: delta_kernel(*case[:3], 0 * case[3], *case[4:]), "nothing fades"),
    ("recurrences.delta_kernel", lambda *case: (delta_kernel(*case)[0] + 1, delta_kernel(*case)[1]), "read after"),
    ("recurrences.delta_kernel", lambda *case: delta_kernel(*case, programs=1), "must find its own rows"),
    ("recurrences.delta_kernel", lambda *case: delta_kernel(*case, programs=1, made=torch.empty_like), "of the output"),
    ("recurrences.delta_kernel", lambda *case: delta_kernel(case[0], case[1][:1].expand_as(case[1]).contiguous(),
                                                            *case[2:]), "must find its own rows"),
    ("recurrences.delta_kernel", lambda *case: delta_kernel(*case)[::-1], "the output must be a tensor"),
    ("recurrences.delta_kernel", lambda *case: delta_kernel(*case)[0], "return 2 tensors (output, state)"),
    ("recurrences.delta_kernel", lambda *case: delta_kernel(*case[:4], 2 * case[4], case[5]), "written along the key"),
    ("recurrences.delta_rounds", lambda leaning: delta_rounds(leaning) - 1, "one round is missing"),
    ("recurrences.delta_rounds", lambda leaning: delta_rounds(leaning, 0.1), "a hundredth is asked"),
    ("recurrences.delta_rounds", lambda leaning: 10, "how does the error change per round"),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
