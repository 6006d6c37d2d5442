"""Times of the solvers against the exact one, and of a layer of experts against others' and a dense one.

python book/measurements/routing/bench.py      writes cpu.json or gpu-NAME.json beside this file

Seconds are medians with quartiles; ratio: over the first of its group, timed in the same turns. The rows, by `what`:

"solver"  tokens, experts, skew, name; worth: value over the optimum's, None where that is not solved; gap: certified,
          None for what has no prices.
"layer"   pass ("forward", and from 512 tokens on "forward and backward"), tokens, experts, top_k, width, inner, name:
          one layer of SwiGLU experts, each row the same operations but "every expert", which has experts / top_k times
          as many. The router is not timed: all get the same choices.
"""

import dataclasses
import functools
import importlib.util
from pathlib import Path

import torch
from torch.nn import functional

from effattn_core import reproducible
from effattn_core.routing import capacity_of, gap, mixed, optimum, oracle, priced, quantile_prices, rounded, value_of
from effattn_core.routing.experts import chosen_experts
from effattn_core.routing.future import skewed
from effattn_core.routing.routers import one_hot, released, sinkhorn_prices, token_choice
from kernels import bench, runtime

SIZES = ((512, 16), (2048, 64), (8192, 64))  # tokens, experts
EXACT, RELEASED = 2048 * 64, 512 * 16  # the largest matrices that the linear program and the released solver get
SKEWS, TOP_K, REPEATS = (0.0, 2.0), 2, 9
WIDTH = 256
LAYERS = ((8, 2, 512), (64, 16, 64))  # experts, of them per token, inner: equal operations
TOKENS = (1, 16, 512, 2048)
TRAINED = 512  # tokens from which on a batch is one of training: fewer are only decoded
UNBOUNDED = ("top-k", "quantile, 5 rounds, not rounded")  # what no capacity holds
SPREAD = 0.4  # of the median, between its quartiles
DENSE, EVERY, OURS = "dense layer", "every expert", "this book"
GROUPED, LOOP = "PyTorch grouped_mm", "Transformers, Mixtral"


def price_5(values, capacity):
    return quantile_prices(values, TOP_K, capacity, rounds=5, middle=False)


def price_20(values, capacity):
    return quantile_prices(values, TOP_K, capacity, rounds=20)


def price_sinkhorn(values, capacity):
    return sinkhorn_prices(values, TOP_K, temperature=0.1, rounds=50)


def by_prices(values, capacity, price):
    """(mask, prices) of a solver by prices, rounded to the capacity."""
    prices = price(values, capacity)
    return rounded(values, prices, TOP_K, capacity), prices


def unrounded(values, capacity):
    prices = price_5(values, capacity)
    return priced(values, prices, TOP_K), None


def solvers(values, capacity, exact):
    """(quick ones, slow ones): name -> a function of no arguments that gives (mask, prices or None)."""
    quick = {
        "top-k": lambda: (token_choice(values, TOP_K), None),
        "quantile, 5 rounds, not rounded": functools.partial(unrounded, values, capacity),
        "quantile, 5 rounds": functools.partial(by_prices, values, capacity, price_5),
        "middle, 20 rounds": functools.partial(by_prices, values, capacity, price_20),
        "Sinkhorn, 50 rounds": functools.partial(by_prices, values, capacity, price_sinkhorn),
    }
    slow = {}
    if exact:
        slow["linear program"] = lambda: optimum(values, TOP_K, capacity)[:2]
    if values.numel() <= RELEASED:
        slow["MaxScore, released"] = lambda: (one_hot(released(values, capacity), values.shape[1]).any(1), None)
    return quick, slow


def timed(candidates, **settings):
    """`bench.compare`, once more, and at most three times, where a spread says that something else was computing."""
    for _ in range(4):
        timings = bench.compare(candidates, **settings)
        if all(each.upper_quartile - each.lower_quartile <= SPREAD * each.median for each in timings):
            break
    return timings


def solver_rows(sizes, skews, repeats):
    for tokens, experts in sizes:
        capacity = capacity_of(tokens, experts, TOP_K)
        for skew in skews:
            values = skewed(tokens, experts, skew, torch.Generator().manual_seed(0)).softmax(1)
            exact = tokens * experts <= EXACT
            quick, slow = solvers(values, capacity, exact)
            best = optimum(values, TOP_K, capacity).value if exact else None

            def check(name, found, capacity=capacity):
                mask = found[0]
                if (mask.sum(1) > TOP_K).any() or (name not in UNBOUNDED and (mask.sum(0) > capacity).any()):
                    raise AssertionError(f"{name}: a token or an expert has more than its share: it is not timed")

            timings = timed(quick, check=check, repeats=repeats, progress=False)
            if slow:
                timings += timed(slow, check=check, repeats=3, warmup=0, progress=False)
            case = {"what": "solver", "tokens": tokens, "experts": experts, "skew": skew}
            for timing in timings:
                mask, prices = {**quick, **slow}[timing.name]()
                certified = None if prices is None else gap(values, mask, prices, TOP_K, capacity)
                worth = value_of(values, mask) / best if best else None
                timing = dataclasses.replace(timing, ratio=timing.median / timings[0].median)
                yield from bench.rows_of(case | {"worth": worth, "gap": certified}, [timing])


def grouped(hidden, expert, gates, gate, up, down):
    """The layer by PyTorch's own product of ragged groups: rows sorted by expert, and summed back."""
    flat = expert.flatten()
    order = flat.argsort(stable=True)
    ends = functional.one_hot(flat, len(gate)).sum(0).cumsum(0).int()
    rows = hidden[order // expert.shape[1]]
    product = functools.partial(functional.grouped_mm, offs=ends)
    made = product(functional.silu(product(rows, gate)) * product(rows, up), down)
    made = made * gates.gather(1, expert).flatten()[order, None]
    return torch.empty_like(made).index_copy(0, order, made).view(*expert.shape, -1).sum(1)


def mixtral(gate, up, down):
    """The experts of Transformers' Mixtral with these weights, or None where the package is missing."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralExperts

    experts, width, inner = gate.shape
    sizes = MixtralConfig(hidden_size=width, intermediate_size=inner, num_local_experts=experts)
    sizes._experts_implementation = "eager"
    layer = MixtralExperts(sizes).to(gate)
    with torch.no_grad():
        layer.gate_up_proj.copy_(torch.cat((gate, up), 2).mT)
        layer.down_proj.copy_(down.mT)
    return layer


def forms(hidden, mask, gates, gate, up, down, top_k):
    """name -> (function of no arguments that gives the layer's output, what it has gradients of)."""
    expert = chosen_experts(mask, top_k)
    weights = gate, up, down
    inner = gate.shape[2] * top_k
    thick = [torch.randn(*shape, device=hidden.device, requires_grad=True)
             for shape in ((len(hidden[0]), inner), (len(hidden[0]), inner), (inner, len(hidden[0])))]  # fmt: skip
    found = {
        DENSE: (lambda: (functional.silu(hidden @ thick[0]) * (hidden @ thick[1])) @ thick[2], (hidden, *thick)),
        OURS: (lambda: mixed(hidden, mask, gates, *weights, choices=top_k), (hidden, gates, *weights)),
        EVERY: (lambda: oracle(hidden, mask, gates, *weights), (hidden, gates, *weights)),
        GROUPED: (lambda: grouped(hidden, expert, gates, *weights), (hidden, gates, *weights)),
    }
    peer = mixtral(*weights)
    if peer is not None:
        chosen = gates.detach().gather(1, expert).requires_grad_()
        found[LOOP] = (lambda: peer(hidden, expert, chosen), (hidden, chosen, *peer.parameters()))
    return found


def layer_rows(layers, all_tokens, width, repeats):
    device = runtime.device()
    for experts, top_k, inner in layers:
        for tokens in all_tokens:
            torch.manual_seed(0)
            shapes = (tokens, width), (experts, width, inner), (experts, width, inner), (experts, inner, width)
            hidden, *weights = (
                (torch.randn(*shape, device=device) * shape[-2] ** (-0.5 * (len(shape) > 2))).requires_grad_()
                for shape in shapes
            )
            gates = torch.rand(tokens, experts, device=device).softmax(1).requires_grad_()
            mask = token_choice(torch.rand(tokens, experts, device=device), top_k)
            made, grad = forms(hidden, mask, gates, *weights, top_k), torch.randn(tokens, width, device=device)
            wide = [each.detach().double() if each.is_floating_point() else each
                    for each in (hidden, mask, gates, *weights)]  # fmt: skip
            truth = oracle(wide[0].requires_grad_(), *wide[1:])
            truth = truth.detach(), *torch.autograd.grad(truth, wide[0], grad.double())

            def check(name, found, truth=truth):
                found = (found,) if torch.is_tensor(found) else found
                for what, one, wanted in zip(("output", "gradient of the tokens"), found, truth, strict=False):
                    error = ((one - wanted).abs().max() / wanted.abs().max()).item()
                    if name != DENSE and not error < 1e-4:
                        raise AssertionError(f"{name}: its {what} is off by {error:.2g}: it is not timed")

            def forward(run):
                with torch.no_grad():
                    return run()

            def both(run, wanted, grad=grad):
                output = run()
                return output.detach(), *torch.autograd.grad(output, wanted, grad)

            for kind in ("forward", "forward and backward")[: 2 if tokens >= TRAINED else 1]:
                candidates = {
                    name: functools.partial(forward, run) if kind == "forward" else functools.partial(both, run, wanted)
                    for name, (run, wanted) in made.items()
                }
                timings = timed(candidates, check=check, repeats=repeats, device=device, progress=False)
                case = {"what": "layer", "pass": kind, "tokens": tokens, "experts": experts, "top_k": top_k,
                        "width": width, "inner": inner}  # fmt: skip
                yield from bench.rows_of(case, timings)


def main(folder=None, sizes=SIZES, skews=SKEWS, layers=LAYERS, tokens=TOKENS, width=WIDTH, repeats=REPEATS):
    """Settings with defaults, so that a test can run it dry in seconds."""
    reproducible(0)
    kind, source = "gpu" if runtime.mode == "gpu" else "cpu", bench.provenance("make bench")
    rows = [*layer_rows(layers, tokens, width, repeats), *solver_rows(sizes, skews, repeats)]
    bench.write_measurement(bench.recording_path(folder or Path(__file__).parent, kind), source, rows)


if __name__ == "__main__":
    main()
