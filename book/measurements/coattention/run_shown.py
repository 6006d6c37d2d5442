"""What two figures show: SmolLM2's attention over a sentence, and a user's weights over the aspects of wines.

python book/measurements/coattention/run_shown.py      writes shown-cpu.json or shown-gpu.json beside this file

"columns"  tokens: of the sentence; weight: the last layer's attention, the mean over heads, causal: as it is, or with
           the same queries and keys and no mask.
"aspects"  shown, graph; weight, truth: of the first user over 13 aspects, names in order.
"""

from pathlib import Path

import torch

from effattn_core import pretrained, reproducible
from effattn_core.coattention import aspects, attend
from effattn_core.measurements import rounded
from effattn_core.pretrained import probe
from kernels import bench, runtime

SENTENCE = "The play's the thing wherein I'll catch the conscience of the king."
SHOWN = (2, 4, 8, 13)


def columns():
    """Rows of the attention matrix, with its mask and without."""
    model, tokenizer = pretrained.load("smollm2", context=64, dtype=torch.float32)
    coded = tokenizer.encode(SENTENCE)
    state = probe.recorded(model, torch.tensor([coded.ids]))[-1]
    query, key, rows = state.query[0].double(), state.key[0].double(), []
    key = key.repeat_interleave(len(query) // len(key), 0)
    words = [tokenizer.decode([number]).strip() or "·" for number in coded.ids]
    for causal in (True, False):
        mask = torch.ones(len(words), len(words), dtype=torch.bool).tril() if causal else None
        _, weight, _ = attend(query, key, key, mask=mask)
        rows.append(dict(what="columns", causal=causal, tokens=words, weight=rounded(weight.mean(0))))
    return rows


def of_aspects(steps=300, shown=SHOWN):
    found = []
    for count in shown:
        for graph in (False, True):
            model, error = aspects.trained("guided + graph" if graph else "guided", count, 0, steps)
            weight = model.user.detach().softmax(1)[0]
            truth = aspects.tasting(count, 0).preference[0]
            told = dict(weight=rounded(weight, 3), truth=rounded(truth, 3))
            found.append(dict(what="aspects", shown=count, graph=graph, **told))
    return found


def main(folder=None, sentence=True, **settings):
    """sentence: whether SmolLM2 is asked, which a dry run leaves out."""
    reproducible(0, threads=1)
    kind, made = ("gpu" if runtime.mode == "gpu" else "cpu"), bench.provenance("make runs")
    rows = (columns() if sentence else []) + of_aspects(**settings)
    bench.write_measurement((folder or Path(__file__).parent) / f"shown-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
