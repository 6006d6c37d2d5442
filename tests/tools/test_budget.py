"""The account of the suite: every second lands on its topic and its kind of proof, and what is over is said."""

import re
import sys
from types import SimpleNamespace

import pytest
from support.budget import KINDS, LONGEST, TESTS, TOGETHER, TOPIC, TOPICS, WHOLE, Budget, kind_of, topic_of
from support.processes import finished

RUN = [
    ("tests/retention/test_forms.py::test_the_future[3-kernel]", "retention", "kernels"),
    ("tests/retention/test_figures.py::test_two_processes@retention/test_figures", "retention", "figures"),
    ("tests/tools/test_inspect.py::test_every_kernel_compiles[yoco-90]", "yoco", "compiled kernels"),
    ("tests/book/test_notebooks.py::test_fresh[2-retention/recurrences.ipynb]", "recurrences", "chapters run anew"),
    ("tests/book/test_browser.py::test_a_page[1-attention/attention]@browser", "attention", "browser"),
    ("tests/book/test_guards.py::test_a_spoiled_kernel[mask]", "book", "guards"),
    ("tests/shared/test_model.py::test_training_goes_on", "shared", "forms and models"),
]


@pytest.mark.parametrize(("nodeid", "topic", "kind"), RUN, ids=[topic for _, topic, _ in RUN])
def test_a_test_counts_for_its_topic_and_its_kind(nodeid, topic, kind):
    assert (topic_of(nodeid), kind_of(nodeid)) == (topic, kind)


def test_seconds_of_all_phases_are_summed_and_what_is_over_its_budget_is_said():
    account = Budget(workers=2)
    for nodeid, seconds in ((RUN[0][0], TOPIC), (RUN[1][0], TOPIC), (RUN[2][0], 9), (RUN[0][0], 2)):
        account.pytest_runtest_logreport(SimpleNamespace(nodeid=nodeid, duration=seconds))
    lines = {text.split()[0]: (text, over) for text, over in account.lines(wall=WHOLE)}
    assert lines["retention"] == (f"  {'retention':<18} {122:8.0f}  {61:6.0f}  over the 60 s of a topic", True)
    assert lines["62"] == (f"  {62:8.0f}  {RUN[0][0].removeprefix('tests/')}", False)  # two phases of one test
    assert lines["yoco"][1] is False and lines[str(WHOLE)][1] is False
    assert [over for _, over in account.lines(wall=WHOLE + 1)][0] is True


def test_every_topic_of_the_library_has_its_folder():
    from effattn_core import SHARED, topics

    assert {*topics(), *SHARED} == set(TOPICS)


def test_every_file_that_the_account_names_is_there():
    assert all((TESTS / f"{name}.py").exists() for name in LONGEST)
    assert all(list(TESTS.glob(f"*/{name}.py")) for name in (*KINDS, *TOGETHER))


def test_tests_of_one_group_stay_on_one_worker(tmp_path):
    """Dear fixtures are made once per group: a pytest that xdist does not know ignores the groups without a word."""
    (tmp_path / "test_grouped.py").write_text(
        "import pytest, time\n"
        "@pytest.mark.xdist_group('dear')\n"
        "@pytest.mark.parametrize('each', range(4))\n"
        "def test_grouped(each):\n"
        "    time.sleep(0.2)\n"
    )
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    done = finished([*command, "--rootdir", ".", "."], cwd=tmp_path)
    workers = re.findall(r"^\[(gw\d)\].*PASSED", done.stdout, re.MULTILINE)
    assert len(workers) == 4 and len(set(workers)) == 1, done.stdout[-2000:]
