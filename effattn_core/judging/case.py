"""The hidden cases of the kernel exercises, and how JupyterLab calls a reader's launcher on them."""

import contextlib
import functools
import io
from dataclasses import KW_ONLY, dataclass, field, fields
from types import SimpleNamespace

import torch

from effattn_core.exercises import exercise
from effattn_core.judging.verdict import Outcome, Says, Values, close, in_tuple, judged, results_of
from effattn_core.judging.watch import copied, counted, far_rows, strayed, unwritten, watch
from kernels import runtime

STRIDES = (
    "the view's elements do not lie side by side: multiply each index by its own stride, .stride(0) or .stride(1)."
)
NO_CASES = "This exercise has no cases yet: there is nothing to hold an answer against."
WIDE = (
    "its row begins 2^31 elements after the first, and the offset came out as {offset:,}: 32 bits overflowed. Take "
    "tl.program_id(0).to(tl.int64) before you multiply by the stride."
)


@dataclass(frozen=True)
class Case(Says):
    """One call of the reader's launcher, and what is said of it (`Says`).

    arguments: of the call. wanted: the right result, a tensor, or a tuple of them: what is returned, then the arguments
    whose numbers are in `written`, as they must be afterwards. mistakes: (what it would give, sentence) of each known
    way to go wrong; in a tuple None stands for a result that does not matter. grid: None, or the sizes of a grid: then
    the function is a kernel, and is launched on it. A case that is `far` is called with its first argument's rows 2^30
    elements apart.
    """

    arguments: tuple
    wanted: torch.Tensor | tuple
    _: KW_ONLY
    written: tuple = ()
    mistakes: list = field(default_factory=list)
    grid: tuple | None = None

    @property
    def says(self):
        """What is said of it, without its tensors."""
        return Says(**{each.name: getattr(self, each.name) for each in fields(Says)})

    @property
    def results(self):
        """[Values]: what is wanted."""
        return list(map(values_of, in_tuple(self.wanted)))

    @property
    def wrong(self):
        """([Values or None], sentence) of each known mistake, one after another as they are asked for."""
        size = len(in_tuple(self.wanted))
        for given, sentence in self.mistakes:
            found = [each if each is None else values_of(each) for each in in_tuple(given)]
            yield found + [None] * (size - len(found)), sentence


def kernel_exercise(name):
    """Register a function that gives the cases of the kernel exercise `name`: a list of Case.

    A reader's launcher is held against them by `judge`, in JupyterLab, and by its editor on the page.
    Raises ValueError for a name that another module has registered.
    """

    def register(cases):
        def check(function):
            given = cases()
            return judge(function, given) if given else NO_CASES

        check.__module__ = cases.__module__
        exercise(name, level="kernel", cases=cases)(check)
        return cases

    return register


def judge(function, cases):
    """The first sentence about what is wrong with a launcher over the cases, None if there is nothing."""
    for case in cases:
        outcome, again = _far(function, case) if case.far else _called(function, case)
        reason = outcome and judged(case.says, case.results, case.wrong, outcome, again)
        if reason:
            return f"For {case.what}: {reason}"
    return None


def random(*shape):
    """Normal numbers, the same in every run, where kernels run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(runtime.device())


def in_float32(*tensors):
    """A tuple of float32 tensors where kernels run; None stays None. What is computed in float64 is rounded once."""
    return tuple(each if each is None else each.float().to(runtime.device()) for each in tensors)


def near(got, wanted, within=None):
    """Whether two tensors are as near as a check of kernels asks."""
    return close(values_of(got), values_of(wanted), within)


def values_of(tensor):
    """A tensor as lists of numbers; the name of its type if it is none."""
    if not isinstance(tensor, torch.Tensor):
        return type(tensor).__name__
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Values(dtype, tuple(tensor.shape), tensor.detach().cpu().flatten().tolist())


def _called(function, case):
    """The Outcome of a case that is not far, and the poisoned call if lanes were left out, else None."""
    given, before = case.arguments, copied(case.arguments)
    with counted({number: given[number] for number in case.once}) as loads:
        found = watch(lambda: _call(function, case, given))
    after = [given[number] for number in case.written]
    results = results_of(found.result, after)
    changed = any(
        isinstance(each, torch.Tensor) and number not in case.written and not each.equal(before[number])
        for number, each in enumerate(given)
    )
    outcome = Outcome(
        list(map(values_of, results)),
        launches=found.launches,
        missing=[unwritten(each, found.stored) for each in results],
        exact=found.stored is not None,
        findings=found.findings,
        changed=changed,
        loads=loads,
        written=len(after),
        scattered=any(isinstance(each, torch.Tensor) and not each.is_contiguous() for each in results),
    )
    return outcome, functools.partial(_poisoned, function, case, before) if found.left_out else None


def _call(function, case, given):
    return function(*given) if case.grid is None else function[case.grid](*given) and None


def _poisoned(function, case, given):
    """[Values] of a second call in which lanes that a mask leaves out hold no number; [] if it fails, or strays."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what it prints was printed
            found = watch(lambda: _call(function, case, given), poisoned=True)
    except Exception:
        return []
    return [] if found.findings else list(map(values_of, results_of(found.result, [given[n] for n in case.written])))


def _far(function, case):
    """As `_called`, of a case that is far; no Outcome where kernels are compiled, or memory for it is not given."""
    source, *rest = case.arguments
    spread = far_rows(*source.shape) if runtime.mode == "interpreter" else None
    if spread is None:
        return None, None
    spread.copy_(source)
    result, offset = strayed(lambda: function(spread, *rest))
    findings = [] if offset is None else [SimpleNamespace(kind="outside", offset=offset)]
    return Outcome(list(map(values_of, in_tuple(result))), findings=findings), None
