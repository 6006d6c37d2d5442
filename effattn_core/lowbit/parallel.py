"""SOLO's states on several processes: parameters split by FSDP2, each process with the states of its own rows.

torchrun --nproc-per-node 2 -m effattn_core.lowbit.parallel [ROWS …]

compares weights and codes with one process's, and a run that is killed and resumed with one that is not. Where rows are
cut at the edges of blocks, all bits are those of one process: random rounding goes by an element's place in the whole.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

from effattn_core.calls import require_count
from effattn_core.lowbit.shards import shard
from effattn_core.lowbit.variants import SOLOAdamW

WIDTH, OUT, STEPS = 64, 32, 4


def make(rows: int) -> nn.Module:
    """Two layers, the first of `rows` rows, drawn alike on every process."""
    require_count("rows", rows)
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, rows), nn.Tanh(), nn.Linear(rows, OUT))


def steps(model, optimizer, first, last):
    """Train on the batches first to last - 1, which are the same on every process."""
    for step in range(first, last):
        dice = torch.Generator().manual_seed(step)
        given, wanted = torch.randn(16, WIDTH, generator=dice), torch.randn(16, OUT, generator=dice)
        optimizer.zero_grad()
        (model(given) - wanted).square().mean().backward()
        optimizer.step()


def started(rows, split):
    """(model, optimizer), its parameters split over the processes if `split`."""
    model = make(rows)
    if split:
        from torch.distributed.fsdp import fully_shard  # slow to import, and one process does without

        fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),)))
    return model, SOLOAdamW(model.named_parameters(), lr=1e-2, seed=5)


def bits(model, optimizer):
    """This process's weights and states, all tensors, by parameter and name."""
    found = {}
    for name, weight in model.named_parameters():
        found[name, "weight"] = shard(weight.detach()).local
        states = optimizer.state[weight].items()
        found |= {(name, key): each for key, each in states if isinstance(each, torch.Tensor)}
    return found


def resumed(rows, folder):
    """The bits of a split run that is saved half-way, thrown away, and gone on from what was saved."""
    path = Path(folder) / f"{dist.get_rank()}.pt"
    model, optimizer = started(rows, split=True)
    steps(model, optimizer, 0, STEPS // 2)
    weights = [shard(each.detach()).local for each in model.parameters()]
    torch.save([weights, optimizer.state_dict()], path)
    model, optimizer = started(rows, split=True)
    weights, states = torch.load(path, weights_only=True)
    with torch.no_grad():
        for weight, saved in zip(model.parameters(), weights, strict=True):
            shard(weight).local.copy_(saved)
    optimizer.load_state_dict(states)
    steps(model, optimizer, STEPS // 2, STEPS)
    return bits(model, optimizer)


def compare(rows):
    """(whether resumed bits are equal, how many of this process's tensors equal its share of one process's, of all)."""
    model, optimizer = started(rows, split=True)
    steps(model, optimizer, 0, STEPS)
    mine = bits(model, optimizer)
    with tempfile.TemporaryDirectory() as folder:
        again = resumed(rows, folder)
    equal = mine.keys() == again.keys() and all(torch.equal(mine[key], again[key]) for key in mine)
    alone, by_itself = started(rows, split=False)
    steps(alone, by_itself, 0, STEPS)
    whole, ranks = bits(alone, by_itself), (dist.get_rank(), dist.get_world_size())
    return equal, sum(torch.equal(_share(whole[key], *ranks), mine[key]) for key in mine), len(mine)


def _share(tensor, rank, ranks):
    """The part of a tensor of one process that belongs to this one: rows of a weight, or bytes and blocks in order."""
    return (
        tensor if tensor.ndim == 0 else tensor[tensor.shape[0] * rank // ranks : tensor.shape[0] * (rank + 1) // ranks]
    )


def main(sizes=(256, 257)):
    """Print, per process and number of rows, what `compare` found."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    try:
        for rows in sizes:
            equal, same, count = compare(rows)
            print(
                f"rank {dist.get_rank()}, {rows} rows: resumed {equal}; {same} of {count} as on one process", flush=True
            )
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*([list(map(int, sys.argv[1:]))] if len(sys.argv) > 1 else []))
