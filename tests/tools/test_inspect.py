"""Kernels compile ahead of time, as their launchers would launch them, without a spill."""

import importlib
import json
import pkgutil
import shutil

import pytest

import kernels
from kernels import inspect


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


def test_the_topics_are_found_and_matrix_kernels_are_named_as_they_are():
    assert {"attention", "primer"} <= set(TOPICS)
    for name, module in TOPICS.items():
        named = set(getattr(module, "MATRIX_KERNELS", ()))
        assert not named or named <= {report.kernel for report in inspect.reports(name)}, name


@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("topic", TOPICS)
def test_every_kernel_compiles_without_spilling_within_the_device(topic, architecture, dtype, head_dim):
    for report in inspect.reports(topic, architecture, dtype, head_dim):
        print(report)
        assert report.spills == 0 and report.instructions["local (spills)"] == 0, report.kernel
        assert report.shared_memory <= SHARED_MEMORY_OF_A_BLOCK[architecture], report.kernel
        assert report.warp_group <= report.instructions["matrix"]
        if report.kernel in MATRIX:
            assert report.instructions["matrix"] > 0


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
    path.write_text(LAUNCHES)
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
        (tmp_path / "kernels" / name).write_text(text)
    texts = inspect._sources(tmp_path / "kernels" / "topic.py", tmp_path)
    assert len(texts) == 4 and "" not in texts


def test_a_kernel_that_does_not_compile_gives_the_compiler_s_line(tmp_path, monkeypatch):
    """The child runs in a copy of the repository whose kernel has lost a conversion that its product needs."""
    copy = tmp_path / "copy"
    ours = inspect.CACHE.parents[1] / "kernels"
    shutil.copytree(ours, copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    forward = copy / "kernels" / "attention" / "forward.py"
    spoiled = forward.read_text().replace("tl.dot(weight.to(value.dtype), value,", "tl.dot(weight, value,")
    assert spoiled != forward.read_text()
    forward.write_text(spoiled)
    monkeypatch.setattr(inspect, "CACHE", copy / ".cache" / "inspect")
    with pytest.raises(RuntimeError, match="kernels.attention does not compile for sm_90 in bfloat16"):
        inspect.reports("attention", 90, "bfloat16", 64)
    assert not list((copy / ".cache").rglob("*.json"))


def test_the_command_prints_a_table_and_json(capsys):
    inspect.main(["attention"])
    assert "compiled, not run" in capsys.readouterr().out
    inspect.main(["attention", "--json"])
    assert {"registers", "spills", "occupancy"} <= set(json.loads(capsys.readouterr().out)[0])
