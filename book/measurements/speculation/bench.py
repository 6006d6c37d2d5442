"""SmolLM2 with and without drafts on this machine: words per second, per text, drafter and vocabulary.

python book/measurements/speculation/bench.py      writes cpu.json beside this file

The trained drafter is that of run.py, read from .cache/runs or made. Every way decodes the same texts in the same
process, in turn, and its words must be those of plain decoding before it is timed. `quick` multiplies few rows the way
that is fastest here; plain decoding is timed both ways, and on one thread, for a product with one row has no use for a
second. Speed-ups are over the fastest of the three. Nothing else may run: threads that wait for each other do so in a
loop, and a busy core makes them wait for milliseconds. So each turn waits until other programs leave the cores alone.
"""

import time
from pathlib import Path
from statistics import median, quantiles

import run
import torch

from effattn_core import pretrained, reproducible
from effattn_core.measurements import RUNS, once
from effattn_core.speculation import (
    Eagle,
    Grown,
    Lookup,
    chain_of,
    early_exit,
    generate,
    most_frequent,
    plain,
    quick,
)
from kernels import bench

KEPT = (128, 512, 2048, 8192, 32768)
REPEATS, NEW, BEST = 3, 41, 2048
REAL = ("plays", "answer")  # texts on which every vocabulary is timed
PATIENCE = 300.0  # seconds that a turn waits for an idle machine
THREADS, TREE = 2, Grown(depth=3, width=3, nodes=7)
DRAWN = ("plays",)  # and on which words are drawn, too: on a list three draws differ too much to be timed

LIST = """Here is a shopping list:
- 2 kilograms of potatoes
- 3 bunches of fresh carrots
- 1 bottle of olive oil
- 6 brown eggs from the farm
- 2 loaves of rye bread
- 4 jars of strawberry jam

Here is the same shopping list again, unchanged:
- 2 kilograms of potatoes
"""
CODE = '''def area_of_square(side):
    """Return the area of a square."""
    return side * side


def area_of_rectangle(width, height):
    """Return the area of a rectangle."""
    return width * height


def area_of_triangle(base, height):
    """Return the area of a triangle."""
    return base * height / 2


'''


def texts(tokenizer, unseen):
    """name -> the words that are gone on with: real plays, prose, a list that is said again, a program."""
    return {
        "plays": run.spread(unseen, 2, run.TOLD)[0],
        "answer": next(words for name, _, words in run.prompts(tokenizer, unseen) if name == "answer"),
        "list again": torch.tensor(tokenizer.encode(LIST).ids),
        "program": torch.tensor(tokenizer.encode(CODE).ids),
    }


def cpu_times():
    """(idle, all) of the machine's clock ticks so far, or None where the system does not say."""
    try:
        ticks = [int(each) for each in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    return ticks[3], sum(ticks)


def wait_for_idle(share=0.93, patience=None):
    """Return once the cores are idle for `share` of a fifth of a second, or after `patience` seconds (PATIENCE)."""
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    while (before := cpu_times()) and time.monotonic() < until:
        time.sleep(0.2)
        after = cpu_times()
        if after[0] - before[0] >= share * (after[1] - before[1]):
            return


def timed(function):
    begun = time.perf_counter()
    result = function()
    return result, time.perf_counter() - begun


def spread_of(seconds):
    """Median and quartiles in a measurement's words."""
    lower, _, upper = quantiles(seconds, n=4, method="inclusive")
    return {"median": median(seconds), "lower_quartile": lower, "upper_quartile": upper, "repeats": len(seconds)}


def ways(models, lesson, subsets, best=BEST):
    """(name, (model, drafter or None, words that the drafter keeps or None)): what is timed, plain decoding first."""
    model = models["few rows"]
    words = model.sizes.vocabulary
    yield "plain", (model, None, None)
    yield "plain, usual products", (models["usual"], None, None)
    yield "plain, one thread", (model, None, None)
    yield "lookup", (model, Lookup(words, length=7), None)
    yield "first third", (model, early_exit(model, run.exit_of(model), chain_of(2)), words)
    for kept in subsets:
        drafter = Eagle(model, lesson.extrapolator, chain_of(3), subset=subsets[kept])
        yield f"trained head, chain, {kept} words", (model, drafter, kept)
    for kept in (best, words):
        drafter = Eagle(model, lesson.extrapolator, TREE, subset=subsets[kept])
        yield f"trained head, tree, {kept} words", (model, drafter, kept)


def decoded(way, model, drafter, prompt, new, temperature, turn):
    """Decode once: (what was made, seconds after the prompt was read)."""
    heat = dict(temperature=temperature, generator=torch.Generator().manual_seed(turn))
    torch.set_num_threads(1 if way.endswith("one thread") else THREADS)
    if drafter is None:
        made = plain(model, prompt, new, **heat)
    else:
        made = generate(model, prompt, new, drafter, **heat)
    seconds = time.perf_counter() - made.started
    torch.set_num_threads(THREADS)
    return made, seconds


@torch.inference_mode()
def require_same(model, prompt, tokens, wanted, way):
    """Raise AssertionError if greedy words differ from plain decoding's, but for where two words are equally likely."""
    at = next((n for n, (one, other) in enumerate(zip(tokens, wanted, strict=True)) if one != other), None)
    if at is None:
        return len(wanted)
    logits = model(torch.cat([prompt, torch.tensor(wanted[:at], dtype=torch.int64)])[None])[0][0, -1]
    if abs(logits[tokens[at]] - logits[wanted[at]]) > 1e-3:
        raise AssertionError(f"{way}: word {at} differs from plain decoding's: it is not timed")
    return at


def speed_rows(name, prompt, made, new=NEW, repeats=REPEATS, temperature=0.0):
    """Words per second of every way on one text, after its prompt; greedy words must be those of plain decoding."""
    wanted, taken, facts = None, {}, {}
    for way, (model, drafter, _) in made.items():
        taken[way], facts[way] = [], []
        result, _ = decoded(way, model, drafter, prompt, new, temperature, repeats)
        if temperature == 0:
            wanted = result.tokens if wanted is None else wanted
            same = require_same(made["plain, usual products"][0], prompt, result.tokens, wanted, f"{name}, {way}")
            facts[way].append(same)
    order = list(made)
    for turn in range(repeats):
        for way in order[turn % len(order) :] + order[: turn % len(order)]:
            model, drafter, _ = made[way]
            wait_for_idle()
            result, seconds = decoded(way, model, drafter, prompt, new, temperature, turn)
            taken[way].append(seconds)
            facts[way].append(result)
    base, rows = min(median(each) for way, each in taken.items() if way.startswith("plain")), []
    for way, seconds in taken.items():
        same = facts[way].pop(0) if temperature == 0 else None
        cycles = sum(each.cycles for each in facts[way])
        accepted, drafted = (sum(sum(getattr(each, field)) for each in facts[way]) for field in ("accepted", "drafted"))
        said = new - 1  # the first word comes with the prompt
        rows.append({
            "what": "speed", "text": name, "way": way, "kept": made[way][2], "temperature": temperature, "words": said,
            "correct": True, "same": same, "per_cycle": round(1 + accepted / cycles, 4) if cycles else 1.0,
            "drafted_per_cycle": round(drafted / cycles, 3) if cycles else 0.0,
            "cycle_seconds": round(sum(seconds) / (cycles or said * repeats), 5),
            "words_per_second": round(said / median(seconds), 3), "speed_up": round(base / median(seconds), 4),
        } | spread_of(seconds))  # fmt: skip
        print(f"{name} at {temperature}, {way}: {rows[-1]['words_per_second']:.1f} words per second, "
              f"{rows[-1]['speed_up']:.2f} times, {rows[-1]['per_cycle']:.2f} words per cycle", flush=True)  # fmt: skip
    return rows


def main(
    source="smollm2", passages=run.PASSAGES, length=run.LENGTH, context=run.CONTEXT, steps=run.STEPS, kept=KEPT,
    best=BEST, new=NEW, repeats=REPEATS, only=None, folder=None, target=None,
):  # fmt: skip
    reproducible(0)
    path, folder = target or bench.recording_path(Path(__file__).parent, "cpu"), folder or RUNS / "speculation"
    source_of = bench.provenance("make bench", on="cpu")
    model, tokenizer = pretrained.load(source, context=1024, dtype=torch.float32, device="cpu")
    model.requires_grad_(False)
    words = model.sizes.vocabulary
    found = once(folder / "counts.pt", lambda: run.counted(tokenizer, words))
    lesson, *_ = run.taught(model, tokenizer, found, folder, passages, steps, length, context)
    lesson.requires_grad_(False)
    lesson.extrapolator = quick(lesson.extrapolator)
    models = {"usual": model, "few rows": quick(model)}
    subsets = {size: most_frequent(found[run.MIXED], size) for size in kept} | {words: None}
    made = [] if target else bench.stored(path, source_of["commit"])
    done = {(row["what"], row.get("text"), row.get("temperature")) for row in made}
    everything = dict(ways(models, lesson, subsets, best))
    few = [
        way for way in everything if way.split(", ")[-1] in (way, f"{best} words", f"{words} words") or "plain" in way
    ]
    hot = (
        "plain",
        "plain, one thread",
        "lookup",
        f"trained head, chain, {best} words",
        f"trained head, chain, {words} words",
    )
    for name, prompt in texts(tokenizer, run.held_out(tokenizer, 40_000)).items():
        for heat, chosen in ((0.0, list(everything) if name in REAL else few), (1.0, hot)):
            if ("speed", name, heat) not in done and only in (None, name) and (heat == 0 or name in DRAWN):
                made += speed_rows(name, prompt, {way: everything[way] for way in chosen}, new, repeats, heat)
                bench.write_measurement(path, source_of, made)


if __name__ == "__main__":
    main()
