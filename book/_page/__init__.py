"""A Triton of the page: the part of Triton that this book teaches, in plain Python, standard library only.

It is what a reader's kernel runs on in the browser, where there is neither a GPU nor numpy. A program is the kernel's
own Python function; a tile is a list of numbers with a shape and a type. Each load and store is noted, so that a lane
outside its tensor, two programs that meet, and an element that nobody wrote can be named.

    from _page import load_source, watched, unwritten
    names = load_source(text)                       # the reader's cell: import torch, import triton.language as tl …
    with watched() as run:                          # run.launches, run.findings, run.loaded, run.stored, run.products
        result = names["scale_add"](left, right, 3.0, 64)
    missing = unwritten(result)                     # indices of elements that no program wrote
    with watched(poisoned=True) as run:             # lanes that a mask leaves out without `other` hold no number

`tensor(values, shape, …)` makes what a launcher takes. What is not there says so by its name.
"""

from _page.launch import Kernel, jit
from _page.memory import Tensor, tensor, unwritten
from _page.source import load_source
from _page.watch import Finding, Launch, Run, watched

__all__ = ["Finding", "Kernel", "Launch", "Run", "Tensor", "jit", "load_source", "tensor", "unwritten", "watched"]
