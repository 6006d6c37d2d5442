"""Times of the head's step, and of drawing latents with and without a cache, beside a diffusion Transformer.

python book/measurements/latents/bench.py      writes cpu.json or gpu-NAME.json beside this file

Weights are drawn, not trained: they cost the same. Models are the small ones of run.py, in float32, without guidance.
Seconds are medians with quartiles; ratio: over the first of its group, timed in the same turns. The rows, by `what`:

"step"    pass ("forward", "forward and backward"), rows, width, inner, name: one step of the head, by the equation in
          PyTorch (EAGER), by this book (OURS: kernels on a GPU, its plain form on a CPU), on a GPU torch.compile too.
"draw"    latents per image, batch, steps, name: all latents of a batch of images, one by one with CACHE, or WITHOUT,
          when the backbone reads all of the past for each latent; or all at once by the Transformer (WHOLE).
          parameters; operations: of all products in one such draw, as PyTorch counts them; per_latent: the median over
          latents and batch.
"part"    latents, batch, steps, name: seconds of a draw with the cache spent in the head, in the backbone, and between
          them (samplers and reading a latent); share: of the median of all three.
"""

import time
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import run
import torch
from torch.utils.flop_counter import FlopCounterMode

from effattn_core import reproducible
from effattn_core.latents.decoding import draw
from effattn_core.latents.head import head_oracle, head_step
from effattn_core.latents.model import LatentModel, latent_sizes
from effattn_core.latents.recorded import CLASSES
from effattn_core.latents.whole import WholeModel, draw_whole
from kernels import bench, runtime

REPEATS, STEPS = 5, 20
# rows, width, inner: a batch of images being drawn, one of training; at the size of the main model and a wider one.
HEADS = {
    "cpu": ((16, 96, 256), (4096, 96, 256), (16, 512, 1408), (512, 512, 1408)),
    "gpu": ((16, 1024, 2736), (64, 1024, 2736), (4096, 1024, 2736), (16384, 1024, 2736)),
}
LATENTS, BATCHES = (16, 64, 256), (1, 16)
LONG, FEW_TURNS = 64, 3  # above so many latents a draw takes seconds, and is timed less often
EAGER, COMPILED, OURS = "PyTorch, eager", "torch.compile", "this book"
CACHE, WITHOUT, WHOLE = "latents, cache", "latents, no cache", run.WHOLE
SAME = 16  # latents that must be the same with and without the cache; later ones carry the rounding of all before


def drawn_weights(module, spread=0.1):
    """The module with matrices drawn anew: as they start, the head's would be zeros, and hide a wrong condition."""
    for weight in module.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=spread)
    return module.eval().requires_grad_(False).to(runtime.device())


def step_inputs(rows, width, inner):
    """What a step of the head takes, on the device of the kernels, all with gradients."""
    shapes = (rows, width), (rows, 3 * width), (inner, width), (inner, width), (width, inner)
    scales = 1.0, 0.5, width**-0.5, width**-0.5, inner**-0.5
    return [
        (scale * torch.randn(shape, device=runtime.device())).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]


def step_rows(sizes, repeats):
    """A row per form and pass of one step; none is timed whose output or gradients differ from the oracle's."""
    for rows, width, inner in sizes:
        torch.manual_seed(0)
        given = step_inputs(rows, width, inner)
        grad = torch.randn(rows, width, device=runtime.device())
        forms = {EAGER: head_oracle, OURS: head_step}
        if runtime.mode == "gpu":
            forms[COMPILED] = torch.compile(head_oracle, dynamic=False)

        def both(form, given=given, grad=grad):
            output = form(*given)
            return output.detach(), *torch.autograd.grad(output, given, grad)

        def forward(form, given=given):
            with torch.no_grad():
                return (form(*given),)

        wide = [each.detach().double().requires_grad_() for each in given]
        output = head_oracle(*wide)
        truth = output.detach(), *torch.autograd.grad(output, wide, grad.double())

        def check(name, found, truth=truth):
            for number, (one, wanted) in enumerate(zip(found, truth, strict=False)):
                error = ((one - wanted).abs().max() / wanted.abs().max()).item()
                if not error < 1e-4:
                    raise AssertionError(f"{name}: result {number} is off by {error:.2g}: it is not timed")

        for kind, run_it in (("forward", forward), ("forward and backward", both)):
            candidates = {name: partial(run_it, form) for name, form in forms.items()}
            timings = bench.compare(
                candidates, check=check, repeats=repeats, device=runtime.device(), progress=False
            )  # fmt: skip
            case = {"what": "step", "pass": kind, "rows": rows, "width": width, "inner": inner}
            yield from bench.rows_of(case, timings)


def models(latents):
    """(a LatentModel, a diffusion Transformer of as many weights) for images of so many latents."""
    torch.manual_seed(0)
    one = LatentModel(latent_sizes(CLASSES + 1, places=latents, context=latents + 1, **run.SMALL))
    whole = WholeModel(CLASSES + 1, places=latents, **run.WHOLE_SIZES)
    return drawn_weights(one), drawn_weights(whole)


def candidates_of(one, whole, batch, steps):
    """name -> a function of no arguments that draws all latents of a batch of images from one seed."""
    label = run.labels_of(batch).to(runtime.device())

    def by_latent(use_cache, steps=steps):
        generator = torch.Generator().manual_seed(0)
        return draw(one, label[:, None], steps=steps, use_cache=use_cache, generator=generator)[0]

    def at_once(steps=steps):
        return draw_whole(whole, label, steps=steps, generator=torch.Generator().manual_seed(0))

    return {CACHE: partial(by_latent, True), WITHOUT: partial(by_latent, False), WHOLE: at_once}


def operations(candidate, steps):
    """Operations of a draw's products: a first step's and each further one's, as PyTorch counts those of two draws."""
    found = []
    for each in (1, 2):
        with FlopCounterMode(display=False) as counter:
            candidate(steps=each)
        found.append(counter.get_total_flops())
    return found[0] + (steps - 1) * (found[1] - found[0])


def draw_rows(all_latents, batches, steps, repeats):
    """Rows of "draw" and of "part", by the number of latents and the batch."""
    for latents in all_latents:
        one, whole = models(latents)
        weights = {CACHE: one.parameter_count, WITHOUT: one.parameter_count, WHOLE: whole.parameter_count}
        for batch in batches:
            candidates, wanted = candidates_of(one, whole, batch, steps), {}

            def check(name, found, wanted=wanted, shape=(batch, latents, one.sizes.latent)):
                if found.shape != shape or not found.isfinite().all():
                    raise AssertionError(f"{name}: {tuple(found.shape)}, or not finite: it is not timed")
                first = wanted.setdefault("first", found[:, :SAME])
                if name == WITHOUT and not (found[:, :SAME] - first).abs().max() < 1e-2:
                    raise AssertionError(f"{name}: other latents than with the cache: it is not timed")

            turns = min(repeats, FEW_TURNS) if latents > LONG else repeats
            timings = bench.compare(
                candidates, check=check, repeats=turns, warmup=0, device=runtime.device(), progress=False
            )  # fmt: skip
            case = {"what": "draw", "latents": latents, "batch": batch, "steps": steps}
            for timing in timings:
                more = {"parameters": weights[timing.name], "operations": operations(candidates[timing.name], steps),
                        "per_latent": timing.median / (batch * latents)}  # fmt: skip
                yield from bench.rows_of(case | more, [timing])
            yield from part_rows(one, candidates[CACHE], case | {"what": "part"}, turns)


def seconds_in(function, spent):
    """`function`, its seconds added to the list `spent`; on a GPU its work is waited for."""

    def timed(*given, **more):
        wait()
        begun = time.perf_counter()
        result = function(*given, **more)
        wait()
        spent.append(time.perf_counter() - begun)
        return result

    return timed


def wait():
    if runtime.mode == "gpu":
        torch.cuda.synchronize()


def part_rows(one, candidate, case, repeats):
    """Where the seconds of a draw go: one row each for the head, the backbone and what lies between them."""
    taken, head, read = {"head": [], "backbone": [], "between": []}, one.head.forward, one.backbone.read
    for _ in range(repeats):
        inside = {"head": [], "backbone": []}
        one.head.forward, one.backbone.read = seconds_in(head, inside["head"]), seconds_in(read, inside["backbone"])
        try:
            whole = []
            seconds_in(candidate, whole)()
        finally:
            one.head.forward, one.backbone.read = head, read
        for name, spent in inside.items():
            taken[name].append(sum(spent))
        taken["between"].append(whole[0] - sum(map(sum, inside.values())))
    total = sum(map(median, taken.values()))
    for name, seconds in taken.items():
        lower, middle, upper = quantiles(seconds, n=4, method="inclusive")
        yield case | {"name": name, "correct": True, "median": middle, "lower_quartile": lower, "upper_quartile": upper,
                      "share": middle / total, "repeats": repeats}  # fmt: skip


def main(folder=None, heads=None, latents=LATENTS, batches=BATCHES, steps=STEPS, repeats=REPEATS):
    """Settings with defaults, so that a test can run it dry in seconds."""
    reproducible(0)
    kind, source = "gpu" if runtime.mode == "gpu" else "cpu", bench.provenance("make bench")
    heads = HEADS[kind] if heads is None else heads
    rows = [*step_rows(heads, repeats), *draw_rows(latents, batches, steps, repeats)]
    bench.write_measurement(bench.recording_path(folder or Path(__file__).parent, kind), source, rows)


if __name__ == "__main__":
    main()
