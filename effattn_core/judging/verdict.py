"""What is wrong with a reader's kernel on one case, as a sentence: the one judge of the kernel exercises.

It takes lists of numbers and the standard library only, so that JupyterLab (`case.judge`, with PyTorch and Triton) and
the editors on the pages (book/_ext/lab/lab_worker.py, with neither) say the same of the same mistake.
"""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

NO_KERNEL = "No Triton kernel was launched: write one, and launch it with grid[…](…)."
TWICE = "does tl.program_id enter the places that are stored to, and is the store masked on each axis?"
MASK = "each load and store needs the mask that says where its tensor ends, one for each axis that it moves along."
CHANGED = "a tensor that was given has changed: write the result into one of its own."
AGAIN = "what is given is loaded {times:g} times: load it once, before the loop."
TAIL = "only the first block is written: a grid of triton.cdiv(size, block) programs, each at its own places."
LEFT_OUT = (
    "it is right by luck: lanes that a load's mask leaves out hold anything unless `other` says what, and the result "
    "depends on them. Give the load what changes nothing: other=0.0 in a sum or a tl.dot, "
    'other=float("-inf") in a maximum.'
)
CONTIGUOUS = (
    "the result must be contiguous: torch.empty(shape, …) gives that, torch.empty_like(source) keeps the strides of a "
    "transposed view."
)
WITHIN = {"float16": 2e-3, "bfloat16": 2e-2}  # sums in another order come as near; float32 as near as CLOSE
CLOSE = 1e-4


class Values(NamedTuple):
    """What a tensor holds. dtype: its name; shape: a tuple; flat: its elements, the last axis fastest."""

    dtype: str
    shape: tuple
    flat: list


@dataclass(frozen=True)
class Says:
    """What is said of a case, besides whether its results are right; each has a default that suits most kernels.

    what: the case in words. hint: of a wrong result that nothing else explains. nan: of results that are not finite.
    stray: of a lane that leaves its tensor. kept: of an argument that was changed and is no result, "" if it may be.
    names: of the results in order, where there are several. within: the relative and absolute error that is allowed;
    None: by the type. tiled: the grid has an axis for each axis of the result, in tiles of `block`.
    block: the block size that the launcher was given, None without one. tail: of rows written in one block only.
    far: a lane leaves its tensor because 32 bits overflow, and `stray` has a place for its {offset}.
    once: numbers of the arguments each of whose elements may be loaded once. again: of one that is loaded more often.
    contiguous: the results must be. asked: the words between a wrong number and the one that is wanted.
    """

    what: str
    _: KW_ONLY
    hint: str = ""
    nan: str = ""
    stray: str = MASK
    kept: str = CHANGED
    names: tuple = ()
    within: float | None = None
    tiled: bool = False
    block: int | None = None
    tail: str = TAIL
    far: bool = False
    once: tuple = ()
    again: str = AGAIN
    asked: str = "should be"
    contiguous: bool = False


@dataclass
class Outcome:
    """What came of a case's call.

    results: Values of each result, or the name of a type where no tensor was given; the last `written` are arguments.
    launches: None where they are not counted. missing: for each result the indices of elements that nobody wrote;
    exact: they were watched, and not taken for missing because they are nan. findings: of the sanitizer. changed:
    whether an argument was that is no result. loads: how often the elements of each argument in `Says.once` were
    loaded, by its number. scattered: whether a result is not contiguous. poisoned: the results of a second call, in
    which the lanes that masks leave out without `other` hold no number; None without one, [] if it failed.
    """

    results: list
    launches: int | None = None
    missing: list = field(default_factory=list)
    exact: bool = False
    findings: list = field(default_factory=list)
    changed: bool = False
    loads: dict = field(default_factory=dict)
    written: int = 0
    scattered: bool = False
    poisoned: list | None = None


def close(got, wanted, within=None):
    """Whether Values have the shape of `wanted` and are as near as `within`, or as their type rounds."""
    if tuple(got.shape) != tuple(wanted.shape):
        return False
    if within is None:
        within = WITHIN.get(got.dtype, CLOSE)
    return all(
        here == there or abs(here - there) <= within + within * abs(there) < math.inf
        for here, there in zip(got.flat, wanted.flat, strict=True)
    )


def in_tuple(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def results_of(returned, after):
    """What is returned, then the arguments that are results. returned: None does not count where there are any."""
    return [*(() if returned is None and after else in_tuple(returned)), *after]


def judged(says, wanted, mistakes, outcome, again=None):
    """As `reason_of`. again: None, or asked for `Outcome.poisoned` where all else is right."""
    reason = reason_of(says, wanted, mistakes, outcome)
    if reason is None and again is not None:
        outcome.poisoned = again()
        reason = reason_of(says, wanted, mistakes, outcome)
    return reason


def reason_of(says, wanted, mistakes, outcome):
    """What is wrong, as a sentence; None if nothing is.

    wanted: a list of Values. mistakes: (list, sentence) of each known way to go wrong, where the list holds the Values
    that it gives, None for a result that does not matter if only it was written; they are asked for if a result is
    wrong, and only then.
    """
    if outcome.launches == 0:
        return NO_KERNEL
    if (wrong := _kind(says, wanted, outcome)) is not None:
        return wrong
    right = [close(got, each, says.within) for got, each in zip(outcome.results, wanted, strict=True)]
    if not all(right) and (wrong := _explained(says, mistakes, outcome)) is not None:
        return wrong
    if (wrong := _found(says, outcome.findings)) is not None:
        return wrong
    if all(right):
        return _besides(says, wanted, outcome)
    return _off(says, wanted, outcome.results, right.index(False))


def _kind(says, wanted, outcome):
    """A sentence if the results are not as many, or not of the shapes and types, that are wanted."""
    results, count = outcome.results, len(wanted) - outcome.written
    returned = results[: len(results) - outcome.written]
    if len(returned) != count == 1:
        got = f"{len(returned)} values" if returned else "nothing: return it"
        return f"{_named(says, 0)} must be a tensor of shape {tuple(wanted[0].shape)}; got {got}."
    if len(returned) != count:
        names = f" ({', '.join(says.names[:count])})" if says.names[:count] else ""
        got = ", ".join(_kind_of(each) if isinstance(each, str) else str(list(each.shape)) for each in returned)
        asked = f"return {count} tensors{names}" if count else "return nothing"
        return f"{asked}; got {got or 'nothing'}."
    for number, (got, each) in enumerate(zip(results, wanted, strict=True)):
        shown = _kind_of(got) if isinstance(got, str) else tuple(got.shape)
        if got == "NoneType" and number < count:
            shown += ": return it"
        if shown != tuple(each.shape):
            return f"{_named(says, number)} must be a tensor of shape {tuple(each.shape)}; got {shown}."
        if got.dtype != each.dtype:
            return f"{_named(says, number)} must be of {each.dtype}; got {got.dtype}."
    return None


def _kind_of(name):
    """What is said of a result that is no tensor. name: of its type."""
    return "nothing" if name == "NoneType" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _named(says, number):
    return f"the {says.names[number]}" if says.names else "the result"


def _explained(says, mistakes, outcome):
    """The sentence of a known mistake, of nan, or of elements that nobody wrote, and why."""
    unwritten = {number for number, missing in enumerate(outcome.missing) if missing and outcome.exact}
    for values, sentence in mistakes:
        pairs = enumerate(zip(outcome.results, values, strict=True))
        if all(
            number not in unwritten if each is None else close(got, each, says.within) for number, (got, each) in pairs
        ):
            return sentence
    holes = [(number, missing) for number, missing in enumerate(outcome.missing) if missing]
    stray = [each for each in outcome.findings if each.kind != "outside" or not says.far and each.access == "store"]
    if holes and stray:  # what was stored elsewhere is why
        return _found(says, stray)
    finite = all(math.isfinite(value) for each in outcome.results for value in each.flat)
    if says.nan and not finite and not (outcome.exact and holes):
        return says.nan
    for number, missing in holes:
        return _unwritten(says, number, outcome.results[number].shape, missing)
    return None


def _found(says, findings):
    """A sentence about lanes outside their tensor, or about programs that meet."""
    for each in findings:
        if each.kind == "outside" and says.far:
            return says.stray.format(offset=each.offset)
        if each.kind == "outside":
            verb = "reads" if each.access == "load" else "writes"
            lanes = f"{each.lanes} lane{'s' * (each.lanes > 1)} over all programs"
            return f"program {each.program} {verb} outside {each.tensor} ({lanes}): {says.stray}"
    return _meeting(findings)


def _meeting(findings):
    """A sentence about two programs that meet; None if none do."""
    for each in findings:
        if each.kind != "outside":
            return f"programs {each.other} and {each.program} meet at {each.tensor}{list(each.element)}: {TWICE}"
    return None


def _besides(says, wanted, outcome):
    """What is wrong though the results are right."""
    if outcome.poisoned is not None and not (
        len(outcome.poisoned) == len(wanted)
        and all(close(got, each, says.within) for got, each in zip(outcome.poisoned, wanted, strict=True))
    ):
        return LEFT_OUT
    if says.contiguous and outcome.scattered:
        return CONTIGUOUS
    if outcome.changed and says.kept:
        return says.kept
    for number in says.once:
        if outcome.loads.get(number, 1) != 1:
            return says.again.format(times=outcome.loads[number])
    return None


def _off(says, wanted, results, number):
    """Where a result is furthest from what is wanted, and the hint."""
    got, asked = results[number].flat, wanted[number].flat
    errors = [abs(here - there) if math.isfinite(here) else math.inf for here, there in zip(got, asked, strict=True)]
    at = errors.index(max(errors))
    element = f"element {_index(at, wanted[number].shape)}"
    if says.names:
        element += f" of {_named(says, number)}"
    furthest = ", the one furthest off," if sum(each > 0 for each in errors) > 1 else ""
    here, there = (f"{each:.4g}" if isinstance(each, float) else str(each) for each in (got[at], asked[at]))
    return f"{element}{furthest} is {here} and {says.asked} {there}: {says.hint}"


def _index(place, shape):
    found = []
    for size in reversed(shape):
        place, index = divmod(place, size)
        found.append(index)
    return found[::-1]


def _unwritten(says, number, shape, missing):
    """A sentence about elements that no program wrote. missing: their indices."""
    block, columns = says.block, shape[-1] if shape else 1
    rows = math.prod(shape[:-1])
    if block and len(shape) < 3:
        gone = {(sum(index[:-1]), index[-1]) for index in missing}
        down = sum(any((row, column) not in gone for column in range(columns)) for row in range(rows))
        across = sum(any((row, column) not in gone for row in range(rows)) for column in range(columns))
        covered = [-(-size // block) * block for size in (rows, columns)]
        if says.tiled and (down, across) == (min(rows, covered[1]), min(columns, covered[0])) != (rows, columns):
            return (
                "the two axes of the grid are swapped: it counts tiles of columns where program_id counts tiles of "
                f"rows, so what lies past row {down} or column {across} is never written."
            )
        if across == columns // block * block or down == rows // block * block != 0 and down < rows:
            return "the last, partial block is never written: the grid must round up, triton.cdiv(size, block)."
        if across == block:
            return says.tail
    if block and rows * columns == len(missing) + 1 > 2:
        return "only one element is written: does each lane store to a place of its own, pointer + tl.arange(0, BLOCK)?"
    count = f"{len(missing)} elements" if len(missing) > 1 else "1 element"
    are = "are" if len(missing) > 1 else "is"
    where = f" of {_named(says, number)}" if says.names else ""
    if block:
        cure = "is the block size that the launcher is given used for the grid and for the kernel?"
    else:
        cure = "are there programs for all of them, and does each store all that is its own?"
    return f"{count}{where} {are} never written, the first at {list(missing[0])}: {cure}"
