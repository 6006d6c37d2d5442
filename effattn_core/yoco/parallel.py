"""One long text on many devices: each rank reads its share, states pass between ranks, one cache is gathered once.

The model is the same; its states are others. A layer that retains starts its share from nothing, and what the earlier
ranks would have handed on is added once all know each other's states: D · E numbers per head and rank, however long the
text. A layer with a window needs the last window - 1 keys of the rank before. The cross-decoder needs all keys and
values up to its own, and gathers them once for all of its layers, where a Transformer must in every layer.

torchrun --nproc-per-node 2 -m effattn_core.yoco.parallel [SIZE …]    compares loss, gradients, bytes with one process
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional

from effattn_core import sharded
from effattn_core.attention import attention
from effattn_core.model import build, configuration
from effattn_core.recurrences import gated_recurrence
from effattn_core.states import State
from effattn_core.yoco import costs as costs_yoco

LINE = re.compile(
    r"(?P<size>\S+), (?P<tokens>\d+) tokens, (?P<ranks>\d+) ranks: loss (?P<loss>\S+), alone (?P<alone>\S+); "
    r"gradients (?P<apart>\S+) apart; (?P<received>[\d,]+) B received per rank, formula (?P<formula>[\d,]+) B"
)
WHOLE = ("tokens", "ranks", "received", "formula")


class _Gather(torch.autograd.Function):
    """All ranks' tensors, stacked by rank; each rank's gradient is the sum of what all ranks made of its tensor."""

    @staticmethod
    def forward(ctx, tensor, group):
        ctx.group = group
        found = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
        dist.all_gather(found, tensor.contiguous(), group=group)
        return torch.stack(found)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        dist.all_reduce(grad, group=ctx.group)
        return grad[dist.get_rank(ctx.group)], None


class Exchange:
    """The ranks of one text, and a count of what this one received from the others in forward passes, in bytes."""

    def __init__(self, group=None):
        self.group, self.received = group, 0
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)

    def gather(self, tensor):
        """The tensors of all ranks, of one shape: [ranks, ...]. Differentiable."""
        self.received += (self.ranks - 1) * tensor.nbytes
        return _Gather.apply(tensor, self.group)


@dataclass
class PassedState(State):
    """The state of a gated retention that begins on another rank. length: tokens before this rank's share."""

    exchange: Exchange
    length: int

    def recur(self, query, key, value, log_gate, scale):
        """(what each token of this share reads, the state): from nothing first, then what came before is added."""
        batch, heads, _, key_dim = query.shape
        wide = torch.promote_types(value.dtype, torch.float32)
        nothing = torch.zeros(batch, heads, key_dim, value.shape[3], dtype=wide, device=value.device)
        mixed, own = gated_recurrence(query, key, value, log_gate, scale=scale, state=nothing)
        total = log_gate.to(wide).cumsum(-1)
        # In one tensor, and read whole on every rank: ranks must make the same exchanges backwards too.
        gathered = self.exchange.gather(torch.cat([own.flatten(2), total[..., -1:]], -1))
        states, decays = gathered[..., :-1].unflatten(-1, own.shape[2:]), gathered[..., -1]
        rank, shares = self.exchange.rank, []
        for other in range(self.exchange.ranks):  # what is left of another rank's state where this share begins
            shares.append(decays[other + 1 : rank].sum(0).exp() if other < rank else 0 * decays[other])
        before = (torch.stack(shares)[..., None, None] * states).sum(0)
        entering = (query.to(wide) * total.exp()[..., None]) @ before
        return (mixed + scale * entering).to(value.dtype), self


@dataclass
class PassedWindow(State):
    """The keys and values that a window reaches back for into the rank before. length: tokens before this share."""

    exchange: Exchange
    length: int
    window: int

    @property
    def mask(self):
        return dict(window=self.window, sinks=0)

    def attend(self, query, key, value):
        """Attention within the window. Raises ValueError where a share is shorter than what a window reaches back."""
        edge = self.window - 1
        if key.shape[2] < edge:
            raise ValueError(f"each rank's share must hold the {edge} tokens of a window; it has {key.shape[2]}.")
        if edge:
            edges = self.exchange.gather(torch.stack([key[:, :, -edge:], value[:, :, -edge:]]))
            # Before the first rank lies nothing; it takes no row, yet makes the same exchange backwards.
            before = edges[max(0, self.exchange.rank - 1)][..., edge * (self.exchange.rank == 0) :, :]
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        return attention(query, key, value, window=self.window)


@dataclass
class GatheredCache(State):
    """The shared cache of a text on many ranks: gathered once, cut after this rank's own tokens."""

    exchange: Exchange
    length: int
    key: torch.Tensor = None
    value: torch.Tensor = None

    def append(self, key, value):
        found = self.exchange.gather(torch.stack([key, value]))[: self.exchange.rank + 1]
        self.key, self.value = found.permute(1, 2, 3, 0, 4, 5).flatten(3, 4)
        self.length += key.shape[2]

    def look(self, query):
        """What this rank's tokens read of all up to themselves."""
        return attention(query, self.key, self.value)

    @property
    def nbytes(self):
        return 0 if self.key is None else self.key.nbytes + self.value.nbytes


def parallel_states(model, share, exchange):
    """States that make a YOCO read `share` tokens per rank of one text. Raises ValueError for a mixer that cannot."""
    first, mixer = exchange.rank * share, model.sizes.mixer
    if mixer == "gated":
        states = [PassedState(exchange, first) for _ in model.blocks]
    elif mixer == "attention" and model.sizes.window is not None:
        states = [PassedWindow(exchange, first, model.sizes.window) for _ in model.blocks]
    else:
        raise ValueError(f"ranks share a text through gated retention or a window; the mixer is {mixer!r}.")
    return [*states, GatheredCache(exchange, first)]


def parallel_loss(model, tokens, targets, exchange):
    """Mean loss in nats per token of this rank's share of one text; the mean of all ranks' is the whole text's.

    tokens, targets: [batch, time] int64, whole, the same on every rank. Average the gradients over the ranks with
    `average_gradients`. Raises ValueError where time does not divide into the ranks.
    """
    if tokens.shape[1] % exchange.ranks:
        raise ValueError(f"the text must divide into {exchange.ranks} shares; it has {tokens.shape[1]} tokens.")
    share = tokens.shape[1] // exchange.ranks
    own = slice(exchange.rank * share, (exchange.rank + 1) * share)
    logits, _ = model(tokens[:, own], parallel_states(model, share, exchange))
    return functional.cross_entropy(logits.flatten(0, 1), targets[:, own].flatten())


def average_gradients(model, exchange):
    """The mean over the ranks, in place: the gradients of the whole text's loss on every rank."""
    for weight in model.parameters():
        dist.all_reduce(weight.grad, group=exchange.group)
        weight.grad /= exchange.ranks


def compare(size, time, batch=2, dtype=torch.float32):
    """(loss here, loss of one process, largest relative difference of a gradient, bytes received, their formula)."""
    exchange = Exchange()
    torch.manual_seed(0)  # the same weights and text on every rank
    model = build(configuration(size, 80, context=time)).to(dtype)
    text = torch.randint(80, (batch, time + 1), generator=torch.Generator().manual_seed(1))
    tokens, targets = text[:, :-1], text[:, 1:]
    alone = torch.autograd.grad(model.loss(tokens, targets), list(model.parameters()))
    whole = model.loss(tokens, targets).item()
    loss = parallel_loss(model, tokens, targets, exchange)
    received = exchange.received
    loss.backward()
    average_gradients(model, exchange)
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    apart = max(
        ((weight.grad - wanted).abs().max() / wanted.abs().max()).item()
        for weight, wanted in zip(model.parameters(), alone, strict=True)
    )
    formula = costs_yoco.sent_bytes(model.sizes, exchange.ranks, time, batch=batch, element=dtype.itemsize)
    return mean.item() / exchange.ranks, whole, apart, received, formula


def main(sizes=("small-yoco", "small-yoco-gated"), times=(256, 512)):
    """Print, on rank 0, how the ranks' loss, gradients and bytes compare with one process's."""
    sharded.join()
    torch.set_num_threads(1)
    try:
        for size in sizes:
            for time in times:
                loss, whole, apart, received, formula = compare(size, time)
                if dist.get_rank() == 0:
                    print(
                        f"{size}, {time} tokens, {dist.get_world_size()} ranks: loss {loss:.6f}, alone {whole:.6f}; "
                        f"gradients {apart:.1e} apart; {received:,} B received per rank, formula {formula:,} B"
                    )
    finally:
        dist.destroy_process_group()


def lines_of(printed):
    """What `main` printed, a dict per line: size, tokens, ranks, loss, alone, apart, received, formula."""
    rows = [found.groupdict() for found in LINE.finditer(printed)]
    for row in rows:
        for name in row.keys() - {"size"}:
            row[name] = int(row[name].replace(",", "")) if name in WHOLE else float(row[name])
    return rows


def launched(size, ranks=2):
    """`lines_of` what torchrun prints for one size on `ranks` processes of this machine, one thread each.

    Raises RuntimeError with what was written if it ends with an error.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks),
               "-m", "effattn_core.yoco.parallel", size]  # fmt: skip
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise RuntimeError(f"torchrun ended with {done.returncode}: {done.stderr}")
    return lines_of(done.stdout)


if __name__ == "__main__":
    main(*([sys.argv[1:]] if len(sys.argv) > 1 else []))
