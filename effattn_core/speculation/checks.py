"""The hidden cases of the exercises on speculation."""

import math

import torch

from effattn_core import costs
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise
from effattn_core.speculation.costs import DEPTH, KEPT, PUBLISHED, head_bytes, kept_with_most
from effattn_core.speculation.costs import best_length as longest_that_pays
from effattn_core.speculation.dice import enumerated
from effattn_core.speculation.forms import acceptance, expected_tokens
from effattn_core.speculation.forms import residual as right_residual
from effattn_core.speculation.trees import packed
from effattn_core.speculation.vocabulary import most_frequent
from kernels import runtime

NEAR = 1e-6


def _laws(words, seed, kept=None):
    """(target, draft), float64; the draft over its first `kept` words alone."""
    dice = torch.Generator().manual_seed(seed)
    target, draft = (1.5 * torch.randn(2, words, dtype=torch.float64, generator=dice)).softmax(-1)
    draft[words if kept is None else kept :] = 0
    return target, draft / draft.sum()


@exercise("speculation.expected", level="pencil")
def expected(answer):
    rate, length = 0.8, 5
    right = expected_tokens(rate, length)
    mistakes = [
        (right - 1, "The word that replaces a refused one, or follows the last, is said too: add 1."),
        (rate * length, "A draft counts only if all before it were taken: add powers of the rate, not the rate."),
        (1 + rate * length, "A draft counts only if all before it were taken: add powers of the rate, not the rate."),
        (length + 1, "That is the best case, in which all are taken."),
        (1 / (1 - rate), "That is a chain without end; this one stops after 5 drafts."),
    ]
    return compare_number(answer, right, mistakes)


@exercise("speculation.head_bytes", level="pencil")
def bytes_of_the_head(answer):
    model = costs.LLAMA_8B
    right = head_bytes(model, KEPT, steps=DEPTH)
    mistakes = [
        (head_bytes(model, steps=DEPTH), "That is the whole head: only the kept rows are read."),
        (right // DEPTH, "That is one step: the head is read once per depth of the tree."),
        (2 * right, "bfloat16 has two bytes, not four."),
        (right // 2, "That counts weights: bfloat16 has two bytes each."),
    ]
    return compare_number(answer, right, mistakes)


@exercise("speculation.best_kept", level="pencil")
def best_kept(answer):
    mistakes = [
        (kept_with_most(PUBLISHED, "length"), "That has the most words per cycle, and the longest cycle: divide."),
        (min(row["kept"] for row in PUBLISHED), "That has the shortest cycle, and the fewest words in it: divide."),
    ]
    return compare_number(answer, kept_with_most(PUBLISHED), mistakes)


@exercise("speculation.residual", level="code")
def residual(function):
    for words, kept, seed in ((6, None, 0), (5, 2, 1), (50, 20, 2)):
        target, draft = _laws(words, seed, kept)
        wanted, got = right_residual(target, draft), function(target.clone(), draft.clone())
        if got.shape != wanted.shape:
            return f"The law is {list(got.shape)}; it must be {list(wanted.shape)}, a probability per word."
        if torch.allclose(got, wanted, atol=NEAR):
            continue
        if torch.allclose(got, (target - draft).clamp_min(0), atol=NEAR):
            return "What is left of the target does not sum to 1 yet: normalise it."
        if (got < 0).any():
            return "A probability is negative: where the drafter gives more than the target, nothing is left."
        if torch.allclose(got, target, atol=NEAR):
            return "That is the target itself: a word that was likely to be taken would be said too often."
        absolute = (target - draft).abs()
        if torch.allclose(got, absolute / absolute.sum(), atol=NEAR):
            return "Words that the drafter proposes too often must get nothing: max(p - q, 0), not |p - q|."
        return f"With {words} words the law is off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("speculation.truncate", level="code")
def truncate(function):
    for words, ids in ((6, [0, 2, 5]), (9, [1, 2, 3, 8]), (50, list(range(3, 40, 4)))):
        logits = torch.randn(2, words, dtype=torch.float64, generator=torch.Generator().manual_seed(words))
        kept = torch.tensor(ids)
        wanted = torch.zeros_like(logits)
        wanted[:, kept] = logits[:, kept].softmax(-1)
        got = function(logits.clone(), kept)
        if got.shape != wanted.shape:
            return (
                f"The law is {list(got.shape)}; it must be {list(wanted.shape)}: over the whole vocabulary, so that "
                "the target can be compared with it."
            )
        if torch.allclose(got, wanted, atol=NEAR):
            continue
        whole = logits.softmax(-1)
        masked = torch.zeros_like(whole)
        masked[:, kept] = whole[:, kept]
        if torch.allclose(got, masked, atol=NEAR):
            return "The full law is masked, not normalised: what the drafter draws from must sum to 1."
        shifted = torch.zeros_like(wanted)
        shifted[:, : len(ids)] = wanted[:, kept]
        if torch.allclose(got, shifted, atol=NEAR):
            return "Probabilities stand at places of the small law: put each at its word's own number."
        if (got[:, [word for word in range(words) if word not in ids]] > 0).any():
            return "A word that is not kept has a probability: it can never be proposed."
        return f"With {len(ids)} of {words} words the law is off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("speculation.verify", level="code")
def verify_word(function):
    for words, kept, seed in ((4, None, 5), (6, 3, 6), (5, 1, 7)):
        target, draft = _laws(words, seed, kept)

        def run(dice, target=target, draft=draft):
            return int(function(dice.draw(draft), target.clone(), draft.clone(), dice))

        found = enumerated(run)
        law = torch.tensor([found.get(word, 0.0) for word in range(words)], dtype=torch.float64)
        if torch.allclose(law, target, atol=NEAR):
            continue
        rate = acceptance(target, draft)
        taken = torch.minimum(target, draft)
        if torch.allclose(law, draft, atol=NEAR):
            return "What is said has the drafter's law: a word must be refused where the target gives it less."
        if torch.allclose(law, taken + (1 - rate) * target, atol=NEAR):
            return "A refused word is replaced from the target itself: what it has already given must come off first."
        if (law[draft == 0] == 0).any() and (target[draft == 0] > 0).any():
            return "A word that the drafter cannot propose is never said: it has to come from the residual."
        always = draft * target
        if torch.allclose(law, always + (1 - always.sum()) * right_residual(target, draft), atol=NEAR):
            return "It is taken with min(1, p / q), not with p: the drafter has already drawn it with q."
        return (
            f"Over every way in which the dice can fall, what is said is off the target's law by "
            f"{(law - target).abs().max():.2g}."
        )
    return None


@exercise("speculation.masks", level="code")
def masks(function):
    trees = ([], [-1], [-1, 0, 1], [-1, -1, 0, 0, 1, 4], [-1] * 63, [*range(-1, 62)])
    for parents in trees:
        wanted = [mask % 2**64 for mask in packed(torch.tensor(parents, dtype=torch.int64)).tolist()]
        got = [int(mask) for mask in function(list(parents))]
        if got == wanted:
            continue
        if len(got) == len(wanted) - 1:
            return "The root is a row too, the first: there is a mask more than there are drafts."
        if len(got) != len(wanted):
            return f"{len(parents)} drafts and the root make {len(wanted)} masks; got {len(got)}."
        if any(mask < 0 for mask in got):
            return "A mask is negative: Python's integers need no sign bit, return them unsigned."
        row = next(row for row, (one, other) in enumerate(zip(got, wanted, strict=True)) if one != other)
        extra, missing = got[row] & ~wanted[row], wanted[row] & ~got[row]
        if missing >> row & 1:
            return f"Row {row} does not see itself."
        if missing & 1:
            return f"Row {row} does not see the root, bit 0."
        if missing:
            return f"Row {row} misses row {missing.bit_length() - 1}, an ancestor: a row sees all that its parent sees."
        return f"Row {row} sees row {extra.bit_length() - 1}, which is no ancestor of it."
    return None


@exercise("speculation.ranked", level="code")
def ranked(function):
    for counted, kept, end in (
        ([5, 0, 3, 9, 3, 1], 3, 3),
        ([5, 0, 3, 9, 3, 1], 3, 1),
        ([2, 2, 2, 2, 2], 2, 4),
        ([0, 7, 1, 7, 0, 2, 9, 4], 5, 0),
    ):
        counts = torch.tensor(counted)
        wanted, got = most_frequent(counts, kept, always=(end,)).ids, torch.as_tensor(function(counts, kept, end))
        if got.shape == wanted.shape and torch.equal(got.to(torch.int64), wanted):
            continue
        if end not in got.tolist():
            return f"The end, word {end}, is not kept: every end of a text would cost a refused draft."
        if len(got) == kept + 1:
            return "The end is one of the kept words, not one more: the rarest of the others gives way."
        if len(got) != kept:
            return f"{kept} words are to be kept; got {len(got)}."
        if sorted(got.tolist()) == wanted.tolist():
            return "The right words in another order: sort them by their numbers, as rows of the head are read."
        return f"Of counts {counted} the words {wanted.tolist()} are kept, the lower of equals; got {got.tolist()}."
    return None


@kernel_exercise("speculation.top")
def top():
    """The largest logits of each row, falling, and their places."""

    def ranked(logits, top_k):
        found = logits.sort(dim=-1, descending=True, stable=True)
        return found.values[:, :top_k], found.indices[:, :top_k]

    def case(rows, words, top_k):
        dice = torch.Generator().manual_seed(words)
        logits = torch.randint(-20, 20, (rows, words), generator=dice).float().to(runtime.device()) - 30
        values, places = ranked(logits, top_k)  # among them are ties, and all are negative
        padded = torch.nn.functional.pad(logits, (0, (1 << (words - 1).bit_length()) - words))
        mistakes = [
            (ranked(padded, top_k), "a lane past the end was kept: load it as -inf, for all logits may be negative."),
            ((values, None), "the values are right, the places are not: of equal logits the lower place comes first."),
        ]
        if top_k > 1:
            again = "the same maximum comes again and again: strike it out before the next."
            mistakes.insert(1, ((values[:, :1].expand(rows, top_k), None), again))
        what, hint = f"logits [{rows}, {words}] and top_k {top_k}", "are these the top_k largest, in descending order?"
        says = dict(hint=hint, names=("values", "places"), within=0.0)
        return Case(what, (logits, top_k), (values, places), mistakes=mistakes, **says)

    return [case(*sizes) for sizes in ((1, 8, 3), (3, 70, 5), (2, 257, 8), (4, 33, 1))]


@exercise("speculation.best_length", level="open")
def best_length(function):
    for rate, price in ((0.8, 0.1), (0.6, 0.05), (0.9, 0.02), (0.3, 0.4), (0.5, 0.6)):
        wanted, got = longest_that_pays(rate, price), function(rate, price)
        if math.isclose(got, wanted):
            continue
        if wanted == 0:
            return f"Taken with {rate} at a price of {price} no draft pays: the best length is 0; got {got}."
        return f"Taken with {rate} at a price of {price} the best length is {wanted}; got {got}."
    return None
