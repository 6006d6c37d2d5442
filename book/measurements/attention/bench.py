"""Attention against PyTorch's: forward, forward and backward, and decoding as the cache grows.

python book/measurements/attention/bench.py      writes cpu.json or gpu.json beside this file
"""

from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from effattn_core import reproducible
from effattn_core.attention import attention
from kernels import bench, runtime

HEADS, KEY_HEADS, HEAD_DIM = 8, 2, 64
TIMES = (1024, 2048, 4096, 8192)
CONTEXTS = (1024, 4096, 16384, 65536)


def inputs(time, key_time, dtype, device, gradients):
    shapes = [(HEADS, time), (KEY_HEADS, key_time), (KEY_HEADS, key_time)]
    return [
        torch.randn(1, heads, length, HEAD_DIM, dtype=dtype, device=device).requires_grad_(gradients)
        for heads, length in shapes
    ]


def naive(query, key, value, causal):
    """Scores stored, as the definition is written."""
    return attention(query, key, value, causal=causal, implementation="oracle")


def sdpa(query, key, value, causal):
    return scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=True)


def ours(query, key, value, causal):
    return attention(query, key, value, causal=causal)


FORMS = {"PyTorch SDPA": sdpa, "this book": ours, "naive, scores stored": naive}


def candidates(tensors, causal, backward, forms):
    def timed(form):
        def run():
            output = form(*tensors, causal)
            if backward:
                torch.autograd.grad(output, tensors, torch.ones_like(output))
            return output.detach()

        return run

    return {name: timed(form) for name, form in forms.items()}


def measure(case, tensors, causal, backward, forms, device):
    truth = None

    def check(name, result):
        nonlocal truth
        truth = result if truth is None else truth
        limit = 1e-4 if result.dtype == torch.float32 else 3e-2
        error = (result.float() - truth.float()).abs().max().item()
        if not error <= limit:
            raise AssertionError(f"{name} differs from PyTorch's by {error:.2g} at {case}: it is not timed")

    return bench.rows_of(case, bench.compare(candidates(tensors, causal, backward, forms), check=check, device=device))


def main():
    reproducible(0)
    device = runtime.device()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    path = Path(__file__).with_name(f"{'gpu' if device.type == 'cuda' else 'cpu'}.json")
    source = bench.provenance("make bench")
    rows = bench.stored(path, source["commit"])
    done = {(row["what"], row["tokens"]) for row in rows}
    cases = [("forward", time, time, False) for time in TIMES]
    cases += [("forward and backward", time, time, True) for time in TIMES[:3]]
    cases += [("decode one token", 1, context, False) for context in CONTEXTS]
    for what, time, key_time, backward in cases:
        if (what, key_time) in done:
            continue
        few = {name: form for name, form in FORMS.items() if form is not naive or key_time <= 4096 or time == 1}
        tensors = inputs(time, key_time, dtype, device, backward)
        case = {"what": what, "tokens": key_time, "heads": HEADS, "key_heads": KEY_HEADS, "head_dim": HEAD_DIM,
                "dtype": str(dtype)[6:]}  # fmt: skip
        rows += measure(case, tensors, time > 1, backward, few, device)
        bench.write_measurement(path, source, rows)
        print(what, key_time, *(f"{row['name']} {row['ratio']:.2f}" for row in rows[-len(few) :]), sep="; ")


if __name__ == "__main__":
    main()
