"""What the worker of a page calls in Pyodide (lab-worker.js): a reader's launcher on stored cases, judged, as JSON.

    run(request)      the first case: what it returned, what it printed, what its programs loaded and stored
    check(request)    all cases, until one is wrong: the sentence that names the likely mistake

A request is {"source", "function", "cases"} as JSON, the cases as lab_cases.py stores them. The judge is that of
effattn_core/primer/judge.py, without PyTorch: the same sentences in the same order.
"""

import base64
import contextlib
import io
import json
import math
import struct
import traceback

import _page

EDITOR = "your kernel"  # what the text of the editor is called where a line of it is named
LONGEST = 10_000  # letters that are kept of what the reader prints
FIRST = 8  # elements of a result that are shown
MOST = 60_000  # places of one launch that are sent, to be drawn
CODES = {"float16": "e", "float32": "f", "int32": "i", "int64": "q"}
UNSOLVED = "It is not written yet."
NO_KERNEL = "No Triton kernel was launched: write one, and launch it with grid[…](…)."
TWICE = "does tl.program_id enter the places that are stored to, and is the store masked on each axis?"


class Printed(io.StringIO):
    """The first letters of what is printed: a loop that prints without end fills no memory."""

    def write(self, text):
        return super().write(text[: max(0, LONGEST - self.tell())])


def given(value):
    """An argument of a case: a number, or a tensor with the strides and the offset of its view."""
    if not isinstance(value, dict):
        return value
    content = base64.b64decode(value["data"])
    code = CODES[value["dtype"]]
    values = list(struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content))
    if value.get("sparse"):
        tensor = _page.tensor([], value["shape"], value["dtype"], value["strides"])
        tensor.storage.values = dict(zip(tensor.places(), values, strict=True))
        return tensor
    return _page.tensor(values, value["shape"], value["dtype"], value["strides"], value["offset"])


def flat(tensor):
    return [tensor.storage.values[place] for place in tensor.places()]


def close(got, wanted):
    """As near as float32 sums in another order come, float16 as near as its last digits."""
    within = 2e-3 if got.dtype.name == "float16" else 1e-4
    return tuple(got.shape) == tuple(wanted.shape) and all(
        here == there or abs(here - there) <= within + within * abs(there) < math.inf
        for here, there in zip(flat(got), flat(wanted), strict=True)
    )


def reason_of(case, got, run):
    """What is wrong with a result and its launches, as a sentence; None if nothing is."""
    wanted = given(case["wanted"])
    if not run.launches:
        return NO_KERNEL
    if not isinstance(got, _page.Tensor) or tuple(got.shape) != tuple(wanted.shape):
        shown = tuple(got.shape) if isinstance(got, _page.Tensor) else (type(got).__name__,)
        return f"the result must be a tensor of shape {tuple(wanted.shape)}; got {shown}."
    right, values = close(got, wanted), flat(got)
    missing = _page.unwritten(got)
    if not right:
        for mistaken, sentence in case["mistakes"]:
            if close(got, given(mistaken)):
                return sentence
        if missing:
            return unwritten(missing, case, tuple(wanted.shape))
        if case["nan"] and not all(map(math.isfinite, values)):
            return case["nan"]
    for each in run.findings:
        if each.kind == "outside" and case["far"]:
            return case["stray"].format(offset=each.offset)
        if each.kind == "outside":
            verb = "reads" if each.access == "load" else "writes"
            where = f"program {each.program} {verb} outside {each.tensor}, {each.lanes} lanes in all"
            return f"{where}: {case['stray']}"
    for each in run.findings:
        return f"programs {each.other} and {each.program} meet at {each.tensor}{list(each.element)}: {TWICE}"
    if right:
        return None
    asked = flat(wanted)
    errors = [abs(here - there) if math.isfinite(here) else math.inf for here, there in zip(values, asked, strict=True)]
    at = errors.index(max(errors))
    element = index_of(at, wanted.shape)
    return f"element {element} is {values[at]:.4g} and should be {asked[at]:.4g}: {case['hint']}"


def index_of(place, shape):
    found = []
    for size in reversed(shape):
        place, index = divmod(place, size)
        found.append(index)
    return found[::-1]


def unwritten(missing, case, shape):
    """A sentence about elements that no program wrote."""
    block, columns = case["arguments"][-1], shape[-1]
    rows = math.prod(shape[:-1])
    gone = {(sum(index[:-1]), index[-1]) for index in missing} if len(shape) < 3 else set()
    down = sum(any((row, column) not in gone for column in range(columns)) for row in range(rows))
    across = sum(any((row, column) not in gone for row in range(rows)) for column in range(columns))
    covered = [-(-size // block) * block for size in (rows, columns)]
    if case["tiled"] and (down, across) == (min(rows, covered[1]), min(columns, covered[0])) != (rows, columns):
        return (
            "the two axes of the grid are swapped: it counts tiles of columns where program_id counts tiles of rows, "
            f"so what lies past row {down} or column {across} is never written."
        )
    if across == columns // block * block or down == rows // block * block != 0 and down < rows:
        return "the last, partial block is never written: the grid must round up, triton.cdiv(size, block)."
    if across == block:
        return case["tail"]
    return (
        f"{len(missing)} elements are never written, the first at {list(missing[0])}: is the block size that the "
        "launcher is given used for the grid and for the kernel?"
    )


def shown(launch):
    """What one launch did, for the picture: by argument, the elements that each program loaded and stored."""
    numbers, tensors, sent = {}, {}, 0
    for access in launch.accesses:
        program = numbers.setdefault(access.program, len(numbers))
        tensor = launch.tensors[access.tensor]
        if access.tensor not in tensors:
            element = {place - tensor.offset: number for number, place in enumerate(tensor.places())}
            entry = {"shape": list(tensor.shape), "load": {}, "store": {}}
            tensors[access.tensor] = (element, entry)
        element, entry = tensors[access.tensor]
        sent += len(access.offsets)
        if sent <= MOST:
            entry[access.kind].setdefault(program, []).extend(element[offset] for offset in access.offsets)
    return {
        "kernel": launch.kernel,
        "grid": list(launch.grid),
        "programs": [list(program) for program in numbers],
        "whole": sent <= MOST,
        "tensors": {name: entry for name, (_, entry) in tensors.items()},
        "loaded": sum(launch.loaded.values()),
        "stored": sum(launch.stored.values()),
        "products": launch.products,
        "operations": launch.operations,
        "findings": [str(each) for each in launch.findings],
    }


def raised(error):
    """What the reader's code raised, and where, without the frames of the page's own files."""
    if isinstance(error, NotImplementedError):
        return UNSOLVED
    if isinstance(error, SyntaxError):
        return f"Line {error.lineno}: {error.msg}."
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == EDITOR]
    where = f"Line {frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {str(error) or 'no message'}"


def _called(names, request, case):
    """(result or None, the watched run, the sentence of what was raised or None)."""
    function = names.get(request["function"])
    if not callable(function):
        return None, None, f"There is no function {request['function']} in the editor: it is the one that is called."
    with _page.watched() as run:
        try:
            return function(*map(given, case["arguments"])), run, None
        except Exception as error:
            return None, run, raised(error)


def _answered(request, cases):
    """The first wrong case of `cases`, or the last one."""
    request, printed = json.loads(request), Printed()
    answer = {"passed": False, "reason": None, "cases": 0}
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            names = _page.load_source(request["source"], EDITOR)
        except Exception as error:
            names, answer["reason"] = None, raised(error)
        for case in request["cases"][:cases] if names is not None else []:
            result, run, reason = _called(names, request, case)
            reason = reason or reason_of(case, result, run)
            what = None if reason == UNSOLVED else case["what"]
            answer |= {"what": what, "reason": reason, "cases": answer["cases"] + 1}
            answer["launches"] = [shown(each) for each in run.launches] if run else []
            if isinstance(result, _page.Tensor):
                first = [f"{each:.4g}" for each in flat(result)[:FIRST]]
                answer["result"] = {"shape": list(result.shape), "first": first}
            if reason:
                break
    answer["passed"] = answer["reason"] is None
    answer["printed"] = printed.getvalue()
    return json.dumps(answer)


def run(request):
    """The first case of a request, as JSON."""
    return _answered(request, 1)


def check(request):
    """All cases of a request until one is wrong, as JSON."""
    return _answered(request, None)
