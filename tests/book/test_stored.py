"""What a machine may change is shown as it was stored only while all that it may follow from is unchanged."""

import nbformat
import notebooks
import pytest


def notebook(sources, outputs, tags=("nbval-ignore-output",)):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("words")])
    for source, text in zip(sources, outputs, strict=True):
        cell = nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output("stream", text=text)])
        cell.metadata["tags"] = list(tags)
        made.cells.append(cell)
    return made


def shown(made):
    return [cell["outputs"][0]["text"] for cell in made.cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    ("sources", "kept"),
    [(["a", "b", "c"], 3), (["a", "x", "c"], 1), (["x", "b", "c"], 0), (["a", "b", "x"], 2), (["new", "a", "b"], 0)],
)
def test_stored_outputs_are_kept_up_to_the_first_cell_that_changed(sources, kept, tmp_path):
    nbformat.write(notebook("abc", ["old"] * 3), tmp_path / "page.ipynb")
    made = notebook(sources, ["new"] * 3)
    notebooks.keep_stored(made, tmp_path / "page.ipynb")
    assert shown(made) == ["old"] * kept + ["new"] * (3 - kept)


def test_words_may_change_and_what_is_compared_is_always_new(tmp_path):
    nbformat.write(notebook("ab", ["old"] * 2), tmp_path / "page.ipynb")
    made = notebook("ab", ["new"] * 2)
    made.cells[0]["source"] = "other words"
    notebooks.keep_stored(made, tmp_path / "page.ipynb")
    assert shown(made) == ["old"] * 2
    made = notebook("ab", ["new"] * 2, tags=())
    notebooks.keep_stored(made, tmp_path / "page.ipynb")
    assert shown(made) == ["new"] * 2
