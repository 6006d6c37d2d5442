"""Say, before the tests run, what they will skip on this machine and why."""

import importlib.util
import subprocess

from support.house import CHROMIUM


def skipped():
    """A sentence for each group of tests that cannot run here."""
    if CHROMIUM is None:
        yield "skipped: browser tests, because no Chromium is installed (apt-get install chromium)"
    if importlib.util.find_spec("fla") is None:
        yield "skipped: the peer's kernels beside ours, because flash-linear-attention is not installed (extra bench)"
    try:
        subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield "skipped: compiled kernels on a GPU, because nvidia-smi finds none (interpreted and compiled only)"


if __name__ == "__main__":
    print("\n".join(skipped()) or "nothing is skipped")
