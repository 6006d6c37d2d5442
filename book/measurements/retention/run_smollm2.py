"""How fast do trained heads forget? The share of SmolLM2's attention within n tokens, per head, beside no schedule.

python book/measurements/retention/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file
"""

import torch

from effattn_core.measurements import by_passage, record_pretrained
from effattn_core.pretrained import probe

PASSAGES, LENGTH = 3, 2048
DISTANCES = tuple(1 << power for power in range(11))  # 1, 2, … 1,024 tokens
ROWS = range(1023, 2048, 64)
SINKS = 1  # keys left out: the first token holds most of many heads' attention, and says nothing of distance


def forgetting_rows(model, tokens, passage, distances=DISTANCES, queries=ROWS):
    """The share of each head's attention within each distance, the first token left out: one row per layer."""
    queries, rows = torch.tensor(queries, device=tokens.device), []
    for layer, state in enumerate(probe.recorded(model, tokens[None, : queries.max() + 1])):
        shares = probe.mass_within(state, distances, rows=queries, first=SINKS).T.tolist()
        rounded = [[round(share, 4) for share in head] for head in shares]
        rows.append({"what": "within", "passage": passage, "layer": layer, "distances": list(distances),
                     "shares": rounded})  # fmt: skip
    return rows


def main(source="smollm2", passages=PASSAGES, length=LENGTH, folder=None, target=None):
    parts = by_passage(passages, length, forgetting_rows)
    record_pretrained(__file__, parts, source=source, context=length, folder=folder, target=target)


if __name__ == "__main__":
    main()
