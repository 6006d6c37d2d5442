"""Pack the built pages into a zip that a browser opens without a network.

    python book/_ext/offline.py [FOLDER]      _build/html, into _build/effattn-VERSION.zip

A release keeps this file; `editions.py` publishes it again as the edition of its version.
"""

import sys
import zipfile
from pathlib import Path

from repository import BUILT, ROOT, address, commit, project, require_built, site

NOT_READ = {".buildinfo", "objects.inv"}  # of Sphinx, for other builds
README = """\
Efficient Attention, from Softmax to Two Bits: edition {version}, commit {commit}.

Unpack this folder and open index.html in a browser. Pages, figures with their sliders, formulas, the search and your
ticks of exercises work without a network. Only these need one: the links to papers and to the repository, and the
rocket above a chapter, which opens it in Colab or Binder. Browsers let no page of a folder read another: the meaning of
a dotted word is not shown above it, but its link leads to the glossary, and the search shows titles without excerpts.

Browsers run no kernels on a page of a folder either. To write and check kernels on the pages, serve them: type
python -m http.server in this folder, and open http://localhost:8000/ in the browser. This needs no network.

The notebooks and the code are at {address}
Newer editions: {site}editions.html
"""


def name():
    """What the zip and the folder in it are called."""
    return f"effattn-{project()['version']}"


def pack(built, target):
    """Write the pages in `built` and a README.txt into the zip `target`. Returns the number of files."""
    note = README.format(version=project()["version"], commit=commit(7), address=address(), site=site())
    files = [path for path in sorted(require_built(built).rglob("*")) if path.is_file() and path.name not in NOT_READ]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name()}/README.txt", note)
        for path in files:
            archive.write(path, f"{name()}/{path.relative_to(built).as_posix()}")
    return len(files) + 1


def main(built):
    target = ROOT / "_build" / f"{name()}.zip"
    files = pack(built, target)
    print(f"{target}: {files} files, {target.stat().st_size / 2**20:.0f} MiB; unpack it and open {name()}/index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILT)
