"""What the worker of a page calls in Pyodide (lab-worker.js): a reader's launcher on stored cases, judged, as JSON.

    run(request)      the first case: what it returned, what it printed, what its programs loaded and stored
    check(request)    all cases, until one is wrong: the sentence that names the likely mistake

A request is {"source", "function", "cases"} as JSON, the cases as lab_cases.py stores them. What is said of a call is
said by effattn_core/judging/verdict.py, as in JupyterLab: lab_vendor.py packs it beside this file.

What is printed is in the answer, and is told while it runs to `tell`, which lab-worker.js may set: a worker that is
stopped gives no answer.
"""

import base64
import contextlib
import io
import json
import time
import traceback
from dataclasses import fields

import _page
from _page.dtypes import ALL
from verdict import Outcome, Says, Values, in_tuple, judged, results_of

EDITOR = "your kernel"  # what the text of the editor is called where a line of it is named
LONGEST = 10_000  # letters that are kept of what the reader prints
FIRST = 8  # elements of a result that are shown
MOST = 60_000  # places of one launch that are sent, to be drawn
TYPES = {dtype.name: dtype for dtype in ALL}
UNSOLVED = "It is not written yet."
AT_ONCE = 10  # messages about what is printed that are not held back: few words come before any loop without end
PAUSE, PART = 0.1, 2_000  # seconds between the messages after them, or letters
UNMARKED = "'function' object is not subscriptable"  # Python's words for a launch of what is no kernel
tell = None  # a function of new text that is printed, or None


class Printed(io.StringIO):
    """The first letters of what is printed: a loop that prints without end fills no memory.

    heading: a line to write before the next text, or None: of a case that prints nothing there is none.
    """

    def __init__(self):
        super().__init__()
        self.heading, self.told, self.messages, self.last = None, 0, 0, 0.0

    def write(self, text):
        if text and self.heading:
            text, self.heading = f"{self.heading}\n{text}", None
        super().write(text[: max(0, LONGEST - self.tell())])
        if tell is not None and "\n" in text:
            self._told()
        return len(text)

    def _told(self):
        """Tell what is new, unless the last message was just now."""
        now, new = time.monotonic(), self.getvalue()[self.told :]
        if new and (self.messages < AT_ONCE or now - self.last >= PAUSE or len(new) >= PART):
            self.told, self.last, self.messages = self.told + len(new), now, self.messages + 1
            tell(new)


def numbers(content):
    """The numbers of a stored tensor."""
    return TYPES[content["dtype"]].unpack(base64.b64decode(content["data"]))


def given(value):
    """An argument of a case: a number, or a tensor with the strides and the offset of its view."""
    if not isinstance(value, dict):
        return value
    if "number" in value:
        return float(value["number"])
    if value.get("sparse"):
        tensor = _page.tensor([], value["shape"], value["dtype"], value["strides"])
        tensor.storage.values = dict(zip(tensor.places(), numbers(value), strict=True))
        return tensor
    return _page.tensor(numbers(value), value["shape"], value["dtype"], value["strides"], value["offset"])


def held(content):
    """Values of a stored result; None for one that does not matter."""
    if content is None:
        return None
    return Values(content["dtype"], tuple(content["shape"]), numbers(content))


def values_of(result):
    """Values of what a launcher returned, or the name of its type."""
    if not isinstance(result, _page.Tensor):
        return type(result).__name__
    values = result.storage.values
    return Values(result.dtype.name, tuple(result.shape), [values[place] for place in result.places()])


def reason_of(case, given, returned, run, again):
    """What is wrong with a call and its launches, as a sentence; None if nothing is. given: its arguments.

    again(): Outcome.poisoned of it, for a call with lanes that a mask left out.
    """
    says = Says(**{each.name: case[each.name] for each in fields(Says)})
    results = results_of(returned, _after(case, given))
    outcome = Outcome(
        [values_of(each) for each in results],
        launches=len(run.launches),
        missing=[_page.unwritten(each) if isinstance(each, _page.Tensor) else [] for each in results],
        exact=True,
        findings=run.findings,
        changed=any(_stored_to(run, each) for number, each in enumerate(given) if number not in case["written"]),
        loads={number: _loads(run, given[number]) for number in case["once"]},
        written=len(case["written"]),
        scattered=any(isinstance(each, _page.Tensor) and not each.is_contiguous() for each in results),
    )
    mistakes = ((list(map(held, values)), sentence) for values, sentence in case["mistakes"])
    asked_again = again if run.left_out and not says.far else None
    return judged(says, list(map(held, case["wanted"])), mistakes, outcome, asked_again)


def _after(case, given):
    """The arguments that are results."""
    return [given[number] for number in case["written"]]


def _stored_to(run, argument):
    """Whether any launch stored to the memory of an argument."""
    return isinstance(argument, _page.Tensor) and any(
        launch.stored[name] and tensor.storage is argument.storage
        for launch in run.launches
        for name, tensor in launch.tensors.items()
    )


def _loads(run, argument):
    """How often each element of an argument was loaded, over all launches."""
    loaded = sum(
        launch.loaded[name]
        for launch in run.launches
        for name, tensor in launch.tensors.items()
        if tensor.storage is argument.storage
    )
    return loaded / (argument.element_size() * argument.numel())


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
        "first": next((numbers.get(each.program, 0) for each in launch.findings), 0),
    }


def raised(error):
    """What the reader's code raised, and where, without the frames of the page's own files."""
    if isinstance(error, NotImplementedError):
        return UNSOLVED
    if isinstance(error, SyntaxError):
        return f"Line {error.lineno}: {error.msg}."
    said = f"{type(error).__name__}: {str(error) or 'no message'}"
    if isinstance(error, MemoryError):
        said = "that is more memory than this browser gives: take smaller sizes."
    if UNMARKED in str(error):
        said = "what is launched with [grid] is no kernel: the line before its def must be @triton.jit."
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == EDITOR]
    where = f"Line {frames[-1].lineno}: " if frames else ""
    return where + said


def _called(names, request, case):
    """(result or None, the watched run or None, what is wrong as a sentence or None) of one case."""
    function = names.get(request["function"])
    if not callable(function):
        return None, None, f"There is no function {request['function']} in the editor: it is the one that is called."
    arguments = list(map(given, case["arguments"]))
    with _page.watched() as run:
        try:
            result = _call(function, case, arguments)
        except Exception as error:
            return None, run, raised(error)
    return result, run, reason_of(case, arguments, result, run, lambda: _poisoned(function, case))


def _call(function, case, arguments):
    if case["grid"] is None:
        return function(*arguments)
    return function[tuple(case["grid"])](*arguments) and None


def _poisoned(function, case):
    """[Values] of a second call in which lanes that a mask leaves out hold no number; [] if it fails, or strays."""
    arguments = list(map(given, case["arguments"]))
    with _page.watched(poisoned=True) as run, contextlib.redirect_stdout(io.StringIO()):  # what it prints was printed
        try:
            result = _call(function, case, arguments)
        except Exception:
            return []
    return [] if run.findings else list(map(values_of, results_of(result, _after(case, arguments))))


def _first(tensor):
    """The shape and the first elements of a result, to be shown."""
    return {"shape": list(tensor.shape), "first": [f"{each:.4g}" for each in values_of(tensor).flat[:FIRST]]}


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
            printed.heading = f"For {case['what']}:" if cases != 1 and len(request["cases"]) > 1 else None
            result, run, reason = _called(names, request, case)
            what = None if reason == UNSOLVED else case["what"]
            answer |= {"what": what, "reason": reason, "cases": answer["cases"] + 1}
            answer["launches"] = [shown(each) for each in run.launches] if run else []
            answer["results"] = [_first(each) for each in in_tuple(result) if isinstance(each, _page.Tensor)]
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
