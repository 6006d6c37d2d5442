"""What `make bench` recorded, by device: the timings, ours beside a peer's, and the shapes at which ours are slower.

A recording is a file of `book/measurements/TOPIC` whose command is "make bench". Recordings are found by looking, so a
file that a new device added is among them. Which row is ours and which it stands beside, RULES say by name.
"""

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from effattn_core.recordings import MEASUREMENTS

PEER, METHOD = "the same, by a peer", "another method"
CPU_ONLY = ("indexing", "rectified", "speculation")  # their benches run on the CPU wherever they run
MOST_SPREAD = 0.5  # of a median: quartiles further apart say that the machine was busy, and not what a call costs


@dataclass(frozen=True)
class Rule:
    """Which rows of a topic are compared: patterns of their `what` and names, and the fields that tell shapes apart.

    beside: pattern of a name -> PEER where another library computes the same, METHOD where the work is another one.
    fastest: only the fastest of those beside is compared with. turns: whether both were timed in the same turns.
    """

    what: str
    ours: tuple
    beside: dict
    shape: tuple
    fastest: bool = False
    turns: bool = True


ATTENTION = ("tokens", "batch", "heads", "key_heads", "head_dim", "dtype")
PLAIN = ("plain", "plain, usual products", "plain, one thread")
RULES = {
    "attention": [
        Rule("*", ("this book", "tiled"), {"PyTorch SDPA": PEER, "naive, scores stored": METHOD}, ATTENTION),
    ],
    "channels": [Rule("decode", ("channels, *",), {"dense": METHOD}, ("tokens",))],
    "indexing": [
        Rule("time of a token", ("one index",), {"dense": METHOD, "an index a layer": METHOD},
             ("tokens", "layers", "top_k")),
    ],
    "latents": [
        Rule("step", ("this book",), {"PyTorch, eager": PEER, "torch.compile": PEER},
             ("pass", "rows", "width", "inner")),
        Rule("draw", ("latents, cache",), {"latents, no cache": METHOD, "DiT": METHOD}, ("latents", "batch", "steps")),
    ],
    "lowbit": [
        Rule("*", ("8-bit AdamW", "SOLO *"),
             {"AdamW, foreach": METHOD, "AdamW, fused": METHOD, "torchao *": PEER, "bitsandbytes *": PEER},
             ("tensors", "parameters")),
    ],
    "pretrained": [Rule("*", ("this book",), {"transformers": PEER}, ("tokens",))],
    "rectified": [
        Rule("time of a token", ("CLSA", "ReSA", "Quest", "mean keys", "StreamingLLM"), {"dense": METHOD},
             ("tokens", "budget")),
    ],
    "retention": [
        Rule("forward*", ("this book",), {"flash-linear-attention": PEER, "PyTorch SDPA": METHOD},
             ("tokens", "batch", "heads", "head_dim", "dtype")),
        Rule("decode one token", ("this book, carried state",), {"attention over a KV cache": METHOD},
             ("tokens", "batch", "heads", "head_dim", "dtype"), turns=False),
    ],
    "routing": [
        Rule("layer", ("this book",),
             {"PyTorch grouped_mm": PEER, "Transformers, Mixtral": PEER, "every expert": METHOD, "dense layer": METHOD},
             ("pass", "tokens", "experts", "top_k", "width", "inner")),
        Rule("solver", ("quantile, 5 rounds", "middle, 20 rounds"),
             {"top-k": METHOD, "Sinkhorn, 50 rounds": METHOD, "linear program": METHOD, "MaxScore, released": METHOD},
             ("tokens", "experts", "skew")),
    ],
    "speculation": [
        Rule("speed", ("lookup", "first third", "trained head, *"), dict.fromkeys(PLAIN, METHOD),
             ("text", "temperature"), fastest=True),
        Rule("pass", ("few rows",), {"usual": PEER}, ("rows", "context")),
    ],
    "yoco": [
        Rule("prefill", ("RetNet", "YOCO, *"), {"Transformer": METHOD}, ("tokens",)),
        Rule("decode", ("RetNet", "YOCO, *"), {"Transformer": METHOD}, ("tokens",), turns=False),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """One file: what one device measured of one topic."""

    path: Path
    provenance: dict
    rows: list

    @property
    def topic(self):
        return self.path.parent.name

    @property
    def name(self):
        return f"{self.topic}/{self.path.name}"

    @property
    def compiled(self):
        """Whether its kernels were compiled and not run: then nothing in it is a time."""
        return "compiled" in self.provenance

    @property
    def device(self):
        """The device in words: "a CPU, 2 threads", "NVIDIA H200", or for what its kernels were compiled."""
        if self.compiled:
            return self.provenance["compiled"]
        device = self.provenance["device"].replace(" 1 threads", " 1 thread")
        return device.replace("CPU", self.provenance.get("cpu", "a CPU"), 1) if self.on == "cpu" else device

    @property
    def on(self):
        return "compiled" if self.compiled else "cpu" if self.provenance["device"].startswith("CPU") else "gpu"

    @cached_property
    def timed(self):
        """Rows with a median in seconds; a rate has a unit of its own and no turns."""
        return [row for row in self.rows if "median" in row and "repeats" in row]

    @cached_property
    def pairs(self):
        return pairs_of(self)

    @cached_property
    def alone(self):
        """Timed rows that stand in no pair: parts of something, and shapes at which one alone was timed."""
        used = {id(row) for pair in self.pairs for row in (pair.ours, pair.theirs)}
        return [row for row in self.timed if id(row) not in used]


@dataclass(frozen=True)
class Pair:
    """Our row beside another's at one shape. ratio: how many times as fast ours is, below 1 where it loses."""

    recording: Recording
    what: str
    shape: tuple  # of (field, value)
    ours: dict
    theirs: dict
    kind: str
    turns: bool
    fastest: bool  # whether the other is the fastest of several

    @property
    def ratio(self):
        return taken(self.theirs, "median") / taken(self.ours, "median")

    @property
    def interval(self):
        """The least and the most that the quartiles allow: their fast quarter over our slow one, and the reverse."""
        return (
            taken(self.theirs, "lower_quartile") / taken(self.ours, "upper_quartile"),
            taken(self.theirs, "upper_quartile") / taken(self.ours, "lower_quartile"),
        )

    @property
    def loses(self):
        return self.ratio < 1

    @property
    def open(self):
        """Whether the interval holds 1: which of the two is faster, these quartiles do not say."""
        low, high = self.interval
        return low <= 1 <= high


def taken(row, key):
    """Seconds of a row at its median or a quartile, with its share of what is done only now and then (`amortised`)."""
    return row[key] + row.get("amortised", 0.0)


def name_of(row):
    return row.get("name") or row.get("way") or row.get("products") or row.get("part", "–")


def find(folder=None):
    """Every recording of a bench, by topic and file. Raises ValueError, with the file, for what is no recording."""
    found = []
    for path in sorted(Path(folder or MEASUREMENTS).glob("*/*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            made, rows = content["provenance"], content["rows"]
            if made.get("command") == "make bench":
                found.append(Recording(path, made, rows))
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path.parent.name}/{path.name} is no recording of provenance and rows: {error}."
            ) from None
    return found


def drivers(folder=None):
    """The benches of each topic, by topic: bench.py, and bench_parts.py and the like beside it."""
    found = {}
    for path in sorted(Path(folder or MEASUREMENTS).glob("*/bench*.py")):
        found.setdefault(path.parent.name, []).append(path)
    return found


def lacking(recordings, folder=None):
    """(topic, device wanted, command) of each topic that no GPU, or no CPU, has been recorded for."""
    for topic, files in drivers(folder).items():
        for on, device in (("cpu", "a CPU"), ("gpu", "a GPU")):
            if on == "gpu" and topic in CPU_ONLY:
                continue
            if not any(each.topic == topic and each.on == on for each in recordings):
                yield topic, device, f"python book/measurements/{topic}/{files[0].name}"


def _any(name, patterns):
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


def pairs_of(recording):
    """The pairs of a recording, by its topic's rules; none for a topic without, whose rows then all stand alone."""
    found = []
    for rule in RULES.get(recording.topic, ()):
        groups = {}
        for row in recording.timed:
            if fnmatchcase(row["what"], rule.what):
                shape = tuple((field, row[field]) for field in rule.shape if field in row)
                groups.setdefault((row["what"], shape), []).append(row)
        for (what, shape), rows in groups.items():
            beside = [row for row in rows if _any(name_of(row), rule.beside)]
            if rule.fastest:
                beside = sorted(beside, key=lambda row: row["median"])[:1]
            for ours in (row for row in rows if _any(name_of(row), rule.ours)):
                for theirs in beside:
                    kind = rule.beside[_any(name_of(theirs), rule.beside)]
                    found.append(Pair(recording, what, shape, ours, theirs, kind, rule.turns, rule.fastest))
    return found


def pairs(recordings):
    return [pair for recording in recordings for pair in recording.pairs]


def losing(recordings):
    """The pairs whose ratio is below 1, the worst first."""
    return sorted((pair for pair in pairs(recordings) if pair.loses), key=lambda pair: pair.ratio)
