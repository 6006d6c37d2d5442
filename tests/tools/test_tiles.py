"""What every launch of every topic keeps to: grids that a GPU takes, and offsets that 32 bits would not hold."""

import importlib
import math
import pkgutil

import pytest
import torch

import kernels
from kernels import primer, runtime
from kernels.recurrences import launch_gradients, launch_outputs, launch_states
from kernels.sanitize import scattered

pytestmark = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")

FOUND = [each.name for each in pkgutil.walk_packages(kernels.__path__, "kernels.")]
MODULES = {name: importlib.import_module(name) for name in FOUND}
TOPICS = {name.split(".")[1]: module for name, module in MODULES.items() if hasattr(module, "example_launches")}
KERNELS = {
    value.fn.__name__
    for name, module in MODULES.items()
    for value in vars(module).values()
    if hasattr(value, "fn") and value.fn.__module__ == name and value.fn.__name__.endswith("_kernel")
}
PRIMER = {name for name in KERNELS if hasattr(primer, name)}  # it teaches grids, and knows neither batch nor heads


@pytest.fixture
def grids(monkeypatch):
    """[(kernel, grid)] of the launches, which are noted and not run."""
    noted = []

    def note(self, *args, grid, **kwargs):
        noted.append((self.fn.__name__, grid))

    monkeypatch.setattr(type(primer.scale_kernel), "run", note)
    return noted


def test_no_grid_grows_along_an_axis_that_ends_at_65535(grids):
    """Tensors without storage: 70,000 texts, more than the second and third axis of a grid take."""
    for topic, module in TOPICS.items():
        if topic != "primer":
            module.example_launches(torch.float32, 32, "meta", batch=70_000)
    assert {name for name, _ in grids} == KERNELS - PRIMER and len(KERNELS - PRIMER) >= 18
    for name, grid in grids:
        assert all(size <= 65_535 for size in grid[1:]), (name, grid)
        assert 70_000 <= math.prod(grid) <= 2**31 - 1, (name, grid)


SLOT = 2**16  # elements between two places where the rows of far tensors may begin


@pytest.fixture(scope="module")
def memory():
    """More than 2^31 elements of float16: given out by the system page by page, as they are written."""
    return torch.empty(2**31 + 2**26, dtype=torch.float16)


def far(memory, axis):
    """`scattered`, but in `memory`, with a stride along the axis by which its last element lies 2^31 or more away."""
    used = 0

    def lay(*shape, dtype=torch.float32, device="cpu"):
        nonlocal used
        near = scattered(*shape, dtype=dtype, device=device)
        size = shape[axis]
        if dtype != torch.float16 or 0 in shape or size == 1:
            return near
        strides, step = [0] * len(shape), 1
        for place in reversed(range(len(shape))):
            if place != axis % len(shape):
                strides[place], step = step, step * shape[place]
        strides[axis] = math.ceil(2**31 / (size - 1) / SLOT) * SLOT
        used = used if used + step <= SLOT else 0
        view = memory.as_strided(shape, strides, used)
        used += step
        return view.copy_(near)

    return lay


def results_of(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


FLAT = {"lowbit"}  # its launches refuse tensors that are not contiguous: its operator copies them


def test_every_topic_s_launches_take_strides_but_those_that_refuse_them():
    assert {topic for topic, module in TOPICS.items() if not hasattr(module, "scattered")} == FLAT


@pytest.mark.parametrize("axis", [-1, -2, 1], ids=["dims", "time", "heads"])
@pytest.mark.parametrize("topic", [each for each in TOPICS if each not in FLAT])
def test_strides_that_pass_32_bits_change_no_bit(topic, axis, memory, monkeypatch):
    """Such strides come from projections that were fused and turned; in 32 bits the interpreter itself would crash."""
    module = TOPICS[topic]
    wanted = [(what, results_of(call())) for what, call in module.ragged_launches(torch.float16)]
    monkeypatch.setattr(module, "scattered", far(memory, axis))
    for (what, right), (_, call) in zip(wanted, module.ragged_launches(torch.float16), strict=True):
        for ours, theirs in zip(results_of(call()), right, strict=True):
            assert torch.equal(ours, theirs), what


@pytest.mark.parametrize(("shape", "axis"), [((1, 2, 65), 2), ((1, 2, 65, 32), 2), ((1, 2, 65, 32), 3)])
def test_gates_may_lie_as_far_apart(shape, axis, memory):
    query, state = scattered(1, 2, 65, 32, dtype=torch.float16), torch.zeros(1, 2, 32, 32)
    results = []
    for lay in (scattered, far(memory, axis)):
        gate = lay(*shape, dtype=torch.float16)
        gate.copy_(-gate.abs())
        before, final = launch_states(query, query, gate, state)
        output = launch_outputs(query, query, query, gate, before, scale=1.0, state_scale=1.0)
        results.append((final, output, *launch_gradients(query, query, query, gate, query, before, before, scale=1.0)))
    assert all(torch.equal(ours, theirs) for theirs, ours in zip(*results, strict=True))
