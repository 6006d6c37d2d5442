"""Style by translation: Viterbi finds what trying all outputs finds, tables are attention, real text is the output."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effattn_core.signals import translation as t
from effattn_core.signals.word_vectors import WordVectors

FIRST = [
    line.split() for line in ("a dull film", "a dull tale", "the plot is dull", "a bad plot", "the film is bad")
] * 2
SECOND = [
    line.split() for line in ("a fine film", "a fine tale", "the plot is fine", "a good plot", "the tale is good")
] * 2


def tables(strength=2.0):
    vectors = WordVectors([*FIRST, *SECOND], dim=4, window=2, least=1)
    preference = t.preferences(FIRST, SECOND, vectors.words)
    return vectors, preference, [t.seed_table(vectors, preference, sign, strength, near=4) for sign in (-1, 1)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 5))
def test_viterbi_finds_the_best_of_all_outputs(seed, length):
    generator = torch.Generator().manual_seed(seed)
    letters = "abcd"

    def drawn(count, size):
        return [
            [letters[each] for each in row] for row in torch.randint(4, (count, size), generator=generator).tolist()
        ]

    style = t.Bigrams(drawn(6, 5))
    table = {word: dict(zip(letters, torch.rand(4, generator=generator).tolist(), strict=True)) for word in "abc"}
    (text,) = drawn(1, length)
    best = max(itertools.product(letters, repeat=length), key=lambda output: t.score(text, output, table, style))
    found = t.decode(text, table, style)
    assert t.score(text, found, table, style) == pytest.approx(t.score(text, best, table, style), abs=1e-12)
    assert all(one == other for one, other in zip(text, found, strict=True) if one == "d")  # a word without a row stays


def test_preferences_are_clipped_and_turn_with_the_styles():
    words = sorted({word for text in [*FIRST, *SECOND] for word in text})
    found, turned = t.preferences(FIRST, SECOND, words), t.preferences(SECOND, FIRST, words)
    assert all(abs(each) <= t.MOST for each in found.values())
    assert found == pytest.approx({word: -each for word, each in turned.items()})
    assert found["dull"] == -t.MOST and found["fine"] == t.MOST
    assert t.preferences(FIRST * 50, SECOND * 50, words)["fine"] == t.MOST


def test_a_seed_table_is_attention_with_the_preference_as_bias():
    vectors, preference, (_, toward) = tables()
    for word, row in toward.items():
        assert math.isclose(sum(row.values()), 1, abs_tol=1e-5) and word in row and len(row) == 5
    flat = t.seed_table(vectors, preference, 1, 0.0, near=4)["dull"]
    moved = toward["dull"]
    for one, other in itertools.combinations(flat, 2):
        ratio = math.log(moved[one] / moved[other]) - math.log(flat[one] / flat[other])
        assert ratio == pytest.approx(2.0 * (preference[one] - preference[other]), abs=1e-4)
    with pytest.raises(ValueError, match="it is -1"):
        t.seed_table(vectors, preference, 1, -1)


def test_bigrams_of_a_known_word_sum_to_one_over_the_vocabulary():
    style = t.Bigrams(FIRST)
    words = [*style.single, "unseen"]
    assert sum(math.exp(style.log("a", word)) for word in words) == pytest.approx(1)
    assert sum(math.exp(style.log("<s>", word)) for word in words) == pytest.approx(1)


def test_back_translation_learns_outputs_from_real_text_and_heeds_its_guide():
    vectors, _, (back, forward) = tables()
    source = t.Bigrams(FIRST)
    real = [["a", "fine", "film"]] * 20
    found = t.back_translated(real, back, source, forward)
    made = t.decode(real[0], back, source)
    for word, output in zip(made, real[0], strict=True):
        assert found[word][output] == pytest.approx((20 + t.SMOOTH * forward[word].get(output, 0)) / (20 + t.SMOOTH))
    for row in found.values():
        assert sum(row.values()) == pytest.approx(1, abs=1e-5)
    refused = t.back_translated(real, back, source, forward, guide=lambda text: 0.5)
    assert all(refused[word] == pytest.approx(forward[word]) for word in forward)
    halved = t.back_translated(real, back, source, forward, guide=lambda text: 0.75)
    word, output = made[1], real[0][1]
    assert halved[word][output] == pytest.approx((15 + t.SMOOTH * forward[word].get(output, 0)) / (15 + t.SMOOTH))


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="no word"):
        t.decode([], {}, t.Bigrams(FIRST))
