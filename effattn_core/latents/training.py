"""One short training loop for tokenisers, classifier and generators, and the average of weights that samples best."""

import math

import torch

from effattn_core.calls import require_count
from effattn_core.train import learning_rate_at


def batches(count, batch, generator):
    """Endless batches of places, int64 [batch], each sweep of the data in a drawn order. A rest is left out."""
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count // batch * batch].split(batch)


def fit(model, loss_of, *, count, steps, batch, rate=2e-3, warmup=50, seed=0, decay=0.01, clip=1.0, average=None):
    """Train `model` in place; returns the losses, a float per step.

    loss_of: (places int64 [batch], generator) -> loss, of data with `count` rows. AdamW, betas (0.9, 0.98), warm-up and
    half a cosine to a tenth; average: an `Average` that follows. All draws come from `seed`. Raises ValueError for no
    data, steps or batch, FloatingPointError for a loss that is not finite.
    """
    for name, given in dict(count=count, steps=steps, batch=batch).items():
        require_count(name, given)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=decay)
    drawn, losses = batches(count, min(batch, count), generator), []
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, steps=steps, peak=rate, warmup=warmup)
        loss = loss_of(next(drawn), generator)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if average is not None:
            average.follow(model)
        losses.append(loss.item())
    model.eval()
    return losses


class Average:
    """A running mean of a model's weights: after k steps its decay is min((1 + k) / (10 + k), limit), to start soon."""

    def __init__(self, model, limit=0.999):
        self.limit, self.steps = limit, 0
        self.weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    @torch.no_grad()
    def follow(self, model):
        """Take in the weights as they are now."""
        decay = min((1 + self.steps) / (10 + self.steps), self.limit)
        self.steps += 1
        for name, weight in model.named_parameters():
            self.weights[name].lerp_(weight, 1 - decay)

    @torch.no_grad()
    def give(self, model):
        """Put the mean into a model of the same make. Returns it."""
        for name, weight in model.named_parameters():
            weight.copy_(self.weights[name])
        return model
