"""A run on many processes: how they meet, and checkpoints by `torch.distributed.checkpoint`, weights split by FSDP2.

A checkpoint is a folder, `step-00000012`, that all ranks write at once. Its `.metadata` is written last: a folder
without one was cut short, and is passed over. It is gone on from with as many ranks as wrote it.
"""

import io
import os
import re
import shutil
from pathlib import Path

import torch
import torch.distributed as dist

NAME = re.compile(r"step-(\d{8})$")


def join():
    """Meet the other processes that torchrun started: by NCCL where a GPU is, else by gloo.

    torchrun keeps one store through all its restarts. Without keys of its own a new attempt finds the addresses of
    processes that are gone, and waits for them.
    """
    store, rank, size = next(dist.rendezvous("env://"))
    attempt = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=size)


def saved_steps(folder):
    """The steps of the whole checkpoints in `folder`, in order."""
    found = [(NAME.match(each.name), each) for each in Path(folder).glob("step-*")]
    return sorted(int(name[1]) for name, each in found if name and (each / ".metadata").exists())


def save(folder, step, model, own, *, keep=2):
    """Write a checkpoint; every rank calls it. own: of this rank alone, what `torch.load` may read; model: its weights.

    Of earlier checkpoints the last `keep` - 1 stay, and those cut short go.
    """
    from torch.distributed import checkpoint  # slow to import

    buffer = io.BytesIO()
    torch.save(own, buffer)
    checkpoint.save({"model": model.state_dict(), _key(): buffer.getvalue()}, checkpoint_id=_path(folder, step))
    if dist.get_rank() == 0:
        kept = {_path(folder, each) for each in saved_steps(folder)[-keep:]}
        for each in Path(folder).glob("step-*"):
            if NAME.match(each.name) and each not in kept:
                shutil.rmtree(each)
    dist.barrier()


def restore(folder, model):
    """(step, own) of the last whole checkpoint, whose weights are put into `model`; (0, None) where there is none.

    Raises RuntimeError for a checkpoint of another number of ranks.
    """
    from torch.distributed import checkpoint

    steps = saved_steps(folder)
    if not steps:
        return 0, None
    path = _path(folder, steps[-1])
    known = checkpoint.FileSystemReader(path).read_metadata().state_dict_metadata
    if _key() not in known:
        wrote = sorted({key.split(" of ")[1] for key in known if key.startswith("rank ")})
        raise RuntimeError(f"{path} was written by {' or '.join(wrote)} ranks; this run has {dist.get_world_size()}.")
    state = {"model": model.state_dict(), _key(): b""}
    checkpoint.load(state, checkpoint_id=path)
    model.load_state_dict(state["model"])
    return steps[-1], torch.load(io.BytesIO(state[_key()]), weights_only=True)


def _key():
    return f"rank {dist.get_rank()} of {dist.get_world_size()}"


def _path(folder, step):
    return Path(folder) / f"step-{step:08d}"
