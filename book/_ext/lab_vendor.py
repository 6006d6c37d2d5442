"""Put what the editors on the pages need beside them: Pyodide's core, CodeMirror, and the book's own Triton.

    python book/_ext/lab_vendor.py      into book/_static/vendor/lab, as the build of the book does

The first two come from npm, in the versions and with the digests of lab/package-lock.json, once: they are kept until
that file changes. Where node or a network is missing the folder is removed, and the pages say how to have it: nothing
else of the book needs it. What lies here is read by lab-worker.js through lab.json:

    {"pyodide": folder, "page": zip, "bytes": {file: size}}      of what the first Run fetches, 13 MB
"""

import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

BOOK = Path(__file__).resolve().parents[1]
WANTED = Path(__file__).with_name("lab")  # package.json, its lock, and what of CodeMirror is bundled
VENDOR = BOOK / "_static" / "vendor" / "lab"
PAGE = BOOK / "_page"  # the Triton of the page: plain Python, imported by the worker
BESIDE = (WANTED / "lab_worker.py", BOOK.parent / "effattn_core" / "judging" / "verdict.py")
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
LONGEST = 300  # seconds that npm may take


class Unavailable(RuntimeError):
    """npm, or what it would fetch, is not to be had here."""


def prepare(vendor=VENDOR, page=PAGE, wanted=WANTED):
    """Fill `vendor`, or leave none of it. Returns None, or why the pages have no editor that runs, as a sentence."""
    asked = [path.read_bytes() for path in sorted(wanted.iterdir()) if path.suffix in (".json", ".mjs")]
    stamp = hashlib.sha256(b"".join(asked)).hexdigest()
    kept = vendor / "stamp"
    if not kept.exists() or kept.read_text(encoding="utf-8") != stamp:
        shutil.rmtree(vendor, ignore_errors=True)
        try:
            _fetch(vendor, wanted)
        except Unavailable as reason:
            shutil.rmtree(vendor, ignore_errors=True)
            return str(reason)
        kept.write_text(stamp, encoding="utf-8")
    _describe(vendor, page)
    return None


def _fetch(vendor, wanted):
    """Install by npm beside `vendor`, copy Pyodide's core into it and bundle the editor."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("node is not installed")
    work = vendor.with_name("lab-install")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(wanted, work)
    try:
        _call([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], work)
        modules = work / "node_modules"
        core = (
            vendor
            / f"pyodide-{json.loads((modules / 'pyodide' / 'package.json').read_text(encoding='utf-8'))['version']}"
        )
        core.mkdir(parents=True)
        for name in PYODIDE:
            shutil.copy(modules / "pyodide" / name, core)
        bundle = ["--bundle", "--minify", "--format=esm", "--target=es2022", "--legal-comments=none"]
        target = (vendor / "editor.mjs").resolve()
        _call([str(modules / ".bin" / "esbuild"), "editor.mjs", *bundle, f"--outfile={target}"], work)
        (vendor / "LICENSES.txt").write_text(licences(modules), encoding="utf-8")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _call(command, folder):
    try:
        subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=True, timeout=LONGEST)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{Path(command[0]).name} did not finish: {error}") from error
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise Unavailable(f"{Path(command[0]).name} failed: {said[0].strip()}") from error


def licences(modules):
    """What each bundled package asks to be shown; Pyodide's package carries no text, so its licence is named."""
    texts = []
    for folder in sorted(path.parent for path in modules.glob("**/package.json")):
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        if "name" not in package or "esbuild" in package["name"]:
            continue
        text = next((path.read_text(encoding="utf-8") for path in sorted(folder.glob("LICENSE*"))), "")
        texts.append(f"{package['name']} {package.get('version', '')}: {package.get('license', '')}\n\n{text}".rstrip())
    return "\n\n----\n\n".join(texts) + "\n"


def _describe(vendor, page):
    """Pack the page's Python, named by its content, and write lab.json."""
    content = packed(page)
    name = f"page-{hashlib.sha256(content).hexdigest()[:12]}.zip"
    for old in vendor.glob("page-*.zip"):
        if old.name != name:
            old.unlink()
    if not (vendor / name).exists():
        (vendor / name).write_bytes(content)
    core = next(vendor.glob("pyodide-*"))
    sizes = {path.name: path.stat().st_size for path in [*(core / each for each in PYODIDE), vendor / name]}
    found = json.dumps({"pyodide": core.name, "page": name, "bytes": sizes}, indent=1)
    if not (vendor / "lab.json").exists() or (vendor / "lab.json").read_text(encoding="utf-8") != found:
        (vendor / "lab.json").write_text(found, encoding="utf-8")


def packed(folder):
    """The package `folder` and the files BESIDE it as a zip, the same bytes whenever their texts are the same."""
    target = io.BytesIO()
    files = [(f"{folder.name}/{path.relative_to(folder).as_posix()}", path) for path in sorted(folder.rglob("*.py"))]
    with zipfile.ZipFile(target, "w") as archive:
        for name, path in [*files, *((path.name, path) for path in BESIDE)]:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return target.getvalue()


if __name__ == "__main__":
    print(prepare() or f"{VENDOR} is ready")
