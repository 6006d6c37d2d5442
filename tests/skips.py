"""Say, before the tests run, what they will skip on this machine and why."""

import subprocess

from house import CHROMIUM


def skipped():
    """A sentence for each group of tests that cannot run here."""
    if CHROMIUM is None:
        yield "skipped: browser tests, because no Chromium is installed (apt-get install chromium)"
    try:
        subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield "skipped: compiled kernels on a GPU, because nvidia-smi finds none (interpreted and compiled only)"


if __name__ == "__main__":
    print("\n".join(skipped()) or "nothing is skipped")
