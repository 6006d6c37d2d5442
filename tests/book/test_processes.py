"""A program that hangs, or leaves something behind, holds no test up."""

import subprocess
import sys
import time

import pytest
from support.processes import finished

LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ended before its child", child.pid)
"""
HANGS_ONCE = """
import pathlib, time
mark = pathlib.Path("tried")
if not mark.exists():
    mark.touch()
    time.sleep(600)
print("the second time")
"""


def test_what_a_program_leaves_behind_does_not_hold_it_open():
    begin = time.perf_counter()
    done = finished([sys.executable, "-c", LEAVES_A_CHILD])
    assert done.returncode == 0 and "ended before its child" in done.stdout
    assert time.perf_counter() - begin < 60


def test_a_program_that_hangs_is_stopped_and_tried_once_more(tmp_path, capsys):
    done = finished([sys.executable, "-c", HANGS_ONCE], limit=3, cwd=tmp_path)
    assert done.stdout == "the second time\n" and "stopped after 3 s" in capsys.readouterr().out
    (tmp_path / "tried").unlink()
    with pytest.raises(subprocess.TimeoutExpired):
        finished([sys.executable, "-c", HANGS_ONCE], limit=1, tries=1, cwd=tmp_path)
