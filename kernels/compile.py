"""The child process of `kernels.inspect`: compiles the launches of a topic, without a GPU and without running them.

`python -m kernels.compile TOPIC EXAMPLES ARCHITECTURE dtype:head_dim …` prints one line of JSON per case: the
reports of its kernels, in order. All cases share one start of Python and one compiler.
"""

import dataclasses
import functools
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)

# isort: split
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit

from kernels.inspect import CLASSES, LIMITS, WARP_GROUP, Report, occupancy


def module_of(topic):
    """The module of a topic, a file by its path."""
    if not topic.endswith(".py"):
        return importlib.import_module(f"kernels.{topic}")
    specification = importlib.util.spec_from_file_location(Path(topic).stem, topic)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def target(architecture):
    """All of a driver that compiling needs, and libraries that ask the device for its limits: no device stands behind.

    One block may ask for all the shared memory of a multiprocessor but the 1 KiB that the system reserves.
    """
    properties = {"max_shared_mem": LIMITS[architecture][3] - 1024}
    return SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", architecture, 32),
        get_current_device=lambda: 0,
        get_current_stream=lambda device=None: 0,
        utils=SimpleNamespace(get_device_properties=lambda device=0: properties),
    )


class Launches:
    """Stands in for JITFunction.run: compiles a launch as it would be launched, and notes it under the present part."""

    def __init__(self):
        self.part, self.compiled = "", {}
        self._launch = jit.JITFunction.run

    def run(self, function, *args, grid, warmup, **kwargs):
        kernel = self._launch(function, *args, grid=grid, warmup=True, **kwargs)
        constants = {name: value for name, value in kwargs.items() if name.isupper()}
        tensors = {each.data_ptr(): each.nbytes for each in (*args, *kwargs.values()) if torch.is_tensor(each)}
        key = (function.fn.__name__, kernel.hash, self.part)
        before = self.compiled[key][2] if key in self.compiled else 0
        self.compiled[key] = (kernel, constants, before + sum(tensors.values()))
        return kernel

    def of(self, examples, dtype, head_dim):
        """[(name, part, kernel, constants, bytes of tensors)] of what the function launches; its words name parts."""
        self.part, self.compiled = "", {}
        for word in examples(getattr(torch, dtype), head_dim, "cpu") or ():
            self.part = word
        return [(name, part, *found) for (name, _, part), found in self.compiled.items()]


@functools.cache
def read(binary):
    """(registers, bytes of stack, opcodes) of machine code, by the tools in Triton's own package."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage = output_of(tools / "cuobjdump", "-res-usage", file.name)
        code = output_of(tools / "nvdisasm", "-c", file.name)
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    opcodes = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", code, re.MULTILINE)
    return registers, stack, opcodes


def output_of(*command):
    """What a command prints; subprocess's own error if it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", errors="replace", check=True)
    return done.stdout


def report(name, part, kernel, constants, moved, architecture):
    """The Report of a compiled kernel."""
    registers, stack, opcodes = read(kernel.asm["cubin"])
    counts = dict.fromkeys([*CLASSES, "other"], 0)
    for opcode in opcodes:
        counts[next((group for group, names in CLASSES.items() if opcode in names), "other")] += 1
    share, limiter = occupancy(registers, kernel.metadata.shared, kernel.metadata.num_warps, architecture)
    return Report(
        kernel=name,
        architecture=architecture,
        registers=registers,
        spills=stack,
        shared_memory=kernel.metadata.shared,
        warps=kernel.metadata.num_warps,
        stages=kernel.metadata.num_stages,
        occupancy=share,
        limiter=limiter,
        instructions=counts,
        constants=constants,
        warp_group=sum(opcode in WARP_GROUP for opcode in opcodes),
        part=part,
        tensor_bytes=moved,
    )


def main(topic, examples, architecture, *cases):
    """Print the reports of each case, "dtype:head_dim", one line per case."""
    architecture, launches = int(architecture), Launches()
    driver.set_active(target(architecture))
    jit.JITFunction.run = lambda function, *args, **kwargs: launches.run(function, *args, **kwargs)
    examples = getattr(module_of(topic), examples)
    for case in cases:
        dtype, head_dim = case.split(":")
        found = [report(*launch, architecture) for launch in launches.of(examples, dtype, int(head_dim))]
        print(json.dumps([dataclasses.asdict(each) for each in found]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
