"""The routers one by one, each from values [tokens, experts] to a mask; `effattn_core.routing.route` calls them.

Orders are stable and in the order of the tokens, so that what is dropped does not depend on the machine.
"""

import torch

from effattn_core.routing.optimum import assigned
from effattn_core.routing.prices import priced

STEPS = 30000  # over which the released MaxScore anneals the weight of its second choice


def choices(values: torch.Tensor, top_k: int) -> torch.Tensor:
    """int64 [tokens, top_k]: each token's experts, best first; of equal values the first expert."""
    return values.argsort(dim=1, descending=True, stable=True)[:, :top_k]


def one_hot(expert: torch.Tensor, experts: int) -> torch.Tensor:
    """bool [..., experts] of expert numbers; a negative one is nobody."""
    return expert[..., None] == torch.arange(experts, device=expert.device)


def token_choice(values: torch.Tensor, top_k: int) -> torch.Tensor:
    """Each token its top_k, whatever the loads."""
    return one_hot(choices(values, top_k), values.shape[1]).any(1)


def by_position(values: torch.Tensor, top_k: int, capacity: int) -> torch.Tensor:
    """GShard, and Switch with one choice: an expert takes tokens in their order until it is full; the rest is dropped.

    Second choices come after all first choices that were kept, so that a late first pushes out an early second.
    """
    experts = values.shape[1]
    mask = torch.zeros_like(values, dtype=torch.bool)
    for expert in choices(values, top_k).unbind(1):
        wanted = one_hot(expert, experts)
        place = mask.sum(0) + wanted.cumsum(0) - 1
        mask |= wanted & (place < capacity)
    return mask


def expert_choice(values: torch.Tensor, capacity: int) -> torch.Tensor:
    """Each expert takes its `capacity` best tokens: loads are exact, a token may have no expert or all of them."""
    best = values.argsort(dim=0, descending=True, stable=True)[:capacity]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(0, best, True)


def auction(scores: torch.Tensor, capacity: int, *, rounds: int = 100) -> torch.Tensor:
    """The costs [tokens] and holders of BASE's auction: int64 [tokens], -1 where nobody holds a token.

    Experts bid for tokens. One that lacks a token bids what it gains over the best that it does not want, and a little
    more; the highest bid raises the token's cost, and its holder stays in with the least bid. After the released
    code of fairseq (clib/libbase), which ends it after so many rounds by an approximation, as we do by rounding.
    """
    tokens, experts = scores.shape
    step = max((scores.max() - scores.min()).item() / 50, 1e-4)
    worth = scores.T.clone()  # [experts, tokens]
    cost, holder = torch.zeros_like(worth[0]), torch.full((tokens,), -1, device=scores.device)
    every = torch.arange(tokens, device=scores.device)
    for _ in range(rounds):
        best = worth.topk(min(capacity + 1, tokens), 1)
        wanted = best.indices[:, :capacity]
        bids = torch.zeros_like(worth).scatter_(1, wanted, best.values[:, :capacity] - best.values[:, -1:] + step)
        held = holder >= 0
        bids[holder[held], every[held]] = step
        highest, bidder = bids.max(0)
        holder = torch.where(highest > 0, bidder, -1)
        cost = cost + highest
        worth = scores.T - cost
        taken = holder >= 0
        worth[holder[taken], every[taken]] = scores[every[taken], holder[taken]]
        if taken.all():
            break
    return holder


def sinkhorn_prices(
    scores: torch.Tensor, top_k: int, *, temperature: float = 1.0, rounds: int = 200, tolerance: float = 1e-4
) -> torch.Tensor:
    """Prices [experts] by Sinkhorn's scalings of exp(scores / temperature): its plan is ordered as scores - prices.

    Rows are scaled to top_k, columns to an equal share, in turn, until the columns move by less than `tolerance` in the
    mean (Megatron-LM moe_utils, whose argument is named cost and is a score). Nothing bounds the plan by 1: a token may
    get the same expert more than once.
    """
    log_plan = scores.double() / temperature
    tokens, experts = scores.shape
    column = torch.zeros(experts, dtype=torch.float64, device=scores.device)
    for _ in range(rounds):
        row = (log_plan + column).logsumexp(1, keepdim=True)
        new = -(log_plan - row).logsumexp(0) - torch.tensor(experts / tokens).log()
        moved = (new - column).exp().sub(1).abs().mean()
        column = new
        if moved < tolerance:
            break
    prices = -temperature * column
    return (prices - prices.min()).to(scores.dtype)


def released(values: torch.Tensor, capacity: int) -> torch.Tensor:
    """MaxScore's released solver for two choices: int64 [tokens, 2] (KM.cpp of dongbw18/MaxScore).

    First choices greedily, in the order of the tokens: the best expert with room. Then an exact assignment of all
    tokens to the places left over, where the first choice is worth 0 instead of forbidden: both may be one expert.
    """
    tokens, experts = values.shape
    first, room = [], [capacity] * experts
    for row in values.argsort(dim=1, descending=True, stable=True).tolist():
        first.append(next(expert for expert in row if room[expert]))
        room[first[-1]] -= 1
    first = torch.tensor(first, device=values.device)
    left = values.detach().masked_fill(one_hot(first, experts), 0.0)
    return torch.stack([first, assigned(left, torch.tensor(room))], 1)


def reroute(values: torch.Tensor, capacity: int) -> torch.Tensor:
    """Its rerouting variant (modeling_ours_iter.py): int64 [tokens, 2], -1 where a choice was dropped.

    First choices beyond the capacity are dropped for good; second choices try the ranks from the second on, in rounds,
    each round in the order of the tokens.
    """
    experts = values.shape[1]
    ranks = choices(values, experts)
    wanted = one_hot(ranks[:, 0], experts)
    kept = wanted & (wanted.cumsum(0) <= capacity)
    first, load = torch.where(kept.any(1), ranks[:, 0], -1), kept.sum(0)
    second = torch.full_like(first, -1)
    for rank in range(1, experts):
        asked = one_hot(torch.where(second < 0, ranks[:, rank], -1), experts)
        placed = asked & (load + asked.cumsum(0) <= capacity)
        second = torch.where(placed.any(1), ranks[:, rank], second)
        load = load + placed.sum(0)
    return torch.stack([first, second], 1)


def annealed(step: int, steps: int = STEPS) -> float:
    """The factor of the second choice's weight in the released training, from 4 down to 1: all that is soft there."""
    return max(4 - 3 * step / steps, 1.0)


def nudged(bias: torch.Tensor, load: torch.Tensor, rate: float) -> torch.Tensor:
    """The loss-free bias after a step: raised by `rate` for experts below the mean load, lowered above it.

    (arXiv 2408.15664; DeepSeek-V3.) MaxScore's released baseline has the sign turned: it feeds the crowd.
    """
    load = load.to(bias.dtype)
    return bias + rate * (load.mean() - load).sign()


def biased(values: torch.Tensor, bias: torch.Tensor, top_k: int) -> torch.Tensor:
    """Each token's top_k of values + bias; the bias chooses, and never weighs."""
    return priced(values, -bias, top_k)


class SoftTopK(torch.autograd.Function):
    """x = sigma((scores - theta) / temperature), theta such that each row sums to top_k: see `soft_top_k`."""

    @staticmethod
    def forward(ctx, scores, top_k, temperature):
        low = scores.min(-1, keepdim=True).values - 40 * temperature
        high = scores.max(-1, keepdim=True).values + 40 * temperature
        for _ in range(60):
            theta = (low + high) / 2
            much = ((scores - theta) / temperature).sigmoid().sum(-1, keepdim=True) > top_k
            low, high = torch.where(much, theta, low), torch.where(much, high, theta)
        share = ((scores - (low + high) / 2) / temperature).sigmoid()
        ctx.save_for_backward(share)
        ctx.temperature = temperature
        return share

    @staticmethod
    def backward(ctx, grad):
        (share,) = ctx.saved_tensors
        weight = share * (1 - share) / ctx.temperature
        # diag(w) - w wᵀ / Σw: symmetric, and its rows sum to 0.
        total = weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        return weight * (grad - (weight * grad).sum(-1, keepdim=True) / total), None, None


def soft_top_k(scores: torch.Tensor, top_k: int, temperature: float) -> torch.Tensor:
    """A differentiable top-k, [..., experts] to the same: shares in (0, 1) that sum to top_k in each row.

    RECONSTRUCTION: the paper names an operator SoftTopk, its released code has none, and its formula is UNVERIFIED.
    Small temperatures give the indicator of the top-k, large ones top_k / experts everywhere; for one expert it is not
    the softmax. As a gate only together with the hard mask, or training and decoding differ.
    """
    return SoftTopK.apply(scores, top_k, temperature)
