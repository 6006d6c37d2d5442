"""A decoded token by one shared index after 8K to 64K tokens: the time of its parts.

python book/measurements/indexing/bench.py      writes cpu.json beside this file, on a CPU wherever it runs

Bytes and KL to dense are measured by rectified/bench.py, with the other ways of the frontier. Here the cache of its
reader stands for that of a YOCO: four layers read it, and an index for each of them is timed beside one for all. Before
anything is timed a cache that reads everything must give dense attention.
"""

import functools
from pathlib import Path

import torch

from effattn_core import frontier, reproducible
from effattn_core.attention import attention
from effattn_core.data import Characters, shakespeare
from effattn_core.indexing import choose_rows, gather_rows, row_attention, scores_oracle
from effattn_core.indexing import frontier as ours
from effattn_core.reader import Reader, plain_letters
from kernels import bench

CONTEXTS = (8192, 16384, 32768, 65536)
LAYERS = 4
SHARE = 1 / 16  # of the tokens, for the times


def timed_rows(reader, text, tokens, query, repeats):
    """Times of one token in LAYERS layers: dense, one index per layer, one index, and the parts of that."""
    cache = reader.fill(ours.cache_of(ours.reader_indexer(), SHARE, (1, 2, tokens, 64)), text[:tokens])
    count = cache.top_k
    ask = cache.indexer.ask(query.transpose(1, 2).flatten(2))

    def scored():
        return scores_oracle(ask[0], cache.index, ask[1])

    def listed(scores):
        return choose_rows(scores, count)[:, 0]

    scores = scored()
    rows = listed(scores)
    near = gather_rows(cache.key, cache.value, rows)

    def read(near, rows):
        return [row_attention(query, *near, rows, gathered_already=True).output for _ in range(LAYERS)]

    def together():
        rows = listed(scored())
        return read(gather_rows(cache.key, cache.value, rows), rows)

    def apart():
        return [row_attention(query, cache.key, cache.value, listed(scored())).output for _ in range(LAYERS)]

    candidates = {
        "dense": lambda: [attention(query, cache.key, cache.value) for _ in range(LAYERS)],
        "an index a layer": apart, "one index": together, "scoring": scored,
        "top-k": functools.partial(listed, scores),
        "gathering": lambda: gather_rows(cache.key, cache.value, rows), "attention": lambda: read(near, rows),
    }  # fmt: skip
    case = {"what": "time of a token", "tokens": tokens, "layers": LAYERS, "top_k": count}
    return bench.rows_of(case, bench.compare(candidates, checked=True, repeats=repeats, warmup=2))


@torch.no_grad()
def main(contexts=CONTEXTS, repeats=15, folder=Path(__file__).parent):
    """Measure and store after each context; a run at the same commit goes on where the last one stopped."""
    reproducible(0)
    plain = plain_letters(shakespeare())
    letters = Characters(plain)
    text, reader = letters.encode(plain), Reader(len(letters))
    path = bench.recording_path(folder, "cpu")
    source = bench.provenance("make bench", on="cpu")
    rows = bench.stored(path, source["commit"])
    done = {row["tokens"] for row in rows}
    with torch.enable_grad():
        ours.reader_indexer()
    short = text[: min(contexts)]
    probe, _ = frontier.queries_of(reader, text, len(short) + 64, 4)
    for way in ours.WAYS:
        frontier.require_dense_at_one(way, reader, short, probe)
    for tokens in contexts:
        if tokens not in done:
            rows += timed_rows(reader, text, tokens, probe[0], repeats)
            bench.write_measurement(path, source, rows)


if __name__ == "__main__":
    main()
