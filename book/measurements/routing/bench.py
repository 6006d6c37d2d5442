"""Times of routers, of the fast solver against the exact one, and of the layer's plain form.

python book/measurements/routing/bench.py      writes cpu.json or gpu.json beside this file
"""

import time
from pathlib import Path
from statistics import median

import torch

from effattn_core import reproducible
from effattn_core.routing import capacity_of, gap, optimum, quantile_prices, rounded, route, value_of
from effattn_core.routing.future import skewed
from kernels import bench, runtime

SIZES = ((512, 16), (2048, 64), (8192, 64))  # tokens, experts
EXACT = 2048 * 64  # the largest linear program that is solved
SKEWS, TOP_K, REPEATS = (0.0, 1.0, 2.0, 3.0), 2, 5


def timed(call, repeats):
    """(the median of its times in seconds, the last result)."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        made = call()
        times.append(time.perf_counter() - start)
    return median(times), made


def rows(sizes=SIZES, skews=SKEWS, repeats=REPEATS):
    """A row per size, skew and solver: seconds, value over the optimum where that is solved, and the certified gap."""
    for tokens, experts in sizes:
        capacity = capacity_of(tokens, experts, TOP_K)
        for skew in skews:
            scores = skewed(tokens, experts, skew, torch.Generator().manual_seed(0))
            values = scores.softmax(1)
            common = {"tokens": tokens, "experts": experts, "skew": skew}
            best = None
            if tokens * experts <= EXACT:
                seconds, found = timed(lambda v=values, c=capacity: optimum(v, TOP_K, c), 1)
                best = found.value
                yield {**common, "solver": "linear program", "seconds": seconds, "ratio": 1.0, "gap": 0.0}
            for name, settings in {
                "quantile, 5 rounds": dict(rounds=5, middle=False), "middle, 20 rounds": dict(rounds=20),
            }.items():  # fmt: skip
                solve, prices = timed(
                    lambda v=values, c=capacity, s=settings: quantile_prices(v, TOP_K, c, **s), repeats
                )
                mend, mask = timed(lambda v=values, p=prices, c=capacity: rounded(v, p, TOP_K, c), repeats)
                value = value_of(values, mask)
                yield {
                    **common, "solver": name, "seconds": solve + mend, "ratio": value / best if best else None,
                    "gap": gap(values, mask, prices, TOP_K, capacity),
                }  # fmt: skip
            if tokens <= 512:
                seconds, found = timed(lambda s=scores: route(s, router="maxscore_released", top_k=TOP_K), 1)
                ratio = value_of(values, found.mask) / best
                yield {**common, "solver": "MaxScore, released", "seconds": seconds, "ratio": ratio, "gap": None}


def main(folder=None, **settings):
    """settings: those of `rows`, so that a test can run it dry in seconds."""
    reproducible(0)
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    made = list(rows(**settings))
    bench.write_measurement((folder or Path(__file__).parent) / f"{kind}.json", bench.provenance("make bench"), made)


if __name__ == "__main__":
    main()
