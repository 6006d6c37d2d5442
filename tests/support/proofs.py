"""A mark that a run holds to its word: `proves("oracle", "retention_*_kernel")` must launch every kernel it names."""

import fnmatch
import re

import proofs
import pytest

from kernels import runtime
from kernels.trace import launched


class Proofs:
    """A pytest plugin: gathers, from every worker, which kernels the marked tests launched, and fails what did not."""

    def __init__(self):
        self.seen, self.broken = {}, []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        if runtime.mode != "interpreter" or not item.get_closest_marker("proves"):
            return (yield)
        with launched() as names:
            result = yield
        item.user_properties.append(("launched", sorted(names)))
        return result

    def pytest_runtest_logreport(self, report):
        names = dict(report.user_properties).get("launched")
        if report.when == "call" and report.passed and names is not None:
            self.seen.setdefault(re.split(r"[\[@]", report.nodeid)[0], set()).update(names)

    def unkept(self):
        """A sentence for each kernel that a marked test names and none of its cases launched."""
        every = [name for names in proofs.kernels().values() for name in names]
        for kind, pattern, test in proofs.declared():
            missing = set(fnmatch.filter(every, pattern)) - self.seen.get(test, set())
            if test in self.seen and missing:
                yield f"{test} is marked as a proof ({kind}) of {', '.join(sorted(missing))} and never launches it"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        asked = session.config
        part = asked.getoption("keyword") or any("::" in str(argument) for argument in asked.args)
        if exitstatus == 0 and not part and not hasattr(asked, "workerinput"):
            self.broken = list(self.unkept())
            if self.broken:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for sentence in self.broken:
            terminalreporter.write_line(sentence, red=True)
