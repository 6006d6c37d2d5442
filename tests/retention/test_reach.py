"""How far back trained heads look: the recording, what is computed from it, its figure, and what the page says."""

import math
from statistics import fmean, median

import pytest
import torch
from support import house
from support.house import ROOT

from effattn_core.recordings import measured
from effattn_core.retention import decay_mask, half_life, reach
from figures import theme
from figures.retention import heads as draw

DISTANCES, HEADS = reach.recorded()
FADE = 31 / 32


@pytest.mark.parametrize("tokens", [1.5, 5, 22, 300, 600])
def test_half_of_a_fade_lies_within_its_half_life(tokens):
    shares = reach.fading_shares(0.5 ** (1 / tokens), DISTANCES)
    assert reach.half_within(DISTANCES, shares) == pytest.approx(tokens, rel=0.04)


def test_half_is_found_at_the_ends_too():
    assert reach.half_within((1, 2, 4), (0.5, 0.6, 0.9)) == 1
    assert reach.half_within((1, 2, 4), (0.1, 0.2, 0.4)) == math.inf
    assert reach.half_within((1, 2, 4), (0.1, 0.5, 0.9)) == pytest.approx(2)
    assert reach.half_within((1, 4), (0.4, 0.6)) == pytest.approx(2)


def test_a_fade_s_shares_are_those_of_the_mask():
    mask = decay_mask(torch.tensor([FADE], dtype=torch.float64), 4000)[0, -1].flip(0)
    wanted = [(mask[:n].sum() / mask.sum()).item() for n in DISTANCES]
    assert reach.fading_shares(FADE, DISTANCES) == pytest.approx(wanted, abs=1e-12)


def test_equal_weights_are_the_mean_over_the_tokens_that_the_recording_asks():
    driver = house.driver("retention/run_smollm2")
    assert (driver.ROWS, driver.SINKS, driver.DISTANCES) == (reach.QUERIES, 1, DISTANCES)
    for n, share in zip(DISTANCES, reach.equal_shares(DISTANCES), strict=True):
        each = []
        for place in driver.ROWS:
            weights = torch.ones(place + 1)
            weights[0] = 0
            each.append((weights[-n:].sum() / weights.sum()).item())
        assert share == pytest.approx(fmean(each), rel=1e-5)


def test_each_head_of_the_recording_is_the_mean_of_its_passages():
    rows = measured("retention/smollm2-cpu")
    assert [(each.layer, each.head) for each in HEADS] == [(layer, head) for layer in range(30) for head in range(9)]
    for each in HEADS:
        passages = [row["shares"][each.head] for row in rows if row["layer"] == each.layer]
        assert len(passages) == len(each.halves) == 3
        assert each.shares == pytest.approx([fmean(shares) for shares in zip(*passages, strict=True)])
        assert list(each.shares) == sorted(each.shares)
        assert each.halves == tuple(reach.half_within(DISTANCES, shares) for shares in passages)


@pytest.mark.parametrize("layer", [17, 18, 4])
def test_the_figure_shows_the_heads_of_its_layer_and_which_reach_half_before_every_fade(layer):
    heads, fastest = [each for each in HEADS if each.layer == layer], float(half_life(FADE))
    fades, equal, near, far, rest, near_halves, far_halves = draw.looks(layer).data
    for lines, halves, chosen in (
        (near, near_halves, [each for each in heads if each.half < fastest]),
        (far, far_halves, [each for each in heads if each.half >= fastest]),
    ):
        drawn = [y for y in lines.y if y is not None]
        assert drawn == [share for each in chosen for share in each.shares]
        assert list(halves.y) == [min(each.half, draw.BEYOND) for each in chosen] and set(halves.x) <= {layer}
        tops = [y + bar for y, bar in zip(halves.y, halves.error_y.array, strict=True)]
        bottoms = [y - bar for y, bar in zip(halves.y, halves.error_y.arrayminus, strict=True)]
        assert tops == pytest.approx([min(max(each.halves), draw.BEYOND) for each in chosen])
        assert bottoms == pytest.approx([min(each.halves) for each in chosen])
    assert near.line.color == theme.VERMILLION and near.marker.symbol != far.marker.symbol
    assert len(rest.x) == len(HEADS) - 9 and layer not in rest.x
    assert list(equal.y) == list(reach.equal_shares(draw.STEPS)) and len(fades.x) == 8 * (len(draw.STEPS) + 1)
    halves = sorted(each.half for each in heads)
    told = draw.looks_says(layer)
    assert f"{draw._tokens(halves[0])} to {draw._tokens(halves[-1])} tokens" in told
    number = sum(half < fastest for half in halves)
    assert f"{number or 'none'} of them need" in told
    with pytest.raises(ValueError, match=r"layer must lie in 0\.\.29; it is 30"):
        draw.looks(30)


def test_what_the_page_writes_of_the_recording_in_words_is_so():
    text = " ".join((ROOT / "book" / "2-retention" / "retention.md").read_text().split()).replace('" "', "")
    fastest, far = float(half_life(FADE)), DISTANCES.index(256)
    early = [each for each in HEADS if each.half < fastest]
    tail, fade = median(1 - each.shares[far] for each in early), FADE**256
    here = [each for each in early if each.layer == 17]
    assert 150 < tail / fade < 250 and len(here) == 4
    for said in (
        f"half of their attention within {fastest:.0f} tokens, the fastest half-life",
        f"leaves {fade:.2%}".replace("%", " %") + " for all tokens beyond the nearest 256",
        f"1. About {tail:.0%}".replace("%", " %") + ", two hundred times as much",
        "four of this layer's nine heads reach half before every fade, and then rise more slowly",
    ):
        assert said in text, said
    assert all(each.shares[far] < 1 - fade for each in here), "they rise more slowly"
    equal = reach.equal_shares(DISTANCES)
    apart = {layer: median(abs(share - wanted) for each in HEADS if each.layer == layer
                           for share, wanted in zip(each.shares, equal, strict=True))
             for layer in (4, 13, 17)}  # fmt: skip
    assert apart[4] < 0.1 < 0.25 < min(apart[13], apart[17]), apart
    assert all(each.half < 64 for each in HEADS if each.layer == 13)
