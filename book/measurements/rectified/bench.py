"""A decoded token after 8K to 64K tokens, by every way of reading a cache: time, bytes, and KL to dense.

python book/measurements/rectified/bench.py      writes cpu.json beside this file, on a CPU wherever it runs

All ways of `effattn_core.frontier` read the same caches, filled from Shakespeare by the hand-made `Reader`, in one
process, and are compared at equal bytes: for each budget a way's dial is turned up until it would pass it. Before
anything is measured each way, its dial at 1, must give dense attention. The caches are exact, as right after a prompt:
rectification has nothing to repair here, and ReSA pays for it all the same. What it repairs is in run.py.
"""

import functools
import math
import statistics
from pathlib import Path

from effattn_core import frontier, reproducible
from effattn_core.data import Characters, shakespeare
from effattn_core.reader import Reader, plain_letters
from effattn_core.rectified import dense_pass
from effattn_core.rectified.cache import RewindableCache
from kernels import bench

CONTEXTS = (8192, 16384, 32768, 65536)
BUDGETS = (0.125, 0.1875, 0.25, 0.375, 0.5)  # bytes per token, over those of dense decoding
TIMED = 0.1875  # the budget at which ways are timed
QUERIES, PROBES = 48, 8
LAST = 3_000_000  # letters of the plays up to where every cache ends: all lengths are asked the same
DENSE = "dense"


def frontier_rows(reader, text, tokens, budgets, timed, queries, probes):
    """KL to dense and loss of every way at each budget, a row each, and the dense row; and the caches to be timed."""
    last = min(LAST, len(text) - 97 * (queries + 1))
    cached = text[last - tokens : last]
    asked, answers = frontier.queries_of(reader, text, last + 64, queries)
    dense = reader.fill(RewindableCache(1, reader.key_heads, tokens, reader.head_dim), cached)
    truth = frontier.dense_distributions(reader, dense, asked)
    whole = frontier.dense_bytes(reader, cached)
    _, loss = frontier.quality(reader, dense, asked, answers, truth)
    shared = {"what": "frontier", "tokens": tokens, "queries": queries}
    rows = [shared | {"name": DENSE, "share": 1.0, "bytes": whole, "kl": 0.0, "loss": loss}]
    caches = {DENSE: dense}
    for way in frontier.ways():
        for budget in budgets:
            found = frontier.at_budget(way, budget, reader, cached, asked[:probes])
            if found is None:
                rows.append(shared | {"name": way.name, "budget": budget, "left_out": ["it cannot read so little"]})
                continue
            cache, dial, _ = found
            share = frontier.share_read(way, cache, asked, whole)
            apart, loss = frontier.quality(reader, cache, asked, answers, truth)
            rows.append(
                shared | {"name": way.name, "budget": budget, "dial": dial, "share": share, "bytes": share * whole,
                          "kl": statistics.fmean(apart), "kl_error": statistics.stdev(apart) / math.sqrt(len(apart)),
                          "loss": loss, "period": way.period}
            )  # fmt: skip
            if budget == timed:
                caches[way.name] = cache
            print(f"{tokens:,} tokens, {way.name} at {budget}: KL {rows[-1]['kl']:.3f}", flush=True)
    return rows, caches, asked


def timed_rows(caches, asked, tokens, budget, repeats):
    """The time of one token by every way at one budget, in turns; a rectification is timed too, and spread over f."""
    dense = caches[DENSE]
    candidates = {name: functools.partial(cache.look, asked[0]) for name, cache in caches.items()}
    periods = {way.name: way.period for way in frontier.ways() if way.period and way.name in candidates}
    for name, period in periods.items():
        newest = asked[0].expand(-1, -1, period, -1).contiguous()
        candidates[f"{name}: rectification"] = functools.partial(dense_pass, newest, dense.key, dense.value)
    timings = bench.compare(candidates, checked=True, repeats=repeats, warmup=3)
    spent = {timing.name: timing.median for timing in timings}
    rows = bench.rows_of({"what": "time of a token", "tokens": tokens, "budget": budget}, timings)
    for row in rows:
        if row["name"] in periods:
            row["amortised"] = spent[f"{row['name']}: rectification"] / periods[row["name"]]
    return rows


def main(contexts=CONTEXTS, budgets=BUDGETS, timed=TIMED, queries=QUERIES, probes=PROBES, repeats=15,
         folder=Path(__file__).parent):  # fmt: skip
    """Measure and store after each context; a run at the same commit goes on where the last one stopped."""
    reproducible(0)
    text = plain_letters(shakespeare())
    letters = Characters(text)
    tokens_of_text, reader = letters.encode(text), Reader(len(letters))
    path = bench.recording_path(folder, "cpu")
    source = bench.provenance("make bench", on="cpu")
    rows = bench.stored(path, source["commit"])
    done = {row["tokens"] for row in rows}
    short = tokens_of_text[: min(contexts)]
    probe, _ = frontier.queries_of(reader, tokens_of_text, len(short) + 64, 4)
    for way in frontier.ways():
        frontier.require_dense_at_one(way, reader, short, probe)
    for tokens in contexts:
        if tokens in done:
            continue
        new, caches, asked = frontier_rows(reader, tokens_of_text, tokens, budgets, timed, queries, probes)
        rows += new + timed_rows(caches, asked, tokens, timed, repeats)
        bench.write_measurement(path, source, rows)


if __name__ == "__main__":
    main()
