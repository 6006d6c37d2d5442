"""Experts on many devices: each rank keeps some of the experts and some of the tokens; rows travel by all-to-all.

A rank routes its own tokens, sends each chosen row to the rank of its expert, and gets back what that expert made of
it. Weights of experts never move. What moves is counted and equals `costs.exchanged_bytes`: rows whose expert lies on
another rank, there and back, and how many there are.

torchrun --nproc-per-node 2 -m effattn_core.routing.parallel [ROUTER …]    compares outputs, gradients, bytes
"""

import sys

import torch
import torch.distributed as dist
from torch.nn import functional

from effattn_core import calls, sharded
from effattn_core.routing import costs
from effattn_core.routing.experts import MixtureOfExperts


class _AllToAll(torch.autograd.Function):
    """Rows to other ranks; the gradients of the rows go the same ways back."""

    @staticmethod
    def forward(ctx, rows, sent, received, group):
        ctx.splits = sent, received, group
        return _exchanged(rows, sent, received, group)

    @staticmethod
    def backward(ctx, grad):
        sent, received, group = ctx.splits
        return _exchanged(grad, received, sent, group), None, None, None


def _exchanged(rows, sent, received, group):
    found = rows.new_empty(sum(received), *rows.shape[1:])
    dist.all_to_all_single(found, rows.contiguous(), received, sent, group=group)
    return found


class Dispatch:
    """Who sends how many rows to whom, known to both after one small exchange of counts.

    load: int64 [experts], the rows of this rank's tokens for each expert. Experts lie on ranks in order, equally many
    on each. received: bytes that other ranks sent to this one in forward passes. Raises ValueError where experts do not
    divide into the ranks.
    """

    def __init__(self, load, group=None):
        self.group, self.rank, self.ranks = group, dist.get_rank(group), dist.get_world_size(group)
        if len(load) % self.ranks:
            raise ValueError(f"experts must divide into the {self.ranks} ranks; there are {len(load)}.")
        self.own = len(load) // self.ranks
        counts = torch.empty_like(load)
        dist.all_to_all_single(counts, load, group=group)
        self.counts = counts.view(self.ranks, self.own)  # rows from each rank for each of this rank's experts
        self.sent, self.got = load.view(self.ranks, self.own).sum(1).tolist(), self.counts.sum(1).tolist()
        self.received = (self.ranks - 1) * self.own * load.itemsize

    def there(self, rows):
        """Rows in the order of their experts → the rows of this rank's experts, in the order of the ranks."""
        return self._counted(rows, self.sent, self.got)

    def back(self, rows):
        """The way back: what was made of each row, in the order in which it was sent."""
        return self._counted(rows, self.got, self.sent)

    def _counted(self, rows, sent, got):
        self.received += (sum(got) - got[self.rank]) * rows[0:1].nbytes
        return _AllToAll.apply(rows, sent, got, self.group)

    @property
    def expert(self):
        """int64 [rows]: of each row that was received, which of this rank's experts it is for."""
        own = torch.arange(self.own, device=self.counts.device)
        return own.repeat(self.ranks).repeat_interleave(self.counts.flatten())


def mixed(tokens, mask, gates, gate, up, down, dispatch=None):
    """As `experts.mixed`, of this rank's tokens, where gate, up and down hold this rank's experts alone.

    tokens: [tokens, width]; mask, gates: [tokens, experts], over the experts of all ranks; gate, up: [experts / ranks,
    width, inner]; down: [experts / ranks, inner, width]. Every rank must call it. Differentiable.
    """
    calls.require_alike(tokens=tokens, gates=gates, gate=gate, up=up, down=down)
    dispatch = dispatch or Dispatch(mask.sum(0))
    if len(gate) != dispatch.own:
        raise ValueError(f"this rank's experts are {dispatch.own} of {mask.shape[1]}; weights of {len(gate)} came.")
    expert, token = mask.T.nonzero(as_tuple=True)  # expert by expert, so rank by rank
    rows = dispatch.there(tokens[token])
    order = dispatch.expert.argsort(stable=True)  # an expert's rows beside each other
    parts = rows[order].split(dispatch.counts.sum(0).tolist())
    made = torch.cat([
        (functional.silu(each @ gate[number]) * (each @ up[number])) @ down[number] for number, each in enumerate(parts)
    ])  # fmt: skip
    weighed = dispatch.back(made[order.argsort()]) * gates[token, expert, None]
    return torch.zeros_like(tokens).index_add(0, token, weighed)


def share(layer, rank, ranks):
    """This rank's part of a layer's experts: gate, up and down as leaves of their own."""
    own = slice(rank * len(layer.gate) // ranks, (rank + 1) * len(layer.gate) // ranks)
    return [each[own].detach().clone().requires_grad_() for each in (layer.gate, layer.up, layer.down)]


def compare(router, tokens=64, width=32, inner=48, experts=8, top_k=2):
    """(largest difference of an output, of a gradient, each over the largest number; bytes received, their formula).

    One process has all tokens and experts; each rank a share of both, routed by the same layer: so `router` must be one
    that routes each token by itself, and the gradients of the router's scores are added over the ranks.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    layer = MixtureOfExperts(width, inner, experts, top_k, router=router).double()
    made = torch.Generator().manual_seed(1)
    before = layer.state.clone()
    text, direction = (torch.randn(tokens * ranks, width, dtype=torch.float64, generator=made) for _ in range(2))
    whole = layer(text[None])[0]
    wanted = torch.autograd.grad((whole * direction).sum(), [layer.gate, layer.up, layer.down, layer.score.weight])
    layer.state = before  # a training call moves the bias
    mine = slice(rank * tokens, (rank + 1) * tokens)
    mask, gates, _, _ = layer._routed(layer.score(text[mine]))
    dispatch, weights = Dispatch(mask.sum(0)), share(layer, rank, ranks)
    output = mixed(text[mine], mask, gates, *weights, dispatch)
    found = torch.autograd.grad((output * direction[mine]).sum(), [*weights, layer.score.weight])
    dist.all_reduce(found[3])
    places = slice(rank * experts // ranks, (rank + 1) * experts // ranks)
    pairs = [(one, all_[places]) for one, all_ in zip(found[:3], wanted[:3], strict=True)] + [(found[3], wanted[3])]
    apart = max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)
    off = ((output - whole[mine]).abs().max() / whole.abs().max()).item()
    loads = [torch.empty(experts, dtype=torch.int64) for _ in range(ranks)]
    dist.all_gather(loads, mask.sum(0))
    formula = costs.exchanged_bytes([each.tolist() for each in loads], rank, width, element=text.itemsize)
    return off, apart, dispatch.received, formula


def main(routers=("top_k", "bias")):
    """Print, per rank and router, what `compare` found."""
    sharded.join()
    torch.set_num_threads(1)
    try:
        for router in routers:
            off, apart, received, formula = compare(router)
            print(
                f"rank {dist.get_rank()} of {dist.get_world_size()}, {router}: outputs {off:.1e} apart, gradients "
                f"{apart:.1e}; {received:,} B received, formula {formula:,} B",
                flush=True,
            )
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*([sys.argv[1:]] if len(sys.argv) > 1 else []))
