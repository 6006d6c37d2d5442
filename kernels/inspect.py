"""What the compiler made of a kernel: registers, spills, shared memory, instructions, occupancy. Compiled, not run.

No GPU is needed. A child process without the interpreter calls a topic's `example_launches`; each launch is specialised
as Triton would specialise it (alignment, ones, None) and compiled for the architecture asked for, then dropped.

A topic is a module of the kernels package, or the path of a file of this repository that has such a function, so that
kernels of other libraries are compiled by the same compiler in the same way. A function that yields words names the
launches after each word by it.
"""

import argparse
import ast
import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "inspect"

# Published limits of a multiprocessor (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"):
# registers, warps, blocks, bytes of shared memory. Registers are handed out 256 at a time to a warp; every block
# reserves 1 KiB of shared memory for the system.
LIMITS = {
    80: (65536, 64, 32, 164 * 1024),
    86: (65536, 48, 16, 100 * 1024),
    89: (65536, 48, 24, 100 * 1024),
    90: (65536, 64, 32, 228 * 1024),
}

WARP_GROUP = ("HGMMA", "QGMMA", "IGMMA")  # a product of four warps together, operands in shared memory: sm_90 alone
CLASSES = {
    "matrix": (*WARP_GROUP, "HMMA", "IMMA", "DMMA"),
    "asynchronous copy": ("LDGSTS", "UTMALDG", "UBLKCP"),
    "global": ("LDG", "STG"),
    "shared": ("LDS", "STS", "LDSM", "STSM", "ATOMS"),
    "local (spills)": ("LDL", "STL"),
    "special function": ("MUFU",),
    "float": ("FFMA", "FADD", "FMUL", "FMNMX", "FSEL", "FSETP", "HFMA2", "HADD2", "HMUL2", "F2FP"),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """One kernel as compiled. spills, shared_memory: bytes; occupancy: share of a multiprocessor's warps resident.

    warp_group: those of the matrix instructions that a group of four warps issues together; part: the word that
    `example_launches` yielded before the launch; tensor_bytes: bytes of the tensors handed to all its launches in this
    part, each tensor once a launch: the least that they move where each is read or written whole.
    """

    kernel: str
    architecture: int
    registers: int
    spills: int
    shared_memory: int
    warps: int
    stages: int
    occupancy: float
    limiter: str
    instructions: dict
    constants: dict
    warp_group: int
    part: str
    tensor_bytes: int


def _limits(architecture):
    if architecture not in LIMITS:
        raise ValueError(f"no published limits for sm_{architecture} here; known are {sorted(LIMITS)}.")
    return LIMITS[architecture]


def occupancy(registers, shared_memory, warps, architecture):
    """Share of a multiprocessor's warps that fit at once, and what sets the limit: theoretical, from published limits.

    Raises ValueError for an architecture whose limits are not in the table.
    """
    all_registers, all_warps, all_blocks, all_shared = _limits(architecture)
    a_warp = -(-registers * 32 // 256) * 256
    blocks = {
        "registers": all_registers // a_warp // warps,
        "shared memory": all_shared // (shared_memory + 1024),
        "warps": all_warps // warps,
        "blocks": all_blocks,
    }
    limiter = min(blocks, key=blocks.get)
    return blocks[limiter] * warps / all_warps, limiter


def reports(topic, architecture=90, dtype="bfloat16", head_dim=64, *, examples="example_launches", packages=()):
    """A Report for each distinct kernel and part that the topic's `example_launches(dtype, head_dim, "cpu")` launches.

    topic: a name in the kernels package, or the path of a Python file from the root of this repository.
    examples: another function of the topic; packages: the distributions, beside torch and triton, that it launches.
    The result is kept in `.cache/inspect` under a hash of the sources and versions. Raises ValueError for a topic or
    package that does not exist, RuntimeError with the compiler's own line if a kernel does not compile.
    """
    settings = f"{architecture}-{dtype}-{head_dim}"
    kept = CACHE / f"{Path(topic).stem}-{examples}-{settings}-{_fingerprint(topic, packages)}.json"
    if not kept.exists():
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        environment |= {"EFFATTN_COMPILE_ONLY": "1", "EFFATTN_ARCHITECTURE": str(architecture)}
        command = [sys.executable, "-m", "kernels.inspect", topic, "--child", "--dtype", dtype, "--examples", examples]
        command += ["--architecture", str(architecture), "--head-dim", str(head_dim)]
        done = subprocess.run(command, env=environment, cwd=CACHE.parents[1], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise RuntimeError(f"{_title(topic)} does not compile for sm_{architecture} in {dtype}: {lines[-1]}")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=CACHE, delete=False) as aside:
            aside.write(done.stdout)
        os.replace(aside.name, kept)  # another process may have made the same file: either is right
    return [Report(**fields) for fields in json.loads(kept.read_text())]


def _title(topic):
    return topic if topic.endswith(".py") else f"kernels.{topic}"


def _fingerprint(topic, packages):
    """A hash of every source of this repository that the topic uses, and of the versions that compile it."""
    versions = []
    for name in ("triton", "torch", *packages):
        try:
            versions.append(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(f"{_title(topic)} needs the distribution {name}, which is not installed.") from None
    root = CACHE.parents[1]
    first = root / topic if topic.endswith(".py") else _file(root, f"kernels.{topic}")
    if first is None or not first.is_file():
        raise ValueError(f"there is no {_title(topic)}; a topic is a module of the kernels package or a file's path.")
    text = "".join(versions) + "".join(_sources(first, root)) + Path(__file__).read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file(root, module):
    """The file of a module by its dotted name, or None if this repository has none."""
    path = root.joinpath(*module.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _sources(first, root):
    """The texts of a file and of all that it imports from this repository, in turn."""
    texts, waiting = {}, [first]
    while waiting:
        path = waiting.pop()
        texts[path] = path.read_text()
        for node in ast.walk(ast.parse(texts[path])):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{name}" for name in names)]
            waiting += {found for name in names if (found := _file(root, name))} - set(texts)
    return [texts[path] for path in sorted(texts)]


def _module(topic):
    """In the child: the module of a topic, a file by its path."""
    if not topic.endswith(".py"):
        return importlib.import_module(f"kernels.{topic}")
    specification = importlib.util.spec_from_file_location(Path(topic).stem, topic)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _compile(topic, architecture, dtype, head_dim, examples):
    """In the child: call the examples with a driver that knows a target but no device, and compile each launch."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver, jit

    # One block may ask for all the shared memory of a multiprocessor but the 1 KiB that the system reserves.
    properties = {"max_shared_mem": _limits(architecture)[3] - 1024}

    class Target:
        """All of a driver that compiling needs, and libraries that ask the device for its limits."""

        get_current_target = staticmethod(lambda: GPUTarget("cuda", architecture, 32))
        get_current_device = staticmethod(lambda: 0)
        get_current_stream = staticmethod(lambda device=None: 0)
        utils = SimpleNamespace(get_device_properties=lambda device=0: properties)

    driver.set_active(Target())
    part, compiled = "", {}
    launch = jit.JITFunction.run

    def compile_only(self, *args, grid, warmup, **kwargs):
        kernel = launch(self, *args, grid=grid, warmup=True, **kwargs)
        constants = {name: value for name, value in kwargs.items() if name.isupper()}
        tensors = {each.data_ptr(): each.nbytes for each in (*args, *kwargs.values()) if torch.is_tensor(each)}
        key = (self.fn.__name__, kernel.hash, part)
        before = compiled[key][2] if key in compiled else 0
        compiled[key] = (kernel, constants, before + sum(tensors.values()))
        return kernel

    jit.JITFunction.run = compile_only
    launches = getattr(_module(topic), examples)(getattr(torch, dtype), head_dim, "cpu")
    for part in launches or ():  # noqa: B007 (compile_only reads it)
        pass
    return [
        _read(name, part, kernel, constants, moved, architecture)
        for (name, _, part), (kernel, constants, moved) in compiled.items()
    ]


def _read(name, part, kernel, constants, moved, architecture):
    """The Report of a compiled kernel, read from its machine code with the tools in Triton's own package."""
    import re

    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        binary.write(kernel.asm["cubin"])
        binary.flush()
        usage = _output(tools / "cuobjdump", "-res-usage", binary.name)
        code = _output(tools / "nvdisasm", "-c", binary.name)
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    counts = dict.fromkeys([*CLASSES, "other"], 0)
    opcodes = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", code, re.MULTILINE)
    for opcode in opcodes:
        counts[next((group for group, names in CLASSES.items() if opcode in names), "other")] += 1
    warps, shared = kernel.metadata.num_warps, kernel.metadata.shared
    share, limiter = occupancy(registers, shared, warps, architecture)
    stages = kernel.metadata.num_stages
    together = sum(opcode in WARP_GROUP for opcode in opcodes)
    return Report(
        name, architecture, registers, stack, shared, warps, stages, share, limiter, counts, constants,
        together, part, moved,
    )  # fmt: skip


def _output(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def rows(found):
    """The reports as rows of a table: what is shown on a page and printed by the command."""
    return [
        {
            "kernel": report.kernel.removesuffix("_kernel"),
            "mask": {True: "window", False: "causal"}.get(report.constants.get("WINDOWED"), ""),
            "blocks": "×".join(str(size) for name, size in report.constants.items() if name.startswith("BLOCK")),
            "warps": report.warps,
            "registers": report.registers,
            "spills (B)": report.spills,
            "shared (KiB)": round(report.shared_memory / 1024, 1),
            "occupancy": f"{report.occupancy:.0%}, {report.limiter}",
            "matrix": report.instructions["matrix"],
            "warp-group matrix": report.warp_group,
            "async copies": report.instructions["asynchronous copy"],
        }
        for report in found
    ]


def main(arguments=None):
    """`python -m kernels.inspect TOPIC`: print the table, or JSON with --json."""
    parser = argparse.ArgumentParser(prog="python -m kernels.inspect", description="Kernels, compiled and not run.")
    parser.add_argument("topic", help="a module of the kernels package, or the path of a file of this repository")
    parser.add_argument("--architecture", type=int, default=90, help="80, 86, 89 or 90 (default)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--examples", default="example_launches", help="the function that launches the kernels")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    settings = (asked.topic, asked.architecture, asked.dtype, asked.head_dim)
    if asked.child:
        print(json.dumps([dataclasses.asdict(report) for report in _compile(*settings, asked.examples)]))
        return
    found = reports(*settings, examples=asked.examples)
    if asked.json:
        print(json.dumps([dataclasses.asdict(report) for report in found], indent=1))
        return
    table = rows(found)
    widths = {name: max(len(name), *(len(str(row[name])) for row in table)) for name in table[0]}
    where = f"sm_{asked.architecture}, {asked.dtype}, head_dim {asked.head_dim}"
    print(f"{_title(asked.topic)}, {where}: compiled, not run")
    for row in [dict(zip(widths, widths, strict=True)), *table]:
        print("  ".join(str(row[name]).ljust(width) for name, width in widths.items()).rstrip())


if __name__ == "__main__":
    main()
