"""Kernels compile ahead of time, as their launchers would launch them, without a spill."""

import functools
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys

import proofs
import pytest
from support.house import ROOT

import kernels
from kernels import cache, inspect


def topics():
    """name -> module of every topic of the kernels package: those with launches to look at."""
    names = (found.name for found in pkgutil.iter_modules(kernels.__path__))
    modules = {name: importlib.import_module(f"kernels.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "example_launches")}


TOPICS = topics()
# Kernels that must multiply on the matrix units; a topic adds its own as MATRIX_KERNELS, a tuple of names.
MATRIX = {"attention_forward_kernel", "attention_decode_kernel"}.union(
    *(getattr(module, "MATRIX_KERNELS", ()) for module in TOPICS.values())
)
SHARED_MEMORY_OF_A_BLOCK = {80: 163 * 1024, 90: 227 * 1024}  # what one block may ask for (CUDA C++ Programming Guide)


def test_the_topics_are_found():
    assert {"attention", "primer"} <= set(TOPICS)


@functools.cache
def surveyed(topic, architecture):
    """Every case of a topic and an architecture, from one child process: the tests of a group share its reports."""
    return inspect.survey(topic, architecture, ("bfloat16", "float32"), (32, 64, 128))


def together(topic, architecture):
    """The mark by which tests that share reports run in one worker."""
    return pytest.mark.xdist_group(f"compiled {topic} {architecture}")


@pytest.mark.parametrize("topic", [pytest.param(topic, marks=together(topic, 90)) for topic in TOPICS])
def test_matrix_kernels_are_named_as_they_are(topic):
    named = set(getattr(TOPICS[topic], "MATRIX_KERNELS", ()))
    assert named <= {report.kernel for report in surveyed(topic, 90)["bfloat16", 64]}


@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("topic", "architecture"),
    [
        pytest.param(topic, architecture, marks=together(topic, architecture))
        for topic in TOPICS
        for architecture in (80, 90)
    ],
)
def test_every_kernel_compiles_without_spilling_within_the_device(topic, architecture, dtype, head_dim):
    reports = surveyed(topic, architecture)[dtype, head_dim]
    left_out = set(proofs.kernels()[topic]) - {report.kernel for report in reports}
    assert not left_out, f"example_launches of kernels.{topic} never launches {left_out}"
    for report in reports:
        print(report)
        assert report.spills == 0 and report.instructions["local (spills)"] == 0, report.kernel
        assert report.shared_memory <= SHARED_MEMORY_OF_A_BLOCK[architecture], report.kernel
        assert report.warp_group <= report.instructions["matrix"]
        if report.kernel in MATRIX:
            assert report.instructions["matrix"] > 0


@pytest.mark.parametrize("architecture", [pytest.param(each, marks=together("attention", each)) for each in (80, 90)])
def test_kernels_of_shared_files_compile_where_a_topic_launches_them(architecture):
    waiting = {name for topic, names in proofs.kernels().items() if topic not in TOPICS for name in names}
    for topic in TOPICS:
        if waiting:
            waiting -= {report.kernel for report in surveyed(topic, architecture)["bfloat16", 64]}
    assert not waiting, f"no topic's example_launches launches {waiting}"


@pytest.mark.parametrize(
    ("registers", "shared_memory", "warps", "architecture", "share", "limiter"),
    [
        (24, 0, 4, 90, 1.0, "warps"),
        (128, 0, 4, 90, 0.25, "registers"),
        (32, 100 * 1024, 8, 90, 0.25, "shared memory"),
        (32, 0, 1, 80, 0.5, "blocks"),
    ],
)
def test_occupancy_follows_the_published_limits(registers, shared_memory, warps, architecture, share, limiter):
    assert inspect.occupancy(registers, shared_memory, warps, architecture) == (share, limiter)


def test_an_unknown_architecture_or_topic_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="no published limits for sm_61"):
        inspect.occupancy(32, 0, 4, 61)
    with pytest.raises(ValueError, match="there is no kernels.missing"):
        inspect.reports("missing")
    with pytest.raises(ValueError, match="there is no book/missing.py"):
        inspect.reports("book/missing.py")
    with pytest.raises(ValueError, match="kernels.primer needs the distribution no-such-peer, which is not installed"):
        inspect.reports("primer", packages=("no-such-peer",))


LAUNCHES = """
import torch
from kernels import primer

def example_launches(dtype, head_dim, device):
    tile = torch.zeros(128, head_dim, dtype=dtype, device=device)
    yield "once"
    primer.scale(tile, 2.0)
    yield "twice"
    primer.scale(tile, 2.0)
    primer.scale(tile, 2.0)

def products(dtype, head_dim, device):
    tile = torch.zeros(128, head_dim, dtype=dtype, device=device)
    primer.product(tile, tile.mT, block=64)
"""


def test_a_file_is_a_topic_too_and_its_words_part_the_launches(tmp_path):
    path = tmp_path / "launches.py"
    path.write_text(LAUNCHES, encoding="utf-8")
    once, twice = inspect.reports(str(path), packages=("pytest",))
    assert (once.kernel, once.part, twice.part) == ("scale_kernel", "once", "twice")
    # The source and the target of each launch, 128 × 64 elements of two bytes.
    assert once.tensor_bytes == 2 * 128 * 64 * 2 and twice.tensor_bytes == 2 * once.tensor_bytes
    (product,) = inspect.reports(str(path), examples="products")
    # Since sm_90 four warps multiply together; before, each warp alone.
    assert product.warp_group == product.instructions["matrix"] > 0
    (older,) = inspect.reports(str(path), architecture=80, examples="products")
    assert older.warp_group == 0 < older.instructions["matrix"]


def test_a_topic_is_looked_at_again_when_a_source_that_it_imports_changes(tmp_path):
    (tmp_path / "kernels" / "deep").mkdir(parents=True)
    for name, text in {
        "topic.py": "from kernels.deep import one", "deep/__init__.py": "from kernels.deep.one import two",
        "deep/one.py": "import kernels.other\nimport torch", "other.py": "from kernels import topic", "not.py": "",
    }.items():  # fmt: skip
        (tmp_path / "kernels" / name).write_text(text, encoding="utf-8")
    texts = cache.sources([tmp_path / "kernels" / "topic.py"], tmp_path)
    assert len(texts) == 4 and "" not in texts


def test_a_kernel_that_does_not_compile_gives_the_compiler_s_line(tmp_path, monkeypatch):
    """The child runs in a copy of the repository whose kernel multiplies float32 by the dtype that it is given."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "kernels", copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    primer = copy / "kernels" / "primer.py"
    text = primer.read_text(encoding="utf-8")
    spoiled = text.replace("tl.dot(left, right,", "tl.dot(left.to(tl.float32), right,")
    assert spoiled != text
    primer.write_text(spoiled, encoding="utf-8")
    monkeypatch.setattr(cache, "ROOT", copy)
    monkeypatch.setenv("EFFATTN_CACHE", str(tmp_path / "cache"))
    # In float32 that is nothing: the case compiles, and is kept.
    with pytest.raises(RuntimeError, match="kernels.primer does not compile for sm_90 in bfloat16, size 64: .+"):
        inspect.survey("primer", 90, ("float32", "bfloat16"), (64,))
    (kept,) = (tmp_path / "cache").rglob("*.json")
    assert "-90-float32-64-" in kept.name


@together("attention", 90)
def test_the_command_prints_a_table_and_json(capsys):
    inspect.main(["attention"])
    assert "compiled, not run" in capsys.readouterr().out
    inspect.main(["attention", "--json"])
    assert {"registers", "spills", "occupancy"} <= set(json.loads(capsys.readouterr().out)[0])


@pytest.fixture
def children(monkeypatch):
    """The child processes that are started: the cases asked of each."""
    started, run = [], subprocess.run

    def counted(command, **settings):
        started.append(command[6:])
        return run(command, **settings)

    monkeypatch.setattr(inspect.subprocess, "run", counted)
    return started


def test_one_child_compiles_what_is_not_known_and_a_broken_entry_is_made_again(tmp_path, monkeypatch, children):
    monkeypatch.setenv("EFFATTN_CACHE", str(tmp_path / "cache"))
    found = inspect.survey("primer", 90, ("float32", "float16"), (32, 64))
    assert children == [["float32:32", "float32:64", "float16:32", "float16:64"]]
    assert inspect.reports("primer", 90, "float16", 64) == found["float16", 64] and len(children) == 1
    entries = {path.name.rsplit("-", 1)[0]: path for path in (tmp_path / "cache" / "inspect").iterdir()}
    assert set(entries) == {f"primer-example_launches-90-float{case}" for case in ("32-32", "32-64", "16-32", "16-64")}
    whole = {path: path.read_bytes() for path in entries.values()}
    for name, broken in {"32-32": b"", "32-64": whole[entries["primer-example_launches-90-float32-64"]][:-9],
                         "16-32": b'[{"kernel": "scale_kernel"}]', "16-64": b"\xff\xfe"}.items():  # fmt: skip
        entries[f"primer-example_launches-90-float{name}"].write_bytes(broken)
    assert inspect.survey("primer", 90, ("float32", "float16"), (32, 64)) == found
    assert len(children) == 2 and len(children[1]) == 4
    assert {path: path.read_bytes() for path in entries.values()} == whole


def test_where_nothing_can_be_written_the_kernels_are_compiled_all_the_same(tmp_path, monkeypatch, children):
    """A file stands where the folder should: no user, root included, can write there."""
    (tmp_path / "taken").write_text("", encoding="utf-8")
    monkeypatch.setenv("EFFATTN_CACHE", str(tmp_path / "taken"))
    for _ in range(2):
        assert inspect.reports("primer", 90, "float32", 32)
    assert len(children) == 2
    # A checkout of another user: its .cache cannot be written, the reader's own folder takes the reports.
    monkeypatch.delenv("EFFATTN_CACHE")
    assert cache.folders() == [ROOT / ".cache", *cache.folders()[1:]] and len(cache.folders()) == 2
    monkeypatch.setattr(cache, "folders", lambda: [tmp_path / "taken" / ".cache", tmp_path / "users"])
    for _ in range(2):
        assert inspect.reports("primer", 90, "float32", 32)
    assert len(children) == 3 and len(list((tmp_path / "users" / "inspect").iterdir())) == 1


def run_python(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, cwd=ROOT, capture_output=True, encoding="utf-8"
    )


def test_an_ascii_locale_reads_what_is_written_here(tmp_path):
    code = f"""
        import locale, sys
        from kernels import bench, inspect
        sys.path.insert(0, "book/_ext")
        import book_pages
        assert locale.getpreferredencoding(False).upper() in ("ASCII", "US-ASCII", "ANSI_X3.4-1968")
        assert inspect.reports("primer", 90, "float32", 32)
        bench.write_measurement({str(tmp_path / "rows.json")!r}, dict(commit="abc"), [dict(name=chr(215))])
        assert bench.stored({str(tmp_path / "rows.json")!r}, "abc") == [dict(name=chr(215))]
        assert book_pages.colophon(book_pages.ROOT / "book", "1-attention/attention", "")
        inspect.main(["primer", "--dtype", "float32", "--head-dim", "32", "--json"])
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    done = run_python(code, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", EFFATTN_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "kernels.inspect", "primer", "--dtype", "float32", "--head-dim", "32"]
    ascii_only = os.environ | dict(LC_ALL="C", PYTHONUTF8="0", EFFATTN_CACHE=str(tmp_path / "cache"))
    assert "compiled, not run" in subprocess.check_output(command, env=ascii_only, cwd=ROOT, encoding="utf-8")


@pytest.mark.parametrize(
    "used",
    [
        "from kernels import primer",
        "import kernels.compile",
        "from kernels.retention import launch_states",
        "from kernels.attention.decode import launch_decode",
        "from kernels import inspect; inspect.reports('attention')",
        "from kernels.trace import trace; trace().__enter__()",
        "from effattn_core.attention import attention; import torch; q = torch.ones(1, 1, 2, 32); "
        "attention(q, q, q); attention(q, q, q, implementation='triton')",
    ],
)
def test_without_triton_what_needs_it_says_what_to_install(used):
    done = run_python(f"import sys; sys.modules['triton'] = None; {used}")
    assert done.returncode and "Linux: pip install triton, Windows: pip install triton-windows" in done.stderr


def test_without_triton_timings_are_taken_and_say_so():
    code = "import sys; sys.modules['triton'] = None; from kernels import bench; print(bench.provenance('')['triton'])"
    assert run_python(code).stdout.strip() == "not installed"
