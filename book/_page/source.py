"""A reader's cell, run on the page: its imports of triton and torch are answered by the page's own."""

import builtins
import linecache
import math

from _page import host, launch
from _page.dtypes import NotOnThePage
from _page.memory import Device

KNOWN = {"triton": launch, "triton.language": launch.__getattr__("language"), "torch": host}
ALLOWED = {"math", "functools", "itertools", "operator", "__future__"}


def load_source(text, filename="your kernel", modules=None):
    """Run a cell's text and return its names, with torch, triton, tl, math and device among them at once.

    modules: others that it may import, by name. An import of anything else raises NotOnThePage.
    The lines of the text can then be quoted by `filename`, in findings and in tracebacks.
    """
    known = KNOWN | (modules or {})

    def importing(name, globals=None, locals=None, fromlist=(), level=0):
        if name in ALLOWED:
            return __import__(name, globals, locals, fromlist, level)
        if name not in known:
            raise NotOnThePage(
                f"`import {name}` is not in this editor: it has {', '.join(sorted({*known, *ALLOWED}))}."
            )
        return known[name] if fromlist else known[name.partition(".")[0]]

    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names = {"__name__": "page", "__builtins__": {**vars(builtins), "__import__": importing}}
    names |= {"torch": host, "triton": launch, "tl": KNOWN["triton.language"], "math": math, "device": Device("page")}
    exec(compile(text, filename, "exec"), names)
    return names
