"""Optimizers whose step is smoothed over a graph: `Smoothed` around any of them, and the paper's AdamW.

Smoothing is linear in the step, so a step that another optimizer has taken can be smoothed afterwards: `Smoothed` looks
at where the tables were and where they are, takes decoupled weight decay out of the difference, and puts it back apart.
"""

import math
from collections.abc import Sequence

import torch
from torch.optim import Optimizer

from effattn_core.graphs.adjacency import Adjacency
from effattn_core.graphs.forms import require_smoothing
from effattn_core.graphs.interface import smooth


class Smoothed(Optimizer):
    """E ← E (1 - η λ_d) - η ψ(Δ), whatever step Δ `optimizer` takes (eq. graphs-step).

    tables: parameters of `optimizer`, [rows, dim] each, whose rows in turn are the nodes of `adjacency`; other
    parameters are stepped as they would be. beta, layers, rescaled: as of `smooth`. decay_apart: whether the weight
    decay of the tables' groups is decoupled and so stays out of the smoothing; by default what the group says of
    itself (`decoupled_weight_decay`, as torch.optim.AdamW does). An L2 penalty in the gradient is smoothed with it.

    Groups, state and state_dict are those of `optimizer`: schedulers, closures and checkpoints work as with it alone.
    Holds a copy of the tables during a step. Another `Smoothed` may stand inside. Raises ValueError.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        tables: torch.Tensor | Sequence[torch.Tensor],
        adjacency: Adjacency,
        *,
        beta: float = 0.99,
        layers: int = 3,
        rescaled: bool = True,
        decay_apart: bool | None = None,
    ):
        if not isinstance(optimizer, Optimizer):
            raise ValueError(f"optimizer must be a torch.optim.Optimizer; it is a {type(optimizer).__name__}.")
        tables = [tables] if isinstance(tables, torch.Tensor) else list(tables)
        self.optimizer, self.tables, self.adjacency = optimizer, tables, adjacency
        self.smoothing = dict(beta=beta, layers=layers, rescaled=rescaled)
        self.decay_apart = decay_apart
        known = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        if not tables or any(id(each) not in known for each in tables):
            raise ValueError(
                "tables must be parameters that the optimizer steps; one of them is not, or none is given."
            )
        if len({id(each) for each in tables}) < len(tables):
            raise ValueError("tables must be different parameters; one stands twice.")
        if any(each.ndim != 2 or each.shape[1] != tables[0].shape[1] for each in tables):
            shapes = ", ".join(str(tuple(each.shape)) for each in tables)
            raise ValueError(f"tables must be [rows, dim] with one dim; they are {shapes}.")
        require_smoothing(torch.cat([each.detach() for each in tables]), adjacency, beta, layers)
        super().__init__(tables, optimizer.defaults)  # a group of its own, which the optimizer's replace at once
        self._share()

    def _share(self):
        self.param_groups, self.state = self.optimizer.param_groups, self.optimizer.state

    def step(self, closure=None):
        """One step of the optimizer, that of the tables smoothed. Returns what it returns."""
        before = [each.detach().clone() for each in self.tables]
        groups = [self._group(each) for each in self.tables]
        one = all(group is groups[0] for group in groups)  # then no rate is looked at: it may be on a GPU
        rates = () if one else {float(group["lr"]) for group in groups}
        if len(rates) > 1:
            raise ValueError(f"tables of one graph must have one learning rate; they have {sorted(rates)}.")
        found = self.optimizer.step(closure)
        if all(each.grad is None for each in self.tables):
            return found  # nothing was stepped
        kept = [self._kept(old, each, group) for old, each, group in zip(before, self.tables, groups, strict=True)]
        with torch.no_grad():
            step = torch.cat([start - each for start, each in zip(kept, self.tables, strict=True)])
            parts = self.smoothed(step).split([len(each) for each in self.tables])
            for each, start, part in zip(self.tables, kept, parts, strict=True):
                each.copy_(start - part)
        return found

    def smoothed(self, step):
        """What becomes of a step [nodes, dim]: ψ of it."""
        return smooth(step, self.adjacency, **self.smoothing)

    def _group(self, table):
        return next(group for group in self.param_groups if any(each is table for each in group["params"]))

    def _kept(self, before, table, group):
        """The table as decay alone leaves it: the step is what moved it from there."""
        apart = group.get("decoupled_weight_decay", False) if self.decay_apart is None else self.decay_apart
        decay = group.get("weight_decay", 0) if apart and table.grad is not None else 0
        return before * (1 - group["lr"] * decay) if decay else before

    def add_param_group(self, param_group):
        """Another group for the optimizer; its parameters are no tables."""
        shared = self.param_groups is self.optimizer.param_groups
        (self.optimizer if shared else super()).add_param_group(param_group)

    def state_dict(self):
        """The optimizer's: smoothing adds no state, so that either reads the other's checkpoint."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict):
        self.optimizer.load_state_dict(state_dict)
        self._share()

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def __getstate__(self):
        kept = ("optimizer", "tables", "adjacency", "smoothing", "decay_apart", "defaults")
        return {key: self.__dict__[key] for key in kept}

    def __setstate__(self, state):
        super().__setstate__(state)
        self._share()

    def __repr__(self):
        beta, layers = self.smoothing["beta"], self.smoothing["layers"]
        return f"Smoothed({self.optimizer!r}, nodes={self.adjacency.nodes}, beta={beta}, layers={layers})"


class RowwiseAdamW(Optimizer):
    """AdamW that leaves the estimates of a row without a gradient as they are (eq. graphs-correction).

    A row whose gradient is exactly 0 is taken for one that no example of the batch has: in place of 0 its moments are
    fed their own bias-corrected values, so that m̂ and v̂ of the row do not change, and its step is the last one again.
    Groups may say correct_rows=False, for parameters that every example has; parameters of fewer than two dimensions
    are never corrected. lr, betas, eps, weight_decay: as of torch.optim.AdamW, which it is without such rows.
    Raises ValueError, and RuntimeError for sparse gradients.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, *, correct_rows=True):
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number of at least 0; it is {value}.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers from 0 to below 1; they are {betas}.")
        defaults = dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, correct_rows=correct_rows)
        super().__init__(params, defaults | {"decoupled_weight_decay": True})

    @torch.no_grad()
    def step(self, closure=None):
        """One step. Returns what the closure returns, None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step(weight, group)
        return loss

    def _step(self, weight, group):
        gradient, state = weight.grad, self.state[weight]
        if gradient.is_sparse:
            raise RuntimeError("RowwiseAdamW smooths dense steps: it takes no sparse gradient.")
        if not state:
            like = dict(dtype=torch.promote_types(weight.dtype, torch.float32))
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight, **like), torch.zeros_like(weight, **like)
        state["step"] += 1
        steps, (first, second) = int(state["step"]), group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        gradient = gradient.to(mean.dtype)
        new_mean, new_square = gradient, gradient * gradient
        if group["correct_rows"] and weight.ndim > 1:
            before = max(1, steps - 1)  # at the first step the moments are 0, whatever they are divided by
            absent = (gradient == 0).flatten(1).all(1).view(-1, *[1] * (weight.ndim - 1))
            new_mean = torch.where(absent, mean / (1 - first**before), new_mean)
            new_square = torch.where(absent, square / (1 - second**before), new_square)
        mean.lerp_(new_mean, 1 - first)
        square.lerp_(new_square, 1 - second)
        step = mean / (1 - first**steps) / ((square / (1 - second**steps)).sqrt() + group["eps"])
        weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * step)


class AdamWSEvo(Smoothed):
    """The paper's AdamW with SEvo: rows without a gradient corrected, the tables' step smoothed, decay apart.

    tables, adjacency, beta, layers, rescaled: as of `Smoothed`; lr, betas, eps, weight_decay: as of `RowwiseAdamW`.
    others: parameters that are no tables, which get plain AdamW. corrected: False for plain moments.
    """

    def __init__(
        self, tables, adjacency, *, others=(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, beta=0.99,
        layers=3, rescaled=True, corrected=True,
    ):  # fmt: skip
        tables = [tables] if isinstance(tables, torch.Tensor) else list(tables)
        groups = [{"params": tables, "correct_rows": corrected}]
        if others := list(others):
            groups.append({"params": others, "correct_rows": False})
        inner = RowwiseAdamW(groups, lr, betas, eps, weight_decay)
        super().__init__(inner, tables, adjacency, beta=beta, layers=layers, rescaled=rescaled)
