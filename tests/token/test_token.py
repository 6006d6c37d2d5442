"""The token chapter: its pieces are the library's, its figures say what they show, mistakes are named."""

import itertools
import math
import re

import pytest
import torch
from support.house import ROOT, assert_named, assert_solved
from support.legible import check_states, notes

from effattn_core import costs, token
from effattn_core.attention import attention
from effattn_core.positions import rotate
from figures import theme
from figures import token as draw


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_state_answers_with_the_sum_of_values_weighed_by_overlap():
    keys, values, query = random(6, 4), random(6, 5), random(4)
    state = token.write(keys, values)
    assert state.shape == (4, 5)
    torch.testing.assert_close(state, sum(torch.outer(k, v) for k, v in zip(keys, values, strict=True)))
    torch.testing.assert_close(token.read(query, state), (keys @ query) @ values)


def test_pairs_turn_as_the_library_turns_them():
    row = random(1, 1, 9, 8)
    ours = [
        token.turned(row[0, 0, place].unflatten(0, (-1, 2))[pair], place * token.speeds(8)[pair].item())
        for place in range(9)
        for pair in range(4)
    ]
    torch.testing.assert_close(torch.stack(ours).reshape(1, 1, 9, 8), rotate(row, 0, 10000.0))
    with pytest.raises(ValueError, match="head_dim must be even, .*; it is 3"):
        token.speeds(3)


def test_a_score_depends_on_the_distance_only():
    query, key = random(2), random(2)
    for theta, distance in itertools.product((1.0, 0.1), (-3, 0, 5)):
        scores = [
            (token.turned(query, theta * (place + distance)) @ token.turned(key, theta * place)).item()
            for place in (0, 7, 1000)
        ]
        assert scores == pytest.approx([scores[0]] * 3, abs=1e-9)


def test_query_heads_read_the_key_heads_that_the_library_gives_them():
    query, key, value = random(1, 6, 3, 8), random(1, 2, 3, 8), random(1, 2, 3, 8)
    owner = [token.key_head_of(head, 6, 2) for head in range(6)]
    assert owner == [0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(attention(query, key, value), attention(query, key[:, owner], value[:, owner]))
    with pytest.raises(ValueError, match="key_value_heads must divide heads; got 4 and 6"):
        token.key_head_of(0, 6, 4)
    with pytest.raises(ValueError, match="query_head must lie in 0..5; it is 6"):
        token.key_head_of(6, 6, 2)


def test_llama_3_8b_keeps_128_kib_per_token():
    model = costs.LLAMA_8B
    assert costs.cache_bytes(model, 1) == 128 * 1024


def test_equal_shares_are_as_unsure_as_their_number():
    for count in (1, 2, 10, 27):
        shares = torch.full((count,), 1 / count, dtype=torch.float64)
        assert token.as_unsure_as(token.entropy(shares)) == pytest.approx(count)
    sure = torch.tensor([1.0, 0.0])
    assert token.entropy(sure) == 0 and math.copysign(1, token.entropy(sure)) == 1
    shares = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    torch.testing.assert_close(token.tempered(shares, 1.0), shares)
    assert token.tempered(shares, 0.5)[0] > 0.7 > token.tempered(shares, 2.0)[0]


def test_letters_are_counted_in_the_plays():
    assert next(iter(token.letters_after("q"))) == "u" and token.letters_after("q")["u"] > 0.99
    for letter in "te ":
        assert sum(token.letters_after(letter).values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="letter must be one that occurs in the plays, .*; it is '7'"):
        token.letters_after("7")


GRIDS = {
    "outer": (draw.outer, draw.outer_says, dict(pairs=range(1, 4), query=draw.WORDS)),
    "rotary": (
        draw.rotary,
        draw.rotary_says,
        dict(query=draw.POSITIONS[::5], key=draw.POSITIONS[::5], pair=draw.PAIRS),
    ),
    "clocks": (draw.clocks, draw.clocks_says, dict(base=draw.BASES)),
    "heads": (draw.heads, draw.heads_says, dict(key_value_heads=draw.KEY_HEADS)),
    "unsure": (draw.unsure, draw.unsure_says, dict(letter=draw.LETTERS, temperature=draw.TEMPERATURES)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_can_be_read_and_says_something_of_its_own(name):
    build, says, grid = GRIDS[name]
    check_states(build, says, 320, **grid)


def test_the_picture_of_pairs_says_what_is_read():
    assert draw.outer_says(2, "cat") == (
        "S holds 2 pairs. The key of “cat” reads (0, 3, −1, 2), which is the value of “cat”, exactly."
    )
    assert "1 · v of “cat” + 1 · v of “mat”" in draw.outer_says(3, "cat")
    assert "nothing: no key that was written overlaps it" in draw.outer_says(1, "cat")
    with pytest.raises(ValueError, match="query must be one of the, cat, mat; it is 'dog'"):
        draw.outer(1, "dog")


def test_the_picture_of_pairs_holds_the_numbers_of_the_library():
    def shown(pairs, query, left, top, rows, columns):
        cells = {(note.x, note.y): note.text for note in draw.outer(pairs, query).layout.annotations}
        found = [cells[left + column, top + row] for row in range(rows) for column in range(columns)]
        return [float(re.sub("<.*?>", "", text).replace("−", "-")) for text in found]

    for pairs in (1, 2, 3):
        state = token.write(draw.KEYS[:pairs], draw.VALUES[:pairs])
        assert shown(pairs, "cat", 7.5, 1.5, 3, 4) == state.flatten().tolist()
        assert shown(pairs, "cat", 7.5, 5, 1, 4) == token.read(draw.KEYS[1], state).tolist()
        last = torch.outer(draw.KEYS[pairs - 1], draw.VALUES[pairs - 1])
        assert shown(pairs, "cat", 1.5, 1.5, 3, 4) == last.flatten().tolist()


def test_the_caption_of_the_rotary_figure_says_the_speeds_that_it_draws():
    page = (ROOT / "book" / "0-before" / "token.md").read_text(encoding="utf-8")
    flat = re.sub(r'"\s+"', "", page)
    speeds = [theme.significant(speed) for speed in token.speeds(draw.HEAD_DIM, 10000.0).tolist()]
    said = [draw.pair_words(pair) for pair in draw.PAIRS]
    assert said == [f"{pair}, {speeds[pair]} radians per token" for pair in draw.PAIRS]
    drawn = speeds[: len(draw.PAIRS)]
    assert f"a head of {draw.HEAD_DIM} numbers, base 10,000, counted from 0" in flat
    assert f"speeds are {', '.join(drawn[:-1])} and {drawn[-1]} radians per token" in flat


def test_moving_both_leaves_the_rotary_score_alone():
    scores = {draw.rotary(place + 3, place, 1).layout.annotations[-1].text for place in (0, 4, 7)}
    assert len(scores) == 1
    assert draw.rotary(7, 4, 1).layout.annotations[-1].text != draw.rotary(8, 4, 1).layout.annotations[-1].text
    figure = draw.rotary(7, 4, 2)
    (query, key), marked = figure.data[1:3], figure.data[-1]
    assert query.x[1] * key.x[1] + query.y[1] * key.y[1] == pytest.approx(marked.y[0])


def test_heads_say_how_they_share_and_what_a_token_keeps():
    assert "groups of 4 read one key head together. A token keeps 128 KiB" in draw.heads_says(8)
    assert draw.heads_says(32).startswith("MHA") and draw.heads_says(1).startswith("MQA")
    assert any("128 KiB per token" in note for note in notes(draw.heads(8)))


def test_unsure_tells_nats_and_how_many_letters():
    assert "1.87 nats: as unsure as among 6.47 equally likely letters" in draw.unsure_says("t", 1.0)
    assert "1 equally likely letter." in draw.unsure_says("q", 1.0)


def rotated(tensor, speed):
    angle = torch.arange(len(tensor))[:, None] * speed
    x, y = tensor[:, 0::2], tensor[:, 1::2]
    return torch.stack((x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()), -1).flatten(1)


def half_split(tensor, speed):
    angle = torch.arange(len(tensor))[:, None] * speed
    x, y = tensor.chunk(2, -1)
    return torch.cat((x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()), -1)


def stretched(tensor, speed):
    """Turns, but computes the second of a pair from the first's new value."""
    angle = torch.arange(len(tensor))[:, None] * speed
    x, y = tensor[:, 0::2], tensor[:, 1::2]
    x = x * angle.cos() - y * angle.sin()
    return torch.stack((x, x * angle.sin() + y * angle.cos()), -1).flatten(1)


def loss(logits, target):
    return (logits.logsumexp(1) - logits.gather(1, target[:, None])[:, 0]).mean()


def naive_loss(logits, target):
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -shares.gather(1, target[:, None]).log().mean()


SOLVED = {
    "token.cached_kibibytes": 320,
    "token.bits_per_letter": (2.164, 4.48),
    "token.slowest_turn": 47_117,
    "token.rotate": rotated,
    "token.repeat_heads": lambda keys, heads: keys.repeat_interleave(heads // keys.shape[1], 1),
    "token.loss": loss,
}
MISTAKES = [
    ("token.cached_kibibytes", 2560, "all 64 query heads"),
    ("token.cached_kibibytes", 160, "A key and a value"),
    ("token.cached_kibibytes", 4, "one layer"),
    ("token.cached_kibibytes", 327.68, "divides by 1,000"),
    ("token.bits_per_letter", (1.04, 4.48), "Bits: Divide by ln 2"),
    ("token.bits_per_letter", (2.164, 2.83), "Letters: 2 is the base for bits"),
    ("token.bits_per_letter", 2.16, "Two numbers are asked"),
    ("token.slowest_turn", 7499, "a whole turn is 2π"),
    ("token.slowest_turn", 62_832, "i = 31, not 32"),
    ("token.rotate", half_split, "neighbours 2i and 2i + 1"),
    ("token.rotate", lambda tensor, speed: rotated(tensor, -speed), "the wrong way"),
    ("token.rotate", lambda tensor, speed: rotated(torch.cat((tensor[:1], tensor)), speed)[1:], "at position 0"),
    ("token.rotate", stretched, "keeps its length"),
    ("token.rotate", lambda tensor, speed: tensor[:, :1], "must be a tensor of shape"),
    ("token.repeat_heads", lambda keys, heads: keys.repeat(1, heads // keys.shape[1], 1, 1), "neighbours share"),
    ("token.repeat_heads", lambda keys, heads: keys, "8 query heads need keys of shape"),
    ("token.loss", naive_loss, "not finite"),
    ("token.loss", lambda logits, target: loss(logits, target) / math.log(2), "in bits"),
    ("token.loss", lambda logits, target: loss(logits, target) * len(target), "the sum over tokens"),
    ("token.loss", lambda logits, target: -loss(logits, target), "The sign"),
    (
        "token.loss",
        lambda logits, target: -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean(),
        "the entropy of the model's own",
    ),
]


@pytest.mark.parametrize("name", SOLVED)
def test_an_exercise_is_failed_unwritten_and_passed_solved(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_a_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
