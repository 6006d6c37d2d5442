"""SmolLM2 reads 4,096 tokens of the plays: its loss with every key, with a window, with a window and sinks; its sinks.

python book/measurements/attention/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file

A passage that is done is kept in .cache/runs/attention: an interrupted command goes on after the last.
"""

import torch

from effattn_core.measurements import by_passage, record_pretrained
from effattn_core.pretrained import probe

PASSAGES, LENGTH, BUCKET, WINDOW = 3, 4096, 128, 256
READINGS = {
    "every key": {},
    "window of 256": dict(window=WINDOW),
    "window of 255, 1 sink": dict(window=WINDOW - 1, sinks=1),
    "window of 252, 4 sinks": dict(window=WINDOW - 4, sinks=4),
}
ROWS = range(1023, 2048, 64)  # the queries whose sinks are measured


def window_rows(model, tokens, passage, bucket=BUCKET):
    """The loss of one passage in each reading, nats per token, a mean per `bucket` tokens."""
    rows = []
    for name, seen in READINGS.items():
        losses = probe.token_losses(model, tokens[None], **seen)[0]
        means = [round(part.mean().item(), 4) for part in losses.split(bucket)]
        rows.append({"what": "window", "name": name, "passage": passage, "bucket": bucket, "losses": means, **seen})
        print(f"passage {passage}, {name}: {losses.mean():.3f} nats per token", flush=True)
    return rows


def sink_rows(model, tokens, passage, queries=ROWS):
    """The share of each head's attention on the first token, and on the last 64, one row per layer."""
    queries = torch.tensor(queries, device=tokens.device)
    states = probe.recorded(model, tokens[None, : queries.max() + 1])
    rows = []
    for layer, state in enumerate(states):
        first = probe.attention_weights(state, queries)[0, ..., 0].mean(-1)
        near = probe.mass_within(state, (64,), rows=queries)[0]
        shares = {"first": first.tolist(), "near": near.tolist()}
        rounded = {name: [round(share, 4) for share in each] for name, each in shares.items()}
        rows.append({"what": "sink", "passage": passage, "layer": layer, **rounded})
    return rows


def main(source="smollm2", passages=PASSAGES, length=LENGTH, folder=None, target=None):
    parts = by_passage(passages, length, window_rows, sink_rows)
    record_pretrained(__file__, parts, source=source, context=length, folder=folder, target=target)


if __name__ == "__main__":
    main()
