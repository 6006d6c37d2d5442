"""Who reads the future: a prefix whose experts change with what follows it, and a bit that can be known too early."""

import math

import torch
from torch import nn

from effattn_core.routing.experts import MixtureOfExperts
from effattn_core.routing.interface import CHOICES, route

BEST = math.log(2)  # nats per bit, of any model that sees the past alone


def skewed(tokens: int, experts: int, skew: float, generator: torch.Generator, column=None) -> torch.Tensor:
    """Logits [tokens, experts], float64: normal noise, and `skew` times a normal number per expert, or `column`."""
    noise = torch.randn(tokens, experts, dtype=torch.float64, generator=generator)
    if column is None:
        column = skew * torch.randn(experts, dtype=torch.float64, generator=generator)
    return noise + column


def changed_before(router: str, *, tokens=128, experts=8, top_k=2, skew=0.0, trials=20, seed=0, state=None) -> float:
    """The share of the first half's tokens whose experts change when the second half is drawn anew.

    0 for every router that keeps to the past. top_k is what the router is made for, where it is made for one. state: of
    the batches before; by default, for a bias or prices of the past, what some batches of such scores leave.
    """
    generator, changed, half = torch.Generator().manual_seed(seed), 0, tokens // 2
    top_k = CHOICES.get(router, top_k)
    if state is None and router in ("bias", "past_prices"):
        state = seasoned(router, tokens=tokens, experts=experts, top_k=top_k, skew=skew, seed=seed)
    for _ in range(trials):
        column = skew * torch.randn(experts, dtype=torch.float64, generator=generator)
        scores = skewed(tokens, experts, skew, generator, column)
        other = scores.clone()
        other[half:] = skewed(tokens - half, experts, skew, generator, column)
        first, second = (route(each, router=router, top_k=top_k, state=state).mask[:half] for each in (scores, other))
        changed += (first != second).any(1).sum().item()
    return changed / (trials * half)


def seasoned(router, *, tokens, experts, top_k, skew=0.0, column=None, batches=50, seed=0):
    """The state [experts] that a bias or prices of the past have after so many batches of scores of one distribution.

    column: what attracts tokens to each expert, by default `skew` times a normal number.
    """
    generator, state = torch.Generator().manual_seed(seed + 1000), None
    if column is None:
        column = skew * torch.randn(experts, dtype=torch.float64, generator=generator)
    for _ in range(batches):
        scores = skewed(tokens, experts, 0.0, generator, column)
        state = route(scores, router=router, top_k=top_k, state=state).state
    return state


def known_early(bits: torch.Tensor) -> torch.Tensor:
    """The next bit, read off whether one was served: bool as `bits` [pairs], by two tokens and an expert of one place.

    The expert chooses between a first token of score 0.5 and a second whose score is its bit: where the first is
    served, the second is 0.
    """
    scores = torch.stack([torch.full(bits.shape, 0.5), bits.float()], 1)
    return scores.argmax(1) == 1


class BitModel(nn.Module):
    """Guesses the next of random bits: bit and position embedded, layers of experts, no attention.

    Nothing but the router passes from one token to another, so that a loss below ln 2 is the router's leak.
    """

    def __init__(self, router, *, time=8, width=32, experts=4, top_k=1, layers=2):
        super().__init__()
        self.bit, self.position = nn.Embedding(2, width), nn.Embedding(time, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(layers))
        self.layers = nn.ModuleList(
            MixtureOfExperts(width, 2 * width, experts, top_k, router=router, scope="sequence") for _ in range(layers)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, bits):
        hidden = self.bit(bits) + self.position.weight
        for norm, layer in zip(self.norms, self.layers, strict=True):
            hidden = hidden + layer(norm(hidden))
        return self.head(hidden)


def loss_on_bits(
    router: str, *, steps=1200, batch=64, time=8, layers=2, seed=0, learning_rate=3e-3, evaluated=2048
) -> dict:
    """Train a BitModel on fresh random bits: {"trained": loss, "decoding": loss} in nats on bits it has not seen.

    trained: with the router as in training; decoding: in the mode that it decodes in. Below `BEST` it reads the future.
    """
    torch.manual_seed(seed)
    model, generator = BitModel(router, time=time, layers=layers), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)

    def loss(count):
        bits = torch.randint(2, (count, time + 1), generator=generator)
        return nn.functional.cross_entropy(model(bits[:, :-1]).flatten(0, 1), bits[:, 1:].flatten())

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 50) * (1 - 0.9 * step / steps)
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
    found = {}
    with torch.no_grad():
        for name, matched in (("trained", True), ("decoding", False)):
            model.eval()
            for layer in model.layers:
                layer.matched = matched
            found[name] = loss(evaluated).item()
    return found
