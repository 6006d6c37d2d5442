"""What the papers on speculation say, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core import costs as shared
from effattn_core.ledger import FAILED, SAME, UNSEEN, Claim, Figure, against, at_least, at_most, exact, within
from effattn_core.recordings import measured
from effattn_core.speculation import acceptance, emitted, enumerated, expected_tokens, verify
from effattn_core.speculation import costs as costs_speculation
from effattn_core.speculation.forms import chain

PAPER, LEVIATHAN = "Zhao et al. 2025 (FR-Spec)", "Leviathan et al. 2023"
TRAINING, SPEED, PARTS = "speculation/training-cpu", "speculation/cpu", "speculation/parts-cpu"
CHAIN, LENGTH, LISTED = "trained head, chain", 4, "all three"
WORDS = shared.SMOLLM2.vocabulary
HERE = "SmolLM2 and a block trained on its hidden states, a CPU with two threads, recorded by make bench"


def _laws(words=50, kept=20):
    """(target, draft over `kept` words), float64, drawn once."""
    dice = torch.Generator().manual_seed(0)
    target, draft = (1.5 * torch.randn(2, words, dtype=torch.float64, generator=dice)).softmax(-1)
    draft[kept:] = 0
    return target, draft / draft.sum()


def _off_the_target():
    """How far the law of one verified word is from the target's, by algebra and by every fall of the dice."""
    target, draft = _laws()

    def said(dice):
        token = dice.draw(draft)
        path, last = verify(chain(torch.tensor([token]), draft[None]), torch.stack([target, target]), dice)
        return token if path else last

    found = enumerated(said)
    by_dice = torch.tensor([found.get(word, 0.0) for word in range(len(target))], dtype=torch.float64)
    return max((law - target).abs().max().item() for law in (emitted(target, draft), by_dice))


def _taken_over_covered():
    """Σ min(p, q) over the target's share of the kept words: at most 1."""
    target, draft = _laws()
    return (acceptance(target, draft) / target[draft > 0].sum()).item()


def step_share():
    """Of a drafting step with all words, the share of head, softmax and choice in its time, in per cent."""
    (block,) = measured(PARTS, what="step", part="block")
    (head,) = measured(PARTS, what="step", part="head", kept=WORDS)
    return 100 * head["median"] / (head["median"] + block["median"])


def covered(text="plays, held out", name=LISTED):
    """The share of a text that the most frequent quarter of the words covers, in per cent."""
    (row,) = measured(TRAINING, what="coverage", list=name, text=text, kept=WORDS // 4)
    return 100 * row["share"]


def length_kept(kept, temperature=0.0):
    """Words per cycle over those with all words, mean over the recorded texts, in per cent."""
    lengths = {
        size: fmean(row["per_cycle"]
                    for row in measured(TRAINING, what="length", drafter=CHAIN, kept=size, temperature=temperature))
        for size in (kept, WORDS)
    }  # fmt: skip
    return 100 * lengths[kept] / lengths[WORDS]


def speeds(text="plays", temperature=0.0):
    """Words per second of the trained chain by the words it keeps: {kept: words per second}."""
    rows = measured(SPEED, what="speed", text=text, temperature=temperature)
    return {row["kept"]: row["words_per_second"] for row in rows if row["way"].startswith(CHAIN)}


def over_all_words(text="plays", temperature=0.0):
    """Speed of the best vocabulary over that of all words."""
    found = speeds(text, temperature)
    return max(found.values()) / found[WORDS]


def best_share(text="plays"):
    """The share of the words that the fastest trained chain keeps, in per cent."""
    found = speeds(text)
    return 100 * max(found, key=found.get) / WORDS


def modelled_best(list_=LISTED):
    """The share of the words with most words per second by the recorded parts of a cycle, drafts drawn, in per cent.

    The rates are those at which a draft is taken on held-out plays at temperature 1; any length of chain is allowed.
    """
    cycle = costs_speculation.Cycle.recorded(measured(PARTS))
    rates = {row["kept"]: row["drawn first"] for row in measured(TRAINING, what="agreement", list=list_)}
    return 100 * cycle.best(rates, range(8))[1] / WORDS


def chi_square(row, least=5):
    """(statistic, degrees of freedom) of the kinds of words that came beside those expected; rare kinds are one.

    row: of the recording on SmolLM2, with found and expected. least: how often a kind must be expected to stand alone.
    """
    pairs = sorted(zip(row["expected"], row["found"], strict=True), reverse=True)
    common = [pair for pair in pairs if pair[0] >= least]
    rare = [sum(part) for part in zip(*pairs[len(common) :], strict=True)]
    cells = common + ([rare] if rare and rare[0] >= 1 else [])
    return sum((found - expected) ** 2 / expected for expected, found in cells), len(cells) - 1


def as_fast(text="plays"):
    """The vocabularies whose speed reaches into the quartiles of the fastest trained chain's, greedy: sizes, rising."""
    rows = [row for row in measured(SPEED, what="speed", text=text, temperature=0.0) if row["way"].startswith(CHAIN)]
    best = min(rows, key=lambda row: row["median"])
    return sorted(row["kept"] for row in rows if row["lower_quartile"] <= best["upper_quartile"])


def inside(numbers):
    """SAME if both of ours lie between the fewest words timed and all of them; UNSEEN if an end is as fast."""
    least = 100 * min(speeds()) / WORDS
    if not all(least < each < 100 for each in (numbers.formula, numbers.measured)):
        return FAILED
    return UNSEEN if {min(speeds()), WORDS} & set(as_fast()) else SAME


def over_plain(text="plays"):
    """Speed of the best trained chain over plain decoding's, the quicker of its two."""
    rows = measured(SPEED, what="speed", text=text, temperature=0.0)
    plain = max(row["words_per_second"] for row in rows if row["way"].startswith("plain"))
    return max(speeds(text).values()) / plain


def foretold(text="plays"):
    """Words per cycle at temperature 1, by eq. 1 from rates that were had elsewhere, and as found: a list of dicts.

    The rate is the share of first drafts that would be taken on another stretch of plays, which is given and not said.
    chance: one standard error of what was found, over as many cycles, if the formula holds.
    """
    rates = {row["kept"]: row["drawn first"] for row in measured(TRAINING, what="agreement", list=LISTED)}
    return [
        {"kept": row["kept"], "formula": expected_tokens(rates[row["kept"]], LENGTH), "found": row["per_cycle"],
         "chance": costs_speculation.tokens_spread(rates[row["kept"]], LENGTH) / row["cycles"] ** 0.5}
        for row in measured(TRAINING, what="length", drafter=CHAIN, temperature=1.0, text=text)
    ]  # fmt: skip


def formula_off():
    """How far one rate, had elsewhere, is from the words per cycle, in per cent: the mean over vocabularies."""
    return 100 * fmean(abs(row["formula"] / row["found"] - 1) for row in foretold())


def _foretold_conditions():
    rows = foretold()
    found = ", ".join(f"{row['kept']:,}: {row['formula']:.2f} and {row['found']:.2f}" for row in rows)
    chance = 100 * fmean(row["chance"] / row["formula"] for row in rows)
    return (
        "SmolLM2, a trained block, chains of four at temperature 1, by make runs; a is the share of first drafts taken "
        "on plays that are given, and judged are texts that are said; by formula and found, by words kept: "
        f"{found}; of so few cycles chance alone takes each off by {chance:.0f} % (one standard error); wanted: at "
        "most 10 %"
    )


def _conditions():
    found = speeds()
    words = ", ".join(f"{kept:,}: {speed:.1f}" for kept, speed in sorted(found.items()))
    return f"{HERE}; held-out plays, greedy chains of three; words per second by words kept: {words}"


CLAIMS = [
    Claim(
        topic="speculation",
        paper=LEVIATHAN,
        where="appendix A.1",
        read=False,
        statement="What is said obeys the target's law, whatever the drafter, and however its words are cut.",
        measured=Figure(_off_the_target, "largest difference"),
        rule=exact(),
        conditions="50 words, a drafter of 20; by algebra and by every fall of the dice, float64",
    ),
    Claim(
        topic="speculation",
        paper=LEVIATHAN,
        where="eq. 1, which takes one rate for all depths",
        read=False,
        statement="A chain whose drafts are each taken with rate a says (1 - a^(γ+1)) / (1 - a) words per cycle.",
        measured=Figure(formula_off, "% off, mean"),
        rule=at_most(10.0),
        conditions=_foretold_conditions,
    ),
    Claim(
        topic="speculation",
        paper=PAPER,
        where="figure 6: Llama 3 8B",
        statement="Of a one-layer drafter's time the output head and its softmax take most.",
        published=62,
        unit="% of the drafting time",
        formula=Figure(lambda: 100 * costs_speculation.head_share(shared.LLAMA_8B), "% of the weights, Llama 3 8B"),
        measured=Figure(step_share, "% of a step, SmolLM2, softmax and choice included"),
        rule=within(2),
        conditions=HERE,
    ),
    Claim(
        topic="speculation",
        paper=PAPER,
        where="section 3: a billion words of SlimPajama, Llama 3's tokenizer",
        statement="A quarter of the words cover almost all of a text.",
        published=95,
        unit="% of the text",
        measured=Figure(covered, "% of held-out plays"),
        rule=within(2, whole=100),
        conditions=lambda: (
            "words most frequent in plays, Python's manual and its programs at equal weight; by the list of the plays "
            f"{covered(name='plays'):.1f} %, and that list covers {covered('programs', 'plays'):.0f} % of the programs"
        ),
    ),
    Claim(
        topic="speculation",
        paper=PAPER,
        where="its table for Llama 3 8B, temperature 0: 3.63 of 3.89 words",
        statement="A drafter of a quarter of the words keeps most of its words per cycle.",
        published=93.3,
        unit="% of the words per cycle",
        measured=Figure(lambda: length_kept(16384), "% of the words per cycle, a third kept"),
        rule=against(lambda: length_kept(128), at_least(80.0)),
        conditions=lambda: (
            "SmolLM2, a trained block, greedy chains of four, a play and an answer, recorded by make runs: a drafter "
            "taught for minutes, by a law over 4,096 words, proposes frequent words alone; with 128 words "
            f"{length_kept(128):.0f} %"
        ),
    ),
    Claim(
        topic="speculation",
        paper=PAPER,
        where="abstract: 1.12 times; its table: 201.87 against 180.99 words per second",
        statement="The cut makes speculative decoding faster.",
        published=1.12,
        unit="times all words",
        measured=Figure(over_all_words, "times all words"),
        rule=within(2, neutral=1),
        conditions=_conditions,
    ),
    Claim(
        topic="speculation",
        paper=PAPER,
        where="its table for Llama 3 8B, temperature 1: 195.17 against 172.74",
        statement="So it does when words are drawn.",
        published=1.13,
        unit="times all words",
        measured=Figure(lambda: over_all_words(temperature=1.0), "times all words"),
        rule=within(2, neutral=1),
        conditions=f"{HERE}; held-out plays, temperature 1, chains of three; texts are drawn anew, and a part is luck",
    ),
    Claim(
        topic="speculation",
        paper=PAPER,
        where="its table for Llama 3 8B",
        statement="The fastest vocabulary lies inside: fewer words draft too badly, more take too long.",
        published=round(100 * 32768 / 128256, 1),
        unit="% of the words kept",
        formula=Figure(modelled_best, "% of the words, by the recorded parts of a cycle"),
        measured=Figure(best_share, "% of the words kept"),
        rule=inside,
        conditions=lambda: (
            f"{_conditions()}; within each other's quartiles: {', '.join(f'{kept:,}' for kept in as_fast())}; "
            "by formula with the rates of drafts drawn at temperature 1"
        ),
    ),
    Claim(
        topic="speculation",
        paper=PAPER,
        where="its table for Llama 3 8B, an A800: 201.87 against 89.11 words per second",
        statement="A trained drafter of frequent words decodes faster than one word per pass.",
        published=2.27,
        unit="times plain decoding",
        measured=Figure(over_plain, "times plain decoding"),
        rule=within(2, neutral=1),
        conditions=_conditions,
    ),
]
