"""What is said obeys the target's law exactly: every way in which chance can fall is gone through, in the very program
that makes text."""

import itertools
import math

import pytest
import torch

from effattn_core import model as models
from effattn_core.model import build, configuration
from effattn_core.speculation import (
    Dice,
    Draft,
    Eagle,
    Extrapolator,
    Fixed,
    Grown,
    Lookup,
    ModelDrafter,
    acceptance,
    chain,
    chain_of,
    costs,
    draw_children,
    early_exit,
    emitted,
    enumerated,
    expected_tokens,
    expected_tokens_of,
    generate,
    law_of,
    most_frequent,
    residual,
    verify,
    verify_greedy,
)

WORDS = 5
TOLERANCE = 1e-12


def law(seed, words=WORDS, sharpness=1.5):
    dice = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(words, dtype=torch.float64, generator=dice)).softmax(-1)


def after(kind, prefix, words=WORDS):
    """A law that depends on all words before, of the target ("p") or the drafter ("q")."""
    seed = sum((n + 2) * 31**n * (word + 1) for n, word in enumerate(prefix))
    return law(seed + {"p": 1, "q": 1000}[kind], words)


def cut(whole, kept=3):
    """The renormalised law over the first `kept` words: a drafter with a vocabulary of its own."""
    left = whole.clone()
    left[kept:] = 0
    return left / left.sum()


def laws_of_tree(draft, prefix=()):
    """The target's law after the text and after each node: [1 + nodes, vocabulary]."""
    paths = []
    for node, parent in enumerate(draft.parents.tolist()):
        paths.append(((*paths[parent],) if parent >= 0 else tuple(prefix)) + (int(draft.tokens[node]),))
    return torch.stack([after("p", tuple(prefix)), *(after("p", path) for path in paths)])


def drawn_tree(widths, dice, proposal):
    """A draft of a fixed shape, drawn level by level by `proposal`, from words before to a law."""
    tokens, parents, laws, level = [], [], [], [(-1, ())]
    for width in widths:
        below = []
        for node, prefix in level:
            found = proposal(prefix)
            for token in draw_children(found, width, dice):
                tokens.append(token)
                parents.append(node)
                laws.append(found)
                below.append((len(tokens) - 1, (*prefix, token)))
        level = below
    return Draft(torch.tensor(tokens), torch.tensor(parents), torch.stack(laws))


def told(draft, dice):
    """All words that a cycle says."""
    path, last = verify(draft, laws_of_tree(draft), dice)
    return (*draft.tokens[path].tolist(), last)


def worst(found):
    """How far the law of words said in cycles is from the target's, at every prefix that any cycle can say.

    found: {words of a cycle: probability}. The first n words are compared, each cycle that stopped before being gone on
    with by the target's own law, as later cycles do (which are exact if this one is).
    """
    longest = max(map(len, found))
    error = abs(sum(found.values()) - 1)
    for size in range(1, longest + 1):
        for words in itertools.product(range(WORDS), repeat=size):
            wanted = math.prod(after("p", words[:n])[words[n]].item() for n in range(size))
            got = 0.0
            for said, weight in found.items():
                if said[:size] == words[: len(said)]:
                    rest = range(len(said), size)
                    got += weight * math.prod(after("p", words[:n])[words[n]].item() for n in rest)
            error = max(error, abs(got - wanted))
    return error


@pytest.mark.parametrize("widths", [(1,), (1, 1), (2,), (3,), (2, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("kept", [WORDS, 3], ids=["all words", "three words"])
def test_chains_and_trees_that_are_drawn_say_words_with_the_target_s_law(widths, kept):
    found = enumerated(lambda dice: told(drawn_tree(widths, dice, lambda prefix: cut(after("q", prefix), kept)), dice))
    assert worst(found) < TOLERANCE


@pytest.mark.parametrize("widths", [(2,), (4,), (3, 2), (2, 2)], ids=str)
def test_a_law_of_fewer_words_than_the_tree_is_wide_has_so_many_children_and_the_target_s_law(widths):
    """How many, one or two here, follows from the words before a node, and not from which of its own were drawn."""
    sizes = set()

    def few(prefix):
        return cut(after("q", prefix), 1 + sum(prefix) % 2 if prefix else 2)

    def cycle(dice):
        draft = drawn_tree(widths, dice, few)
        sizes.add(len(draft))
        return told(draft, dice)

    assert worst(enumerated(cycle)) < TOLERANCE
    assert max(sizes) < sum(math.prod(widths[: depth + 1]) for depth in range(len(widths))) or widths == (2,)


def test_a_word_that_is_all_of_a_rounded_law_may_be_refused():
    """One float below 1 is left of a sharp law, the rest is 0: what is refused then comes again, by what is left."""
    sharp = torch.tensor([[0.0, 1.0 - 2**-24, 0.0]])
    for draft in (chain(torch.tensor([1])), Draft(torch.tensor([1, 2]), torch.tensor([-1, -1]))):
        found = enumerated(lambda dice, draft=draft: verify(draft, sharp.expand(1 + len(draft), -1), dice)[1])
        assert set(found) == {1}


@pytest.mark.parametrize("parents", [[-1], [-1, 0, 1], [-1, -1, -1], [-1, -1, 0, 0, 1, 2]], ids=str)
def test_chains_and_trees_that_are_chosen_say_words_with_the_target_s_law(parents):
    brothers = [parents[:n].count(parent) for n, parent in enumerate(parents)]
    draft = Draft(
        torch.tensor([(n + 2 * brother) % WORDS for n, brother in enumerate(brothers)]), torch.tensor(parents)
    )
    for node in range(-1, len(parents)):
        below = draft.tokens[draft.children(node)].tolist()
        assert len(set(below)) == len(below)
    assert worst(enumerated(lambda dice: told(draft, dice))) < TOLERANCE


def test_children_that_are_chosen_among_drawn_ones_spoil_the_law():
    """Two are drawn and the drafter's likelier is kept: what was drawn decided the shape, and the law is another."""

    def biased(dice):
        proposal = after("q", ())
        best = max(draw_children(proposal, 2, dice), key=lambda token: proposal[token].item())
        return told(chain(torch.tensor([best]), proposal[None]), dice)

    assert worst(enumerated(biased)) > 0.01


def test_a_masked_law_that_is_not_normalised_spoils_the_law():
    def masked(dice):
        whole = after("q", ())
        token = dice.draw(cut(whole))
        left = whole * (cut(whole) > 0)
        return told(chain(torch.tensor([token]), left[None]), dice)

    assert worst(enumerated(masked)) > 0.01


@pytest.mark.parametrize("words", [6, 50])
def test_the_law_of_one_word_by_algebra(words):
    target, draft = law(1, words), cut(law(2, words), words // 2)
    torch.testing.assert_close(emitted(target, draft), target, atol=1e-15, rtol=0)
    rate = acceptance(target, draft)
    assert rate <= target[: words // 2].sum() + 1e-15  # no more is taken than the target has among the kept words
    assert math.isclose(rate, 1 - 0.5 * (target - draft).abs().sum(), rel_tol=1e-12)
    torch.testing.assert_close(residual(target, draft).sum(), torch.tensor(1.0, dtype=torch.float64))
    found = enumerated(lambda dice: told_once(target, draft, dice))
    assert max(abs(found.get(word, 0.0) - target[word].item()) for word in range(words)) < 1e-15


def told_once(target, draft, dice):
    token = dice.draw(draft)
    path, last = verify(chain(torch.tensor([token]), draft[None]), torch.stack([target, target]), dice)
    return token if path else last


@pytest.mark.parametrize("length", [1, 2, 3])
def test_words_per_cycle_by_the_formula_and_by_every_pattern(length):
    """Laws that do not depend on what was said: each draft is taken with one rate."""
    target, draft = law(3, 4), law(4, 4)

    def cycle(dice):
        tokens = torch.tensor([dice.draw(draft) for _ in range(length)])
        return 1 + len(verify(chain(tokens, draft.expand(length, -1)), target.expand(length + 1, -1), dice)[0])

    found = enumerated(cycle)
    mean = sum(words * weight for words, weight in found.items())
    rate = acceptance(target, draft).item()
    assert math.isclose(mean, expected_tokens(rate, length), rel_tol=1e-12)
    assert math.isclose(mean, expected_tokens_of([rate] * length), rel_tol=1e-12)
    spread = math.sqrt(sum((words - mean) ** 2 * weight for words, weight in found.items()))
    assert math.isclose(costs.tokens_spread(rate, length), spread, rel_tol=1e-10)
    patterns = itertools.product((True, False), repeat=length)
    by_pattern = sum(
        math.prod(rate if taken else 1 - rate for taken in pattern)
        * (1 + (pattern.index(False) if False in pattern else length))
        for pattern in patterns
    )
    assert math.isclose(by_pattern, mean, rel_tol=1e-12)
    assert expected_tokens(1.0, length) == length + 1 and expected_tokens(0.0, length) == 1


def test_the_dice_of_a_generator_fall_as_the_law_says():
    """Chi-square of 20,000 words: those of `verify`, drawn, against the target's law."""
    target, draft, dice = law(5).float(), law(6).float(), Dice(torch.Generator().manual_seed(0))
    drawn = torch.tensor([told_once(target, draft, dice) for _ in range(20_000)])
    assert chi_square(drawn, target) < 18.5  # 4 degrees of freedom: exceeded once in a thousand
    assert chi_square(drawn, draft) > 100


def chi_square(drawn, law):
    expected = len(drawn) * law.double()
    return (((torch.bincount(drawn, minlength=len(law)) - expected) ** 2) / expected).sum().item()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = build(configuration("tiny", 3, context=32)).eval().requires_grad_(False)
    for weight in made.parameters():
        weight.data *= 4
    return made


def everyone(model, shape, subset=None):
    """Every drafter of a shape."""
    torch.manual_seed(1)
    other = build(configuration("tiny", 3, context=32)).eval().requires_grad_(False)
    yield "a model", ModelDrafter(other, shape, subset=subset)
    yield "its first layer", early_exit(model, 1, shape, subset=subset)
    yield "a head", Eagle(model, Extrapolator(model.sizes), shape, subset=subset)
    yield "lookup", Lookup(3, length=shape.depth)


SHAPES = {"chain": chain_of(2), "tree": Fixed((2, 1)), "grown": Grown(2, 2, 3)}
SUBSETS = {"all words": None, "two words": most_frequent(torch.tensor([1, 5, 1]), 2, always=(2,))}


@pytest.mark.parametrize("heat", [0.8, 0.02])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("subset", SUBSETS)
def test_decoding_says_the_first_words_with_the_target_s_law_whatever_the_drafter(model, shape, subset, heat):
    """Four words of a model, by every way in which its dice can fall: several cycles, the first of full depth.

    At the lower temperature a drafter's law holds fewer words than its tree has siblings.
    """
    prompt, size = torch.tensor([1, 2, 0, 2]), 4
    wanted = {}
    for words in itertools.product(range(3), repeat=size):
        text = torch.cat([prompt, torch.tensor(words)])
        law = law_of(model(text[None])[0][0], heat).double()
        wanted[words] = math.prod(law[len(prompt) - 1 + n, word].item() for n, word in enumerate(words))
    for name, drafter in everyone(model, SHAPES[shape], SUBSETS[subset]):
        if (name, shape, subset, heat) == ("a model", "tree", "all words", 0.8):
            continue  # it takes as long as all others together; over two words it is gone through
        found = enumerated(
            lambda dice, drafter=drafter: tuple(
                generate(model, prompt, size, drafter, temperature=heat, dice=dice).tokens[:size]
            )
        )
        assert max(abs(found.get(words, 0.0) - wanted[words]) for words in wanted) < 1e-5, (name, shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_decoding_says_the_words_of_plain_decoding(model, shape):
    prompt = torch.tensor([1, 2, 0, 2])
    wanted = list(models.generate(model, prompt, 24))
    for subset in SUBSETS.values():
        for name, drafter in everyone(model, SHAPES[shape], subset):
            assert generate(model, prompt, 24, drafter).tokens[:24] == wanted, name


def test_greedy_verification_is_verification_of_laws_at_temperature_0():
    draft = Draft(torch.tensor([1, 2, 3, 0, 4]), torch.tensor([-1, -1, 1, 1, 3]))
    for seed in range(40):
        logits = torch.randn(6, WORDS, generator=torch.Generator().manual_seed(seed))
        best = logits.argmax(-1).tolist()
        assert verify_greedy(draft, best) == verify(draft, law_of(logits, 0.0), Dice())
    assert verify_greedy(draft, [2, 0, 0, 0, 4, 1]) == ([1, 3, 4], 1)
