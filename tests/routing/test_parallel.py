"""Experts on two processes: what one process gives, and the bytes of the formula, through torchrun."""

import re
from types import SimpleNamespace

import pytest
import torch
from support.processes import on_two_processes

from effattn_core.routing import costs, parallel

LINE = re.compile(
    r"rank (\d) of 2, (\w+): outputs (\S+) apart, gradients (\S+); ([\d,]+) B received, formula ([\d,]+) B"
)


@pytest.fixture(scope="module")
def lines():
    return LINE.findall(on_two_processes("effattn_core.routing.parallel"))


def test_two_processes_give_the_outputs_and_the_gradients_of_one(lines):
    assert sorted((rank, router) for rank, router, *_ in lines) == [
        (rank, router) for rank in "01" for router in ("bias", "top_k")
    ]
    assert all(float(off) <= 1e-12 and float(apart) <= 1e-12 for _, _, off, apart, *_ in lines), lines


def test_the_bytes_received_are_those_of_the_formula(lines):
    assert all(received == formula for *_, received, formula in lines), lines


def test_the_formula_counts_rows_of_others_there_and_own_rows_back():
    loads = [[5, 1, 2, 0], [3, 0, 4, 1]]  # of two ranks, for four experts of which the first two lie on rank 0
    assert costs.exchanged_bytes(loads, 0, 10, element=4) == (3 + 2) * 10 * 4 + 16
    assert costs.exchanged_bytes(loads, 1, 10, element=4) == (2 + 3) * 10 * 4 + 16
    assert costs.exchanged_bytes([[7, 9]], 0, 10) == 0, "one rank has nobody to ask"


def test_experts_that_do_not_divide_and_weights_of_others_are_refused(monkeypatch):
    monkeypatch.setattr(parallel.dist, "get_rank", lambda group=None: 0)
    monkeypatch.setattr(parallel.dist, "get_world_size", lambda group=None: 2)
    with pytest.raises(ValueError, match="divide into the 2 ranks; there are 3"):
        parallel.Dispatch(torch.ones(3, dtype=torch.int64))
    tokens, mask, gate = torch.ones(1, 4), torch.ones(1, 2, dtype=torch.bool), torch.ones(2, 4, 6)
    with pytest.raises(ValueError, match="are 1 of 2; weights of 2 came"):
        parallel.mixed(tokens, mask, mask.float(), gate, gate, gate.mT, SimpleNamespace(own=1))
