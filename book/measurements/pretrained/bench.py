"""SmolLM2 in this book's model beside `transformers`: loading, a prompt, a decoded token.

python book/measurements/pretrained/bench.py     writes cpu.json beside this file, or gpu-NAME.json on a GPU

Both read the same file in one process, in float32 on a CPU, on the same threads; logits are compared first. `formula`
of a row: what `effattn_core.costs` says that it computes (FLOP), reads or keeps (bytes). The rates of rows "rate" are
those of this machine, measured before and after in the same process: they turn a formula into a least time.
"""

import gc
import time
from pathlib import Path

import psutil
import torch

from effattn_core import costs, machine, pretrained, reproducible
from effattn_core.pretrained import probe, smollm2
from effattn_core.states import kept_bytes
from kernels import bench, runtime

PROMPT, REPEATS = 1024, 9


def loaded_by_transformers(dtype, device):
    import transformers

    path = smollm2.path()
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=smollm2.FILE, dtype=dtype)
    return model.to(device).eval()


def loaded(name, make):
    """(what it makes, the row of its seconds and of the bytes by which the process grew)."""
    gc.collect()
    process = psutil.Process()
    before, begin = process.memory_info().rss, time.perf_counter()
    made = make()
    taken = time.perf_counter() - begin
    gc.collect()
    return made, {"what": "load", "name": name, "seconds": taken, "resident": process.memory_info().rss - before}


def rate_rows(device, when):
    """How fast this machine copies and multiplies, with quartiles."""
    found = machine.measure(device)
    for name, rate, unit in (("copying", found.copied, "B/s"), ("multiplying", found.multiplied, "FLOP/s")):
        quartiles = {"lower_quartile": rate.lower_quartile, "upper_quartile": rate.upper_quartile}
        yield {"what": "rate", "name": name, "when": when, "unit": unit, "median": rate.median, **quartiles}


def byte_rows(model, tokens):
    """Bytes that the model's weights and the states after a prompt keep, beside the formulas."""
    name = str(model.head.weight.dtype)[6:]
    weights = sum({each.data_ptr(): each.nbytes for each in model.parameters()}.values())
    _, states = model.prefill(tokens)
    cache = costs.cache_bytes(costs.SMOLLM2, tokens.shape[1], dtype=name)
    yield {"what": "bytes", "name": "weights", "bytes": weights, "formula": costs.weight_bytes(costs.SMOLLM2, name)}
    kept = kept_bytes(states)
    yield {"what": "bytes", "name": "cache", "tokens": tokens.shape[1], "bytes": kept, "formula": cache}


def agree(ours, theirs, tokens):
    """Raise AssertionError unless the logits agree, relative to the largest, within 1e-4 in float32."""
    found, wanted = ours(tokens)[0].float(), theirs(tokens).logits.float()
    error = ((found - wanted).abs().max() / wanted.abs().max()).item()
    assert error < (1e-4 if ours.head.weight.dtype == torch.float32 else 5e-2), error
    return error


def prompt_rows(ours, theirs, tokens, repeats, device):
    """A prompt read for the logits of its last token, caches kept."""
    candidates = {
        "this book": lambda: ours.prefill(tokens),
        "transformers": lambda: theirs(tokens, use_cache=True, logits_to_keep=1),
    }
    timings = bench.compare(candidates, checked=True, repeats=repeats, warmup=1, device=device)
    flops = costs.prefill_flops(costs.SMOLLM2, tokens.shape[1])
    return bench.rows_of({"what": "prompt", "tokens": tokens.shape[1], "formula": flops, "unit": "FLOP"}, timings)


def token_rows(ours, theirs, tokens, repeats, device):
    """One token after a prompt; each call adds one to its cache, so both grow alike."""
    _, states = ours.prefill(tokens)
    cache = theirs(tokens, use_cache=True, logits_to_keep=1).past_key_values
    token = tokens[:, :1]
    candidates = {
        "this book": lambda: ours.prefill(token, states),
        "transformers": lambda: theirs(token, past_key_values=cache, use_cache=True),
    }
    timings = bench.compare(candidates, checked=True, repeats=repeats, warmup=3, device=device)
    name = str(ours.head.weight.dtype)[6:]
    moved = costs.decode_bytes(costs.SMOLLM2, tokens.shape[1], dtype=name, weights=name)
    return bench.rows_of({"what": "token", "tokens": tokens.shape[1], "formula": moved, "unit": "B"}, timings)


@torch.no_grad()
def main(prompt=PROMPT, repeats=REPEATS, target=None):
    reproducible(0)
    gpu = runtime.mode == "gpu"
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    target = target or bench.recording_path(Path(__file__).parent, "gpu" if gpu else "cpu")
    source = bench.provenance("make bench")
    smollm2.path()  # the digest is checked once, before anything is timed
    (ours, tokenizer), ours_loaded = loaded("this book", lambda: pretrained.load("smollm2", dtype=dtype, device=device))
    theirs, theirs_loaded = loaded("transformers", lambda: loaded_by_transformers(dtype, device))
    text = probe.passages(tokenizer, 1, max(prompt, 257)).to(device)
    error = agree(ours, theirs, text[:, :256])
    rows = [ours_loaded, theirs_loaded, *rate_rows(device, "before")]
    rows.append({"what": "logits", "name": "largest difference over largest logit", "error": error})
    loss = probe.token_losses(ours, text[:, : prompt + 1]).mean().item()
    rows.append({"what": "text", "name": "nats per token", "tokens": prompt, "loss": loss})
    rows += byte_rows(ours, text[:, :prompt])
    rows += prompt_rows(ours, theirs, text[:, :prompt], repeats, device)
    rows += token_rows(ours, theirs, text[:, :prompt], 3 * repeats, device)
    rows += rate_rows(device, "after")
    for row in rows:
        print(*(f"{value:.3g}" if isinstance(value, float) else value for value in row.values()), sep="; ", flush=True)
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
