"""A drafter for SmolLM2: one block, trained on its hidden states; then what each vocabulary leaves of its drafts.

python book/measurements/speculation/run.py      writes training-cpu.json or training-gpu.json beside this file

A part that is done is kept in .cache/runs/speculation: an interrupted command goes on after the last. The weights,
17 MB, stay there; bench.py reads them.
"""

import time
from pathlib import Path

import torch

from effattn_core import pretrained, reproducible
from effattn_core.data import shakespeare
from effattn_core.measurements import RUNS, curve, finished, once
from effattn_core.speculation import (
    Eagle,
    Grown,
    Lookup,
    Subset,
    chain_of,
    counts,
    early_exit,
    expected_tokens_of,
    generate,
    most_frequent,
    quick,
)
from effattn_core.speculation import training as speculation_training
from kernels import bench, runtime

KEPT = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768)  # words that a drafter keeps, beside all of them
PASSAGES, LENGTH = 48, 320  # of each kind of text, and their words
STEPS, BATCH, CONTEXT, RATE, LESSON = 500, 4, 192, 2e-3, 4096
TOLD, NEW = 96, 64  # words of a passage that is gone on with, and words that are decoded
SHAPES = {"chain": chain_of(4), "tree": Grown(depth=5, width=4, nodes=12)}
MIXED = "all three"


def encoded(tokenizer, text, letters=100_000):
    """A long text as int64 words, a stretch at a time."""
    parts = range(0, len(text), letters)
    return torch.tensor([word for part in parts for word in tokenizer.encode(text[part : part + letters]).ids])


def spread(tokens, count, length, first=0.0):
    """`count` passages of `length` words, evenly spaced: int64 [count, length]."""
    apart = len(tokens) // count
    return torch.stack([tokens[int((n + first) * apart) :][:length] for n in range(count)])


def counted(tokenizer, words):
    """How often each word stands in each text, by its name, and its mean share of the three: [vocabulary] each."""
    found = {name: counts(encoded(tokenizer, text), words) for name, text in speculation_training.texts().items()}
    shares = [each.double() / each.sum() for each in found.values()]
    return found | {MIXED: torch.stack(shares).mean(0)}


def held_out(tokenizer, words):
    """The last twentieth of the plays, which neither training nor lists have seen."""
    plays = shakespeare()
    return encoded(tokenizer, plays[int(0.95 * len(plays)) :])[:words]


def coverage_rows(found, unseen, kept=KEPT):
    """The share of every text that the most frequent words of every text cover; a quarter of all words is one size."""
    kept, judged = sorted({*kept, len(unseen) // 4}), found | {"plays, held out": unseen}
    return [
        {"what": "coverage", "list": name, "kept": size, "text": other,
         "share": round(most_frequent(counted, size).coverage(judged[other]), 5)}
        for name, counted in found.items() for size in kept for other in judged if other != MIXED
    ]  # fmt: skip


def taught(model, tokenizer, found, folder, passages, steps, length=LENGTH, context=CONTEXT):
    """(lesson, losses, seconds): the extrapolator, trained or read."""
    texts = speculation_training.texts().items()
    tokens = torch.cat([spread(encoded(tokenizer, text), passages, length) for _, text in texts])

    def read(part):
        begun = time.perf_counter()
        hidden = speculation_training.hidden_states(model, part)
        return {"hidden": hidden, "seconds": time.perf_counter() - begun}

    parts = [once(folder / f"hidden-{n}-{passages}-{length}.pt", lambda part=part: read(part))
             for n, part in enumerate(tokens.split(8))]  # fmt: skip
    hidden, reading = torch.cat([part["hidden"] for part in parts]), sum(part["seconds"] for part in parts)
    lesson = speculation_training.Lesson(
        model, speculation_training.new_extrapolator(model), most_frequent(found[MIXED], LESSON).ids
    )
    windows, begun = speculation_training.Windows(tokens, hidden, BATCH, context), time.perf_counter()
    path = folder / f"eagle-{passages}-{length}-{steps}.pt"
    losses = finished(lesson, windows, path, steps=steps, learning_rate=RATE)
    clock = once(folder / f"clock-{passages}-{length}-{steps}.pt", lambda: time.perf_counter() - begun)
    return lesson, losses, (reading, clock), tokens


def taught_rows(lesson, losses, seconds, tokens):
    """What it took: words read, seconds (of the last stretch, if it was interrupted), parameters; and its curve."""
    weights = sum(weight.numel() for weight in lesson.parameters())
    return [{"what": "training", "words": tokens.numel(), "steps": len(losses), "seen": len(losses) * BATCH * CONTEXT,
             "parameters": weights, "reading": round(seconds[0], 1), "seconds": round(seconds[1], 1),
             "curve": curve(losses)}]  # fmt: skip


@torch.inference_mode()
def agreement_rows(model, lesson, found, tokens, kept=KEPT):
    """How often a draft of each vocabulary would be taken on held-out plays; how much of the target's law it holds."""
    hidden, words = speculation_training.hidden_states(model, tokens), model.sizes.vocabulary
    law = (hidden[:, 1:].float() @ model.head.weight.T).softmax(-1)
    rows = []
    for name in ("plays", MIXED):
        for size in (*kept, words):
            subset = None if size == words else most_frequent(found[name], size)
            inside = 1.0 if subset is None else law[..., subset.ids].sum(-1).mean().item()
            shares = speculation_training.agreement(lesson, tokens, hidden, subset)
            rows.append({"what": "agreement", "list": name, "kept": size, "inside": round(inside, 4)}
                        | {key: round(value, 4) for key, value in shares.items()})  # fmt: skip
    return rows


def drafters(model, lesson, subset, shapes=SHAPES):
    """The drafters by name; `subset` is what those with a head may propose."""
    for name, shape in shapes.items():
        yield f"trained head, {name}", Eagle(model, lesson.extrapolator, shape, subset=subset)
    yield "lookup", Lookup(model.sizes.vocabulary)
    yield "first third", early_exit(model, exit_of(model), chain_of(4), subset=subset)


def exit_of(model):
    """After how many layers the model drafts by itself: a third of them."""
    return max(1, len(model.blocks) // 3)


def rates(made):
    """The share of cycles that took a draft of each depth, of those that took all before it."""
    found, depth = [], 1
    while (tried := sum(each >= depth - 1 for each in made.accepted)) and max(made.accepted) >= depth:
        found.append(sum(each >= depth for each in made.accepted) / tried)
        depth += 1
    return found


def length_rows(model, lesson, name, passage, prompt, subset, temperature, new=NEW, trees=True):
    """Words per cycle of every drafter over one vocabulary, and by the formula from its rates at each depth."""
    rows = []
    for drafter_name, drafter in drafters(model, lesson, subset):
        grown, headless = isinstance(getattr(drafter, "shape", None), Grown), not isinstance(drafter, Eagle)
        if grown and (temperature or not trees) or subset and headless:
            continue
        dice = torch.Generator().manual_seed(passage)
        made = generate(model, prompt, new, drafter, temperature=temperature, generator=dice)
        rows.append({
            "what": "length", "text": name, "passage": passage, "drafter": drafter_name, "temperature": temperature,
            "kept": len(subset) if subset else model.sizes.vocabulary, "cycles": made.cycles,
            "accepted": sum(made.accepted), "drafted": sum(made.drafted), "per_cycle": round(made.per_cycle, 4),
            "rates": [round(each, 4) for each in rates(made)], "formula": round(expected_tokens_of(rates(made)), 4),
        })  # fmt: skip
    return rows


def tree_rows(model, tokenizer, lesson, name, prompt, subset, cycles=8):
    """A few cycles of the trained head's tree on real text, word by word: what a figure draws."""
    drafter = Eagle(model, lesson.extrapolator, SHAPES["tree"], subset=subset)
    made = generate(model, prompt, 4 * cycles, drafter, keep_trees=True)
    text, rows, at = prompt.tolist() + made.tokens[:1], [], 1
    for cycle, (draft, path, last) in enumerate(made.trees[:cycles]):
        rows.append({
            "what": "tree", "text": name, "cycle": cycle, "kept": len(subset) if subset else model.sizes.vocabulary,
            "before": tokenizer.decode(text[-24:]),
            "words": [tokenizer.decode([each]) for each in draft.tokens.tolist()],
            "parents": draft.parents.tolist(), "scores": [round(each, 3) for each in draft.scores.tolist()],
            "path": path, "last": tokenizer.decode([last]),
        })  # fmt: skip
        text += made.tokens[at : at + len(path) + 1]
        at += len(path) + 1
    return rows


def prompts(tokenizer, unseen, told=TOLD, count=2):
    """(name, passage, words) of texts to go on with: plays held out, and an answer in prose to a question."""
    for passage, tokens in enumerate(spread(unseen, count, told)):
        yield "plays", passage, tokens
    questions = ("Explain in a few sentences why the sky is blue.", "Give advice to someone who learns to cook.")
    for passage, question in enumerate(questions[:count]):
        text = pretrained.conversation("smollm2", [{"role": "user", "content": question}])
        yield "answer", passage, torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids)


def main(
    source="smollm2", passages=PASSAGES, length=LENGTH, context=CONTEXT, steps=STEPS, kept=KEPT, told=TOLD, new=NEW,
    count=1, folder=None, target=None,
):  # fmt: skip
    reproducible(0)
    kind, folder = ("gpu" if runtime.mode == "gpu" else "cpu"), folder or RUNS / "speculation"
    made = bench.provenance("python book/measurements/speculation/run.py")
    model, tokenizer = pretrained.load(source, context=1024, dtype=torch.float32, device="cpu")
    model.requires_grad_(False)
    words = model.sizes.vocabulary
    found = once(folder / "counts.pt", lambda: counted(tokenizer, words))
    unseen = held_out(tokenizer, 40_000)
    rows = coverage_rows(found, counts(unseen, words), kept)
    lesson, *taken = taught(model, tokenizer, found, folder, passages, steps, length, context)
    lesson.requires_grad_(False)
    rows += taught_rows(lesson, *taken)
    lesson.extrapolator = quick(lesson.extrapolator)
    fast, key = quick(model), f"{passages}-{steps}-{told}-{new}"
    rows += once(folder / f"agreement-{len(kept)}-{key}.pt",
                 lambda: agreement_rows(model, lesson, found, spread(unseen, 2, 256, 0.5), kept))  # fmt: skip
    for name, passage, prompt in prompts(tokenizer, unseen, told, count):
        for size in (*kept, words):
            subset: Subset | None = None if size == words else most_frequent(found[MIXED], size)
            some = size in (kept[0], kept[len(kept) // 2], words)  # where trees grow, and words are drawn
            for heat in (0.0, 1.0) if some else (0.0,):
                rows += once(
                    folder / f"length-{name}-{passage}-{size}-{heat}-{key}.pt",
                    lambda: length_rows(fast, lesson, name, passage, prompt, subset, heat, new, some),  # noqa: B023
                )
        if passage == 0:
            subset = most_frequent(found[MIXED], kept[len(kept) // 2])
            rows += once(folder / f"tree-{name}-{key}.pt",
                         lambda: tree_rows(fast, tokenizer, lesson, name, prompt, subset))  # noqa: B023  # fmt: skip
    bench.write_measurement(target or Path(__file__).with_name(f"training-{kind}.json"), made, rows)


if __name__ == "__main__":
    main()
