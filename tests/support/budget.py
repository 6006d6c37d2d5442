"""What the suite costs, printed at its end: worker and wall seconds of each topic and of each kind of proof.

A test belongs to the topic whose folder it lies in, or whose name stands among its parameters: a chapter's notebook,
its visit in the browser and the compiling of its kernels count for the topic. Under pytest-xdist wall seconds are
worker seconds divided by the workers, for tests of all topics run beside each other.
"""

import re
import time
from collections import defaultdict
from pathlib import Path

TOPIC = 60  # wall seconds that a topic may take on two cores
WHOLE = 15 * 60  # and all of the suite
LONGEST_SHOWN = 12
TESTS = Path(__file__).resolve().parents[1]
SHARED = ("book", "page", "places", "shared", "support", "tools")
TOPICS = sorted(path.name for path in TESTS.iterdir() if path.is_dir() and path.name not in SHARED)
# The kind of proof, by the name of the file; a test of another file is one of forms and models.
KINDS = {
    "test_inspect": "compiled kernels",
    "test_kernels": "kernels",
    "test_trace": "kernels",
    "test_sanitize": "kernels",
    "test_notebooks": "chapters run anew",
    "test_browser": "browser",
    "test_front": "browser",
    "test_lab": "book",
    "test_lab_boxes": "book",
    "test_lab_browser": "browser",
    "test_explore_browser": "browser",
    "test_book": "book",
    "test_guards": "guards",
    "test_repository": "book",
    "test_figures": "figures",
    "test_bench": "dry runs",
    "test_measurements": "dry runs",
    "test_chapter": "dry runs",
    "test_checks": "exercises",
    "test_exercises": "exercises",
    "test_costs": "costs",
}

# The files that take longest, longest first: what is long begins early, so that no worker waits for it at the end.
LONGEST = (
    "book/test_browser", "tools/test_inspect", "book/test_notebooks", "book/test_guards", "shared/test_explore_browser",
    "retention/test_figures", "yoco/test_parallel", "channels/test_measurements", "rectified/test_chapter",
    "attention/test_forms",
)  # fmt: skip
# Files of these names have module fixtures that are dear: each stays on one worker, which makes them once.
TOGETHER = (
    "test_figures", "test_parallel", "test_measurements", "test_bench", "test_chapter",
    "test_offline", "test_printed", "test_teaching",
)  # fmt: skip


def topic_of(nodeid):
    """The topic that a test proves something of (the last one named), else the folder that it lies in."""
    path, _, test = nodeid.partition("::")
    folder = Path(path).parent.name
    if folder in TOPICS:
        return folder
    words = re.split(r"[^a-z]+", test.partition("[")[2].rpartition("]")[0])
    return next((word for word in reversed(words) if word in TOPICS), folder)


def kind_of(nodeid):
    """The kind of proof that a test is: interpreted kernels are told by the name of the form that is given."""
    path, _, test = nodeid.partition("::")
    kind = KINDS.get(Path(path).stem, "forms and models")
    interpreted = kind == "forms and models" and re.search(r"kernel|triton", test)
    return "kernels" if interpreted else kind


class Budget:
    """A pytest plugin: adds up the seconds of every test, in whichever worker it ran, and prints the sums."""

    def __init__(self, workers=1):
        self.workers, self.begin = workers, time.perf_counter()
        self.topics, self.kinds, self.tests = defaultdict(float), defaultdict(float), defaultdict(float)

    def pytest_runtest_logreport(self, report):
        self.topics[topic_of(report.nodeid)] += report.duration
        self.kinds[kind_of(report.nodeid)] += report.duration
        self.tests[report.nodeid] += report.duration

    def lines(self, wall):
        """(text, whether it is over a budget) of each line of the account of a run that took `wall` seconds."""
        total = sum(self.topics.values())
        yield (
            f"{wall:.0f} s by the clock (budget {WHOLE} s on two cores), {total:.0f} worker seconds, "
            f"{self.workers} worker{'s' * (self.workers > 1)}",
            wall > WHOLE,
        )
        for name, sums in (("topic", self.topics), ("kind of proof", self.kinds)):
            yield f"{name:<20} worker s  wall s", False
            for key, seconds in sorted(sums.items(), key=lambda entry: -entry[1]):
                over = key in TOPICS and seconds / self.workers > TOPIC
                note = f"  over the {TOPIC} s of a topic" if over else ""
                yield f"  {key:<18} {seconds:8.0f}  {seconds / self.workers:6.0f}{note}", over
        yield "longest tests        worker s", False
        for name in sorted(self.tests, key=self.tests.get, reverse=True)[:LONGEST_SHOWN]:
            yield f"  {self.tests[name]:8.0f}  {name.removeprefix('tests/')}", False

    def pytest_terminal_summary(self, terminalreporter):
        if not self.topics:
            return
        terminalreporter.section("what the suite cost")
        for text, over in self.lines(time.perf_counter() - self.begin):
            terminalreporter.write_line(text, **({"yellow": True} if over else {}))
