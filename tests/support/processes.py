"""Other programs that tests run: each has a limit, and nothing of it is left when it has ended."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

LIMIT = 600  # seconds; the longest program of the suite takes a tenth of that on two cores


def finished(command, *, limit=LIMIT, tries=2, **settings):
    """Run `command` to its end. Returns a subprocess.CompletedProcess with the text of stdout and stderr.

    What is written goes to files, for a pipe stays open as long as any grandchild holds it, such as a kernel that has
    lost its client. A command that has not ended after `limit` seconds is stopped with all that it has started and, as
    a lost message of a kernel is no fault of the book, tried once more. Raises subprocess.TimeoutExpired after that.
    """
    for left in reversed(range(tries)):
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            child = subprocess.Popen(command, stdout=stdout, stderr=stderr, start_new_session=True, **settings)
            try:
                code = child.wait(limit)
            except subprocess.TimeoutExpired as late:
                print(f"stopped after {limit} s: {command}")
                child.terminate()  # torchrun ends its workers then, which have sessions of their own
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(10)
                if not left:
                    late.stdout, late.stderr = _text(stdout), _text(stderr)
                    raise
                continue
            finally:
                _stop(child)
            return subprocess.CompletedProcess(command, code, _text(stdout), _text(stderr))


def on_two_processes(module, *arguments, restarts=0):
    """What `module` prints on two processes of a CPU, one thread each, started as a reader would: by torchrun.

    restarts: how often torchrun starts all of them again after one was lost.
    """
    # Standalone: torchrun takes a free port itself, and another one when it starts again.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost",
               "--nproc-per-node", "2", "--max-restarts", str(restarts)]  # fmt: skip
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = finished([*command, "-m", module, *arguments], limit=150, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _text(stream):
    stream.seek(0)
    return stream.read()


def _stop(child):
    """End what is left of the child's session."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
