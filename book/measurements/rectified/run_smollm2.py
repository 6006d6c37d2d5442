"""Ways of reading a cache, judged by SmolLM2: next tokens of a text, drift over 512 of them, a number to find again.

python book/measurements/rectified/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file

Every way gets the same caches of one dense pass over the prompt, then reads sparsely, in all layers, token by token. A
part that is done is kept in .cache/runs/rectified: an interrupted command goes on after the last.
"""

import math
import statistics
from functools import partial

import torch
from torch.nn import functional

from effattn_core.frontier import ways
from effattn_core.measurements import record_pretrained
from effattn_core.pretrained import probe
from effattn_core.rectified.cache import SparseDecoder, kl_divergence
from effattn_core.rectified.neighbours import cache_maker

PASSAGES, LENGTHS, STEPS = 2, (1024, 2048, 4096, 7936), 48
DIALS = (0.06, 0.12, 0.25)  # of each way: a share of blocks, or of the text that its window holds
DRIFT, PERIODS, ACTIVE, BLOCK = (1024, 512), (8, 32, 128, 0), 0.12, 16
LEFT_OUT = {"CLSA"}  # its indexer was taught on another reader
NEEDLE_LENGTHS, DEPTHS, NUMBERS = (1024, 4096), (0.1, 0.35, 0.6, 0.85), 3


def filled(make, recorded, capacity):
    """States whose caches hold what `recorded` states do, with room for `capacity` tokens. make(shape) -> cache."""
    states = []
    for state in recorded:
        batch, heads, _, head_dim = state.key.shape
        cache = make((batch, heads, capacity, head_dim))
        cache.append(state.key, state.value)
        states.append(cache)
    return states


def makers(dials=DIALS):
    """(name, dial, period, make) of every way at every dial, and the dense baseline."""
    dense, settings = cache_maker("dense")
    yield "dense", 1.0, 0, lambda shape: dense(*shape, **settings)
    for way in ways():
        if way.name not in LEFT_OUT:
            for dial in dials:
                yield way.name, dial, way.period, partial(way.make, dial)


@torch.no_grad()
def followed(model, recorded, make, tokens, period):
    """(logits: [steps, vocabulary], bytes read per token) of given tokens after a prompt whose caches are recorded."""
    states = filled(make, recorded, recorded[0].length + len(tokens))
    decoder, logits, read = SparseDecoder(model, states, period=period), [], []
    for token in tokens:
        logits.append(decoder.step(token[None, None])[0, -1])
        read.append(sum(sum(state.step_bytes().values()) for state in states))
    return torch.stack(logits), statistics.fmean(read)


def frontier_rows(model, text, passage, length, steps):
    """KL to dense and loss over bytes, a row per way and dial."""
    tokens, rows, dense = text[: length + steps + 1], [], None
    recorded = probe.recorded(model, tokens[None, :length])
    for name, dial, period, make in makers():
        logits, read = followed(model, recorded, make, tokens[length:-1], period)
        dense = (logits, read) if dense is None else dense
        apart = kl_divergence(dense[0], logits)
        loss = functional.cross_entropy(logits.float(), tokens[length + 1 :])
        rows.append({"what": "frontier", "name": name, "tokens": length, "passage": passage, "dial": dial,
                     "period": period, "share": read / dense[1] + (1 / period if period else 0.0),
                     "kl": apart.mean().item(), "kl_error": (apart.std() / math.sqrt(len(apart))).item(),
                     "loss": loss.item(), "steps": steps})  # fmt: skip
        print(
            f"{length:,} tokens, {name} at {dial}: KL {rows[-1]['kl']:.4f}, share {rows[-1]['share']:.3f}", flush=True
        )
    return rows


def drift_rows(model, text, passage, length, steps, bucket=32):
    """KL to dense as a text goes on that dense decoding wrote, for ReSA rectified every so many tokens, and never."""
    recorded = probe.recorded(model, text[None, :length])
    dense, settings = cache_maker("dense")
    states = filled(lambda shape: dense(*shape, **settings), recorded, length + steps)
    dice, token, written, truth = torch.Generator(text.device).manual_seed(passage), text[length], [], []
    for _ in range(steps):
        with torch.no_grad():
            logits, states = model(token[None, None], states)
        written.append(token)
        truth.append(logits[0, -1])
        token = torch.multinomial(logits[0, -1].softmax(-1), 1, generator=dice)[0]
    make, settings = cache_maker("rectified", block_size=BLOCK, active=ACTIVE, least=1)
    rows = []
    for period in PERIODS:
        logits, read = followed(model, recorded, lambda shape: make(*shape, **settings), torch.stack(written), period)
        apart = kl_divergence(torch.stack(truth), logits)
        means = [round(part.mean().item(), 5) for part in apart.split(bucket)]
        rows.append({"what": "drift", "passage": passage, "tokens": length, "period": period, "active": ACTIVE,
                     "bucket": bucket, "kl": means})  # fmt: skip
        print(f"passage {passage}, rectified every {period}: KL {apart.mean():.4f}", flush=True)
    return rows


def needle_rows(model, tokenizer, text, length, numbers, seed=0):
    """Is a number found that stood in the prompt? A row per way and dial: how many of depths times numbers."""
    hits, asked = {}, probe.hidden_numbers(tokenizer, text, length, numbers=numbers, depths=DEPTHS, seed=seed)
    for number, hidden in enumerate(asked):
        for read, given, answer in hidden:
            recorded = probe.recorded(model, read[None])
            for name, dial, period, make in makers():
                logits, _ = followed(model, recorded, make, given, period)
                hits.setdefault((name, dial), []).append(bool((logits.argmax(-1) == answer).all()))
        print(f"needles in {length:,} tokens: {number + 1} of {numbers} numbers", flush=True)
    return [
        {"what": "needle", "name": name, "dial": dial, "tokens": length, "found": sum(found), "asked": len(found)}
        for (name, dial), found in hits.items()
    ]


def main(
    source="smollm2", passages=PASSAGES, lengths=LENGTHS, steps=STEPS, drift=DRIFT, needles=NEEDLE_LENGTHS,
    numbers=NUMBERS, folder=None, target=None,
):  # fmt: skip
    def parts(model, tokenizer):
        longest = max(*lengths, *needles, sum(drift)) + steps + 1
        texts = probe.passages(tokenizer, passages, longest).to(model.head.weight.device)
        for passage, text in enumerate(texts):
            yield f"drift-{passage}-{drift}", partial(drift_rows, model, text, passage, *drift)
            for length in lengths:
                yield (
                    f"frontier-{passage}-{length}-{steps}",
                    partial(frontier_rows, model, text, passage, length, steps),
                )
        for length in needles:
            yield f"needle-{length}-{numbers}", partial(needle_rows, model, tokenizer, texts[0], length, numbers)

    record_pretrained(__file__, parts, source=source, folder=folder, target=target)


if __name__ == "__main__":
    main()
