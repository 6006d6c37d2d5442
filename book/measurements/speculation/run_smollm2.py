"""Do SmolLM2's words keep its law, whoever drafts them? Texts drawn with drafts, and how often each kind of word came.

python book/measurements/speculation/run_smollm2.py      writes smollm2-cpu.json or smollm2-gpu.json beside this file

Every way goes on after one prompt, DRAWS times, by `generate` with its caches and trees. The law of each word, given
those before it, is SmolLM2's own over the text that was drawn; its words are put into kinds by that law and by whether
the drafter may propose them, and what came is counted beside what the law expects. `run.py` trains a drafter; here it
is as it begins, for the law does not depend on it. What is finished is kept in .cache/runs/speculation.
"""

from functools import partial

import torch

from effattn_core.measurements import record_pretrained
from effattn_core.speculation import (
    Eagle,
    Fixed,
    Grown,
    Lookup,
    chain_of,
    early_exit,
    generate,
    most_frequent,
    plain,
    quick,
)
from effattn_core.speculation.forms import law_of
from effattn_core.speculation.training import new_extrapolator

DRAWS, NEW, KEPT, LAYERS = 120, 4, 2048, 20
PROMPT = "The king said to the queen, and the queen said to the"
MASSES = (0.25, 0.5, 0.75)  # where the words of a law, likeliest first, are cut into kinds


def kinds(law, ids):
    """int64 [vocabulary]: of each word its kind, 0 to 7: the quarter of the law's mass where it begins, kept or not."""
    likely, order = law.sort(descending=True, stable=True)
    quarter = torch.empty_like(order)
    quarter[order] = torch.bucketize((likely.cumsum(0) - likely).double(), torch.tensor(MASSES, dtype=torch.float64))
    kept = torch.zeros(len(law), dtype=torch.int64)
    kept[ids] = 1
    return 2 * quarter + kept


@torch.inference_mode()
def law_rows(model, prompt, way, drafter, ids, draws=DRAWS, new=NEW):
    """Rows of one way, one per place after the first word: how often each kind of word came, and was expected."""
    found = torch.zeros(new - 1, 2 * (len(MASSES) + 1), dtype=torch.float64)
    expected = torch.zeros_like(found)
    for turn in range(draws):
        dice = torch.Generator().manual_seed(turn)
        if drafter is None:
            said = plain(early_exit(model, LAYERS).model, prompt, new, temperature=1.0, generator=dice).tokens
        else:
            said = generate(model, prompt, new, drafter, temperature=1.0, generator=dice).tokens[:new]
        text = torch.cat([prompt, torch.tensor(said)])
        laws = law_of(model(text[None])[0][0, len(prompt) : len(prompt) + new - 1], 1.0).double()
        for place, (law, word) in enumerate(zip(laws, said[1:], strict=True)):
            kind = kinds(law, ids)
            found[place, kind[word]] += 1
            expected[place].index_add_(0, kind, law)
    print(f"{way}: {draws} texts", flush=True)
    return [
        {"what": "law", "way": way, "place": place + 1, "draws": draws, "found": found[place].int().tolist(),
         "expected": [round(each, 4) for each in expected[place].tolist()]}
        for place in range(new - 1)
    ]  # fmt: skip


def ways(model, subset):
    """(name, drafter): chains and trees, chosen and drawn, cut and whole; None for the drafter's words unverified."""
    begun = quick(new_extrapolator(model).requires_grad_(False))
    yield "first layers, chain", early_exit(model, LAYERS, chain_of(3), subset=subset)
    yield "first layers, chain, all words", early_exit(model, LAYERS, chain_of(3))
    yield "first layers, drawn tree", early_exit(model, LAYERS, Fixed((3, 2, 1)), subset=subset)
    yield "first layers, chosen tree", early_exit(model, LAYERS, Grown(3, 3, 8), subset=subset)
    yield "one block, drawn tree", Eagle(model, begun, Fixed((2, 2)), subset=subset)
    yield "lookup", Lookup(model.sizes.vocabulary)
    yield "first layers, not verified", None


def main(source="smollm2", draws=DRAWS, new=NEW, kept=KEPT, folder=None, target=None):
    def parts(model, tokenizer):
        model = quick(model.requires_grad_(False))
        prompt = torch.tensor(tokenizer.encode(PROMPT).ids)
        with torch.inference_mode():
            law = law_of(model(prompt[None])[0][0, -1], 1.0)
        subset = most_frequent(law, kept)  # any list will do: this one holds likely words
        for way, drafter in ways(model, subset):
            yield f"law-{way}-{draws}", partial(law_rows, model, prompt, way, drafter, subset.ids, draws, new)

    record_pretrained(__file__, parts, source=source, context=256, folder=folder, target=target)


if __name__ == "__main__":
    main()
