"""The table of kernels and proofs says what the tests do, and a test that names a kernel must launch it."""

import proofs
import pytest
from support.proofs import Proofs


def test_every_kernel_agrees_with_an_oracle_compiles_and_keeps_to_its_own():
    rows = proofs.matrix()
    assert {"scale_kernel", "attention_forward_kernel", "retention_grad_states_kernel"} <= set(rows)
    for name, kinds in rows.items():
        assert {"oracle", "compiled", "sanitized"} <= kinds, f"{name} is proved by {sorted(kinds)} only"


def test_what_moves_is_a_formula_for_every_kernel_but_the_primer_s():
    moved = {name for name, kinds in proofs.matrix().items() if "traffic" in kinds}
    assert set(proofs.matrix()) - moved == set(proofs.kernels()["primer"])


def test_each_mark_names_a_kind_and_a_kernel_that_exist():
    every = [name for names in proofs.kernels().values() for name in names]
    for kind, pattern, test in proofs.declared():
        assert kind in ("oracle", "traffic"), test
        assert proofs.fnmatch.filter(every, pattern), f"{test} names {pattern}: there is no such kernel"


def test_a_kernel_without_a_mark_has_a_no_in_the_table(monkeypatch):
    assert "no" not in [cell for cell in proofs._row("scale_kernel", proofs.COLUMNS)]
    monkeypatch.setattr(proofs, "declared", lambda: [("oracle", "gated_*", "tests/x.py::test_x")])
    rows = proofs.matrix()
    assert "oracle" in rows["gated_states_kernel"] and "oracle" not in rows["scale_kernel"]
    assert "   * - ``scale``\n     - no\n     - no\n     - yes\n     - yes\n     - no" in proofs.table()


def test_a_mark_that_no_case_keeps_is_a_sentence():
    plugin, test = Proofs(), next(test for _, pattern, test in proofs.declared() if pattern == "scale_kernel")
    assert not list(plugin.unkept())  # nothing ran, so nothing is said
    plugin.seen[test] = {"product_kernel"}
    (sentence,) = plugin.unkept()
    assert sentence == f"{test} is marked as a proof (oracle) of scale_kernel and never launches it"
    plugin.seen[test].add("scale_kernel")
    assert not list(plugin.unkept())


@pytest.mark.parametrize(("arguments", "said"), [((), True), (("-k", "scaling"), False)])
def test_a_run_of_whole_files_fails_on_it_and_a_part_says_nothing(arguments, said):
    class Config:
        args = ["tests/primer"]

        def getoption(self, name):
            return arguments[1] if arguments else ""

    class Session:
        config, exitstatus = Config(), 0

    plugin, session = Proofs(), Session()
    plugin.seen[next(test for _, pattern, test in proofs.declared() if pattern == "scale_kernel")] = set()
    plugin.pytest_sessionfinish(session, 0)
    assert bool(plugin.broken) is said and session.exitstatus == (pytest.ExitCode.TESTS_FAILED if said else 0)
