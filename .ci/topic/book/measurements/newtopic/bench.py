"""Times of newtopic against what a user would take instead: TO WRITE, in a line.

python book/measurements/newtopic/bench.py      writes cpu.json or gpu-NAME.json beside this file
"""

from pathlib import Path

from effattn_core import reproducible
from kernels import bench, runtime


def main(folder=None):
    """TO WRITE: settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, rows = ("gpu" if runtime.mode == "gpu" else "cpu"), []
    raise NotImplementedError("TO WRITE: the rows of bench.py, right before it is timed.")
    path = bench.recording_path(folder or Path(__file__).parent, kind)
    bench.write_measurement(path, bench.provenance("make bench"), rows)


if __name__ == "__main__":
    main()
