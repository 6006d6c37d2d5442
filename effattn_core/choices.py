"""Which method, when: each method of the book beside the others, at the bill's sizes, and why one suits a reader not.

A method lives with its topic: `<topic>/choice.py` has a list METHODS. Its bytes and operations are lines of the bill,
or made from the topic's own formulas; what it recalls and where it loses come from recordings. No number is typed in.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from effattn_core import bill, costs, topic_modules

CONTEXT = bill.CONTEXT
TRAINING = {"no": "none", "short": "a short one", "scratch": "from scratch"}
TASKS = {
    "text": "serve a language model",
    "training": "train one",
    "pictures": "draw pictures or sound",
    "graph": "learn a table over a graph",
}
TEXT = ("prefill", "cache", "decode")  # lines that the length of a text decides
KEPT = 0.95  # of what softmax attention recalls: from here on a recall counts as kept
PARTLY = 0.5
NOT_MEASURED, ITS_MODEL_S, NO_TEXT = "not recorded", "as its model", "reads no text"


@dataclass(frozen=True)
class Found:
    """What a recording says. recording: "topic/file", as `recordings.measured` takes it; words: made from its rows."""

    recording: str
    words: Callable[[], str]


@dataclass(frozen=True)
class Recall:
    """A recorded recall beside softmax attention's of the same task, shares of right answers; or why there is none.

    ours, dense: functions; dense is None for softmax attention itself. stated: NOT_MEASURED, ITS_MODEL_S or NO_TEXT
    where nothing was recorded, and `because` says why.
    """

    recording: str | None = None
    task: str = ""
    ours: Callable[[], float] | None = None
    dense: Callable[[], float] | None = None
    stated: str | None = None
    because: str = ""

    @property
    def verdict(self):
        """yes, in part or no; or what was stated."""
        if self.stated:
            return self.stated
        share = self.ours() / self.dense() if self.dense else 1.0
        return "yes" if share >= KEPT else "in part" if share >= PARTLY else "no"

    @property
    def words(self):
        if self.stated:
            return self.because
        beside = f", softmax attention {self.dense():.0%}" if self.dense else ""
        return f"{self.ours():.0%} of {self.task}{beside}"


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method. page: its chapter; task: a key of TASKS; training: a key of TRAINING, what a trained model needs.

    lines: from a context to lines of the bill (key -> Line); None for a method that no line of the bill prices, whose
    `price` says in words what it costs. kernels: pairs (what it computes, the launcher's name in `kernels`). loses:
    where it did worse. seen: pairs (model, key of the bibliography), as the chapter cites them. baseline: whether
    others are held against it. place: part and number of the chapter, None where the topic's stage of the bill says it.
    """

    topic: str
    name: str
    page: str
    task: str
    training: str
    lines: Callable[[int], dict] | None
    recall: Recall
    kernels: tuple[tuple[str, str], ...] = ()
    loses: Found
    seen: tuple[tuple[str, str], ...] = ()
    price: Callable[[], str] | None = None
    baseline: bool = False
    place: tuple[int, int] | None = None

    def __post_init__(self):
        if self.training not in TRAINING or self.task not in TASKS:
            raise ValueError(
                f"{self.name}: training must be one of {', '.join(TRAINING)}, and task one of {', '.join(TASKS)}; "
                f"they are {self.training!r} and {self.task!r}."
            )
        if self.lines is None and self.price is None:
            raise ValueError(f"{self.name} needs lines of the bill, or a price in words; it has neither.")


@dataclass(frozen=True)
class Reader:
    """What a reader has. Anything left as None asks for nothing.

    context: tokens of a text; memory: bytes of the card; training: the most that is allowed, a key of TRAINING;
    recall: whether facts have to be found again exactly; task: a key of TASKS.
    """

    context: int = CONTEXT
    memory: float | None = None
    training: str | None = None
    recall: bool = False
    task: str | None = None

    def __post_init__(self):
        for name, known in (("training", TRAINING), ("task", TASKS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(f"{name} must be None or one of {', '.join(known)}; it is {value!r}.")
        if self.context < 1:
            raise ValueError(f"context must be at least 1 token; it is {self.context}.")


@functools.cache
def methods():
    """Every method, in the order of the chapters; those of one chapter in its own order."""
    found = [method for module in topic_modules("choice") for method in module.METHODS]
    return sorted(found, key=lambda method: method.place or bill.stage(method.topic).place)


def named(name):
    """The method of a name. Raises ValueError for another."""
    found = {method.name: method for method in methods()}
    if name not in found:
        raise ValueError(f"name must be one of {', '.join(found)}; it is {name!r}.")
    return found[name]


def baseline():
    """The method that others are held against."""
    return next(method for method in methods() if method.baseline)


def growth(method, context=CONTEXT):
    """(bytes kept per further token, bytes kept however long the text), between a context and twice as much."""
    first, second = (method.lines(each)["cache"].value for each in (context, 2 * context))
    per_token = (second - first) / context
    return per_token, first - per_token * context


def order(method, context=1 << 24):
    """How the operations of the prompt grow with its tokens: "linear" or "quadratic", by the bill's formula."""
    first, second = (method.lines(each)["prefill"].text for each in (context, 2 * context))
    return "quadratic" if second > 3 * first else "linear"


def elsewhere(method, context=CONTEXT):
    """Pairs (before, after) of lines other than prompt, cache and reading that differ from the baseline's as shown."""
    was = baseline().lines(context)
    if any(stage.topic == method.topic for stage in bill.stages()):
        was = bill.before(method.topic, context) | was
    now = method.lines(context) if method.lines else {}
    changed = [(was[key], line) for key, line in now.items() if key not in TEXT]
    return [(old, new) for old, new in changed if old.amount() != new.amount()]


def gains(method, context):
    """Whether any line that a text causes is lower than the baseline's: prompt, what is kept, what is read."""
    was, now = baseline().lines(context), method.lines(context)
    return any(now[key].value < was[key].value for key in TEXT)


def held(method, context):
    """(bytes that one card has to hold at least, what they are): of a text that is served, or of training.

    Served: all weights and what is kept of the text. Trained: weights, as many bytes of gradients, optimizer states.
    Activations are left out, of both.
    """
    lines = method.lines(context)
    if method.task == "training":
        return 2 * lines["weights"].value + lines["optimizer"].value, "weights, gradients and optimizer states"
    return lines["weights"].value + lines["cache"].value, f"weights and what is kept of {context:,} tokens"


def too_large(method, context, memory):
    """A sentence if what has to be held exceeds the card's bytes, else None."""
    if method.lines is None:
        return None
    size, what = held(method, context)
    if size <= memory:
        return None
    return (
        f"{what} take {costs.format_bytes(size)}, and the card's {memory / 1e9:.0f} GB are {costs.format_bytes(memory)}"
    )


def too_short(method, context):
    """A sentence if a text of `context` tokens gains nothing by a method that is about long texts, else None."""
    if method.baseline or method.task != "text" or method.lines is None or gains(method, context):
        return None
    return f"at {context:,} tokens it keeps, reads and computes no less than {baseline().name.lower()}"


def too_dear(method, allowed):
    """A sentence if a method needs more training than is allowed, else None."""
    ranks = list(TRAINING)
    if ranks.index(method.training) <= ranks.index(allowed):
        return None
    if method.training == "scratch":
        return "the model has to be trained from scratch"
    return "it acts while a model is trained" if method.task == "training" else "it has to be trained, if shortly"


def forgetful(method):
    """A sentence if a method was not seen to recall as softmax attention does, else None."""
    if method.recall.verdict in ("yes", ITS_MODEL_S):
        return None
    return f"exact recall: {method.recall.verdict}, {method.recall.words}"


def elsewhere_used(method, task):
    """A sentence if a method is for another task, else None."""
    return None if method.task == task else f"it is for those who {TASKS[method.task]}"


def reasons(method, reader):
    """Why a method does not suit a reader, a sentence each; an empty list if it does."""
    found = [too_short(method, reader.context)]
    if reader.task is not None:
        found.append(elsewhere_used(method, reader.task))
    if reader.memory is not None:
        found.append(too_large(method, reader.context, reader.memory))
    if reader.training is not None:
        found.append(too_dear(method, reader.training))
    if reader.recall:
        found.append(forgetful(method))
    return [reason for reason in found if reason]


def whole_bill(context=CONTEXT):
    """Pairs (method, its lines by key), a pair per stage of the bill; first the design that the book starts from."""
    designs = [(each.method, bill.lines(each.topic, context)) for each in bill.stages()]
    return [("The start", bill.lines(None, context)), *designs]
