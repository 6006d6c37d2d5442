"""What the compiler made of a kernel: registers, spills, shared memory, instructions, occupancy. Compiled, not run.

No GPU is needed. A child process without the interpreter, `kernels.compile`, calls a topic's `example_launches`; each
launch is specialised as Triton would specialise it (alignment, ones, None) and compiled for the architecture asked for,
then dropped.

A topic is a module of the kernels package, or the path of a file of this repository that has such a function, so that
kernels of other libraries are compiled by the same compiler in the same way. A function that yields words names the
launches after each word by it.
"""

import argparse
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from kernels import cache, runtime

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
    part, each tensor once per launch: the least that they move where each is read or written whole.
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

    One case of `survey`, which says the rest.
    """
    found = survey(topic, architecture, (dtype,), (head_dim,), examples=examples, packages=packages)
    return found[dtype, head_dim]


def survey(topic, architecture, dtypes, head_dims, *, examples="example_launches", packages=()):
    """{(dtype, head_dim): [Report, …]} for every pair of them: what is not known yet is compiled in one child process.

    topic: a name in the kernels package, or the path of a Python file from the root of this repository.
    examples: another function of the topic; packages: the distributions, beside torch and triton, that it launches.
    Results are kept as `kernels.cache` says. Raises ModuleNotFoundError without triton, ValueError for a topic, a
    package or an architecture that is not known, RuntimeError with the compiler's own line for a kernel that fails.
    """
    runtime.require_triton()
    _limits(architecture)
    title = _title(topic)
    first = cache.ROOT / topic if topic.endswith(".py") else cache.file_of(title)
    if first is None or not first.is_file():
        raise ValueError(f"there is no {title}; a topic is a module of the kernels package or a file's path.")
    try:
        fingerprint = cache.fingerprint(first, packages)
    except ValueError as missing:
        raise ValueError(f"{title} {missing}") from None
    cases = list(itertools.product(dtypes, head_dims))
    names = {
        (dtype, size): f"inspect/{Path(topic).stem}-{examples}-{architecture}-{dtype}-{size}-{fingerprint}.json"
        for dtype, size in cases
    }
    found = {case: cache.load(names[case], _decoded) for case in cases}
    missing = [case for case in cases if found[case] is None]
    if missing:
        lines, complaint = _compile(topic, examples, architecture, missing)
        for case, line in zip(missing, lines, strict=False):
            content = json.loads(line)
            cache.store(names[case], content)
            found[case] = _decoded(content)
        if complaint:
            dtype, size = missing[len(lines)]
            raise RuntimeError(f"{title} does not compile for sm_{architecture} in {dtype}, size {size}: {complaint}")
    return found


def _title(topic):
    return topic if topic.endswith(".py") else f"kernels.{topic}"


def _decoded(content):
    return [Report(**fields) for fields in content]


def _compile(topic, examples, architecture, cases):
    """(a line of JSON for each case compiled, the last line of what stopped it or ""), from a child process."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"EFFATTN_COMPILE_ONLY": "1", "EFFATTN_ARCHITECTURE": str(architecture)}
    command = [sys.executable, "-m", "kernels.compile", topic, examples, str(architecture)]
    command += [f"{dtype}:{head_dim}" for dtype, head_dim in cases]
    done = subprocess.run(
        command, env=environment, cwd=cache.ROOT, capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode == 0:
        return done.stdout.splitlines(), ""
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return done.stdout.splitlines(), said[-1] if said else f"the compiler ended with {done.returncode}"


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
    asked = parser.parse_args(arguments)
    settings = (asked.topic, asked.architecture, asked.dtype, asked.head_dim)
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
    sys.stdout.reconfigure(errors="replace")  # a × where the terminal knows ASCII alone
    main()
