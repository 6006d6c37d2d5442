"""The published site: the newest pages, every released edition beside them, and one list of all."""

import json
import os
import re
import subprocess
import zipfile

import book_pages
import editions
import offline
import pytest
import yaml
from repository import COLAB_BRANCH, address, project, site
from support.house import ROOT

WORKFLOWS = {
    name: yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text()) for name in ("pages", "release")
}
VERSION = project()["version"]


def steps(name):
    return [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]


@pytest.fixture
def built(tmp_path):
    folder = tmp_path / "html"
    (folder / "0-before").mkdir(parents=True)
    (folder / "index.html").write_text("the newest")
    (folder / "0-before" / "token.html").write_text("a token")
    return folder


@pytest.fixture
def published(built, tmp_path):
    """The site of the newest pages and three releases, of which one is older by number and not by letter."""
    released = tmp_path / "releases"
    released.mkdir()
    for version in ("0.9.0", "0.10.0", "0.2"):
        offline.pack(built, released / f"effattn-{version}.zip")
    editions.main(built, released, tmp_path / "site")
    return tmp_path / "site"


def test_each_edition_has_a_folder_and_the_newest_pages_are_at_the_root(published):
    assert (published / "index.html").read_text() == "the newest"
    for version in ("0.9.0", "0.10.0", "0.2"):
        assert (published / version / "0-before" / "token.html").read_text() == "a token"
    assert json.loads((published / "versions.json").read_text())[0]["url"] == site()


def test_versions_json_is_what_the_theme_s_switcher_reads_and_lists_what_is_there(published):
    entries = json.loads((published / "versions.json").read_text())
    assert [each["version"] for each in entries] == ["main", "0.10.0", "0.9.0", "0.2"]
    assert [each["version"] for each in entries if each.get("preferred")] == ["main"]
    page = (published / "editions.html").read_text()
    for entry in entries:
        assert {"name", "version", "url"} <= set(entry)
        assert (published / entry["url"].removeprefix(site()) / "index.html").exists()
        assert f'<a href="{entry["url"]}">{entry["name"]}</a>' in page


def test_a_site_without_releases_is_the_newest_pages_and_a_list_of_one(built, tmp_path):
    editions.main(built, tmp_path / "none", tmp_path / "site")
    assert len(json.loads((tmp_path / "site" / "versions.json").read_text())) == 1


def test_a_zip_that_is_no_edition_is_refused(built, tmp_path):
    (tmp_path / "effattn-newest.zip").write_bytes(b"")
    with pytest.raises(SystemExit, match="effattn-newest.zip names no version"):
        editions.releases(tmp_path)
    with zipfile.ZipFile(tmp_path / "effattn-1.0.zip", "w") as archive:
        archive.writestr("effattn-1.0/../../elsewhere.html", "")
    with pytest.raises(SystemExit, match="outside its edition"):
        editions.unpack(tmp_path / "effattn-1.0.zip", tmp_path / "site")


def test_what_a_release_keeps_is_what_the_site_takes_as_its_edition():
    assert re.fullmatch(r"effattn-\d+(\.\d+)*", offline.name()) and offline.name().endswith(VERSION)


def test_every_page_leads_to_the_list_of_editions():
    foot = book_pages.colophon(ROOT / "book", "how-to", "How to read and run this book")
    assert f'<a href="{site()}editions.html">' in foot and f"Edition {VERSION};" in foot
    owner, name = address().split("/")[-2:]
    assert site() == f"https://{owner}.github.io/{name}/"


def test_the_pages_workflow_publishes_the_site_of_all_editions_and_then_the_notebooks():
    runs = [step.get("run") for step in steps("pages") if "run" in step]
    assert [re.match(r"(make \w+|\S+)", run)[1] for run in runs] == [
        "make book", ".ci/releases", "make site", "make colab", ".ci/publish-colab",
    ]  # fmt: skip
    (upload,) = [step for step in steps("pages") if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "_build/site" and "_build/releases" in runs[1]
    assert WORKFLOWS["pages"]["permissions"]["contents"] == "write"  # the branch for Colab


def test_a_release_is_proved_holds_the_zip_and_is_named_as_the_version():
    runs = [step["run"] for step in steps("release") if "run" in step]
    order = [next(place for place, run in enumerate(runs) if word in run)
             for word in ("grep", "make test", "make book", "make offline", "gh release create")]  # fmt: skip
    assert (
        order == sorted(order)
        and f"_build/{offline.name()}.zip".startswith("_build/effattn-")
        and "effattn-*.zip" in runs[-1]
    )
    environment = os.environ | {"GITHUB_REF_NAME": f"v{VERSION}"}
    assert subprocess.run(["bash", "-c", runs[0]], cwd=ROOT, env=environment).returncode == 0
    environment["GITHUB_REF_NAME"] = "v9.9.9"
    assert subprocess.run(["bash", "-c", runs[0]], cwd=ROOT, env=environment).returncode == 1


def program(path, text):
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def test_releases_are_fetched_by_tag_and_a_machine_without_gh_is_told(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    program(tools / "gh", f'[ "$1" = api ] && printf "v0.2\\nv0.1\\n" || echo "$@" >> {tmp_path}/asked')
    command = [str(ROOT / ".ci" / "releases"), str(tmp_path / "releases")]
    subprocess.run(command, env={"PATH": f"{tools}:/usr/bin:/bin"}, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[:3] for line in asked] == [["release", "download", "v0.2"], ["release", "download", "v0.1"]]
    (tools / "gh").unlink()
    (tools / "bash").symlink_to("/bin/bash")
    (tools / "env").symlink_to("/usr/bin/env")
    done = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True)
    assert done.returncode == 1 and "needs gh" in done.stdout


def test_the_notebooks_of_colab_are_pushed_as_a_branch_without_touching_the_checkout(tmp_path):
    """In a small repository of its own, with a bare one as its remote."""

    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path / "here", capture_output=True, text=True, check=True).stdout

    (tmp_path / "here" / ".ci").mkdir(parents=True)
    (tmp_path / "here" / "book" / "_ext").mkdir(parents=True)
    script = tmp_path / "here" / ".ci" / "publish-colab"
    script.write_text((ROOT / ".ci" / "publish-colab").read_text())
    script.chmod(0o755)
    text = (ROOT / "book" / "_ext" / "repository.py").read_text()
    (tmp_path / "here" / "book" / "_ext" / "repository.py").write_text(text)
    (tmp_path / "here" / ".gitignore").write_text("_build/\n")
    git("init", "--quiet")
    git("add", ".")
    git("-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "first")
    git("init", "--quiet", "--bare", str(tmp_path / "remote"))
    refused = subprocess.run([str(script), str(tmp_path / "remote")], capture_output=True, text=True)
    assert refused.returncode == 1 and "run `make colab` first" in refused.stdout
    (tmp_path / "here" / "_build" / "colab" / "0-before").mkdir(parents=True)
    for name in ("index.ipynb", "0-before/token.ipynb"):
        (tmp_path / "here" / "_build" / "colab" / name).write_text("{}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}  # a workflow has no name to commit with
    for _ in range(2):
        subprocess.run([str(script), str(tmp_path / "remote")], check=True, env=environment, capture_output=True)
    listed = subprocess.run(["git", "ls-tree", "-r", "--name-only", COLAB_BRANCH], cwd=tmp_path / "remote",
                            capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    assert listed == ["0-before/token.ipynb", "index.ipynb"] and git("status", "--porcelain") == ""


def test_the_reader_is_told_of_every_command_in_the_pages_and_in_the_readme():
    how_to, readme = (ROOT / "book" / "how-to.md").read_text(), (ROOT / "README.md").read_text()
    for command in ("make teach", "make print", "make offline"):
        assert f"`{command}`" in how_to and f"`{command}`" in readme, command
    assert f"({site()}editions.html)" in how_to and "`make colab`" in how_to
    assert "docker build --tag effattn ." in how_to
