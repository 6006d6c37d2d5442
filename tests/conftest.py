"""Fixtures of several test files: how tensors are made, the built pages, and a browser."""

import fcntl
import os
import random

import hypothesis
import numpy
import pytest
import torch
from support.budget import LONGEST, TOGETHER, Budget
from support.house import CHROMIUM, ROOT, build
from support.proofs import Proofs

import kernels  # noqa: F401  (before any test file imports triton, so that its interpreter can be chosen)

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""

# Every property is tried on the same cases in every run, however long a loaded machine takes.
hypothesis.settings.register_profile("book", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("book")


def pytest_configure(config):
    # One thread: tensors are small, and each worker has a core. The two that a driver asks for, run dry, would wait for
    # the other worker's at every small operation: ten times as long was seen.
    torch.set_num_threads(1)
    torch.set_num_threads = lambda threads: None
    config.pluginmanager.register(Proofs())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Budget(config.getoption("numprocesses", None) or 1))


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(config, items):
    def file(item):
        return item.path.relative_to(ROOT / "tests").with_suffix("").as_posix()

    for item in items:
        if item.path.stem in TOGETHER and config.pluginmanager.hasplugin("xdist"):
            item.add_marker(pytest.mark.xdist_group(file(item)))
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(file(item), len(LONGEST)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """What a test draws depends on no other test."""
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def nan_filled():
    """Every torch.empty is full of NaN: a kernel that forgets an element cannot pass."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(9).isnan().all(), "this PyTorch no longer fills new memory: the tests that rely on it are blind"
    yield
    torch.use_deterministic_algorithms(False)


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
