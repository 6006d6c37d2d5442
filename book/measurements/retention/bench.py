"""Retention against softmax attention, and on a GPU against flash-linear-attention: whole sequences and decoding.

python book/measurements/retention/bench.py      writes cpu.json or gpu-NAME.json beside this file

Forward, forward and backward, and one decoded token as the past grows. Softmax attention computes something else: it is
there for its cost. Before anything is timed, retention and its gradients must agree with the float64 oracle at the
shortest length, and at longer ones with the peer's where there is one, else with chunks of another size.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import itertools
import math
import os
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from effattn_core import reproducible
from effattn_core.attention import attention
from effattn_core.retention import decay_schedule, retention
from kernels import bench, runtime

HEADS = 8
TIMES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
CONTEXTS = (1024, 4096, 16384, 65536)
# On a CPU (batch sizes, head sizes, longest sequence of SDPA); on a GPU all that the peer is known for.
CPU, GPU = ((1,), (64,), 16384), ((1, 2, 4), (64, 128, 256), math.inf)
TUNE_AT = 8192  # tokens of the peer's first call a head size: its tuners keep what was best then, whatever comes later
FIT_FROM = 4096  # tokens from which time is fitted as tokens ** exponent: shorter ones measure overheads
OTHER_CHUNK = 32  # tokens, for the comparison with another chunk size: neither the default nor a bfloat16 kernel's
OURS, SDPA, PEER = "this book", "PyTorch SDPA", "flash-linear-attention"
STATE, CACHE = "this book, carried state", "attention over a KV cache"


def find_peer(device):
    """`chunk_retention` of flash-linear-attention where there is a GPU and the package, else None.

    It takes [batch, time, heads, head_dim], has the decays of `decay_schedule` and the scale head_dim ** -0.5.
    """
    if device.type != "cuda" or importlib.util.find_spec("fla") is None:
        return None
    os.environ.setdefault("FLA_CACHE_RESULTS", "0")  # tuned here, not remembered from another run
    from fla.ops.retention import chunk_retention

    return chunk_retention


def ours(query, key, value):
    """By the kernels on a GPU, and nothing else: a head size that they do not take raises ValueError."""
    implementation = "triton" if query.device.type == "cuda" else None
    return retention(query, key, value, schedule(query.shape[1], query.device), implementation=implementation)[0]


def other_chunks(query, key, value):
    decay = schedule(query.shape[1], query.device)
    return retention(query, key, value, decay, chunk_size=OTHER_CHUNK, implementation="torch")[0]


def oracle(query, key, value):
    wide = [tensor.double() for tensor in (query, key, value, schedule(query.shape[1], query.device))]
    return retention(*wide, form="parallel", implementation="oracle")[0]


@functools.cache  # made once, so that making it is not timed
def schedule(heads, device):
    return decay_schedule(heads).to(device)


def sdpa(query, key, value):
    return scaled_dot_product_attention(query, key, value, is_causal=True)


def timed(form, tensors, grad):
    """A function of no arguments: the output, and the gradients where `grad`, that of the output, is given."""

    def run():
        output = form(*tensors)
        gradients = () if grad is None else torch.autograd.grad(output, tensors, grad)
        return output.detach(), *gradients

    return run


def swapped(tensor):
    """[batch, heads, time, size] stored as [batch, time, heads, size], or back: a leaf of its own."""
    return tensor.detach().transpose(1, 2).contiguous().requires_grad_(tensor.requires_grad)


def require_close(name, results, truth, case):
    """Raise AssertionError unless each result is as near its truth as its precision allows; limits over the largest."""
    for part, result, wanted in zip(("output", "query", "key", "value"), results, truth, strict=False):
        limit = 1e-4 if result.dtype == torch.float32 else 3e-2
        error = ((result.double() - wanted.double()).abs().max() / wanted.double().abs().max()).item()
        if not error <= limit:  # a NaN is not within the limit either
            what = part if part == "output" else f"gradient of the {part}"
            raise AssertionError(f"{name}: its {what} is off by {error:.2g} at {case}: it is not timed")


def refusal(form, shape, dtype, device, errors):
    """What a form says, forward or backward, to a shape that it does not take; None if it takes it."""
    tensors = [torch.randn(shape, dtype=dtype, device=device, requires_grad=True) for _ in range(3)]
    try:
        timed(form, tensors, torch.randn(shape, dtype=dtype, device=device))()
    except errors as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    return None


def measure(case, peer, refused, sdpa_limit, shortest, device, dtype):
    """The rows of one case: whole sequences, ours first, then the candidates that apply. refused: why not the peer."""
    shape = (case["batch"], case["heads"], case["tokens"], case["head_dim"])
    backward = case["what"] == "forward and backward"
    tensors = [torch.randn(shape, dtype=dtype, device=device, requires_grad=backward) for _ in range(3)]
    grad = torch.randn(shape, dtype=dtype, device=device) if backward else None
    candidates, left_out = {OURS: timed(ours, tensors, grad)}, []
    if refused:
        left_out.append(f"{PEER}: {refused}")
    elif peer is not None:
        moved = [swapped(tensor) for tensor in tensors]
        candidates[PEER] = timed(lambda *given: peer(*given)[0], moved, grad if grad is None else swapped(grad))
    if shape[2] <= sdpa_limit:
        candidates[SDPA] = timed(sdpa, tensors, grad)
    else:
        left_out.append(f"{SDPA}: stops at {sdpa_limit} tokens, for a call of 65536 takes a CPU minutes")
    truth = None
    if shape[2] == shortest:
        truth = timed(oracle, tensors, None if grad is None else grad.double())()
    elif PEER not in candidates:
        truth = timed(other_chunks, tensors, grad)()

    def check(name, results):
        nonlocal truth
        if name == SDPA:  # computes something else
            return
        results = [swapped(result) for result in results] if name == PEER else results
        if truth is None:
            truth = results  # ours: the peer's must agree with it
        require_close(name, results, truth, case)

    few = device.type == "cpu" and shape[2] > 4096
    timings = bench.compare(candidates, check=check, repeats=5 if few else 9, warmup=1 if few else 2, device=device)
    return bench.rows_of(case | ({"left_out": left_out} if left_out else {}), timings)


def measure_decoding(case, contexts, device, dtype):
    """The rows of one decoded token after each past: by a state that was carried, and by a cache that was kept.

    A way of decoding takes turns with itself after other pasts, not with the other way, which would empty the caches of
    the processor between its calls. Its ratio is its time over that after the shortest past.
    """
    decay = schedule(case["heads"], device)
    ways, truth = {STATE: {}, CACHE: {}}, {}
    for context in contexts:
        shape = (1, case["heads"], context + 1, case["head_dim"])
        query, key, value = (torch.randn(shape, dtype=dtype, device=device) for _ in range(3))
        past, last = slice(0, context), slice(context, None)
        _, state = retention(query[:, :, past], key[:, :, past], value[:, :, past], decay)
        token = [tensor[:, :, last].contiguous() for tensor in (query, key, value)]
        ways[STATE][context] = functools.partial(_carried, token, decay, state)
        ways[CACHE][context] = functools.partial(attention, token[0], key, value)
        form = oracle if context == min(contexts) else other_chunks
        truth[STATE, context] = form(query, key, value)[:, :, last]
        truth[CACHE, context] = scaled_dot_product_attention(token[0], key, value)

    def check(context, result, name):
        require_close(name, [result], [truth[name, context]], case | {"tokens": context})

    rows = []
    for name, candidates in ways.items():
        timings = bench.compare(
            candidates, check=functools.partial(check, name=name), repeats=31, warmup=5, device=device
        )  # a call takes less than a millisecond
        for timing in timings:
            rows += bench.rows_of(case | {"tokens": timing.name}, [dataclasses.replace(timing, name=name)])
    return rows


def _carried(token, decay, state):
    return retention(*token, decay, state=state)[0]


def exponents(rows, fit_from):
    """A row for each kind of pass and size: the slope of log time against log tokens, ours, from `fit_from` up."""
    groups = {}
    for row in rows:
        if row["name"] == OURS and row["what"].startswith("forward") and row["tokens"] >= fit_from:
            groups.setdefault((row["what"], row["batch"], row["head_dim"]), []).append(row)
    for (what, batch, head_dim), group in groups.items():
        if len(group) < 2:
            continue
        points = torch.tensor([[math.log(row["tokens"]), math.log(row["median"])] for row in group]).double()
        across, up = (points - points.mean(0)).T
        yield {
            "what": f"exponent of {what}", "batch": batch, "head_dim": head_dim, "name": OURS,
            "exponent": ((across @ up) / (across @ across)).item(),
            "from_tokens": min(row["tokens"] for row in group), "to_tokens": max(row["tokens"] for row in group),
        }  # fmt: skip


def main(times=TIMES, contexts=CONTEXTS, sizes=None, fit_from=FIT_FROM, peer=None, folder=Path(__file__).parent):
    """Measure and store after each case; a run at the same commit goes on where the last one stopped.

    sizes: (batch sizes, head sizes, longest sequence of SDPA); peer: a function that is called as `chunk_retention` is.
    """
    reproducible(0)
    device = runtime.device()
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    batches, head_dims, sdpa_limit = sizes or (GPU if on_gpu else CPU)
    peer = find_peer(device) if peer is None else peer
    path = bench.recording_path(folder, "gpu" if on_gpu else "cpu")
    source = bench.provenance("make bench")
    tune_at = min(TUNE_AT, max(times))
    if peer is not None:
        version = importlib.metadata.version(PEER) if on_gpu else "stand-in"
        source["peer"] = f"{PEER} {version}, tuned at batch 1 and {tune_at} tokens"
    rows = bench.stored(path, source["commit"])
    rows = [row for row in rows if "exponent" not in row]  # fitted again below
    done = {(row["what"], row["tokens"], row["batch"], row["head_dim"]) for row in rows}

    @functools.cache
    def refusals(head_dim):
        """Why ours, and why the peer, does not take a head size: ours by ValueError, another library by anything."""
        mine = refusal(ours, (1, HEADS, 64, head_dim), dtype, device, ValueError)
        if peer is None or mine:
            return mine, "not installed" if on_gpu and peer is None else None
        shape = (1, tune_at, HEADS, head_dim)
        return mine, refusal(lambda *given: peer(*given)[0], shape, dtype, device, Exception)

    def left_out(case):
        return [case | {"name": OURS, "left_out": ["all: this size does not fit in the memory of the device"]}]

    for what, head_dim, batch, tokens in itertools.product(
        ("forward", "forward and backward"), head_dims, batches, times
    ):
        if (what, tokens, batch, head_dim) in done:
            continue
        case = {"what": what, "tokens": tokens, "batch": batch, "heads": HEADS, "head_dim": head_dim,
                "dtype": str(dtype)[6:]}  # fmt: skip
        mine, theirs = refusals(head_dim)
        try:
            if mine:
                new = [case | {"name": OURS, "left_out": [f"{OURS}: {mine}"]}]
            else:
                new = measure(case, peer, theirs, sdpa_limit, min(times), device, dtype)
        except torch.OutOfMemoryError:
            new = left_out(case)
        rows += new
        bench.write_measurement(path, source, rows)
        print(what, tokens, batch, head_dim, *(f"{row['name']} {row.get('ratio')}" for row in new), sep="; ")
    case = {"what": "decode one token", "batch": 1, "heads": HEADS, "head_dim": head_dims[0], "dtype": str(dtype)[6:]}
    if contexts and (case["what"], min(contexts), 1, head_dims[0]) not in done:
        try:
            rows += measure_decoding(case, contexts, device, dtype)
        except torch.OutOfMemoryError:
            rows += left_out(case | {"tokens": min(contexts)})
    rows += exponents([row for row in rows if "median" in row], fit_from)
    bench.write_measurement(path, source, rows)


if __name__ == "__main__":
    main()
