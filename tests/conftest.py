"""Fixtures of several test files: how tensors are made, the built pages, and a browser."""

import fcntl
import os

import pytest
import torch
from support.house import CHROMIUM, ROOT, build

import kernels  # noqa: F401  (before any test file imports triton, so that its interpreter can be chosen)

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""


@pytest.fixture
def nan_filled():
    """Every torch.empty is full of NaN: a kernel that forgets an element cannot pass."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def one_thread():
    """Tensors so small, and interpreted programs, that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The folder of the built pages: built once, whichever worker asks first."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with open(shared / "build.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = shared / "build.log"
        if not log.exists():
            done = build(ROOT, shared)
            log.write_text(f"{done.returncode}\n{done.stdout[-6000:]}{done.stderr[-6000:]}")
        code, _, text = log.read_text().partition("\n")
    assert code == "0", f"the book does not build:\n{text}"
    return shared / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield running
        running.close()
