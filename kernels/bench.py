"""Honest timings: correctness first, candidates in one process taking turns, medians with spread."""

import datetime
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from kernels.cache import whole_file


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate. ratio: its median over the first candidate's, timed in the same turns.

    correct: True where its result was held against the truth before it was timed, None where nobody looked.
    """

    name: str
    correct: bool | None
    median: float
    lower_quartile: float
    upper_quartile: float
    ratio: float
    repeats: int


def compare(candidates, *, check=None, checked=False, repeats=9, warmup=2, device="cpu", progress=True):
    """Time functions of no arguments against each other. candidates: name -> function; the first is the baseline.

    check: called as check(name, result) before anything is timed, raising if a result is wrong; checked: the caller
    has done so itself. The timings say in `correct` whether one of the two was the case. On a GPU the clock is
    CUDA's and the L2 cache is flushed between calls. Raises ValueError for fewer than three repeats or no candidate.
    """
    if repeats < 3 or not candidates:
        raise ValueError(f"compare needs a candidate and three repeats; got {len(candidates)} and {repeats}.")
    if check is not None:
        for name, function in candidates.items():
            check(name, function())
    clock = _gpu_clock() if torch.device(device).type == "cuda" else _cpu_clock
    for function in candidates.values():
        for _ in range(warmup):
            function()
    taken = {name: [] for name in candidates}
    names = list(candidates)
    for turn in tqdm(range(repeats), disable=not progress, unit="turn", leave=False):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # no candidate always follows another
            taken[name].append(clock(candidates[name]))
    base = statistics.median(taken[names[0]])
    timings = []
    for name in names:
        lower, middle, upper = statistics.quantiles(taken[name], n=4, method="inclusive")
        correct = True if checked or check is not None else None
        timings.append(Timing(name, correct, middle, lower, upper, middle / base, repeats))
    return timings


def _cpu_clock(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _gpu_clock():
    """A clock by CUDA events, with a buffer larger than any L2 cache written before each call."""
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")

    def clock(function):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        function()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3

    return clock


def provenance(command, seed=0, on=None):
    """Where, when and with what a measurement was made. command: the line that makes it again.

    on: "cpu" for what runs on the CPU wherever it runs; else the device is the GPU where there is one.
    """
    try:
        from triton import __version__ as triton
    except ModuleNotFoundError:  # the forms in PyTorch are timed without it
        triton = "not installed"
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if on != "cpu" and torch.cuda.is_available() else _threads(),
        "processor": platform.machine(),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton,
        "seed": seed,
    }


def _threads():
    return f"CPU, {torch.get_num_threads()} threads".replace(" 1 threads", " 1 thread")


def cpu_name():
    """What the processor is called, as "Intel(R) Xeon(R) Platinum 8481C"; "unknown" where the system does not say."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1].strip()
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, encoding="utf-8", check=True).stdout.strip() or "unknown"
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or "unknown"


def slug(name):
    """A device's name as a part of a file's name: "NVIDIA GeForce RTX 4090" is nvidia-geforce-rtx-4090."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", " ", name.lower())).strip("-")


def recording_path(folder, kind, prefix=""):
    """The file of this device among a topic's measurements: one per device, so that none overwrites another's.

    kind "gpu": gpu-nvidia-h200.json, by the device's name. kind "cpu": cpu.json, or where another CPU or another number
    of threads made that one, a file of its own: cpu-apple-m3-8-threads.json. prefix: "parts-" and the like.
    """
    folder = Path(folder)
    if kind == "gpu":
        return folder / f"{prefix}gpu-{slug(torch.cuda.get_device_name())}.json"
    if kind != "cpu":
        raise ValueError(f"a measurement is of a cpu or a gpu; got {kind!r}.")
    first = folder / f"{prefix}cpu.json"
    if first.exists():
        made = json.loads(first.read_text(encoding="utf-8"))["provenance"]
        if (made.get("device"), made.get("cpu")) != (_threads(), cpu_name()):
            return folder / f"{prefix}cpu-{slug(cpu_name())}-{slug(_threads().removeprefix('CPU, '))}.json"
    return first


def _commit():
    """The commit of the code, "-dirty" where a file of it was changed: recordings, which benches write, are no code."""
    root = Path(__file__).resolve().parent.parent
    describe = ["git", "describe", "--always"]
    changed = ["git", "status", "--porcelain", "--untracked-files=no", ".", ":(exclude)book/measurements/*/*.json"]
    try:
        found, edits = (
            subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=True).stdout.strip()
            for command in (describe, changed)
        )
        return f"{found}-dirty" if edits else found
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def rows_of(case, timings):
    """The timings of one case as rows of a measurement: the case's settings beside each."""
    return [{**case, **asdict(timing)} for timing in timings]


def stored(path, commit):
    """The rows of a measurement already made at this commit, to go on from; empty otherwise."""
    path = Path(path)
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["rows"] if content["provenance"]["commit"] == commit and "dirty" not in commit else []


def write_measurement(path, source, rows):
    """Write {provenance, rows} as JSON: aside, then renamed, so that an interrupted run leaves no broken file."""
    with whole_file(path) as aside:
        aside.write_text(json.dumps({"provenance": source, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"{len(rows)} rows in {Path(path).name}", file=sys.stderr)
