"""A language model on several processes: FSDP2 splits its weights, SOLO keeps two and four bits of each rank's own.

torchrun --nproc-per-node 2 --max-restarts 1 -m effattn_core.lowbit.fleet FOLDER [--steps 12] [--every 3] [--kill 1:7]

Each rank draws batches of its own from Shakespeare. Checkpoints go to FOLDER; a run that finds one goes on from it, so
that a rank which is killed (`--kill RANK:STEP` does it, once) costs the steps since the last one and changes no bit.
"""

import argparse
import hashlib
import os
import signal

import torch
from torch import distributed as dist

from effattn_core import sharded
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.lowbit.shards import shard
from effattn_core.lowbit.variants import SOLOAdamW
from effattn_core.model import build, configuration
from effattn_core.train import learning_rate_at

SIZE, BATCH, RATE, WARMUP = "tiny", 8, 3e-3, 4


def made(seed=0):
    """(model, optimizer, batches): the same weights on all ranks, split by FSDP2 layer by layer; batches by rank."""
    from torch.distributed.fsdp import fully_shard  # slow to import

    text = shakespeare()
    characters = Characters(text)
    torch.manual_seed(seed)
    model = build(configuration(SIZE, len(characters)))
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = dist.device_mesh.init_device_mesh(kind, (dist.get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = SOLOAdamW(model.named_parameters(), lr=RATE, seed=seed)
    training, _ = split(characters.encode(text))
    return model, optimizer, Batches(training, BATCH, model.sizes.context, seed=100 + dist.get_rank())


def run(folder, steps=12, every=3, kill=None):
    """(the step it went on from, losses of this rank, digest): trains to `steps`, from the last checkpoint if any.

    kill: (rank, step), at which that rank ends itself as a lost machine does, unless torchrun has started it again.
    """
    model, optimizer, batches = made()
    first, own = sharded.restore(folder, model)
    losses = []
    if own is not None:
        optimizer.load_state_dict(own["optimizer"])
        batches.generator.set_state(own["generator"])
        losses = own["losses"]
    for step in range(first, steps):
        if kill == (dist.get_rank(), step) and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, steps=steps, peak=RATE, warmup=WARMUP)
        tokens, targets = next(batches)
        loss = model(tokens)[0].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(loss, targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            own = dict(optimizer=optimizer.state_dict(), generator=batches.generator.get_state(), losses=losses)
            sharded.save(folder, step + 1, model, own)
    return first, losses, digest(model, optimizer)


def digest(model, optimizer):
    """A hash of all bits that this rank holds: its rows of the weights, and what the optimizer remembers of them."""
    found = hashlib.sha256()
    for name, weight in model.named_parameters():
        tensors = [shard(weight.detach()).local, *optimizer.state[weight].values()]
        for each in (each for each in tensors if isinstance(each, torch.Tensor)):
            found.update(name.encode() + each.reshape(-1).view(torch.uint8).numpy(force=True).tobytes())
    return found.hexdigest()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--every", type=int, default=3, help="steps between checkpoints")
    parser.add_argument("--kill", help="RANK:STEP, where that rank ends itself once")
    given = parser.parse_args(arguments)
    kill = tuple(map(int, given.kill.split(":"))) if given.kill else None
    sharded.join()
    torch.set_num_threads(1)
    try:
        first, losses, bits = run(given.folder, given.steps, given.every, kill)
        print(
            f"rank {dist.get_rank()} of {dist.get_world_size()}: from step {first} to {given.steps}, "
            f"loss {losses[0]:.4f} to {losses[-1]:.4f}, bits {bits}",
            flush=True,
        )
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
