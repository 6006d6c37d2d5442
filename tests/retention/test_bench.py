"""Retention's measurements: a dry run, a peer that is wrong or refuses, and what the compiled table is made of."""

import importlib
import importlib.util
import json

import pytest
import torch
from support import house
from support.house import ROOT

from effattn_core.retention import decay_schedule, retention
from kernels import bench, inspect, runtime

FOLDER = ROOT / "book" / "measurements"
SIZES = ((1,), (16,), 32)  # batch sizes, head sizes, longest sequence of SDPA


@pytest.fixture
def driver(monkeypatch):
    """The drivers as the command finds them, in their own folder; on the CPU anywhere, and a few repeats are enough."""
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    compare = bench.compare
    quick = dict(repeats=3, warmup=0, progress=False)
    monkeypatch.setattr(bench, "compare", lambda *given, **settings: compare(*given, **settings | quick))
    return house.driver("retention/bench")


@pytest.fixture
def from_nothing(monkeypatch):
    """Every call starts from nothing: in a clean checkout it would go on from the rows of the call before it."""
    monkeypatch.setattr(bench, "stored", lambda path, commit: [])


def peer(query, key, value):
    """A stand-in, called as flash-linear-attention's `chunk_retention` is: [batch, time, heads, size], own decays."""
    tensors = [tensor.transpose(1, 2) for tensor in (query, key, value)]
    output, _ = retention(*tensors, decay_schedule(query.shape[2]), form="parallel")
    return output.transpose(1, 2), None


def rows_in(folder):
    return json.loads((folder / "cpu.json").read_text())["rows"]


def test_a_dry_run_times_every_candidate_and_says_what_is_left_out(driver, tmp_path):
    driver.main(times=(32, 64), contexts=(16, 32), sizes=SIZES, fit_from=32, peer=peer, folder=tmp_path)
    rows = rows_in(tmp_path)
    source = json.loads((tmp_path / "cpu.json").read_text())["provenance"]
    assert source["peer"] == "flash-linear-attention stand-in, tuned at batch 1 and 64 tokens"
    for what in ("forward", "forward and backward"):
        names = {
            tokens: [row["name"] for row in rows if (row["what"], row.get("tokens")) == (what, tokens)]
            for tokens in (32, 64)
        }
        assert names == {32: [driver.OURS, driver.PEER, driver.SDPA], 64: [driver.OURS, driver.PEER]}
        assert [row["from_tokens"] for row in rows if row["what"] == f"exponent of {what}"] == [32]
    longer = [row for row in rows if row.get("tokens") == 64 and row["what"].startswith("forward")]
    assert all(row["left_out"][0].startswith("PyTorch SDPA: stops at 32 tokens") for row in longer)
    growth = {(row["name"], row["tokens"]): row["ratio"] for row in rows if row["what"] == "decode one token"}
    assert set(growth) == {(name, tokens) for name in (driver.STATE, driver.CACHE) for tokens in (16, 32)}
    assert growth[driver.STATE, 16] == growth[driver.CACHE, 16] == 1


def test_without_a_peer_chunks_of_another_size_are_the_gate(driver, tmp_path, monkeypatch, from_nothing):
    driver.main(times=(32, 64), contexts=(16,), sizes=SIZES, folder=tmp_path)
    assert {row["name"] for row in rows_in(tmp_path)} == {driver.OURS, driver.SDPA, driver.STATE, driver.CACHE}
    monkeypatch.setattr(driver, "ours", lambda *tensors: 1.01 * driver.other_chunks(*tensors))
    for times in ((32,), (16, 64)):  # against the oracle; and the shorter one right, against the other chunks
        monkeypatch.setattr(driver, "oracle", driver.ours if times[0] == 16 else driver.oracle)
        with pytest.raises(AssertionError, match=f"this book: its output is off by .* 'tokens': {times[-1]}"):
            driver.main(times=times, contexts=(), sizes=SIZES, folder=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "off"),
    [
        (lambda *tensors: (1.01 * peer(*tensors)[0], None), "output is off by 0.01 .* 'forward', 'tokens': 32"),
        # Right as far as the shortest sequence, where the oracle looks: then ours tells.
        (lambda *tensors: ((1 + 0.01 * (tensors[0].shape[1] > 32)) * peer(*tensors)[0], None), "'tokens': 64"),
        (lambda query, key, value: peer(query, key.detach() * 0.5 + key * 0.5, value), "gradient of the key is off"),
        (lambda *tensors: (peer(*tensors)[0] * float("nan"), None), "output is off by nan"),
    ],
    ids=["output", "output of a longer sequence", "gradient", "not a number"],
)
def test_a_wrong_peer_is_refused_and_never_timed(driver, tmp_path, monkeypatch, wrong, off):
    clocked = []

    def clock(function):
        clocked.append(function)
        return 1.0 + len(clocked)

    calls = []

    def counted(*tensors):
        calls.append(tensors)
        return wrong(*tensors)

    monkeypatch.setattr(bench, "_cpu_clock", clock)
    with pytest.raises(AssertionError, match=f"{driver.PEER}: its .*{off}.* it is not timed"):
        driver.main(times=(32, 64), contexts=(), sizes=SIZES, peer=counted, folder=tmp_path)
    stored = rows_in(tmp_path) if (tmp_path / "cpu.json").exists() else []
    # What was timed before was right: its cases are whole, and the wrong one is not among them.
    assert len(clocked) == 3 * len(stored) and len(calls) >= 2


def test_a_head_size_that_is_not_taken_is_a_row_with_the_reason(driver, tmp_path, monkeypatch, from_nothing):
    def refuses(query, key, value):
        raise NotImplementedError("no such head size")

    driver.main(times=(32,), contexts=(), sizes=SIZES, peer=refuses, folder=tmp_path)
    assert rows_in(tmp_path)[0]["left_out"] == ["flash-linear-attention: NotImplementedError: no such head size"]

    def our_refusal(query, key, value):
        raise ValueError("the kernels take a head size among (32, 64, 128); got 16.")

    monkeypatch.setattr(driver, "ours", our_refusal)
    driver.main(times=(32,), contexts=(), sizes=SIZES, folder=tmp_path)
    first, second = rows_in(tmp_path)
    assert (first["what"], second["what"]) == ("forward", "forward and backward") and "median" not in first
    assert first["left_out"] == ["this book: ValueError: the kernels take a head size among (32, 64, 128); got 16."]


def test_a_size_that_does_not_fit_is_a_row_that_says_so_and_the_others_go_on(driver, tmp_path, monkeypatch):
    measure = driver.measure

    def too_large(case, *rest):
        if case["tokens"] == 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(case, *rest)

    monkeypatch.setattr(driver, "measure", too_large)
    driver.main(times=(16, 32, 64), contexts=(), sizes=((1,), (16,), 64), folder=tmp_path)
    rows = [row for row in rows_in(tmp_path) if row["what"] == "forward" and row["name"] == driver.OURS]
    assert ["median" in row for row in rows] == [True, False, True] and "does not fit" in rows[1]["left_out"][0]


def test_a_run_goes_on_where_the_last_one_stopped(driver, tmp_path, monkeypatch):
    provenance = bench.provenance
    monkeypatch.setattr(bench, "provenance", lambda command: provenance(command) | {"commit": "abc"})
    arguments = dict(contexts=(16,), sizes=SIZES, fit_from=32, folder=tmp_path)
    driver.main(times=(32,), **arguments)
    before = rows_in(tmp_path)
    driver.main(times=(32, 64), **arguments)
    after = rows_in(tmp_path)
    assert all(row in after for row in before)
    assert [row["tokens"] for row in after if row["what"] == "forward" and row["name"] == driver.OURS] == [32, 64]
    assert len([row for row in after if "exponent" in row]) == 2


def report(kernel, part, **changed):
    fields = dict(
        kernel=kernel, architecture=90, registers=64, spills=0, shared_memory=1024, warps=4, stages=2, occupancy=0.5,
        limiter="registers", instructions={"matrix": 4, "asynchronous copy": 2}, constants={"BK": 32, "USE_G": False},
        warp_group=4, part=part, tensor_bytes=8 * 8192 * 10,
    )  # fmt: skip
    return inspect.Report(**fields | changed)


def test_of_tuned_configurations_the_kindest_is_shown_and_the_others_are_counted(driver):
    compiled = house.driver("retention/bench_compiled")
    found = [
        report("states", "forward", occupancy=1.0, spills=8),
        report("states", "forward", registers=80),
        report("states", "forward", registers=40),
        report("states", "forward", registers=20, occupancy=0.25, warp_group=0),
        report("states", "backward", tensor_bytes=8 * 8192 * 30),
        report("outputs", "backward"),
    ]
    states, again, outputs = compiled.rows_of(compiled.PEER, 64, compiled.chosen(found))
    assert (states["registers"], states["occupancy"], states["sizes"]) == (40, 0.5, {"BK": 32})
    counts = [states[f"configurations{each}"] for each in ("", "_that_spill", "_with_warp_group_matrix")]
    assert counts == [4, 1, 3]
    assert (states["bytes"], states["bytes_of_pass"]) == (10, 10)
    assert (again["bytes"], outputs["bytes"], again["bytes_of_pass"]) == (30, 10, 40)


def test_without_the_peer_ours_are_compiled_again_and_its_rows_keep_their_date(driver, tmp_path, monkeypatch, capsys):
    compiled = house.driver("retention/bench_compiled")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(inspect, "reports", lambda *settings, **more: [report("states", "forward")])
    compiled.main(folder=tmp_path)
    assert not list(tmp_path.iterdir())
    assert "not written: flash-linear-attention is not installed" in capsys.readouterr().out
    path = tmp_path / "compiled.json"
    peers = [dict(library=compiled.PEER, head_dim=head_dim, kernel="theirs") for head_dim in compiled.HEAD_DIMS]
    old = dict(library=compiled.OURS, head_dim=64, kernel="old")
    made = dict(date="2026-01-02", commit="abc", peer="flash-linear-attention 0.6.0")
    path.write_text(json.dumps(dict(provenance=made, rows=[old, *peers])))
    for _ in range(2):  # the second time too: the date is that of the peer's rows, not of the run before
        compiled.main(folder=tmp_path)
        stored = json.loads(path.read_text())
        assert [row["kernel"] for row in stored["rows"]] == ["states", "theirs", "states", "theirs"]
        assert stored["provenance"]["peer_rows"] == "compiled on 2026-01-02 at commit abc"
        assert stored["provenance"]["peer"] == made["peer"]


NO_PEER = importlib.util.find_spec("fla") is None
needs_peer = pytest.mark.skipif(NO_PEER, reason='flash-linear-attention is not installed (pip install -e ".[bench]")')


@needs_peer
@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_peer_is_compiled_as_on_an_h100_and_moves_the_bytes_of_the_formula(driver, head_dim):
    """One configuration of each kernel: how the public function launches it, not how well."""
    compiled = house.driver("retention/bench_compiled")
    packages = compiled.peers.PACKAGES
    settings = (compiled.SOURCE, compiled.ARCHITECTURE, compiled.DTYPE, head_dim)
    found = inspect.reports(*settings, examples="first_launches", packages=packages)
    rows = compiled.rows_of(compiled.PEER, head_dim, compiled.chosen(found))
    kernels = [(row["pass"], row["kernel"]) for row in rows]
    assert kernels[:2] == [("forward", "chunk_fwd_kernel_h"), ("forward", "chunk_fwd_kernel_o")]
    assert {"chunk_fwd_kernel_h", "chunk_bwd_kernel_dh", "chunk_bwd_kernel_dqkwg", "chunk_bwd_kernel_dv"} == {
        kernel for part, kernel in kernels if part == "backward"
    }
    sizes = {row["kernel"]: row["sizes"] for row in rows}
    assert sizes["chunk_fwd_kernel_o"]["BK"] == 128  # offered where shared memory is an H100's
    assert sizes["chunk_bwd_kernel_dv"]["BK"] == head_dim and sizes["chunk_bwd_kernel_dqkwg"]["BT"] == 64
    moved = {row["pass"]: row["bytes_of_pass"] for row in rows}
    square = head_dim**2 / 64
    assert moved == {"forward": 12 * head_dim + 4 * square, "backward": 28 * head_dim + 20 * square}


@needs_peer
def test_the_peer_has_our_decays_and_our_scale():
    """Its own definition in plain PyTorch, which lays tensors out as ours does."""
    (folder,) = importlib.util.find_spec("fla").submodule_search_locations
    specification = importlib.util.spec_from_file_location("naive", f"{folder}/ops/retention/naive.py")
    naive = importlib.util.module_from_spec(specification)  # it alone: the package asks for a GPU's driver
    specification.loader.exec_module(naive)
    tensors = [torch.randn(2, 4, 33, 16) for _ in range(3)]
    wanted = retention(*tensors, decay_schedule(4), implementation="oracle")[0]
    torch.testing.assert_close(naive.naive_retention(*tensors), wanted)
