"""The pages of the library: the public names of every module, and argument lists that can be read.

"(public names of PACKAGE)" on a page becomes a section for each of its modules: a new one is found, not listed. A
package with `__all__` speaks for the modules that its names come from; exercises keep their hidden cases, and claims
are in the ledger. Docstrings stay as they are in the code: "name: text" becomes an entry of a list here.
"""

import importlib
import inspect
import pkgutil
import re

PACKAGES = ("effattn_core", "kernels", "figures")
HIDDEN = {"checks", "claims"}  # modules, and folders of them, whose public names are no interface
END = r"(?=(?:^|(?<=[.;\s]))(?:[Rr]eturns?|Raises?|Yields?)\s)"

EACH_ERROR = r"([\w.]+Error) (.*?)(?=,? (?:and )?[\w.]+Error |$)"


def setup(app):
    app.connect("source-read", list_modules)
    app.connect("autodoc-process-docstring", argument_lists)
    return {"parallel_read_safe": True}


def modules():
    """The dotted names of all modules whose public names are interface, in order."""
    found, spoken_for = [], set()
    for package in PACKAGES:
        root = importlib.import_module(package)
        walked = pkgutil.walk_packages(root.__path__, f"{package}.")
        for name in sorted([package, *(each.name for each in walked)]):
            if HIDDEN & set(name.split(".")):
                continue
            module = importlib.import_module(name)
            if hasattr(module, "__path__"):
                exported = (getattr(module, each) for each in getattr(module, "__all__", ()))
                files = {getattr(each, "__module__", None) or "" for each in exported}
                spoken_for |= {file for file in files if file.startswith(f"{name}.")}  # not those of another package
            found.append(name)
    return [name for name in found if name not in spoken_for]


def of_kind(package, kind):
    """Those of `package`: all of them; or its "shared" files, or its "topics", which are folders."""
    names = [name for name in modules() if name.partition(".")[0] == package]
    if not kind:
        return names
    known = getattr(importlib.import_module(package), "SHARED", ())  # folders that topics share
    shared = [
        name
        for name in names
        if name == package
        or top(name).rpartition(".")[2] in known
        or not hasattr(importlib.import_module(top(name)), "__path__")
    ]
    return shared if kind == "shared" else [name for name in names if name not in shared]


def top(name):
    """The first two parts of a dotted name: what a package holds directly."""
    return ".".join(name.split(".")[:2])


def list_modules(app, docname, source):
    """Replace each "(public names of PACKAGE)", "(public names of PACKAGE: KIND)" of a page of the library."""

    def sections(match):
        return "\n".join(map(section, of_kind(*match.groups())))

    source[0] = re.sub(r"^\(public names of (\w+)(?:: (shared|topics))?\)$", sections, source[0], flags=re.M)


def section(name):
    """A heading and an automodule: the list of a page's contents names modules, not each function of each."""
    options = ["members"]
    if "__all__" in vars(importlib.import_module(name)):
        options.append("imported-members")
    listed = f".. automodule:: {name}\n" + "".join(f"   :{option}:\n" for option in options)
    return f"## `{name}`\n\n```{{eval-rst}}\n{listed}```\n"


def argument_lists(app, what, name, obj, options, lines):
    """Turn "name: text" of a function's or class's docstring into its list of arguments, returns and errors."""
    if what not in ("function", "method", "class") or not lines:
        return
    try:
        wanted = set(inspect.signature(getattr(obj, "fn", obj)).parameters)
    except (TypeError, ValueError):
        return
    prose, fields = [], []
    for paragraph in "\n".join(lines).split("\n\n"):
        if re.search(r"^\s*(\.\.|-|\*|>>>)", paragraph, flags=re.MULTILINE):
            prose.append(paragraph)
        else:
            said, found = arguments(paragraph, wanted)
            prose.append(said)
            fields += found
    lines[:] = "\n\n".join(filter(None, prose)).split("\n") + ["", *fields, ""]


def arguments(text, wanted):
    """(what a paragraph says besides, its arguments as field lists). wanted: the names of the parameters."""
    starts = [
        match
        for match in re.finditer(r"(?:^|(?<=[.;]\s)|(?<=\s\s)|(?<=\n))(\w+(?:, \w+)*): ", text)
        if all(each in wanted for each in match[1].split(", "))
    ]
    said, fields = [text[: starts[0].start()] if starts else text], []
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for start, end in zip(starts, ends if starts else [], strict=True):
        entry, *rest = re.split(END, text[start.end() : end])
        fields += [f":param {name}: {entry.strip().rstrip(';')}" for name in start[1].split(", ")]
        said += rest
    prose, last = [], []
    for part in (piece.strip() for each in said for piece in re.split(END, each)):
        if match := re.match(r"Raises? ([\w.]+Error\b.*)", part, flags=re.DOTALL):
            last += [f":raises {error}: {when}" for error, when in re.findall(EACH_ERROR, match[1], flags=re.DOTALL)]
        elif match := re.match(r"[Rr]eturns? (.*)", part, flags=re.DOTALL):
            fields.append(f":returns: {match[1]}")
        else:
            prose.append(part)
    return " ".join(filter(None, prose)), [" ".join(each.split()) for each in fields + last]
