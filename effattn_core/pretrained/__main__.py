"""`python -m effattn_core.pretrained "prompt"`: a trained model goes on, text shown as it is made, then what it cost.

Options: --model smollm2 | FILE.gguf | FOLDER; --cache, one of CACHES; --tokens. The text goes to standard output, the
account of it (tokens per second, bytes kept, bytes read per token) to standard error.
"""

import argparse
import importlib
import sys
import time

import torch

from effattn_core.costs import format_bytes
from effattn_core.pretrained.interface import opened

# name -> (the method of `effattn_core.rectified.neighbours`, its settings from the options, what it reads)
CACHES = {
    "dense": ("dense", lambda asked: {}, "every key"),
    "window": (
        "streaming",
        lambda asked: dict(sinks=asked.sinks, window=asked.window),
        "--sinks first keys and the newest, --window keys in all",
    ),
    "rectified": ("rectified", lambda asked: dict(active=asked.active), "a share --active of blocks, chosen by bounds; "
                  "put right every --period tokens"),
    "quest": ("quest", lambda asked: dict(active=asked.active), "the same blocks, chosen per head, never put right"),
    "mean": ("mean", lambda asked: dict(active=asked.active), "blocks chosen by their mean key"),
}  # fmt: skip


def arguments(given=None):
    parser = argparse.ArgumentParser("python -m effattn_core.pretrained", description=__doc__.splitlines()[0])
    parser.add_argument("prompt")
    parser.add_argument("--model", default="smollm2", help='"smollm2", a GGUF file or a Hugging Face folder')
    ways = "; ".join(f"{name}: {what}" for name, (_, _, what) in CACHES.items())
    parser.add_argument("--cache", default="dense", choices=CACHES, help=ways)
    parser.add_argument("--tokens", type=int, default=100, help="most tokens to write (default 100)")
    parser.add_argument("--chat", action="store_true", help="ask as a user does, in the model's own template")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--active", type=float, default=0.25)
    parser.add_argument("--period", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--dtype", default=None, choices=["float32", "bfloat16", "float16"])
    return parser.parse_args(given)


def continued(model, prompt, states, asked):
    """Yield the tokens of a text as they are made; the first comes with the prompt."""
    sparse = importlib.import_module("effattn_core.rectified.cache")  # a later topic: named, not imported above
    dice = torch.Generator(prompt.device).manual_seed(asked.seed)
    period = asked.period if asked.cache == "rectified" else 0
    return sparse.generate(
        model, prompt, asked.tokens, states, period=period, temperature=asked.temperature, generator=dice
    )


def run(asked):
    """Write the text and return the account of it, a sentence. Raises ValueError for what cannot be done."""
    from tokenizers.decoders import DecodeStream

    neighbours = importlib.import_module("effattn_core.rectified.neighbours")
    dtype = getattr(torch, asked.dtype) if asked.dtype else None
    checkpoint = opened(asked.model)
    model, tokenizer = checkpoint.load(device=asked.device, dtype=dtype)
    if asked.chat:
        text = checkpoint.conversation([{"role": "user", "content": asked.prompt}], reply=True)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
    else:
        ids = tokenizer.encode(asked.prompt).ids
    if not ids:
        raise ValueError("the prompt must have at least one token; it is empty.")
    ends = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    method, settings, _ = CACHES[asked.cache]
    states = neighbours.states_for(model, method, **settings(asked))
    stream, times, stopped = DecodeStream(), [time.perf_counter()], ""
    try:
        for token in continued(model, torch.tensor(ids, device=model.head.weight.device), states, asked):
            times.append(time.perf_counter())
            if token in ends:
                break
            print(stream.step(tokenizer, token) or "", end="", flush=True)
    except KeyboardInterrupt:
        stopped = " (interrupted)"
    print()
    return account(model, states, len(ids), times) + stopped


def account(model, states, prompt, times):
    """What a text cost: times[0] is its start, then one per token; the first of them ends the prompt."""
    written = len(times) - 1
    parts = [f"{prompt} tokens read in {times[1] - times[0]:.1f} s"] if written else ["nothing written"]
    if written > 1:
        parts.append(f"{written} written, {(written - 1) / (times[-1] - times[1]):.1f} per second")
        read = sum(sum(state.step_bytes().values()) for state in states)
        weights = sum(weight.nbytes for weight in model.parameters())
        parts.append(f"read per token: {format_bytes(weights)} of weights and {format_bytes(read)} of the cache")
    parts.append(f"kept: {format_bytes(sum(state.kept_bytes for state in states))}")
    return "; ".join(parts)


def main(given=None):
    """Run the command. Returns its exit status: 0, or 2 with one sentence on standard error."""
    try:
        print(run(arguments(given)), file=sys.stderr)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
