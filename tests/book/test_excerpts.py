"""Excerpts: the library's own program in 72 columns, and a sentence where there is none."""

import ast
import re

import excerpts
import narrow
import pytest
from support.house import ROOT


def alike(source):
    """The syntax of a program, whatever the white space of its docstrings."""
    tree = ast.parse(source)
    for found in filter(None, map(narrow._docstring, ast.walk(tree))):
        found.value.value = " ".join(found.value.value.split())
    return ast.dump(tree)


def shown():
    """The definitions that the chapters show or could: all kernels, and each excerpt of a page."""
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                yield f"{module}.{node.name}"
    for path in sorted((ROOT / "book").rglob("*.md")):
        yield from re.findall(r"^`{3,}\{excerpt\} (\S+)", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(shown())))
def test_an_excerpt_is_the_same_program_in_narrow_lines(name):
    source = excerpts.find(name)[2]
    text = narrow.narrow(source)
    assert narrow.too_long(text) == []
    assert alike(text) == alike(narrow.textwrap.dedent(source))
    assert ast.get_docstring(ast.parse(narrow.narrow(source, docstring=False)).body[0]) is None


WIDE = '''
@decorated
def wide(
    query_pointer, key_pointer, value_pointer, output_pointer, log_sum_exp_pointer, query_stride,
    heads, time,
):  # fmt: skip
    """One line that is much longer than the seventy-two columns that a page has, so that it is wrapped.

    query: [batch, heads, time, key_dim]   value: [batch, heads, time, value_dim], whatever the value_dim is
    """
    rows = heads * time  # this comment stands beside its line and would not fit into the column any more
    if rows > 1:  # a comment on a line that opens a block goes below it, where it is still about the block
        raise ValueError(f"rows must be at most one, so that the sentence is long; has {heads * time} rows of {time}.")
    return launch(query_pointer, key_pointer, value_pointer, output_pointer, log_sum_exp_pointer, heads)
'''
NARROW = '''
@decorated
def wide(
    query_pointer, key_pointer, value_pointer, output_pointer,
    log_sum_exp_pointer, query_stride,
    heads, time,
):
    """One line that is much longer than the seventy-two columns that a
    page has, so that it is wrapped.

    query: [batch, heads, time, key_dim]
    value: [batch, heads, time, value_dim], whatever the value_dim is
    """
    # this comment stands beside its line and would not fit into the
    # column any more
    rows = heads * time
    if rows > 1:
        # a comment on a line that opens a block goes below it, where it
        # is still about the block
        raise ValueError(
            f"rows must be at most one, so that the sentence is long; "
            f"has {heads * time} rows of {time}."
        )
    return launch(
        query_pointer, key_pointer, value_pointer, output_pointer,
        log_sum_exp_pointer, heads,
    )
'''


def test_groups_comments_docstrings_and_strings_are_wrapped():
    assert narrow.narrow(WIDE.lstrip()) == NARROW.lstrip()
    without = narrow.narrow(WIDE.lstrip(), docstring=False)
    assert '"""' not in without and "    heads, time,\n):\n    # this comment" in without


def test_a_definition_of_a_docstring_alone_keeps_a_body():
    assert narrow.narrow('def empty():\n    """Nothing."""\n', docstring=False) == "def empty(): ...\n"


def test_a_part_is_moved_to_the_margin_and_ends_with_its_statement():
    assert excerpts.part("wide", NARROW, "raise", "raise").splitlines()[0] == "raise ValueError("
    assert excerpts.part("wide", NARROW, "raise", "raise").splitlines()[-1] == ")"
    with pytest.raises(ValueError, match="wide has no line with 'nothing' as it is shown, in 72 columns."):
        excerpts.part("wide", NARROW, "nothing", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "kernels.attention.forward.absorbed",
            "no definition .*absorbed: kernels/attention/forward.py has none.",
        ),
        (
            "kernels.attention.absorb",
            "__init__.py has none. It stands in kernels/attention/forward.py.",
        ),
        ("kernels.attention", "name it as package.module.function, of effattn_core, kernels, figures."),
        ("torch.nn.Linear", "there is no definition torch.nn.Linear: name it as"),
        ("effattn_core.states.WindowCache.lost", "effattn_core/states.py has none."),
    ],
)
def test_a_name_that_does_not_exist_is_refused_in_a_sentence(name, said):
    with pytest.raises(ValueError, match=said):
        excerpts.find(name)


def test_methods_and_constants_are_found_with_their_lines():
    path, (first, last), source = excerpts.find("effattn_core.states.WindowCache.attend")
    assert path.read_text().splitlines()[first - 1].strip() == source.splitlines()[0].strip()
    assert len(source.splitlines()) == last - first + 1
    assert excerpts.find("effattn_core.exercises.LEVELS")[2].startswith("LEVELS = (")
