"""The directive `{excerpt} kernels.attention.forward.absorb`: a definition of the library in a column that fits a page.

    :without-docstring:    leave the definition's docstring out, where the prose says it
    :from: TEXT            begin at the first line that holds TEXT
    :to: TEXT              end with the first line after it that holds TEXT, and the rest of its statement

It is the source as it stands (narrow.py wraps it), with a link to the file. A name that does not exist, a text that no
line holds, and a line that stays too long are build errors.
"""

import ast
import textwrap
from pathlib import Path

import narrow
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("effattn_core", "kernels", "figures")


def setup(app):
    app.add_directive("excerpt", Excerpt)
    return {"parallel_read_safe": True}


class Excerpt(SphinxDirective):
    required_arguments = 1
    option_spec = {"without-docstring": directives.flag, "from": directives.unchanged, "to": directives.unchanged}

    def run(self):
        name = self.arguments[0]
        try:
            path, (first, last), source = find(name)
            text = narrow.narrow(source, docstring="without-docstring" not in self.options)
            text = part(name, text, self.options.get("from"), self.options.get("to"))
        except ValueError as error:
            raise self.error(str(error)) from error
        for number, length in narrow.too_long(text):
            line = text.splitlines()[number - 1].strip()
            raise self.error(f"{name}: a line of {length} characters cannot be narrowed to {narrow.WIDTH}: {line}")
        self.env.note_dependency(str(path))
        # sphinx_codeautolink links the names of what parses by itself, and leaves "pyi", the same colours, alone.
        code = nodes.literal_block(text, text, language="python" if _parses(text) else "pyi", classes=["excerpt"])
        file = path.relative_to(ROOT).as_posix()
        address = f"{self.config.html_theme_options['repository_url'].rstrip('/')}/blob/{branch(self.config)}/{file}"
        link = nodes.reference("", file, refuri=f"{address}#L{first}-L{last}", internal=False)
        return [code, nodes.paragraph("", "", link, classes=["excerpt-source"])]


def branch(config):
    return config.html_theme_options.get("repository_branch") or "main"


def find(name):
    """(file, (first line, last line), source) of "package.module.definition" or "package.module.Class.method".

    Raises ValueError for a name that is no definition of the library, with where one of that name stands if one does.
    """
    parts = name.split(".")
    path = ROOT / parts[0]
    depth = 1
    while depth < len(parts) and (path / parts[depth]).is_dir():
        path, depth = path / parts[depth], depth + 1
    if depth < len(parts) and (path / f"{parts[depth]}.py").exists():
        path, depth = path / f"{parts[depth]}.py", depth + 1
    else:
        path = path / "__init__.py"
    if parts[0] not in PACKAGES or not path.exists() or depth == len(parts):
        raise ValueError(
            f"there is no definition {name}: name it as package.module.function, of {', '.join(PACKAGES)}."
        )
    source = path.read_text(encoding="utf-8")
    node = ast.parse(source)
    for part_name in parts[depth:]:
        node = next((each for each in getattr(node, "body", []) if part_name in _names(each)), None)
        if node is None:
            raise ValueError(
                f"there is no definition {name}: {path.relative_to(ROOT)} has none.{_elsewhere(parts[-1])}"
            )
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    lines = source.splitlines(keepends=True)[first - 1 : node.end_lineno]
    return path, (first, node.end_lineno), "".join(lines)


def part(name, text, begin, end):
    """The lines from the first that holds `begin` to the first after it that holds `end`, moved to the margin."""
    lines = text.splitlines()
    first, last = 0, len(lines)
    if begin:
        first = _line(name, lines, begin, 0)
    if end:
        last = _line(name, lines, end, first) + 1
        while last < len(lines) and _is_open("\n".join(lines[first:last])):
            last += 1
    return textwrap.dedent("\n".join(lines[first:last]) + "\n")


def _is_open(text):
    """Whether a bracket is open at the end of some lines of a program; one in a string counts, too."""
    return sum(text.count(each) for each in "([{") > sum(text.count(each) for each in ")]}")


def _line(name, lines, text, start):
    for number, line in enumerate(lines[start:], start=start):
        if text in line:
            return number
    raise ValueError(f"{name} has no line with {text!r} as it is shown, in {narrow.WIDTH} columns.")


def _parses(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _names(node):
    """What a statement defines."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [getattr(node, "name", None), *(getattr(each, "id", None) for each in targets)]


def _elsewhere(definition):
    """A sentence on the files that define this name, or ""."""
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    found = [
        str(path.relative_to(ROOT))
        for path in paths
        if any(definition in _names(node) for node in ast.parse(path.read_text(encoding="utf-8")).body)
    ]
    return f" It stands in {', '.join(found)}." if found else ""
