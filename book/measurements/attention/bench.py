"""Attention against PyTorch's: forward, forward and backward, windows, and decoding as the cache grows.

python book/measurements/attention/bench.py      writes cpu.json or gpu-NAME.json beside this file

"this book" is `attention` left to itself, "tiled" the form that the chapter teaches. PyTorch takes a window as a mask,
made beforehand and not timed.
"""

from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from effattn_core import reproducible
from effattn_core.attention import attention, oracle, visible
from kernels import bench, runtime

HEADS, KEY_HEADS, HEAD_DIM, WINDOW = 9, 3, 64, 256
TIMES = (128, 1024, 4096, 8192)
TRAINED = ((8, 256), (1, 1024), (1, 4096))  # batch, tokens
CONTEXTS = (128, 1024, 4096, 16384, 65536)
NAIVE = 4096  # the most tokens whose scores are stored


def cases():
    """(settings of a row, shape of the query's batch and time, window, whether the backward pass is timed)."""
    for time in TIMES:
        yield dict(what="forward", tokens=time), (1, time), None, False
    for batch, time in TRAINED:
        yield dict(what="forward and backward", tokens=time, batch=batch), (batch, time), None, True
    for time in TIMES[1:3]:
        yield dict(what=f"forward, window {WINDOW}", tokens=time), (1, time), WINDOW, False
    for context in CONTEXTS:
        yield dict(what="decode one token", tokens=context), (1, 1), None, False


def inputs(batch, time, key_time, dtype, device, gradients):
    shapes = [(HEADS, time), (KEY_HEADS, key_time), (KEY_HEADS, key_time)]
    return [
        torch.randn(batch, heads, length, HEAD_DIM, dtype=dtype, device=device).requires_grad_(gradients)
        for heads, length in shapes
    ]


def forms(tensors, window):
    """name -> the output of one form. PyTorch's is the baseline; the naive one stores its scores, as it is written."""
    query, key, value = tensors
    place, masks = torch.arange(key.shape[2], device=key.device), dict(causal=query.shape[2] > 1, window=window)
    seen = visible(place, place, window=window) if window else None
    found = {
        "PyTorch SDPA": lambda: scaled_dot_product_attention(
            query, key, value, seen, is_causal=query.shape[2] > 1 and seen is None, enable_gqa=True
        ),
        "this book": lambda: attention(query, key, value, **masks),
        "tiled": lambda: attention(query, key, value, implementation="torch", **masks),
    }
    if key.shape[2] <= NAIVE or query.shape[2] == 1:
        found["naive, scores stored"] = lambda: oracle(query, key, value, scale=HEAD_DIM**-0.5, **masks).output
    return found


def candidates(tensors, window, backward):
    def timed(form):
        def run():
            output = form()
            if backward:
                torch.autograd.grad(output, tensors, torch.ones_like(output))
            return output.detach()

        return run

    return {name: timed(form) for name, form in forms(tensors, window).items()}


def measure(case, tensors, window, backward, device):
    truth = None

    def check(name, result):
        nonlocal truth
        truth = result if truth is None else truth
        # Of the largest number: four roundings of the dtype, or what long sums in float32 lose in another order.
        limit = max(2 * torch.finfo(result.dtype).eps, 1e-4) * truth.abs().max().item()
        error = (result.float() - truth.float()).abs().max().item()
        if not error <= limit:
            raise AssertionError(f"{name} differs from PyTorch's by {error:.2g} at {case}: it is not timed")

    return bench.rows_of(case, bench.compare(candidates(tensors, window, backward), check=check, device=device))


def main():
    reproducible(0)
    device = runtime.device()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    path = bench.recording_path(Path(__file__).parent, "gpu" if device.type == "cuda" else "cpu")
    source = bench.provenance("make bench")
    rows = bench.stored(path, source["commit"])
    done = {(row["what"], row["tokens"]) for row in rows}
    for case, (batch, time), window, backward in cases():
        if (case["what"], case["tokens"]) in done:
            continue
        tensors = inputs(batch, time, case["tokens"], dtype, device, backward)
        sizes = {"heads": HEADS, "key_heads": KEY_HEADS, "head_dim": HEAD_DIM, "dtype": str(dtype)[6:]}
        found = measure(case | sizes, tensors, window, backward, device)
        rows += found
        bench.write_measurement(path, source, rows)
        print(*case.values(), *(f"{row['name']} {row['ratio']:.2f}" for row in found), sep="; ", flush=True)


if __name__ == "__main__":
    main()
