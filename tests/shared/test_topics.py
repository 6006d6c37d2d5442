"""Every topic has its rooms, and what a room still lacks is said by name and line."""

import ast

import pytest
from support.house import ROOT, chapters

from effattn_core import topics

WANTED = "TO WRITE"
ROOMS = ("__init__", "checks", "claims")
BEFORE = ("machine", "token", "primer")  # they repeat nobody's claims


def chapter_of(topic):
    return next((ROOT / "book" / f"{name}.md" for name in chapters() if name.rpartition("/")[2] == topic), None)


def files_of(topic):
    """All that a topic's author writes."""
    for folder in ("effattn_core", "kernels", "figures", "tests"):
        yield from sorted((ROOT / folder / topic).rglob("*.py"))
        yield from [path for path in [ROOT / folder / f"{topic}.py"] if path.exists()]
    yield from sorted((ROOT / "book" / "measurements" / topic).glob("*.py"))
    yield from filter(None, [chapter_of(topic)])


def missing(topic):
    """A sentence for each room that a topic lacks."""
    chapter = chapter_of(topic)
    if chapter is None:
        yield f"{topic} has no chapter in book/_toc.yml"
    elif not chapter.with_suffix(".ipynb").exists():
        yield f"{chapter.relative_to(ROOT)} has no executed pair: run make notebooks CHAPTER={topic}"
    for room in ROOMS if topic not in BEFORE else ROOMS[:2]:
        if not any((ROOT / "effattn_core" / topic / name).exists() for name in (room, f"{room}.py")):
            yield f"effattn_core/{topic} has no {room}.py"
    if not any((ROOT / "figures" / name).exists() for name in (topic, f"{topic}.py")):
        yield f"figures has no {topic}.py"
    if not list((ROOT / "tests" / topic).glob("test_*.py")):
        yield f"tests/{topic} has no test"


@pytest.mark.parametrize("topic", topics())
def test_a_topic_has_its_rooms(topic):
    found = list(missing(topic))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("topic", topics())
def test_nothing_of_a_topic_is_left_to_write(topic):
    found = [
        f"{path.relative_to(ROOT)}:{number}  {line.strip()}"
        for path in files_of(topic)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if WANTED in line
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("topic", [topic for topic in topics() if topic != "primer"])
def test_a_topic_says_what_is_public(topic):
    package = ast.parse((ROOT / "effattn_core" / topic / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(package)
    assert any(isinstance(node, ast.Assign) and node.targets[0].id == "__all__" for node in package.body)
