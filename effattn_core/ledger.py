"""The ledger: what papers say that this book repeats, beside what is computed and measured here. What fails stays.

Claims live with their topic: each `<topic>/claims.py` has a list CLAIMS. A verdict is computed from the numbers by the
claim's rule, so that a changed number changes it:

    exact(1e-12)        an identity, or the published figure itself
    at_least(1.0)       the direction of the statement, no more; at_most likewise
    within(2)           the published figure, up to a factor
    upper_bound()       what a formula allows at most, where the paper's figure is of another kind (bytes against time)
    beyond(noise, rule) `rule`, unless our noise covers both the published figure and no effect at all
    against(control, rule)  `rule`, unless a method that ought to fail passes it as well
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import stdev

from effattn_core import topic_modules

EXACT, SAME, FACTOR, BOUND = "exact", "same direction", "within a factor", "bound"
FAILED, UNSEEN = "not reproduced", "cannot be seen at this size"
MEANING = {
    EXACT: "An identity that holds to rounding, or the published figure to its last digit.",
    SAME: "What is published is a direction, or a figure of another kind than ours: ours points the same way.",
    FACTOR: "Two figures at most a factor of two apart; their units say whether they are of one kind.",
    BOUND: "Ours is a formula for what the method allows at most; the published figure, a time, lies inside it.",
    FAILED: (
        "Ours points the other way, lies further off than a factor of two, or misses what the claim itself asks: an "
        "equality, a last digit, or a share that stands beside it or under the conditions."
    ),
    UNSEEN: "Our models are too small: noise, or a control that ought to fail, does as well as the method.",
}
UNVERIFIED = "UNVERIFIED"


@dataclass(frozen=True)
class Figure:
    """A number of ours, computed when asked for, in its own unit."""

    compute: Callable[[], float]
    unit: str

    def words(self, value):
        """A value of it, with its unit."""
        return f"{shown(value)} {self.unit}"


@dataclass(frozen=True)
class Numbers:
    """What a rule judges: the published figure, ours by formula, ours by measurement; None for what is absent."""

    published: float | None = None
    formula: float | None = None
    measured: float | None = None

    @property
    def ours(self):
        """The measurement where there is one, or else the formula."""
        return self.formula if self.measured is None else self.measured


Rule = Callable[[Numbers], str]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One published statement. where: its table, section, equation or abstract; published: its figure, in `unit`.

    formula, measured: ours, at least one of them; rule: gives the verdict from the numbers; conditions: how ours was
    had, a text or a function that makes it from the data; read: whether the place named by `where` was read, by us or
    in a transcript of the paper. A claim that was not is marked UNVERIFIED. Raises ValueError if it has no figure of
    ours.
    """

    topic: str
    paper: str
    where: str
    statement: str
    published: float | None = None
    unit: str = ""
    formula: Figure | None = None
    measured: Figure | None = None
    rule: Rule
    conditions: str | Callable[[], str]
    read: bool = True

    def __post_init__(self):
        if self.formula is None and self.measured is None:
            raise ValueError(f"a claim needs a formula or a measurement; “{self.statement}” has neither.")

    @property
    def numbers(self):
        """The three figures, computed now."""
        found = (each and each.compute() for each in (self.formula, self.measured))
        return Numbers(self.published, *found)

    @property
    def verdict(self):
        """One of the six words of MEANING."""
        return self.rule(self.numbers)


def exact(tolerance=1e-12) -> Rule:
    """EXACT if ours is the published figure, or is an error (nothing published) of zero, up to `tolerance`."""
    return lambda numbers: EXACT if abs(numbers.ours - (numbers.published or 0.0)) <= tolerance else FAILED


def at_least(limit) -> Rule:
    """SAME if ours reaches `limit`."""
    return lambda numbers: SAME if numbers.ours >= limit else FAILED


def at_most(limit) -> Rule:
    """SAME if ours stays at or under `limit`."""
    return lambda numbers: SAME if numbers.ours <= limit else FAILED


def within(factor=2.0, *, neutral=None, whole=None) -> Rule:
    """FACTOR if ours and the published figure are at most `factor` apart.

    neutral: no effect, on one side of which both must lie; whole: what a share is of, where what is missing from it
    must agree too.
    """

    def near(ours, published):
        return published / factor <= ours <= published * factor

    def rule(numbers):
        ours, published = numbers.ours, numbers.published
        if neutral is not None and (ours - neutral) * (published - neutral) <= 0:
            return FAILED
        if whole is not None and not near(whole - ours, whole - published):
            return FAILED
        return FACTOR if near(ours, published) else FAILED

    return rule


def upper_bound() -> Rule:
    """BOUND if the formula allows at least what is published."""
    return lambda numbers: BOUND if numbers.formula >= numbers.published else FAILED


def beyond(noise, rule, *, neutral=0.0) -> Rule:
    """`rule`, or UNSEEN where ours is no further than `noise()` from no effect, nor from the published figure.

    The rule has `noise` as an attribute, so that a row can tell it.
    """

    def judge(numbers):
        reach = noise()
        excluded = numbers.published is not None and abs(numbers.ours - numbers.published) > reach
        return UNSEEN if abs(numbers.ours - neutral) <= reach and not excluded else rule(numbers)

    judge.noise = noise
    return judge


def two_errors(values) -> float:
    """Two standard errors of the mean of `values`: what `beyond` takes for the noise of differences paired by seed."""
    values = list(values)
    return 2 * stdev(values) / len(values) ** 0.5


def against(control, rule) -> Rule:
    """`rule`, or UNSEEN where it passes and the measurement of a method that ought to fail, `control()`, does too."""

    def judge(numbers):
        verdict = rule(numbers)
        passes = rule(Numbers(numbers.published, numbers.formula, control())) != FAILED
        return UNSEEN if passes and verdict != FAILED else verdict

    return judge


def claims():
    """All claims, topic by topic."""
    return [claim for module in topic_modules("claims") for claim in module.CLAIMS]


def stated(claims, statement) -> Claim:
    """The claim of this statement among `claims`. Raises ValueError where none, or more than one, has it."""
    found = [claim for claim in claims if claim.statement == statement]
    if len(found) != 1:
        raise ValueError(f"{len(found)} claims say {statement!r}; one is wanted.")
    return found[0]


def ledger(topic=None):
    """Rows for a table: each claim (of a topic) with its source, the published figure, both of ours, the verdict."""
    return [_row(claim) for claim in claims() if topic in (None, claim.topic)]


def _row(claim):
    mark = "" if claim.read else f" {UNVERIFIED}"
    published = claim.unit if claim.published is None else f"{claim.published:g} {claim.unit}"
    conditions = claim.conditions if isinstance(claim.conditions, str) else claim.conditions()
    if noise := getattr(claim.rule, "noise", None):
        conditions += f" (noise: {shown(noise())})"

    numbers = claim.numbers  # computed once: some take seconds
    return {
        "statement": f"{claim.statement} *{claim.paper}, {claim.where}*{mark}",
        "published": published or "no figure",
        "by formula": claim.formula and claim.formula.words(numbers.formula),
        "measured": claim.measured and claim.measured.words(numbers.measured),
        "verdict": claim.rule(numbers),
        "conditions of ours": conditions,
    }


def verdicts(rows):
    """Rows for a table: each verdict, what it says, and how many of `rows` have it."""
    counted = Counter(row["verdict"] for row in rows)
    return [{"verdict": word, "says": says, "claims": counted[word]} for word, says in MEANING.items()]


def unverified(rows):
    """How many of `rows` repeat a statement whose place in the paper was not read."""
    return sum(UNVERIFIED in row["statement"] for row in rows)


def shown(value):
    """Three digits; rounding noise as a bound, so that the page does not depend on a machine's last digit."""
    return "under 1e-12" if abs(value) < 1e-12 else f"{value:.3g}"
