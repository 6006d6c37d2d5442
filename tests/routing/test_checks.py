"""The exercises on routing: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.routing import nudged, route
from effattn_core.routing.costs import drop_share
from effattn_core.routing.routers import by_position
from kernels.routing import launch_combine


def prices(values, top_k, capacity, rounds):
    price = torch.zeros_like(values[0])
    for _ in range(rounds):
        rent = (values - price).topk(top_k + 1, 1).values[:, -1]
        price = (values - rent[:, None]).topk(capacity + 1, 0).values[-1]
        price = price - price.min()
    return price


def by_token(values, top_k, capacity, rounds):
    """Prices along the wrong axis."""
    return values.topk(values.shape[1] - 1, 1).values[: values.shape[1], -1]


def token_by_token(values, top_k, capacity):
    mask = torch.zeros_like(values, dtype=torch.bool)
    for token, row in enumerate(values.argsort(dim=1, descending=True)[:, :top_k].tolist()):
        for expert in row:
            mask[token, expert] = mask[:, expert].sum() < capacity
    return mask


def leak(call, scores, half, draws=5):
    first = call(scores)[:half]
    for _ in range(draws):
        other = scores.clone()
        other[half:] = torch.randn_like(other[half:])
        if not torch.equal(call(other)[:half], first):
            return True
    return False


def plain_top_k(values, top_k, capacity):
    return torch.zeros_like(values).scatter(1, values.topk(top_k, 1).indices, 1).bool()


@triton.jit
def rows_kernel(rows, gates, place, sums, CHOICES: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """One program per choice adds its row to its token's sum: two of them meet there."""
    choice, dims = tl.program_id(0), tl.arange(0, BLOCK)
    row = tl.load(rows + tl.load(place + choice) * DIM + dims, mask=dims < DIM, other=0.0)
    tl.atomic_add(sums + choice // CHOICES * DIM + dims, tl.load(gates + choice) * row, mask=dims < DIM)


def by_rows(rows, gates, place, programs=None, begin=torch.zeros):
    """programs: one per choice if None. begin: makes what they add to."""
    (tokens, choices), dim = place.shape, rows.shape[1]
    sums = begin(tokens, dim, device=rows.device)
    grid = (programs or tokens * choices,)
    rows_kernel[grid](rows, gates, place, sums, choices, dim, triton.next_power_of_2(dim))
    return sums


SOLVED = {
    "routing.drops": drop_share(16, 100), "routing.tiles": 320, "routing.below": 0.6931, "routing.prices": prices,
    "routing.bias": nudged, "routing.positional": by_position, "routing.leak": leak, "routing.combine": launch_combine,
}  # fmt: skip
MISTAKES = [
    ("routing.drops", 0, "Fair means fair in the mean"),
    ("routing.drops", 0.0968, "its mean excess is 0.4 of it"),
    ("routing.tiles", 200, "each expert's are rounded up"),
    ("routing.tiles", 256, "not the sum"),
    ("routing.tiles", 384, "An expert without rows has no tile"),
    ("routing.below", 1.0, "in nats it is ln 2"),
    ("routing.prices", by_token, "are rents and prices in turn"),
    ("routing.prices", lambda *given: -prices(*given), "The sign is turned"),
    ("routing.prices", lambda values, *given: values, "Prices belong to experts"),
    ("routing.bias", lambda bias, load, rate: nudged(bias, load, -rate), "Your bias feeds the crowd"),
    (
        "routing.bias",
        lambda bias, load, rate: bias + rate * (load.float().mean() - load),
        "moves each expert by the rate",
    ),
    ("routing.bias", lambda bias, load, rate: bias, "is the rate taken"),
    ("routing.positional", plain_top_k, "its capacity is"),
    ("routing.positional", token_by_token, "second choices start after all kept first choices"),
    ("routing.positional", lambda v, k, c: by_position(v.flip(0), k, c).flip(0), "kept before an earlier"),
    ("routing.leak", lambda call, scores, half: False, "does not see that router='expert_choice' leaks"),
    ("routing.leak", lambda call, scores, half: True, "says that plain top-k leaks"),
    ("routing.combine", lambda rows, gates, place: launch_combine(rows, gates**0, place), "without their gates"),
    ("routing.combine", lambda r, g, p: (r[p] * g[..., None]).sum(1), "No Triton kernel was launched"),
    ("routing.combine", lambda rows, gates, place: launch_combine(rows, gates, 0 * place), "place says which row"),
    ("routing.combine", lambda *given: by_rows(*given, 5, torch.empty), "meet at sums[0, 0]"),
    ("routing.combine", by_rows, "meet at sums[0, 0]"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_the_solution_s_leak_is_the_library_s():
    scores = torch.randn(64, 4, dtype=torch.float64)
    assert leak(lambda each: route(each, router="optimum", top_k=2).mask, scores, 32)
    assert not leak(lambda each: route(each, router="switch", top_k=1).mask, scores, 32)
