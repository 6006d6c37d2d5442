"""What trains too long for a chapter: TO WRITE, in a line.

python book/measurements/graphs/run.py      writes training-cpu.json or training-gpu.json beside this file
"""

from pathlib import Path

from effattn_core import reproducible
from kernels import bench, runtime


def main(folder=None):
    """TO WRITE: settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, rows = ("gpu" if runtime.mode == "gpu" else "cpu"), []
    raise NotImplementedError("TO WRITE: the rows of run.py.")
    name = f"training-{kind}.json"
    bench.write_measurement((folder or Path(__file__).parent) / name, bench.provenance("make runs"), rows)


if __name__ == "__main__":
    main()
