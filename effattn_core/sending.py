"""Recordings that a reader's machine made: looked at one by one, refused with a sentence, packed for sending.

python -m effattn_core.sending      packs what git does not have yet (make send)
"""

import argparse
import datetime
import hashlib
import json
import math
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from effattn_core.benchmarks import MOST_SPREAD, name_of
from effattn_core.recordings import MEASUREMENTS

ROOT = MEASUREMENTS.parents[1]
PROVENANCE = ("command", "date", "commit", "device", "cpu", "python", "torch", "triton", "seed")
TIMING = ("correct", "median", "lower_quartile", "upper_quartile", "repeats")
LEAST_REPEATS = 3
AGAIN = "remove the file, and run make bench again at a clean commit"  # it goes on after rows that are stored
LETTER = """Recordings of *Efficient Attention, from Softmax to Two Bits*

Each file under measurements/ was made by `make bench` on the device that manifest.json names, and passed `make send`.

Where to send it: open an issue at {url}/issues with the title
"Recordings: {devices}", and attach this zip; or put the files under book/measurements/ in a fork and open a pull
request.
No name, path or address of your machine is in it: read manifest.json and the files, they are short.
"""


def faults(path):
    """What is not sound in a recording: a sentence each; none if it may be sent."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        made, rows = content["provenance"], content["rows"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        return [f"it is no JSON of provenance and rows ({type(error).__name__}: {error}); {AGAIN}."]
    if not isinstance(made, dict) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return ["provenance must be a mapping and rows a list of mappings."]
    found = list(_faults_of_provenance(made, path))
    if not rows:
        found.append(f"it has no row: the run stopped before the first case; {AGAIN}.")
    for number, row in enumerate(rows):
        where = ", ".join([f"row {number}", *(str(row[key]) for key in ("what",) if key in row), str(name_of(row))])
        found += [f"{where}: {fault}" for fault in _faults_of_row(row)]
    return found


def _faults_of_provenance(made, path):
    for field in PROVENANCE:
        if made.get(field) in (None, ""):
            yield f"provenance lacks {field!r}; {AGAIN}."
    commit, device, date = (str(made.get(field, "")) for field in ("commit", "device", "date"))
    if made.get("command") not in (None, "", "make bench"):
        yield f"it was made by {made['command']!r}; only what make bench made is sent."
    if "dirty" in commit:
        yield f"its commit is {commit}: code was changed and not committed; commit or undo the change, and {AGAIN}."
    elif commit and not re.fullmatch(r"(.+-g)?[0-9a-f]{7,40}", commit):
        yield f"its commit is {commit!r}, which names no commit: run make bench in a clone of the repository."
    if device.lower() in ("unknown", "cuda", "gpu", "cpu"):
        yield f'its device is {device!r}, which names none; wanted is a name as "NVIDIA H200" or "CPU, 8 threads".'
    if device and not device.startswith("CPU") and path.stem.endswith("cpu"):
        yield f"its device is {device}, but the file is called {path.name}; {AGAIN}."
    try:
        if date and datetime.date.fromisoformat(date) > datetime.date.today() + datetime.timedelta(days=1):
            yield f"its date, {date}, is yet to come: set the clock, and {AGAIN}."
    except ValueError:
        yield f"its date is {date!r}; wanted is YYYY-MM-DD."


def _faults_of_row(row):
    """Faults of one row: numbers that are none in any row, and more in one that was timed."""
    bad = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
    if bad:
        yield f"{bad[0]} is {row[bad[0]]}, which is no measurement; {AGAIN}."
        return
    if "median" not in row or "repeats" not in row:  # compiled, left out with a reason, a rate, a number of bytes
        return
    lacking = [field for field in TIMING if field not in row]
    if lacking:
        yield f"it lacks {lacking[0]!r}; {AGAIN}."
        return
    keys = list(row)
    if row["correct"] is not True:
        yield f"correct is {row['correct']}: what it computed was not found right, so its time says nothing; {AGAIN}."
    if keys.index("correct") > keys.index("median"):
        yield "its time stands before `correct`: correctness comes first."
    low, middle, high = (row[field] for field in ("lower_quartile", "median", "upper_quartile"))
    if not all(isinstance(each, (int, float)) for each in (low, middle, high)) or not 0 < low <= middle <= high:
        yield f"quartiles and median are not in order above 0: {low}, {middle}, {high}."
    elif (high - low) / middle > MOST_SPREAD:
        spread = (high - low) / middle
        apart = f"its quartiles lie {spread:.0%} of the median apart, above {MOST_SPREAD:.0%}"
        yield f"{apart}: quieten the machine, {AGAIN}."
    if not isinstance(row["repeats"], int) or row["repeats"] < LEAST_REPEATS:
        yield f"it was timed {row['repeats']} times; wanted are {LEAST_REPEATS} or more."


def new_recordings(root=ROOT):
    """Files of `make bench` that are not in git yet, or differ from what is there."""
    asked = ["git", "status", "--porcelain", "--untracked-files=all", "--", "book/measurements"]
    try:
        said = subprocess.run(asked, cwd=root, capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise ValueError(f"{root} is no clone of the repository: git cannot say which recordings are new.") from None
    paths = [Path(root) / line[3:].strip('"') for line in said.splitlines() if line.endswith(".json")]
    return sorted(path for path in paths if path.exists() and _made_by_bench(path))


def _made_by_bench(path):
    """Whether it is a bench's: what cannot be read is looked at, too, and then refused with the reason."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["provenance"].get("command") in (None, "make bench")
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return True


def pack(paths, target, url):
    """Write sound recordings, a manifest with their hashes and a letter into one zip; return the manifest.

    Raises ValueError, with each fault in a sentence, if one of them is not sound: then nothing is written.
    """
    paths = sorted(map(Path, paths))
    if not paths:
        raise ValueError("there is nothing to send: no recording is new here. Run make bench first.")
    wrong = [f"{path.parent.name}/{path.name}: {fault}" for path in paths for fault in faults(path)]
    if wrong:
        raise ValueError("\n".join(wrong))
    files, manifest = {}, []
    for path in paths:
        content, name = path.read_bytes(), f"measurements/{path.parent.name}/{path.name}"
        made, rows = (json.loads(content)[key] for key in ("provenance", "rows"))
        files[name] = content
        manifest.append(
            {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "rows": len(rows)}
            | {field: made[field] for field in ("device", "cpu", "commit", "date", "torch", "triton")}
        )
    devices = ", ".join(sorted({entry["device"] for entry in manifest}))
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    files["SEND.txt"] = LETTER.format(url=url, devices=devices).encode()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):  # one date for all: the same recordings give the same bytes
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return manifest


def repository_url(root=ROOT):
    """The address of the repository, from CITATION.cff."""
    return re.search(r"^repository-code: (\S+)$", (Path(root) / "CITATION.cff").read_text(encoding="utf-8"), re.M)[1]


def main(arguments=None, root=ROOT):
    parser = argparse.ArgumentParser(prog="make send", description="Check new recordings and pack them into one zip.")
    parser.add_argument("files", nargs="*", type=Path, help="recordings; by default those that git does not have yet")
    parser.add_argument("--to", type=Path, default=Path(root) / "_build" / "recordings.zip", help="the zip to write")
    given = parser.parse_args(arguments)
    given.to.unlink(missing_ok=True)  # what an earlier command packed
    try:
        found = [(path, faults(path)) for path in given.files or new_recordings(root)]
        refused = [f"refused: {path.parent.name}/{path.name}: {fault}" for path, wrong in found for fault in wrong]
        print("\n".join(refused), end="\n" if refused else "", file=sys.stderr)
        sound = [path for path, wrong in found if not wrong]
        manifest = pack(sound, given.to, repository_url(root)) if sound or not found else []
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for entry in manifest:
        print(f"sound: {entry['path']}, {entry['rows']} rows, {entry['device']}, commit {entry['commit']}")
    if manifest:
        print(
            f"{given.to} holds what is sound, with hashes. Send it as its SEND.txt says: {repository_url(root)}/issues"
        )
    else:
        print("Nothing was packed.", file=sys.stderr)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
