"""`triton` of the page: jit, and launches over a grid, one program after another."""

import functools
import inspect
import itertools

from _page import watch
from _page.dtypes import NotOnThePage, Pointer, type_of
from _page.memory import Tensor
from _page.tile import Tile

HINTS = {"num_warps", "num_stages", "num_ctas", "maxnreg", "debug", "warmup"}  # to the compiler: they change no result
__all__ = ["cdiv", "jit", "next_power_of_2"]


def cdiv(x, y):
    """x / y, rounded up."""
    return -(-x // y)


def next_power_of_2(n):
    return 1 << max(n - 1, 0).bit_length() if n > 1 else 1


class Kernel:
    """A function marked @triton.jit: kernel[grid](...) launches it, and another kernel may call it."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.fn, self.signature = function, inspect.signature(function)
        self.constexprs = {name for name, each in self.signature.parameters.items() if _is_constexpr(each.annotation)}

    def __call__(self, *arguments, **named):
        if watch.running is None:
            raise RuntimeError(f"{self.fn.__name__} is a kernel: launch it with {self.fn.__name__}[grid](...).")
        return self.fn(*arguments, **named)

    def __getitem__(self, grid):
        return functools.partial(self.launch, grid)

    def launch(self, grid, *arguments, **named):
        """Run every program of a grid: a tuple of one to three sizes, or a function of the arguments that gives one.

        Raises TypeError for a bare number, which Triton refuses as well, with a len() of an int.
        """
        if watch.running is not None:
            raise RuntimeError("a kernel cannot launch another: call it without [grid].")
        named = {name: value for name, value in named.items() if name not in HINTS or name in self.signature.parameters}
        bound = self.signature.bind(*arguments, **named)
        bound.apply_defaults()
        given = bound.arguments
        sizes = grid(dict(given)) if callable(grid) else grid
        if not isinstance(sizes, (tuple, list)):
            raise TypeError(f"a grid is a tuple, even of one size: write {self.fn.__name__}[(size,)](...).")
        sizes = _grid(tuple(sizes))
        tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        launch = watch.Launch(self.fn.__name__, sizes, tensors, any(run.poisoned for run in watch.runs))
        for run in watch.runs:
            run.launches.append(launch)
        inside = {name: v if name in self.constexprs else _argument(name, v) for name, v in given.items()}
        watch.running = launch
        try:
            for program in itertools.product(*map(range, sizes)):
                launch.program, launch.programs = program, launch.programs + 1
                self.fn(**inside)
        finally:
            watch.running = None
        return launch


def _is_constexpr(annotation):
    return getattr(annotation, "__name__", str(annotation)).endswith("constexpr")


def _grid(sizes):
    if not 1 <= len(sizes) <= 3 or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"a grid is one to three whole sizes; got {sizes}.")
    return sizes + (1,) * (3 - len(sizes))


def _argument(name, value):
    if isinstance(value, Tensor):
        return Tile([0], (), Pointer(value.dtype, value, name))
    if isinstance(value, (bool, int)):
        return Tile([value], (), type_of(value))
    if isinstance(value, float) or value is None:
        return value
    raise NotOnThePage(f"argument {name!r} is a {type(value).__name__}: only a tl.constexpr may be one in this editor.")


def jit(function=None, **hints):
    """Mark a function as a kernel."""
    return Kernel(function) if function is not None else Kernel


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    if name == "language":
        from _page import language

        return language
    raise NotOnThePage(f"triton.{name} is not in this editor. It has {', '.join(__all__)} and language.")
