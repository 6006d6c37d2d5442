"""Retention's kernels and the peer's, compiled for an H100 by the same compiler, and not run.

python book/measurements/retention/bench_compiled.py      writes compiled.json beside this file

Both public functions are called forward and backward on the same sizes, each on tensors in its own layout (`peers.py`).

Bytes are those of the tensors handed to each launch, each tensor once: the least that the algorithm moves, were every
tile that several programs load found in the cache. A token and head at D = key_dim = value_dim, s bytes an element,
chunks of C tokens and states of p bytes an element moves, for the peer (C = 64, s = 2; p = 2 forward, 4 backward):

    forward    states: key, value → S              2sD + pD²/C
               outputs: query, key, value, S → o   4sD + pD²/C
    backward   states again                        2sD + pD²/C
               gradients of the states: query, do → dS                          2sD + pD²/C
               query's and key's: query, key, value, S, do, dS → dq, dk         6sD + 2pD²/C
               value's: query, key, do, dS → dv                                 4sD + pD²/C

together 6sD + 2pD²/C forward and 14sD + 5pD²/C backward. Ours makes the same launches with a C and p of its own, and
those that walk the states read and write one more state a sequence (8D² bytes, over all of its tokens).
"""

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import peers

from kernels import bench, inspect

ARCHITECTURE, DTYPE, HEAD_DIMS = 90, "bfloat16", (64, 128)
SOURCE = "book/measurements/retention/peers.py"
OURS, PEER = "this book", peers.PACKAGES[0]
CHOICE = (
    "The peer tunes its kernels where they run. Every configuration that it would time was compiled; shown of each "
    "kernel is the one that spills least, of these the one of highest occupancy, of these that of fewest registers."
)


def chosen(found):
    """(report, all configurations of its kernel in its part), chosen as CHOICE says: generous, as far as one can see.

    found: reports of autotuned kernels, each launched once in a part.
    """
    groups = {}
    for report in found:
        groups.setdefault((report.part, report.kernel), []).append(report)
    for group in groups.values():
        yield min(group, key=lambda each: (each.spills, -each.occupancy, each.registers)), group


def rows_of(library, head_dim, pairs):
    """A row for each kernel and pass; its bytes are a token's and head's.

    pairs: (report, the reports of all configurations that it was chosen from).
    """
    rows = []
    for report, group in pairs:
        sizes = {name: value for name, value in report.constants.items() if type(value) is int}
        rows.append(
            {
                "library": library,
                "pass": report.part,
                "kernel": report.kernel,
                "head_dim": head_dim,
                "dtype": DTYPE,
                "architecture": report.architecture,
                "sizes": sizes,
                "warps": report.warps,
                "stages": report.stages,
                "registers": report.registers,
                "spills": report.spills,
                "shared_memory": report.shared_memory,
                "occupancy": report.occupancy,
                "limiter": report.limiter,
                "matrix": report.instructions["matrix"],
                "warp_group_matrix": report.warp_group,
                "asynchronous_copies": report.instructions["asynchronous copy"],
                "bytes": round(report.tensor_bytes / (peers.BATCH * peers.HEADS * peers.TOKENS[report.part])),
                "configurations": len(group),
                "configurations_that_spill": sum(each.spills > 0 for each in group),
                "configurations_with_warp_group_matrix": sum(each.warp_group > 0 for each in group),
            }
        )
    for row in rows:
        row["bytes_of_pass"] = sum(each["bytes"] for each in rows if each["pass"] == row["pass"])
    return rows


def main(head_dims=HEAD_DIMS, folder=Path(__file__).parent):
    """Compile both and write the rows. Without the peer its stored rows stand, with their date; with none, say why."""
    path, source = Path(folder) / "compiled.json", bench.provenance("make bench", on="cpu")
    kept = None
    if importlib.util.find_spec("fla") is None:
        if not path.exists():
            print(f"compiled.json is not written: {PEER} is not installed, and ours alone is no comparison")
            return
        kept = json.loads(path.read_text(encoding="utf-8"))
        made = kept["provenance"]
        when = made.get("peer_rows", f"compiled on {made['date']} at commit {made['commit']}")
        source |= {"peer": made["peer"], "peer_rows": when}
        print(f"{PEER} is not installed: its rows, {when}, stand")
    else:
        source["peer"] = f"{PEER} {importlib.metadata.version(PEER)}"
    rows = []
    for head_dim in head_dims:
        settings = (SOURCE, ARCHITECTURE, DTYPE, head_dim)
        ours = inspect.reports(*settings, examples="our_launches")
        rows += rows_of(OURS, head_dim, [(report, [report]) for report in ours])
        if kept:
            theirs = [row for row in kept["rows"] if row["library"] == PEER and row["head_dim"] == head_dim]
            rows += theirs
        else:
            theirs = inspect.reports(*settings, packages=peers.PACKAGES)
            rows += rows_of(PEER, head_dim, chosen(theirs))
        print(f"head_dim {head_dim}: {len(ours)} kernels of ours, {len(theirs)} of the peer's")
    source |= {
        "compiled": f"for sm_{ARCHITECTURE}, not run",
        "choice": CHOICE,
        "sizes": f"batch {peers.BATCH}, {peers.HEADS} heads, {peers.TIME} tokens",
    }
    bench.write_measurement(path, source, rows)


if __name__ == "__main__":
    main()
