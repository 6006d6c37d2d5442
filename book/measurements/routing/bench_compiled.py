"""The kernels of a layer of experts and the peer's, compiled for A100 and H100 by the same compiler, and not run.

python book/measurements/routing/bench_compiled.py      writes compiled.json beside this file

SCATTERMOE=FOLDER of the environment names a checkout of scattermoe; without it its stored rows stand, with their date.
A row per library, part ("forward", "backward", "decode"), kernel, dtype and architecture: registers per thread, spills
and shared_memory in bytes, occupancy, matrix instructions in the code (warp_group_matrix: of four warps together),
asynchronous_copies; bytes: of the tensors handed to all launches of this kernel in the part, each tensor once per
launch, per token. PyTorch's own operators between the launches (sums over choices, products with the gates) are in
neither: `note` of the provenance says whose do what.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import peers

from kernels import bench, inspect

ARCHITECTURES, DTYPES, HEAD_DIM = (80, 90), ("bfloat16", "float32"), 64
SOURCE = "book/measurements/routing/peers.py"
OURS, PEER = "this book", peers.PACKAGE
NOTE = (
    "The peer ships one configuration per kernel, which is what is compiled. It weighs and sums a token's rows by a "
    "product of PyTorch, and permutes them by a kernel of its own before the gradient of the matrices; here kernels do "
    "the first and gathers in the load the second. In float32 it multiplies in TF32, ours in three TF32 products."
)


def rows_of(library, dtype, reports):
    """A row for each kernel and part: forms of one kernel, such as gathered and not, have rows of their own."""
    for report in reports:
        yield {
            "library": library, "part": report.part, "kernel": report.kernel, "dtype": dtype,
            "architecture": report.architecture,
            "sizes": {name: value for name, value in report.constants.items() if type(value) in (int, bool)},
            "warps": report.warps, "stages": report.stages, "registers": report.registers, "spills": report.spills,
            "shared_memory": report.shared_memory, "occupancy": report.occupancy, "limiter": report.limiter,
            "matrix": report.instructions["matrix"], "warp_group_matrix": report.warp_group,
            "asynchronous_copies": report.instructions["asynchronous copy"],
            "bytes": round(report.tensor_bytes / peers.TOKENS[report.part]),
        }  # fmt: skip


def version(folder):
    """The peer's commit, as git tells it of the checkout, or its folder's name."""
    command = ["git", "-C", folder, "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, encoding="utf-8")
    return found.stdout.strip() or Path(folder).name


def compiled(library, architecture, examples):
    """The rows of a library for an architecture, all dtypes."""
    found = inspect.survey(SOURCE, architecture, DTYPES, (HEAD_DIM,), examples=examples)
    for (dtype, _), reports in found.items():
        yield from rows_of(library, dtype, reports)


def main(folder=Path(__file__).parent):
    """Compile both and write the rows. Without the peer its stored rows stand, with their date; with none, say why."""
    path, source = Path(folder) / "compiled.json", bench.provenance("make bench", on="cpu")
    checkout, theirs = peers.checkout(), []
    if checkout is None and not path.exists():
        print(f"compiled.json is not written: {peers.PLACE} names no checkout of {PEER}; ours alone is no comparison")
        return
    ours = [row for each in ARCHITECTURES for row in compiled(OURS, each, "our_launches")]
    if checkout is None:
        kept = json.loads(path.read_text(encoding="utf-8"))
        made = kept["provenance"]
        when = made.get("peer_rows", f"compiled on {made['date']} at commit {made['commit']}")
        source |= {"peer": made["peer"], "peer_rows": when}
        theirs = [row for row in kept["rows"] if row["library"] == PEER]
        print(f"{peers.PLACE} names no checkout of {PEER}: its rows, {when}, stand")
    else:
        source["peer"] = f"{PEER} {version(checkout)}"
        before = os.environ.get("EFFATTN_CACHE")
        with tempfile.TemporaryDirectory() as fresh:  # what is kept of a compilation does not know a checkout's sources
            os.environ["EFFATTN_CACHE"] = fresh
            theirs = [row for each in ARCHITECTURES for row in compiled(PEER, each, "example_launches")]
        os.environ.pop("EFFATTN_CACHE")
        if before is not None:
            os.environ["EFFATTN_CACHE"] = before
    width, inner = peers.sizes_of(HEAD_DIM)
    source |= {
        "compiled": "for sm_80 and sm_90, not run",
        "note": NOTE,
        "sizes": f"{peers.EXPERTS} SwiGLU experts of {width} to {inner}, {peers.CHOICES} per token",
        "tokens": peers.TOKENS,
    }
    bench.write_measurement(path, source, ours + theirs)


if __name__ == "__main__":
    main()
