"""What the compiler made of a kernel: registers, spills, shared memory, instructions, occupancy. Compiled, not run.

No GPU is needed. A child process without the interpreter calls a topic's `example_launches`; each launch is specialised
as Triton would specialise it (alignment, ones, None) and compiled for the architecture asked for, then dropped.
"""

import argparse
import dataclasses
import hashlib
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

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

CLASSES = {
    "matrix": ("HGMMA", "HMMA", "QGMMA", "IMMA", "DMMA"),
    "asynchronous copy": ("LDGSTS", "UTMALDG", "UBLKCP"),
    "global": ("LDG", "STG"),
    "shared": ("LDS", "STS", "LDSM", "STSM", "ATOMS"),
    "local (spills)": ("LDL", "STL"),
    "special function": ("MUFU",),
    "float": ("FFMA", "FADD", "FMUL", "FMNMX", "FSEL", "FSETP", "HFMA2", "HADD2", "HMUL2", "F2FP"),
}


@dataclasses.dataclass(frozen=True)
class Report:
    """One kernel as compiled. spills, shared_memory: bytes; occupancy: share of a multiprocessor's warps resident."""

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


def occupancy(registers, shared_memory, warps, architecture):
    """Share of a multiprocessor's warps that fit at once, and what sets the limit: theoretical, from published limits.

    Raises ValueError for an architecture whose limits are not in the table.
    """
    if architecture not in LIMITS:
        raise ValueError(f"no published limits for sm_{architecture} here; known are {sorted(LIMITS)}.")
    all_registers, all_warps, all_blocks, all_shared = LIMITS[architecture]
    a_warp = -(-registers * 32 // 256) * 256
    blocks = {
        "registers": all_registers // a_warp // warps,
        "shared memory": all_shared // (shared_memory + 1024),
        "warps": all_warps // warps,
        "blocks": all_blocks,
    }
    limiter = min(blocks, key=blocks.get)
    return blocks[limiter] * warps / all_warps, limiter


def reports(topic, architecture=90, dtype="bfloat16", head_dim=64):
    """A Report for each distinct kernel that `kernels.<topic>.example_launches(dtype, head_dim)` launches.

    The result is kept in `.cache/inspect` under a hash of the sources and versions. Raises RuntimeError with the
    compiler's own line if a kernel does not compile.
    """
    kept = CACHE / f"{topic}-{architecture}-{dtype}-{head_dim}-{_fingerprint(topic)}.json"
    if not kept.exists():
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        environment |= {"EFFATTN_COMPILE_ONLY": "1", "EFFATTN_ARCHITECTURE": str(architecture)}
        command = [sys.executable, "-m", "kernels.inspect", topic, "--child", "--dtype", dtype]
        command += ["--architecture", str(architecture), "--head-dim", str(head_dim)]
        done = subprocess.run(command, env=environment, cwd=CACHE.parents[1], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise RuntimeError(f"kernels.{topic} does not compile for sm_{architecture} in {dtype}: {lines[-1]}")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=CACHE, delete=False) as aside:
            aside.write(done.stdout)
        os.replace(aside.name, kept)  # another process may have made the same file: either is right
    return [Report(**fields) for fields in json.loads(kept.read_text())]


def _fingerprint(topic):
    """A hash of every kernel source that the topic may use, and of the versions that compile it."""
    versions = [importlib.metadata.version(name) for name in ("triton", "torch")]
    found = importlib.util.find_spec(f"kernels.{topic}")
    if found is None:
        raise ValueError(f"there is no kernels.{topic}; the topics are the modules of the kernels package.")
    folder = Path(found.origin).parent
    sources = sorted(folder.glob("*.py")) if folder.name == topic else [Path(found.origin)]
    text = "".join(versions) + "".join(path.read_text() for path in (*sources, Path(__file__)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _compile(topic, architecture, dtype, head_dim):
    """In the child: call the examples with a driver that knows a target but no device, and compile each launch."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver, jit

    class Target:
        """All of a driver that compiling needs."""

        get_current_target = staticmethod(lambda: GPUTarget("cuda", architecture, 32))
        get_current_device = staticmethod(lambda: 0)
        get_current_stream = staticmethod(lambda device=None: 0)

    driver.set_active(Target())
    compiled = {}
    launch = jit.JITFunction.run

    def compile_only(self, *args, grid, warmup, **kwargs):
        kernel = launch(self, *args, grid=grid, warmup=True, **kwargs)
        constants = {name: value for name, value in kwargs.items() if name.isupper()}
        compiled[self.fn.__name__, kernel.hash] = (kernel, constants)
        return kernel

    jit.JITFunction.run = compile_only
    importlib.import_module(f"kernels.{topic}").example_launches(getattr(torch, dtype), head_dim, "cpu")
    return [_read(name, kernel, constants, architecture) for (name, _), (kernel, constants) in compiled.items()]


def _read(name, kernel, constants, architecture):
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
    for opcode in re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", code, re.MULTILINE):
        counts[next((group for group, names in CLASSES.items() if opcode in names), "other")] += 1
    warps, shared = kernel.metadata.num_warps, kernel.metadata.shared
    share, limiter = occupancy(registers, shared, warps, architecture)
    stages = kernel.metadata.num_stages
    return Report(name, architecture, registers, stack, shared, warps, stages, share, limiter, counts, constants)


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
            "async copies": report.instructions["asynchronous copy"],
        }
        for report in found
    ]


def main(arguments=None):
    """`python -m kernels.inspect TOPIC`: print the table, or JSON with --json."""
    parser = argparse.ArgumentParser(prog="python -m kernels.inspect", description="Kernels, compiled and not run.")
    parser.add_argument("topic")
    parser.add_argument("--architecture", type=int, default=90, help="80, 86, 89 or 90 (default)")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    settings = (asked.topic, asked.architecture, asked.dtype, asked.head_dim)
    if asked.child:
        print(json.dumps([dataclasses.asdict(report) for report in _compile(*settings)]))
        return
    found = reports(*settings)
    if asked.json:
        print(json.dumps([dataclasses.asdict(report) for report in found], indent=1))
        return
    table = rows(found)
    widths = {name: max(len(name), *(len(str(row[name])) for row in table)) for name in table[0]}
    where = f"sm_{asked.architecture}, {asked.dtype}, head_dim {asked.head_dim}"
    print(f"kernels.{asked.topic}, {where}: compiled, not run")
    for row in [dict(zip(widths, widths, strict=True)), *table]:
        print("  ".join(str(row[name]).ljust(width) for name, width in widths.items()).rstrip())


if __name__ == "__main__":
    main()
