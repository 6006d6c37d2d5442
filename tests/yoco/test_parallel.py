"""One text on two processes: loss, gradients and bytes, through torchrun as a reader would start it."""

from types import SimpleNamespace

import pytest
import torch
from support.processes import on_two_processes

from effattn_core.model import build, configuration
from effattn_core.yoco import costs as prices
from effattn_core.yoco import parallel
from effattn_core.yoco.parallel import (
    GatheredCache,
    PassedWindow,
    launched,
    lines_of,
    parallel_loss,
    parallel_states,
)


@pytest.fixture(scope="module")
def lines():
    return lines_of(on_two_processes("effattn_core.yoco.parallel"))


def test_two_processes_give_the_loss_and_the_gradients_of_one(lines):
    assert [(line["size"], line["tokens"], line["ranks"]) for line in lines] == [
        (size, time, 2) for size in ("small-yoco", "small-yoco-gated") for time in (256, 512)
    ]
    for line in lines:
        assert abs(line["loss"] - line["alone"]) <= 1e-5 and line["apart"] <= 1e-5, line


def test_the_bytes_received_are_those_of_the_formula_and_states_do_not_grow(lines):
    received = [line["received"] for line in lines]
    assert received == [line["formula"] for line in lines]
    # Doubling the text doubles the shared cache and adds nothing else: per rank 2 · heads · head_dim · batch · 4 bytes.
    for short, long, heads in ((received[0], received[1], 2), (received[2], received[3], 3)):
        assert long - short == 128 * 2 * heads * 32 * 2 * 4


def test_torchrun_s_lines_are_read_and_its_failure_says_why(monkeypatch):
    line = "small-yoco, 256 tokens, 2 ranks: loss 4.500000, alone 4.500001; gradients 2.0e-06 apart; 1,024 B received "
    ended = SimpleNamespace(returncode=0, stdout=f"warning\n{line}per rank, formula 1,024 B\n", stderr="no such size")
    monkeypatch.setattr(parallel.subprocess, "run", lambda command, **settings: ended)
    assert launched("small-yoco") == [
        dict(size="small-yoco", tokens=256, ranks=2, loss=4.5, alone=4.500001, apart=2e-6, received=1024, formula=1024)
    ]
    ended.returncode = 1
    with pytest.raises(RuntimeError, match="torchrun ended with 1: no such size"):
        launched("small-yoco")


def test_what_ranks_cannot_share_is_refused_in_a_sentence():
    ranks = SimpleNamespace(rank=0, ranks=2)
    with pytest.raises(ValueError, match="through gated retention or a window; the mixer is 'retention'"):
        parallel_states(build(configuration("small-yoco", 5, mixer="retention")), 4, ranks)
    with pytest.raises(ValueError, match="must divide into 2 shares; it has 5 tokens"):
        parallel_loss(build(configuration("small-yoco", 5)), torch.zeros(1, 5, dtype=torch.int64), None, ranks)
    key = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ValueError, match="must hold the 4 tokens of a window; it has 3"):
        PassedWindow(ranks, 0, 5).attend(key, key, key)
    states = parallel_states(build(configuration("small-yoco-gated", 5)), 4, SimpleNamespace(rank=1, ranks=2))
    assert [state.length for state in states] == [4, 4, 4] and isinstance(states[-1], GatheredCache)


@pytest.mark.parametrize("size", ["small-yoco", "small-yoco-gated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_are_exchanged_in_float32_whatever_the_precision_of_keys_and_values(size, dtype):
    """One process stands for the second of two ranks; the first sends the same tensors."""
    sent = []

    def gather(tensor):
        sent.append(tensor.nbytes)
        return torch.stack([tensor, tensor])

    sizes, share, batch = configuration(size, 5, context=128), 64, 3
    model = build(sizes).to(dtype)
    with torch.no_grad():
        states = parallel_states(model, share, SimpleNamespace(rank=1, ranks=2, gather=gather))
        model(torch.zeros(batch, share, dtype=torch.int64), states)
    assert sum(sent) == prices.sent_bytes(sizes, 2, 2 * share, batch=batch, element=dtype.itemsize)
