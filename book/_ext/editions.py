"""Put the published site together: the newest pages at its root, each released edition in a folder of its own.

    python book/_ext/editions.py [BUILT] [RELEASES] [SITE]      _build/html, _build/releases, into _build/site

RELEASES holds the zips that `make offline` made for the releases (.ci/releases fetches them). `versions.json`, in the
form that pydata's theme reads for its switcher, and `editions.html` list them. Every page of every edition links to
`editions.html` at the site's root: a switcher in the page would ask the network, and an old edition would not know the
newer ones.
"""

import html
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

from repository import BUILT, ROOT, project, require_built, site

NEWEST = "main"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Editions</title>
<style>body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem;
color-scheme: light dark }}</style></head>
<body><h1>Editions of Efficient Attention, from Softmax to Two Bits</h1>
<ul>
{rows}
</ul>
<p>A page names its edition and its commit at its foot. The release of an edition holds its pages as a zip.</p>
</body></html>
"""


def releases(folder):
    """[(version, zip)] of the editions in a folder, the newest first. Raises SystemExit for a name that tells none."""
    found = []
    for path in folder.glob("*.zip"):
        named = re.fullmatch(r"effattn-(\d+(?:\.\d+)*)\.zip", path.name)
        if named is None:
            raise SystemExit(f"{path} names no version: `make offline` calls an edition effattn-1.2.3.zip.")
        found.append((named[1], path))
    return sorted(found, key=lambda each: [*map(int, each[0].split("."))], reverse=True)


def versions(released):
    """What versions.json holds. released: version numbers, the newest first."""
    newest = {
        "name": f"newest ({project()['version']}, from main)",
        "version": NEWEST,
        "url": site(),
        "preferred": True,
    }
    return [newest, *({"name": each, "version": each, "url": f"{site()}{each}/"} for each in released)]


def listed(entries):
    """The page that leads to all editions."""
    rows = [f'<li><a href="{html.escape(each["url"])}">{html.escape(each["name"])}</a></li>' for each in entries]
    return PAGE.format(rows="\n".join(rows))


def unpack(path, target):
    """The pages of a zip of `make offline`, without the folder that holds them, into `target`."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            inside = member.filename.partition("/")[2]
            if member.is_dir() or not inside:
                continue
            place = (target / inside).resolve()
            if not place.is_relative_to(target.resolve()):
                raise SystemExit(f"{path} holds {member.filename}, which would lie outside its edition.")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.read(member))


def main(built=BUILT, folder=ROOT / "_build" / "releases", target=ROOT / "_build" / "site"):
    require_built(built)
    released = releases(folder)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(built, target)
    for version, path in released:
        unpack(path, target / version)
    entries = versions([version for version, _ in released])
    (target / "versions.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    (target / "editions.html").write_text(listed(entries), encoding="utf-8")
    print(f"{target}: the newest pages, and {len(released)} released editions in {folder}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
