"""The exercises on speculation: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.speculation import costs


def residual(target, draft):
    left = (target - draft).clamp_min(0)
    return left / left.sum()


def truncate(logits, ids):
    law = torch.zeros_like(logits)
    law[..., ids] = logits[..., ids].softmax(-1)
    return law


def verify_word(word, target, draft, dice):
    if dice.accept(min(1.0, (target[word] / draft[word]).item())):
        return word
    return dice.draw(residual(target, draft))


def pack_masks(parents):
    masks = [1]
    for node, parent in enumerate(parents):
        masks.append(masks[parent + 1] | 1 << node + 1)
    return masks


def frequent(counted, kept, end):
    ranked = counted.double()
    ranked[end] = float("inf")
    return ranked.argsort(descending=True, stable=True)[:kept].sort().values


@triton.jit
def top_kernel(
    logits_pointer, value_pointer, place_pointer,
    words,
    FILL: tl.constexpr, MASKED: tl.constexpr, STRIKES: tl.constexpr, LOWEST: tl.constexpr,
    TOP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The largest words of a row. FILL: past its end, if MASKED; STRIKES them out; of equals the LOWEST place."""
    row = tl.program_id(0)
    place = tl.arange(0, BLOCK)
    left = tl.load(logits_pointer + row * words + place, mask=place < (words if MASKED else BLOCK), other=FILL)
    for rank in range(TOP):
        best = tl.max(left, 0)
        at = tl.min(tl.where(left == best, place, BLOCK), 0)
        if not LOWEST:
            at = tl.max(tl.where(left == best, place, 0), 0)
        tl.store(value_pointer + row * TOP + rank, best)
        tl.store(place_pointer + row * TOP + rank, at.to(tl.int64))
        if STRIKES:
            left = tl.where(place == at, float("-inf"), left)


def launch_top(logits, top_k, fill=float("-inf"), masked=True, strikes=True, lowest=True):
    rows, words = logits.shape
    values = logits.new_empty(rows, top_k)
    places = torch.empty_like(values, dtype=torch.int64)
    block = triton.next_power_of_2(words)
    top_kernel[(rows,)](
        logits, values, places, words, fill, masked, strikes, lowest, TOP=top_k, BLOCK=block
    )  # fmt: skip
    return values, places


def spoilt_top(**mistake):
    return lambda logits, top_k: launch_top(logits, top_k, **mistake)


def best_length(rate, price):
    return max(range(65), key=lambda length: (costs.speed_up(rate, price, length), -length))


SOLVED = {
    "speculation.expected": (1 - 0.8**6) / 0.2,
    "speculation.head_bytes": 6 * 32768 * 4096 * 2,
    "speculation.best_kept": 32768,
    "speculation.residual": residual,
    "speculation.truncate": truncate,
    "speculation.verify": verify_word,
    "speculation.masks": pack_masks,
    "speculation.ranked": frequent,
    "speculation.top": launch_top,
    "speculation.best_length": best_length,
}


def masked(logits, ids):
    law = torch.zeros_like(logits)
    law[..., ids] = logits.softmax(-1)[..., ids]
    return law


def from_the_target(word, target, draft, dice):
    return word if dice.accept(min(1.0, (target[word] / draft[word]).item())) else dice.draw(target)


def with_its_own(word, target, draft, dice):
    return word if dice.accept(target[word].item()) else dice.draw(residual(target, draft))


def in_order_of_rank(counted, kept, end):
    return frequent(counted, kept, end).flip(0)


def one_more(counted, kept, end):
    return torch.cat([frequent(counted, kept, end), torch.tensor([0])])


def plain_top(logits, top_k):
    return logits.topk(top_k)


MISTAKES = [
    ("speculation.expected", (1 - 0.8**6) / 0.2 - 1, "add 1"),
    ("speculation.expected", 4.0, "only if all before it"),
    ("speculation.expected", 6, "the best case"),
    ("speculation.expected", 5.0, "only if all before it"),
    ("speculation.head_bytes", 6 * 128256 * 4096 * 2, "the whole head"),
    ("speculation.head_bytes", 32768 * 4096 * 2, "one step"),
    ("speculation.head_bytes", 6 * 32768 * 4096 * 4, "two bytes, not four"),
    ("speculation.best_kept", 128256, "the longest cycle"),
    ("speculation.best_kept", 8192, "the shortest cycle"),
    ("speculation.residual", lambda target, draft: (target - draft).clamp_min(0), "normalise it"),
    ("speculation.residual", lambda target, draft: target, "said too often"),
    (
        "speculation.residual",
        lambda target, draft: (target - draft).abs() / (target - draft).abs().sum(),
        "must get noth",
    ),
    ("speculation.truncate", masked, "masked, not normalised"),
    ("speculation.truncate", lambda logits, ids: logits[..., ids].softmax(-1), "over the whole vocabulary"),
    ("speculation.truncate", lambda logits, ids: logits.softmax(-1), "not kept has a probability"),
    ("speculation.verify", lambda word, target, draft, dice: word, "the drafter's law"),
    ("speculation.verify", from_the_target, "come off first"),
    ("speculation.verify", with_its_own, "min(1, p / q), not with p"),
    ("speculation.masks", lambda parents: pack_masks(parents)[1:], "The root is a row too"),
    ("speculation.masks", lambda parents: [1] + [1 | 1 << row + 1 for row in range(len(parents))], "an ancestor"),
    ("speculation.masks", lambda parents: [(2 << row) - 1 for row in range(len(parents) + 1)], "no ancestor"),
    ("speculation.masks", lambda parents: [mask & ~1 for mask in pack_masks(parents)], "does not see itself"),
    ("speculation.ranked", lambda counted, kept, end: frequent(counted, kept, 3), "The end, word 1"),
    ("speculation.ranked", one_more, "not one more"),
    ("speculation.ranked", in_order_of_rank, "another order"),
    ("speculation.top", plain_top, "No Triton kernel"),
    ("speculation.top", spoilt_top(masked=False), "reads outside logits_pointer"),
    ("speculation.top", spoilt_top(fill=0.0), "load it as -inf"),
    ("speculation.top", spoilt_top(strikes=False), "the same maximum comes again and again"),
    ("speculation.top", spoilt_top(lowest=False), "of equal logits the lower place comes first"),
    ("speculation.top", lambda logits, top_k: launch_top(-logits, top_k), "the top_k largest, in descending order"),
    ("speculation.top", lambda *given: [each.long() for each in launch_top(*given)], "the values must be of float32"),
    ("speculation.top", lambda *given: launch_top(*given)[0], "return 2 tensors (values, places)"),
    ("speculation.best_length", lambda rate, price: 4, "the best length is"),
    ("speculation.best_length", lambda rate, price: max(1, best_length(rate, price)), "no draft pays"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
