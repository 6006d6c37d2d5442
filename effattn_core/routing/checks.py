"""The hidden cases of the exercises on routing."""

import math

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random
from effattn_core.routing.costs import drop_share, tile_rows
from effattn_core.routing.future import BEST, skewed
from effattn_core.routing.interface import route, violation
from effattn_core.routing.optimum import dual, optimum
from effattn_core.routing.prices import priced

CASES = ((96, 8, 2, 1.0), (64, 4, 1, 2.0), (120, 6, 3, 0.5))  # tokens, experts, top_k, skew


def _scores(tokens, experts, skew, seed=3):
    return skewed(tokens, experts, skew, torch.Generator().manual_seed(seed))


@exercise("routing.drops", level="pencil")
def drops(answer):
    """The share that fair routing drops, 16 experts, capacity 100."""
    wanted = drop_share(16, 100)
    return compare_number(
        answer,
        wanted,
        [
            (0, "Fair means fair in the mean: one draw has experts above their share, and those drop."),
            (
                math.sqrt(2 * math.pi) * math.sqrt((1 - 1 / 16) / 100),
                "The mean excess of a normal law divides by √(2π).",
            ),
            (
                math.sqrt((1 - 1 / 16) / 100),
                "That is the deviation of a load over its mean; its mean excess is 0.4 of it.",
            ),
            (wanted * 100, "A share is asked; that is a number of tokens per expert."),
        ],
        within=0.02,
    )


@exercise("routing.tiles", level="pencil")
def tiles(answer):
    """Rows computed for loads 130, 0, 64 and 6 in tiles of 64."""
    load = (130, 0, 64, 6)
    return compare_number(
        answer,
        tile_rows(load, 64),
        [
            (sum(load), "Those are the rows asked for; each expert's are rounded up to whole tiles."),
            (256, "Tiles hold rows of one expert: round up expert by expert, not the sum."),
            (384, "An expert without rows has no tile."),
        ],
        within=1e-9,
    )


@exercise("routing.prices", level="code")
def prices(function):
    """`function(values, top_k, capacity, rounds)` returns prices [experts]."""
    for tokens, experts, top_k, skew in CASES:
        values, capacity = _scores(tokens, experts, skew).softmax(1), tokens * top_k // experts
        found = function(values.clone(), top_k, capacity, 20)
        if not isinstance(found, torch.Tensor) or found.shape != (experts,):
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            return f"Prices belong to experts: {experts} numbers; got {shape}."
        found = found.to(values.dtype)
        best, bound = optimum(values, top_k, capacity).value, dual(values, found, top_k, capacity)
        before = violation(priced(values, torch.zeros_like(found), top_k).sum(0))
        after = violation(priced(values, found, top_k).sum(0))
        if after > 0.9 * before:
            opposite = violation(priced(values, -found, top_k).sum(0))
            if opposite < after:
                return "The sign is turned: a price makes a crowded expert less attractive, values - prices."
            return (
                f"The fullest expert stays {1 + after:.2f} times its share: prices belong to experts, down the columns."
            )
        if bound > 1.02 * best:
            return f"The dual bound is {bound / best:.3f} of the optimum after 20 rounds: are rents and prices in turn?"
        if after > 0.35:
            return f"With {tokens} tokens the fullest expert has {1 + after:.2f} times its share: more than rounding."
    return None


@exercise("routing.bias", level="code")
def bias(function):
    """`function(bias, load, rate)` returns the next bias [experts]."""
    generator = torch.Generator().manual_seed(1)
    column, held, rate, seen = torch.randn(16, generator=generator), torch.zeros(16), 1e-3, []
    for _ in range(300):
        values = (torch.randn(512, 16, generator=generator) + column).sigmoid()
        load = priced(values, -held, 2).sum(0)
        before, held = held, function(held.clone(), load.clone(), rate)
        if not isinstance(held, torch.Tensor) or held.shape != (16,):
            return "Return the next bias, one number per expert."
        if (held - before).abs().max() > 1.01 * rate:
            return "A step moves each expert by the rate, up or down, however far off its load is: take the sign."
        seen.append(violation(load))
    spread = (held.max() - held.min()).item()
    if spread < rate:
        return "The bias does not move: is the rate taken?"
    if seen[-1] > seen[0]:
        return (
            f"Your bias feeds the crowd: MaxVio went from {seen[0]:.2f} to {seen[-1]:.2f}, the range is {spread:.2f}."
        )
    if seen[-1] > seen[0] / 4:
        return f"After 300 steps MaxVio is {seen[-1]:.2f}, from {seen[0]:.2f}: too slow."
    return None


@exercise("routing.positional", level="code")
def positional(function):
    """`function(values, top_k, capacity)` returns GShard's mask, bool [tokens, experts]."""
    for tokens, experts, top_k, skew in CASES:
        scores, capacity = _scores(tokens, experts, skew), max(1, tokens * top_k // experts - 3)
        values = scores.softmax(1)
        wanted = route(scores, router="gshard", top_k=top_k, capacity=capacity).mask
        found = function(values.clone(), top_k, capacity)
        if not isinstance(found, torch.Tensor) or found.shape != wanted.shape or found.dtype != torch.bool:
            return f"Return a mask, torch.bool {tuple(wanted.shape)}."
        if torch.equal(found, wanted):
            continue
        if found.sum(0).max() > capacity:
            return f"An expert holds {int(found.sum(0).max())} tokens; its capacity is {capacity}."
        if torch.equal(found, _token_by_token(values, top_k, capacity)):
            return "All choices of a token at once is another rule: second choices start after all kept first choices."
        return (
            f"{int((found != wanted).any(1).sum())} of {tokens} tokens differ: is a later token kept before an earlier?"
        )
    return None


def _token_by_token(values, top_k, capacity):
    mask = torch.zeros_like(values, dtype=torch.bool)
    for token, row in enumerate(values.argsort(dim=1, descending=True, stable=True)[:, :top_k]):
        for expert in row.tolist():
            mask[token, expert] = mask[:, expert].sum() < capacity
    return mask


@exercise("routing.leak", level="code")
def leak(function):
    """`function(router_function, scores, half)`: whether a router, scores -> mask, reads past `half`."""
    generator = torch.Generator().manual_seed(0)
    for router, causal in (("top_k", True), ("expert_choice", False), ("prices", False), ("gshard", None)):
        scores = torch.randn(64, 4, dtype=torch.float64, generator=generator)

        def call(each, router=router):
            return route(each, router=router, top_k=2).mask

        found = function(call, scores.clone(), 32)
        if not isinstance(found, (bool, torch.Tensor)) or (isinstance(found, torch.Tensor) and found.numel() != 1):
            return f"Answer True or False; got {type(found).__name__}."
        if causal is True and bool(found):
            return "It says that plain top-k leaks: compare the first half's masks, change the second half alone."
        if causal is False and not bool(found):
            return (
                f"It does not see that router={router!r} leaks: draw the second half anew, and try more than one draw."
            )
    return None


@exercise("routing.below", level="pencil")
def below(answer):
    """The least loss in nats per bit that a causal model can have on fair random bits."""
    return compare_number(
        answer, BEST, [(1.0, "That is in bits; in nats it is ln 2."), (0.5, "That is a probability.")], within=2e-3
    )


@kernel_exercise("routing.combine")
def combine():
    """`function(rows, gates, place)`: the launcher of a kernel that sums a token's rows by their gates."""
    from kernels.routing import make_plan

    def case(tokens, choices, dim):
        generator = torch.Generator().manual_seed(tokens)
        expert = torch.rand(tokens, 4, generator=generator).argsort(1)[:, :choices]
        rows, gates = random(tokens * choices, dim), torch.rand(tokens, choices, generator=generator)
        gates, place = gates.to(rows.device), make_plan(expert, 4, 16).place.to(rows.device)
        chosen = rows.double()[place]
        wanted = (chosen * gates[..., None]).sum(1).float()
        mistakes = [(chosen.sum(1).float(), "the rows are summed without their gates.")]
        what = f"place [{tokens}, {choices}] and rows of {dim} numbers"
        hint = "place says which row each choice of a token has, gates what it weighs."
        return Case(what, (rows, gates, place), wanted, mistakes=mistakes, hint=hint)

    return [case(*sizes) for sizes in ((5, 2, 32), (33, 3, 40), (1, 1, 130))]
