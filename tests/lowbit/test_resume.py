"""Killed and resumed, on one process and on two: bit for bit the run that was not."""

import re

import pytest
import torch
from support.processes import on_two_processes

from effattn_core.data import Batches
from effattn_core.lowbit import SOLOAdamW
from effattn_core.lowbit.shards import shard
from effattn_core.model import build, configuration
from effattn_core.train import train

LINE = re.compile(r"rank (\d), (\d+) rows: resumed (\w+); (\d+) of (\d+) as on one process")


class Killed(Exception):
    pass


class Fragile:
    """Batches that end a run in the middle of a step, as a kill does."""

    def __init__(self, batches, after):
        self.batches, self.left = batches, after
        self.generator = batches.generator

    def __next__(self):
        if self.left == 0:
            raise Killed
        self.left -= 1
        return next(self.batches)


def trained(path, seed=0, kill_after=None):
    torch.manual_seed(0)
    model = build(configuration("tiny", 20, width=32, layers=1, context=16))
    optimizer = SOLOAdamW(model.parameters(), betas=(0.8, 0.99), seed=seed)
    batches = Batches(torch.arange(2000) * 7 % 20, 4, 16, 3)
    given = batches if kill_after is None else Fragile(batches, kill_after)
    train(model, given, steps=7, optimizer=optimizer, checkpoint=path, every=3, progress=False)
    return [*model.parameters(), *(e for s in optimizer.state.values() for e in s.values() if torch.is_tensor(e))]


def test_a_run_that_is_killed_and_resumed_ends_bit_for_bit_where_it_would_have(tmp_path):
    whole = trained(tmp_path / "whole.pt")
    with pytest.raises(Killed):
        trained(tmp_path / "killed.pt", kill_after=5)
    again = trained(tmp_path / "killed.pt", seed=77)  # the seed is the saved one's
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    other = trained(tmp_path / "other.pt", seed=77)
    assert not all(torch.equal(one, each) for one, each in zip(whole, other, strict=True))


def test_two_processes_resume_bit_for_bit_and_have_the_bits_of_one():
    printed = on_two_processes("effattn_core.lowbit.parallel")
    found = {match.groups()[:2]: match.groups()[2:] for match in LINE.finditer(printed)}
    assert found.keys() == {(rank, rows) for rank in "01" for rows in ("256", "257")}, printed
    assert all(resumed == "True" for resumed, *_ in found.values())
    for rank in "01":
        _, same, count = found[rank, "256"]
        assert same == count  # cut at the edges of blocks
        _, same, count = found[rank, "257"]
        assert int(same) < int(count)  # a block that is cut has two scales


def test_a_plain_tensor_is_its_own_shard():
    tensor = torch.zeros(3, 4)
    assert shard(tensor) == (tensor, 0, 12)
