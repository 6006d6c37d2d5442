"""The fast solver: a price per expert by coordinate descent on the dual, then rounding to an assignment.

Only sorts and scatters, on whatever device the values are; `effattn_core.routing.optimum.gap` certifies the result. The
rounds are those of quantile balancing (kexue.fm 11619, read in notes); the midpoints and the rounding are ours.
"""

import torch


def quantile_prices(
    values: torch.Tensor, top_k: int, capacity: int, *, rounds: int = 20, middle: bool = True, start=None
) -> torch.Tensor:
    """Prices [experts] at which top-k of values - prices loads no expert much beyond `capacity` (eq. routing-prices).

    Coordinate descent on the dual: a token's rent is the (top_k + 1)-th largest of its values - prices, an expert's
    price the (capacity + 1)-th largest of its column of values - rents. middle: between that and the one before, and
    from the second round on half of the old price stays: what rounds best. start: prices to begin from, else 0.
    """
    tokens, experts = values.shape
    prices = torch.zeros_like(values[0]) if start is None else start.to(values.dtype)
    if capacity >= tokens or top_k == experts:  # every expert has room for all, or takes all
        return torch.zeros_like(prices)
    tight = capacity * experts == tokens * top_k
    for number in range(rounds):
        rents = _between((values - prices).topk(top_k + 1, 1).values, top_k, middle)
        new = _between((values - rents[:, None]).T.topk(capacity + 1, 1).values, capacity, middle)
        # With no place to spare only differences of prices count; else what nobody pays for is free.
        new = new - new.min() if tight else new.clamp(min=0)
        prices = (prices + new) / 2 if middle and number else new
    return prices


def _between(ordered, count, middle):
    """The number that parts the `count` largest of each row from the next: the next itself, or halfway."""
    after = ordered[:, count]
    return (ordered[:, count - 1] + after) / 2 if middle else after


def priced(values: torch.Tensor, prices: torch.Tensor, top_k: int) -> torch.Tensor:
    """bool [tokens, experts]: each token's top_k of values - prices. No expert looks at how many come."""
    chosen = (values - prices).topk(top_k, 1).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, chosen, True)


def rounded(values: torch.Tensor, prices: torch.Tensor, top_k: int, capacity: int) -> torch.Tensor:
    """An assignment within both bounds from prices, bool [tokens, experts]: all top_k · tokens choices are placed.

    In rounds: each token proposes to its best experts that have room, each expert keeps those that gain most by it
    (over the token's rent) up to its room, and what was refused goes on to the next expert. A token that is left
    without a place, for it holds every expert that has room, exchanges with another. `require_room` must hold.
    """
    reduced = values - prices
    rents = reduced.topk(min(top_k + 1, values.shape[1]), 1).values[:, -1:]
    mask, room = torch.zeros_like(values, dtype=torch.bool), torch.full_like(prices, capacity, dtype=torch.int64)
    while True:
        need = top_k - mask.sum(1)
        open_to = ~mask & (room > 0)
        score = torch.where(open_to, reduced, float("-inf"))
        best = score.topk(top_k, 1).indices
        proposed = torch.zeros_like(mask).scatter_(1, best, torch.arange(top_k, device=mask.device) < need[:, None])
        proposed &= open_to
        if not proposed.any():
            break
        gain = torch.where(proposed, reduced - rents, float("-inf"))
        place = gain.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
        mask |= proposed & (place < room)
        room = capacity - mask.sum(0)
    _exchange(values, mask, top_k, capacity)
    return mask


def _exchange(values, mask, top_k, capacity):
    """Place what is left, in `mask` itself: another token moves to the expert that has room, and gives up its own."""
    for token in (mask.sum(1) < top_k).nonzero().flatten().tolist():
        while mask[token].sum() < top_k:
            free = int((mask.sum(0) < capacity).nonzero()[0])
            # token takes `left`, which `other` leaves for `free`; the token itself holds `free` already.
            gain = values[:, free, None] - values + values[token]
            allowed = mask & ~mask[:, free, None] & ~mask[token]
            best = int(torch.where(allowed, gain, float("-inf")).argmax())
            other, left = divmod(best, values.shape[1])
            mask[other, left], mask[other, free], mask[token, left] = False, True, True
