"""Make the rooms of a new topic from the templates in .ci/topic: `make new TOPIC=name PART=4-sparse` calls this.

Every room says TO WRITE where its author is wanted, and the suite fails with those sentences until none is left. The
topic gets its place in the book's table of contents and, as the newest, on top of the order of imports. Needs Python
alone.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / ".ci" / "topic"
NAME, PLACEHOLDER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*"), "newtopic"
ONLY = {  # rooms that are made on request
    "kernel": ("kernels/", "tests/newtopic/test_kernels.py"),
    "run": ("book/measurements/newtopic/run.py", "tests/newtopic/test_measurements.py"),
    "bench": ("book/measurements/newtopic/bench.py", "tests/newtopic/test_measurements.py"),
}


def refusal(topic, part, extras):
    """Why these rooms cannot be made, as a sentence, or ""."""
    if not NAME.fullmatch(topic):
        return f"TOPIC must be a name in small letters, such as focus; it is {topic!r}."
    if not re.fullmatch(r"\d-[a-z]+", part):
        return f"PART must be a folder of the book, such as 4-sparse; it is {part!r}."
    if unknown := set(extras) - set(ONLY):
        return f"WITH may hold {', '.join(ONLY)}; it holds {', '.join(sorted(unknown))}."
    for package in ("effattn_core", "kernels", "figures", "tests"):
        for path in (ROOT / package / topic, ROOT / package / f"{topic}.py"):
            if path.exists():
                return f"{path.relative_to(ROOT)} is there already: a topic needs a name of its own."
    return ""


def rooms(topic, part, extras):
    """(path, text) of each file of a new topic."""
    requested = {start for extra in extras for start in ONLY[extra]}
    optional = {start for starts in ONLY.values() for start in starts}
    for path in sorted(path for path in TEMPLATES.rglob("*.*") if path.suffix in (".py", ".md")):
        name = path.relative_to(TEMPLATES).as_posix()
        if "__pycache__" in name or any(name.startswith(start) for start in optional - requested):
            continue
        text = path.read_text(encoding="utf-8")
        text = text.replace(PLACEHOLDER, topic).replace(PLACEHOLDER.capitalize(), topic.capitalize().replace("_", " "))
        yield ROOT / name.replace("book/part/", f"book/{part}/").replace(PLACEHOLDER, topic), text


def with_chapter(toc, topic, part, caption):
    """The table of contents with the chapter, last of its part. Raises ValueError for a new part without a caption."""
    lines, new = toc.splitlines(), f"      - file: {part}/{topic}"
    places = [number for number, line in enumerate(lines) if f"file: {part}/" in line]
    if places:
        lines.insert(places[-1] + 1, new)
    elif not caption:
        there = ", ".join(sorted(set(re.findall(r"file: (\d-[a-z]+)/", toc))))
        raise ValueError(f'the book has no part {part}, only {there}: name its CAPTION="…" to make one.')
    else:
        parts = {
            number: found[1] for number, line in enumerate(lines) if (found := re.search(r"file: (\d-\S+)/", line))
        }
        later = min((number for number, name in parts.items() if name > part), default=len(lines))
        place = max((n for n, line in enumerate(lines[:later]) if "- caption:" in line), default=later)
        place = place if later < len(lines) else len(lines)
        lines[place:place] = [f"  - caption: {caption}", "    chapters:", new]
    return "\n".join(lines) + "\n"


def with_place(pyproject, topic):
    """pyproject.toml with the topic on top of the order of the chapters: it may import all others, and none it."""
    start = pyproject.index('name = "Topics import earlier chapters only"')
    place = pyproject.index("layers = [\n", start) + len("layers = [\n")
    return f'{pyproject[:place]}  "{topic}",\n{pyproject[place:]}'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("part")
    parser.add_argument("--with", dest="extras", default="")
    parser.add_argument("--caption", default="")
    given = parser.parse_args()
    extras = given.extras.split()
    if why := refusal(given.topic, given.part, extras):
        sys.exit(why)
    toc, pyproject = ROOT / "book" / "_toc.yml", ROOT / "pyproject.toml"
    try:
        contents = with_chapter(toc.read_text(encoding="utf-8"), given.topic, given.part, given.caption)
    except ValueError as error:
        sys.exit(str(error))
    for path, text in rooms(given.topic, given.part, extras):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    toc.write_text(contents, encoding="utf-8")
    pyproject.write_text(with_place(pyproject.read_text(encoding="utf-8"), given.topic), encoding="utf-8")
    print("book/_toc.yml\npyproject.toml")
    print(f"What is left to write: pytest tests/{given.topic} tests/shared/test_topics.py -k {given.topic}")


if __name__ == "__main__":
    main()
