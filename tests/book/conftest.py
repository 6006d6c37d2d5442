"""Fixtures of the tests of boxes: the small book that has all of them, and what the worker of its pages runs."""

import importlib
import sys

import lab_vendor
import pytest
from support import lab_site


@pytest.fixture(scope="session")
def small_book(tmp_path_factory):
    """(folder, {page: its HTML}) of the small book of all boxes."""
    lab_vendor.prepare()  # once for all runs: the small book copies what it gives
    folder = tmp_path_factory.mktemp("small_book")
    return folder, lab_site.built(folder)


@pytest.fixture(scope="session")
def boxes(small_book):
    """{name: (what its script reads, its HTML)} of all boxes."""
    return {data["name"]: (data, html) for page in small_book[1].values() for data, html in lab_site.boxes_of(page)}


@pytest.fixture(scope="session")
def worker(tmp_path_factory):
    """lab_worker.py as Pyodide imports it: from the packed zip, with the standard library alone."""
    archive = tmp_path_factory.mktemp("packed") / "page.zip"
    archive.write_bytes(lab_vendor.packed(lab_vendor.PAGE))
    sys.path.insert(0, str(archive))
    try:
        yield importlib.import_module("lab_worker")
    finally:
        sys.path.remove(str(archive))
