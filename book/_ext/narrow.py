"""The library's source in a narrow column: what `{excerpt}` shows, so that no line on a page has to be scrolled.

`narrow(source)` gives the same program in lines of at most 72 characters: ruff formats the code; comments, docstrings
and long strings, which ruff leaves alone, are wrapped here.
"""

import ast
import functools
import io
import re
import subprocess
import textwrap
import tokenize

from ruff import find_ruff_bin

RUFF, WIDTH = find_ruff_bin(), 72
SKIP = re.compile(r" *# fmt: skip$")
FIELD = re.compile(r"([\w`*][\w`*, /]*:|-|\d+\.) ")  # starts a line of its own in a docstring
STRING = re.compile(
    r"""(?P<indent>\s*)(?P<before>return |yield |[\w.]+ \+?= |\w+=|["\w]+: )?"""
    r"""(?P<prefix>f?)(?P<quote>["'])(?P<text>(?:(?!(?P=quote))[^\\]|\\.)*)(?P=quote)(?P<after>(?:\.split\(\))?[,)\]}]*)"""
)


@functools.cache
def narrow(source, width=WIDTH, docstring=True):
    """`source`, a whole definition, in lines of at most `width` characters where that can be done.

    docstring: False leaves the definition's own docstring out.
    """
    text = textwrap.dedent(source)
    if not docstring:
        text = without_docstring(text)
    text = wrap_docstrings(text, width)
    text = ruff(lift_comments(break_groups(text, width), width), width)
    text = fill_arguments(break_strings(ruff(lift_comments(text, width), width), width), width)
    return "\n".join(SKIP.sub("", line) for line in text.splitlines()) + "\n"


def too_long(source, width=WIDTH):
    """The numbers and lengths of the lines that are longer than `width`."""
    return [(number, len(line)) for number, line in enumerate(source.splitlines(), start=1) if len(line) > width]


def ruff(text, width):
    """The program as ruff formats it. Raises ValueError, with what ruff says, for what is no program."""
    command = [RUFF, "format", "--isolated", f"--line-length={width}", "--stdin-filename=excerpt.py", "-"]
    done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ValueError(f"ruff cannot format the excerpt: {done.stderr.strip()}")
    return done.stdout


def without_docstring(text):
    """The definition without its own docstring."""
    tree = ast.parse(text)
    found = _docstring(tree.body[0])
    if found is None:
        return text
    lines = text.splitlines(keepends=True)
    rest = lines[found.end_lineno :]
    while rest and not rest[0].strip():
        rest.pop(0)
    alone = len(tree.body[0].body) == 1
    lines[found.lineno - 1 :] = [" " * found.col_offset + "...\n"] * alone + rest
    return "".join(lines)


def wrap_docstrings(text, width):
    """Every docstring wrapped, paragraph by paragraph; a line that describes an argument stays a line of its own."""
    nodes = (node for node in ast.walk(ast.parse(text)) if _docstring(node))
    for found in sorted(map(_docstring, nodes), key=lambda each: -each.lineno):
        lines = text.splitlines()
        first, last, indent = found.lineno - 1, found.end_lineno, " " * found.col_offset
        if all(len(line) <= width for line in lines[first:last]):
            continue
        written = "\n".join(lines[first:last]).strip()
        start = written.index('"""') + 3
        body = [(indent + written[:start] + written[start:-3]).splitlines()[0]]
        body += written[start:-3].rstrip().splitlines()[1:]
        wrapped = _wrapped(body, width if len(body) > 1 else width - 3)  # room for the quotes that close a single line
        wrapped = [wrapped[0] + '"""'] if len(wrapped) == 1 else [*wrapped, indent + '"""']
        text = "\n".join([*lines[:first], *wrapped, *lines[last:]]) + "\n"
    return text


def _docstring(node):
    """The expression that is a definition's docstring, or None."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return None
    return node.body[0] if ast.get_docstring(node, clean=False) is not None else None


def _wrapped(lines, width):
    """Lines of prose: each run of lines that belong together filled anew if one of them is too long."""
    runs = []
    for line in lines:
        starts = not line.strip() or FIELD.match(line.lstrip()) or "   " in line.strip()
        if not runs or starts or not runs[-1][-1].strip() or _indent(line) != _indent(runs[-1][-1]):
            runs.append([])
        runs[-1].append(line)
    found = []
    for run in runs:
        if all(len(line) <= width for line in run):
            found += run
            continue
        indent = " " * _indent(run[0])
        hang = indent + "  " * bool(FIELD.match(run[0].lstrip()))
        joined = " ".join(line.strip() for line in run)
        for column in re.split(r" {3,}", joined):  # columns that stood side by side stand below each other
            found += _filled(column, width, indent, hang)
    return found


def _filled(text, width, indent, hang):
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
    )


def _indent(line):
    return len(line) - len(line.lstrip())


def break_groups(text, width):
    """Where "fmt: skip" keeps arguments in groups, a group that is too long goes on in the next line."""
    lines = text.splitlines()
    for node in sorted(ast.walk(ast.parse(text)), key=lambda each: -getattr(each, "lineno", 0)):
        if not isinstance(node, ast.stmt):
            continue
        stop = node.body[0].lineno - 1 if getattr(node, "body", None) else node.end_lineno
        while stop > node.lineno and not SKIP.search(lines[stop - 1]):
            stop -= 1
        if stop == node.lineno or not SKIP.search(lines[stop - 1]):
            continue
        first, *inner, last = lines[node.lineno - 1 : stop]
        broken = [first, *(part for line in inner for part in _groups(line, width)), last]
        if any(len(SKIP.sub("", line)) > width for line in broken):
            broken = lines[node.lineno - 1 : stop - 1] + [SKIP.sub("", lines[stop - 1])]
        lines[node.lineno - 1 : stop] = broken
    return "\n".join(lines) + "\n"


def _groups(line, width):
    """A line of arguments, split at its outermost commas into lines of at most `width`."""
    if len(SKIP.sub("", line)) <= width:
        return [line]
    parts, depth, quote, start = [], 0, "", _indent(line)
    indent = " " * start
    for place, letter in enumerate(line):
        if letter in "\"'" and quote in ("", letter):
            quote = "" if quote else letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0 and not quote:
            parts.append(line[start : place + 1].strip())
            start = place + 1
    parts.append(line[start:].strip())
    rows = [indent]
    for part in filter(None, parts):
        if len(rows[-1]) + len(part) + 1 > width and rows[-1].strip():
            rows.append(indent)
        rows[-1] += part if rows[-1] == indent else f" {part}"
    return rows


def lift_comments(text, width):
    """Comments in lines that are too long: wrapped, and set above their line (below one that opens a block)."""
    lines = text.splitlines()
    found = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT]
    alone = {token.start[0] for token in found if not token.line[: token.start[1]].strip()}
    for token in reversed(found):
        row, column = token.start
        if row in alone or len(lines[row - 1]) <= width or SKIP.fullmatch(token.string):
            continue
        line = lines[row - 1]
        code = line[:column].rstrip()
        opens = code.endswith(":")
        indent = " " * (_indent(line) + 4 * opens)
        comment = _filled(token.string.lstrip("# "), width, f"{indent}# ", f"{indent}# ")
        lines[row - 1 : row] = [code, *comment] if opens else [*comment, code]
    return "\n".join(_wrapped_comments(lines, width)) + "\n"


def _wrapped_comments(lines, width):
    """Runs of comment lines, filled anew where one is too long."""
    run, found = [], []
    for line in [*lines, None]:
        if line is not None and line.lstrip().startswith("# ") and (not run or _indent(run[0]) == _indent(line)):
            run.append(line)
            continue
        if any(len(each) > width for each in run):
            mark = " " * _indent(run[0]) + "# "
            run = _filled(" ".join(each.strip().lstrip("# ") for each in run), width, mark, mark)
        found += run
        run = [line] if line is not None and line.lstrip().startswith("# ") else []
        found += [] if run or line is None else [line]
    return found


def fill_arguments(text, width):
    """Arguments that ruff has set one below the other share lines again, as many as fit: a kernel has dozens."""
    found, lines = [], text.splitlines()
    while lines:
        line = lines.pop(0)
        found.append(line)
        inner = []
        if line.endswith(("(", "[")):
            inside = " " * (_indent(line) + 4)
            while lines and lines[0].startswith(inside) and lines[0].endswith(",") and _is_one_argument(lines[0]):
                inner.append(lines.pop(0))
        if len(inner) < 2 or not lines or not re.match(r"\s*[)\]]", lines[0]):
            found += inner
            continue
        rows = [inner[0]]
        for row in inner[1:]:
            if len(rows[-1]) + 1 + len(row.strip()) > width:
                rows.append(row)
            else:
                rows[-1] += f" {row.strip()}"
        found += rows
    return "\n".join(found) + "\n"


def _is_one_argument(line):
    """Whether the line is one whole argument. What stands in groups already stays so."""
    try:
        call = ast.parse(f"f({line.strip()})").body[0].value
    except SyntaxError:
        return False
    return len(call.args) + len(call.keywords) == 1 and "#" not in line


def break_strings(text, width):
    """A string alone in a line that is too long becomes several, which Python joins."""
    found = []
    for line in text.splitlines():
        match = STRING.fullmatch(line) if len(line) > width else None
        if not match:
            found.append(line)
            continue
        indent, before, after = match["indent"], match["before"] or "", match["after"]
        parenthesised = before.endswith((" ", "= ")) and not before.endswith(": ")
        inner = indent + "    " * bool(before)
        start = inner if parenthesised or not before else indent + before
        room = width - len(inner) - len(match["prefix"]) - 2 - len(after)
        pieces = _pieces(match["text"], room, room - max(0, len(start) - len(inner)), bool(match["prefix"]))
        rows = [f"{match['prefix']}{match['quote']}{piece}{match['quote']}" for piece in pieces]
        rows = [(inner if number or start == inner else start) + row for number, row in enumerate(rows)]
        if after.startswith(".") and not parenthesised:
            found.append(line)
            continue
        if parenthesised:
            rows = [f"{indent}{before}(", *rows, f"{indent})"]
        found += [*rows[:-1], rows[-1] + after]
    return "\n".join(found) + "\n"


def _pieces(text, room, first, formatted):
    """The text of a string, cut after spaces that lie in no replacement field, into pieces that fit."""
    words, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}") if formatted else 0
        if letter == " " and depth == 0:
            words.append(text[start : place + 1])
            start = place + 1
    pieces = [""]
    for word in [*words, text[start:]]:
        if pieces[-1] and len(pieces[-1]) + len(word) > (room if len(pieces) > 1 else first):
            pieces.append("")
        pieces[-1] += word
    return pieces
