"""The offline edition: it opens from a folder, and asks no network for anything."""

import re
import subprocess
import sys
import zipfile
from urllib.parse import urlsplit

import offline
import pytest
from support.links import broken, outside


@pytest.fixture(scope="module")
def unpacked(pages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    offline.pack(pages, folder / "book.zip")
    with zipfile.ZipFile(folder / "book.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder / offline.name()


def test_every_local_link_of_it_resolves_and_no_page_asks_for_an_outside_resource(unpacked):
    assert list(broken(unpacked)) == []
    assert outside(unpacked) == []
    for path in unpacked.rglob("*.css"):
        for link in re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", path.read_text(encoding="utf-8")):
            assert not urlsplit(link).netloc, (path.name, link)


def test_no_link_starts_at_the_root_of_a_server(unpacked):
    """From a folder such a link would leave the book."""
    found = [path.name for path in unpacked.rglob("*.html") if re.search(r'(?:href|src)="/', path.read_text("utf-8"))]
    assert found == []


def test_a_note_says_how_to_open_it(unpacked):
    text = (unpacked / "README.txt").read_text(encoding="utf-8")
    assert "index.html" in text and (unpacked / "index.html").exists() and "editions.html" in text


def test_the_editors_go_with_the_pages_and_the_note_says_how_to_serve_them(tmp_path):
    built = tmp_path / "html"
    files = [
        "index.html",
        *(f"_static/vendor/{each}" for each in ("lab/lab.json", "lab/core/a.wasm", "lab-cases/a.json")),
    ]
    for name in files:
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(name, encoding="utf-8")
    assert offline.pack(built, tmp_path / "book.zip") == len(files) + 1
    with zipfile.ZipFile(tmp_path / "book.zip") as archive:
        assert {f"{offline.name()}/{name}" for name in files} < {*archive.namelist()}
        note = archive.read(f"{offline.name()}/README.txt").decode()
    assert "python -m http.server" in note and "http://localhost:8000/" in note
    assert max(map(len, note.splitlines())) <= 120


@pytest.mark.browser
def test_without_a_network_figures_move_formulas_are_set_and_the_search_finds(unpacked, browser):
    context = browser.new_context(offline=True)
    context.set_default_timeout(120_000)  # of a loaded machine
    page, asked, failed = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto((unpacked / "1-attention" / "attention.html").as_uri())
    page.locator("figure.explorable").first.scroll_into_view_if_needed()
    page.wait_for_selector("figure.explorable[data-drawn]")
    page.wait_for_selector("mjx-container mjx-c", state="attached")  # the first may be folded
    page.wait_for_function("[...document.fonts].some(f => f.family.startsWith('MJX') && f.status === 'loaded')")
    before = page.locator("figure.explorable .explorable-says").first.text_content()
    page.locator("figure.explorable input[type=range]").first.press("ArrowRight")
    page.wait_for_function("says => document.querySelector('.explorable-says').textContent !== says", arg=before)
    page.goto((unpacked / "search.html").as_uri() + "?q=retention")
    page.wait_for_selector("#search-results li a")
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    print("not given to a page in a folder:", sorted(set(failed)))
    assert [url for url in failed if not url.partition("?")[0].endswith(".html")] == []
    context.close()


@pytest.mark.browser
def test_served_by_python_alone_it_checks_a_kernel_without_a_network(unpacked, browser):
    """As README.txt says: python -m http.server in the folder."""
    if not (unpacked / "_static" / "vendor" / "lab").exists():
        pytest.skip("kernels do not run on the pages here: node was missing when they were built")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    context, other = browser.new_context(), []
    with subprocess.Popen(
        command, cwd=unpacked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            site = f"http://localhost:{re.search(r'port ([0-9]+)', server.stdout.readline())[1]}/"
            context.route(lambda url: not url.startswith(site), lambda route: other.append(route.request.url))
            page = context.new_page()
            page.goto(f"{site}0-before/primer.html")
            box = page.locator(".lab[aria-label^='Write it here']").first
            box.scroll_into_view_if_needed()
            box.get_by_role("button", name="Answer").click()
            answer = box.locator(".lab-answer").inner_text()
            box.locator(".cm-content").focus()
            page.keyboard.press("Control+A")
            page.keyboard.insert_text(answer)
            box.get_by_role("button", name="Check").click()
            says = box.locator(".lab-says").element_handle()
            page.wait_for_function("says => says.textContent.includes('Passed.')", arg=says, timeout=120_000)
            assert other == []
        finally:
            server.terminate()
            context.close()


def test_where_nothing_is_built_it_says_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match="there are no built pages in .*: run `make book` first"):
        offline.pack(tmp_path, tmp_path / "book.zip")
