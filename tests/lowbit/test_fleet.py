"""A rank that is killed in the middle of a run on two processes: started again by torchrun, it changes no bit."""

import re

import pytest
import torch
from support.processes import on_two_processes
from torch import distributed as dist

from effattn_core import sharded

LINE = re.compile(r"rank (\d) of 2: from step (\d+) to (\d+), loss (\S+) to (\S+), bits (\w{64})")


def ran(folder, *arguments, restarts=0):
    printed = on_two_processes("effattn_core.lowbit.fleet", str(folder), *arguments, restarts=restarts)
    found = {rank: rest for rank, *rest in LINE.findall(printed)}
    assert found.keys() == {"0", "1"}, printed
    return found


def test_a_rank_that_is_killed_costs_the_steps_since_the_last_checkpoint_and_no_bit(tmp_path):
    sizes = "--steps", "6", "--every", "2"
    whole = ran(tmp_path / "whole", *sizes)
    lost = ran(tmp_path / "lost", *sizes, "--kill", "1:5", restarts=1)
    for rank in "01":
        first, last, start, end, bits = lost[rank]
        assert (first, last) == ("4", "6") and whole[rank][0] == "0"
        assert whole[rank][2:] == [start, end, bits] and float(end) < float(start)
    assert lost["0"][4] != lost["1"][4], "each rank holds a part of its own"
    assert sharded.saved_steps(tmp_path / "lost") == [4, 6], "the last two checkpoints are kept"


@pytest.fixture
def alone(tmp_path):
    """This process, as the only rank."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_checkpoint_that_was_cut_short_is_passed_over_and_one_of_other_ranks_refused(tmp_path, alone, monkeypatch):
    model = torch.nn.Linear(3, 2)
    assert sharded.restore(tmp_path / "run", model) == (0, None)
    kept = model.weight.detach().clone()
    sharded.save(tmp_path / "run", 5, model, dict(losses=[1.0]))
    with torch.no_grad():
        model.weight += 1
    sharded.save(tmp_path / "run", 8, model, dict(losses=[1.0, 0.5]))
    (tmp_path / "run" / "step-00000008" / ".metadata").unlink()
    step, own = sharded.restore(tmp_path / "run", model)
    assert step == 5 and own == dict(losses=[1.0]) and torch.equal(model.weight, kept)
    monkeypatch.setattr(sharded.dist, "get_world_size", lambda: 4)
    with pytest.raises(RuntimeError, match="was written by 1 ranks; this run has 4"):
        sharded.restore(tmp_path / "run", model)
