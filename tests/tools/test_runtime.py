"""How kernels run here is chosen once, before triton is imported, and said in a sentence."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

import effattn_core
import kernels
from kernels import runtime


def run(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.mark.skipif(runtime.mode == "gpu", reason="this machine has a GPU, so kernels are compiled")
def test_without_a_gpu_kernels_are_interpreted():
    assert run("import kernels; print(kernels.runtime.mode)") == "interpreter"
    assert "no NVIDIA GPU is present" in run("import kernels; print(kernels.runtime.statement())")


@pytest.mark.skipif(runtime.mode == "gpu", reason="this machine has a GPU, so kernels are compiled")
def test_triton_imported_too_early_gives_one_sentence():
    assert "triton was imported before kernels" in run(
        "import triton, kernels.runtime as r\ntry: r.require_kernels()\nexcept RuntimeError as error: print(error)"
    )


def test_a_foreign_kernels_package_is_refused():
    effattn_core._require_our_kernels(kernels.__file__, effattn_core.__file__)
    with pytest.raises(ImportError, match="uninstall the other package"):
        effattn_core._require_our_kernels("/elsewhere/kernels/__init__.py", effattn_core.__file__)


@pytest.mark.parametrize(
    ("version", "capability", "warned"),
    [
        ("3.4.0", 90, True),
        ("3.6.0", 90, True),
        ("3.7.1", 90, True),
        ("3.8.0.post29", 90, True),
        ("3.9.0", 90, False),
        ("3.6.0", 80, False),
        ("3.6.0", 100, False),
        ("3.3.1", 90, False),
    ],
)
def test_a_triton_with_wrong_gradients_on_hopper_is_said(version, capability, warned):
    assert ("check them before training" in runtime.known_fault(version, capability)) == warned


def test_the_architecture_can_be_asked_for():
    code = "import kernels; print(kernels.runtime.architecture(), kernels.runtime.device())"
    assert run(code, EFFATTN_ARCHITECTURE="80", CUDA_VISIBLE_DEVICES="") == "80 cpu"


def test_triton_s_distribution_has_another_name_on_windows(monkeypatch):
    held = {"triton-windows": "3.8.0.post29"}

    def version(name):
        if name not in held:
            raise importlib.metadata.PackageNotFoundError(name)
        return held[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert runtime.triton_version() == "3.8.0.post29"
    held.clear()
    assert runtime.triton_version() == ""
