"""Times of lowbit against what a user would take instead: TO WRITE, in a line.

python book/measurements/lowbit/bench.py      writes cpu.json or gpu.json beside this file
"""

from pathlib import Path

from effattn_core import reproducible
from kernels import bench, runtime


def main(folder=None):
    """TO WRITE: settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, rows = ("gpu" if runtime.mode == "gpu" else "cpu"), []
    raise NotImplementedError("TO WRITE: the rows of bench.py, right before it is timed.")
    name = f"{kind}.json"
    bench.write_measurement((folder or Path(__file__).parent) / name, bench.provenance("make bench"), rows)


if __name__ == "__main__":
    main()
