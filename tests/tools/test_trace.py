"""What the tracer counts equals what a hand counts, and what `costs` says of the flash kernel."""

import pytest
import torch
import triton
import triton.language as tl

from effattn_core import costs
from kernels import runtime
from kernels.attention import launch_backward, launch_forward
from kernels.attention.configurations import choose
from kernels.trace import guarded, shuffled, trace

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")


@triton.jit
def double_kernel(source_pointer, target_pointer, size, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    tl.store(target_pointer + places, 2 * tl.load(source_pointer + places, mask=inside), mask=inside)


@triton.jit
def square_kernel(source_pointer, target_pointer, SIZE: tl.constexpr):
    places = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    tile = tl.load(source_pointer + places)
    tl.store(target_pointer + places, tl.dot(tile, tile, input_precision="ieee"))


def test_canary_counts_by_hand():
    source, target = torch.arange(20.0), torch.zeros(20)
    with trace(source=source, target=target) as traffic:
        double_kernel[(2,)](source, target, 20, BLOCK=16)
    assert torch.equal(target, 2 * source)
    assert dict(traffic.loaded) == {"source": 80} and dict(traffic.stored) == {"target": 80}
    assert traffic.access_map("source").tolist() == [1] * 20
    assert traffic.programs[0] == ((0, 0, 0), "source", "load", 64)
    assert traffic.programs[-1] == ((1, 0, 0), "target", "store", 16)
    tile = torch.randn(16, 16)
    with trace() as traffic:
        square_kernel[(1,)](tile, torch.empty(16, 16), SIZE=16)
    assert (traffic.flops, traffic.loaded_bytes, traffic.stored_bytes) == (2 * 16**3, 1024, 1024)


def test_canary_sees_each_launch_and_access_as_it_happens():
    """What `kernels.sanitize` stands on: names, offsets and programs, lanes kept away, and an order of one's own."""
    source, target, events = torch.arange(20.0), torch.zeros(20), []

    class Guard:
        def begin(self, kernel, tensors):
            events.append((kernel, {name: each.data_ptr() for name, each in tensors.items()}))

        def allow(self, kind, name, offsets, size, program):
            events.append((kind, name, offsets.tolist(), size, program))
            return offsets < 72

    with guarded(Guard()), shuffled(0):
        double_kernel[(2,)](source, target, 20, BLOCK=16)
    assert events[0] == (
        "double_kernel", {"source_pointer": source.data_ptr(), "target_pointer": target.data_ptr()}
    )  # fmt: skip
    assert {event[-1] for event in events[1:3]} != {event[-1] for event in events[3:]}
    assert sorted(events[1:], key=lambda event: event[-1])[2:] == [
        ("load", "source_pointer", [64, 68, 72, 76], 4, (1, 0, 0)),
        ("store", "target_pointer", [64, 68, 72, 76], 4, (1, 0, 0)),
    ]
    assert target.tolist() == [*(2 * source[:18]).tolist(), 0, 0]


CASES = [
    dict(time=65), dict(time=257), dict(time=257, window=70, sinks=4), dict(time=100, key_time=300, window=33, sinks=7),
    dict(time=63, causal=False), dict(time=63, key_time=20, causal=False), dict(time=1, key_time=90),
]  # fmt: skip


@pytest.mark.proves("traffic", "attention_forward_kernel")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("head_dim", [32, 64])
def test_the_flash_forward_moves_exactly_what_the_formula_says(case, head_dim):
    masks = {"causal": True, "window": None, "sinks": 0} | {name: case[name] for name in case if "time" not in name}
    time, key_time = case["time"], case.get("key_time", case["time"])
    query, output = torch.randn(2, 4, time, head_dim), None
    key, value = torch.randn(2, 2, 2, key_time, head_dim)
    with trace(query=query, key=key, value=value) as traffic:
        output, _ = launch_forward(query, key, value, masks["causal"], masks["window"], masks["sinks"], 0.2)
    table = choose("forward", query.dtype, head_dim, head_dim)
    blocks = dict(block_query=table.block_query, block_key=table.block_key)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == costs.flash_traffic(2, 4, time, key_time, head_dim, **masks, **blocks)
    assert (traffic.access_map("query") == 1).all() and traffic.loaded["query"] == query.nbytes
    assert output.shape == query.shape


@pytest.mark.proves("traffic", "attention_delta_kernel", "attention_backward_*")
@pytest.mark.parametrize("case", CASES[1:], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_the_flash_backward_moves_exactly_what_the_formula_says(case, dtype):
    masks = {"causal": True, "window": None, "sinks": 0} | {name: case[name] for name in case if "time" not in name}
    time, key_time = case["time"], case.get("key_time", case["time"])
    query, (key, value) = torch.randn(1, 4, time, 32, dtype=dtype), torch.randn(2, 1, 2, key_time, 32, dtype=dtype)
    settings = masks["causal"], masks["window"], masks["sinks"], 0.2
    output, log_sum_exp = launch_forward(query, key, value, *settings)
    with trace() as traffic:
        launch_backward(output, log_sum_exp, query, key, value, output, log_sum_exp, *settings)
    tables = (choose(f"backward_{kernel}", dtype, 32, 32) for kernel in ("key_value", "query"))
    by_key, by_query = ((table.block_query, table.block_key) for table in tables)
    counted = costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert counted == costs.flash_backward_traffic(
        1, 4, 2, time, key_time, 32, **masks, by_key=by_key, by_query=by_query, element=dtype.itemsize
    )


def test_strided_views_are_told_apart():
    both = torch.randn(2, 20)
    with trace(first=both[0, ::2], second=both[1]) as traffic:
        double_kernel[(1,)](both, torch.zeros(40), 40, BLOCK=64)
    assert dict(traffic.loaded) == {"first": 40, "second": 80, "unnamed": 40}


def test_misuse_is_refused_in_a_sentence(monkeypatch):
    with trace(source=torch.zeros(3)) as traffic:
        with pytest.raises(RuntimeError, match="already being taken"), trace():
            pass
    with pytest.raises(KeyError, match="target was not given"):
        traffic.access_map("target")
    monkeypatch.setattr("kernels.trace.METHODS", ("create_everything",))
    with pytest.raises(RuntimeError, match="has no create_everything"), trace():
        pass
    monkeypatch.setattr(runtime, "mode", "gpu")
    with pytest.raises(RuntimeError, match="only interpreted kernels can be traced"), trace():
        pass
