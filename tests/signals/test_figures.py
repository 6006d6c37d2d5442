"""The figures of signals: their numbers are the library's or the recording's, and every state is legible."""

import itertools
import math
from statistics import fmean

import pytest
import torch
from support.legible import check_states, notes

from effattn_core.recordings import measured
from effattn_core.signals import clusters, questions, slots, tables
from effattn_core.signals.programs import execute, joined, oracle
from figures import signals as draw
from figures.signals import clusters as reading
from figures.signals import programs as asking
from figures.signals import slots as drifting
from figures.signals import translation as styling


@pytest.mark.parametrize(
    ("name", "longest", "grid"),
    [
        ("asking", 420, dict(question=draw.QUESTIONS, drama=draw.PLAYS[:2], person=draw.PERSONS[::3])),
        ("filters", 300, dict(round=draw.ROUNDS)),
        ("claim", 600, dict(claim=draw.SHOWN, verdict=draw.VERDICTS)),
        ("labels", 300, dict(text=range(1, 9), behind=draw.WORDS)),
        ("drift", 230, dict(slots=draw.SLOTS, draw=draw.DRAWS)),
        ("reads", 300, dict(text=[1, 2, 8], size=draw.SIZES[1:], move=draw.MOVES)),
        ("styled", 600, dict(how=list(draw.ARMS), quote=draw.QUOTES)),
    ],
)
def test_every_state_is_legible_and_says_something_of_its_own(name, longest, grid):
    check_states(getattr(draw, name), getattr(draw, f"{name}_says"), longest, **grid)


def test_rows_and_answers_are_those_of_the_executor():
    for question, person in itertools.product(draw.QUESTIONS, draw.PERSONS[:2]):
        program = asking.program_of(question, "Hamlet", person)
        given = {f"${place}": each for place, each in enumerate(program.arguments)}
        rows = [len(each) for each in joined(asking.SKELETONS[question].body, given)[1:]]
        figure = draw.asking(question, "Hamlet", person)
        assert list(figure.data[0].customdata) == rows and list(figure.data[0].x) == [each + 1 for each in rows]
        answer = sorted(map(str, oracle(program)))
        assert answer == sorted(map(str, execute(program)))
        assert f"Answer: {asking._few(answer)}".split()[1] in notes(figure)[0]


def test_filters_are_those_of_the_recording():
    figure = draw.filters(3)
    assert [trace.name for trace in figure.data] == list(questions.FILTERS)
    for trace in figure.data:
        for number, (x, y) in enumerate(zip(trace.x, trace.y, strict=True), start=1):
            rows = measured(draw.filters.__globals__["RUN"], what="round", arm=trace.name, round=number)
            assert (x, y) == (fmean(row["coverage"] for row in rows), fmean(row["purity"] for row in rows))
    assert [len(trace.x) for trace in draw.filters(1).data] == [1] * 4


def test_bars_of_a_claim_sum_to_one_and_agree_with_a_verdict_that_is_told():
    shown, logits = asking._claims()
    for number, one in enumerate(shown, start=1):
        assert one.program == tables.PROGRAMS[number - 1]
        free, bars = (asking._beliefs(number, told)[1] for told in ("not told", "true"))
        assert sum(p for p, _ in free.values()) == pytest.approx(1, abs=6e-3)
        assert all(p == 0 for p, says in bars.values() if not says)
        fits, returned = tables.outcomes([one])
        likely = tables.verdict_likelihood(logits[number - 1 : number], fits, returned, torch.tensor([True])).exp()
        assert sum(p for p, says in free.values() if says) == pytest.approx(likely.item(), abs=6e-3)
        drawn = {name: x for trace in draw.claim(number).data for name, x in zip(trace.y, trace.x, strict=True) if x}
        assert drawn == {name: p for name, (p, _) in free.items() if p}


def test_labels_are_drawn_where_they_were_recorded():
    for row in asking.shown_texts():
        dots = draw.labels(row["text"], row["words"]).data[0]
        assert list(dots.x) == sorted(row["scores"], reverse=True)
        (place,) = [number for number, symbol in enumerate(dots.marker.symbol) if symbol == "circle"]
        assert dots.x[place] == row["scores"][row["truth"]]
        for x, chance in zip(dots.x, dots.customdata, strict=True):
            assert chance == pytest.approx(1 - torch.sigmoid(torch.tensor(x)).item(), abs=1e-6)
        right = min(row["scores"]) == row["scores"][row["truth"]]
        assert notes(draw.labels(row["text"], row["words"]))[0].endswith("right" if right else "wrong")


def test_the_drift_is_that_of_self_training():
    for count in (1, 3):
        (vectors, candidates), truth, labelled, features = drifting._world(2)
        parts = list(zip(vectors.chunk(count), candidates.chunk(count), strict=True))
        prior, new = torch.ones(2, dtype=torch.float64), torch.tensor([False, True])
        path = slots.self_trained(parts, labelled, features, prior, new, drifting.SCALE, rounds=6, steps=1)
        hard, soft = draw.drift(count, 2).data[:2]
        for angle, found in zip(soft.y, path, strict=True):
            turned = torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))]).double()
            torch.testing.assert_close(turned, found[1], atol=2e-3, rtol=0)
        held = slots.self_trained(
            [(vectors, candidates)], labelled, features, prior, new, drifting.SCALE, rounds=6, steps=1, anchored=True
        )[-1][1]
        assert draw.drift(count, 2).data[2].y[-1] == pytest.approx(math.degrees(math.atan2(held[1], held[0])), abs=0.1)
        naive = slots.naive((vectors, candidates), labelled, features, prior, new, drifting.SCALE, 6)[1]
        assert hard.y[-1] == pytest.approx(math.degrees(math.atan2(naive[1], naive[0])), abs=0.1)
        share = slots.posterior(vectors, candidates, path[-1], prior, drifting.SCALE)
        right = (share.argmax(1) == truth).double().mean().item()
        assert f"→ {right:.2f}" in notes(draw.drift(count, 2))[0]


def test_the_draw_that_is_shown_first_moves_the_feature_most_and_the_anchor_alone_holds_as_much_as_slots():
    paths = {number: drifting._walked(1, number)[0] for number in draw.DRAWS}
    assert max(paths, key=lambda number: abs(paths[number][-1] - paths[number][0])) == 4
    start = paths[4][0]
    moved = [abs(drifting._walked(count, 4)[0][-1] - start) for count in draw.SLOTS[1:]]
    assert abs(drifting._walked(1, 4, anchored=True)[0][-1] - start) < min(moved)
    anchored, free = drifting._walked(1, 5, anchored=True)[0], paths[5]
    assert abs(anchored[-1] - drifting.NEW) > abs(free[-1] - drifting.NEW)  # held at three labels that are off


def test_what_clusters_read_is_their_attention_and_the_adversary_moves_against_the_loss():
    words, mask, rarity, centres, _ = reading._given()
    for text in range(1, len(draw.TEXTS) + 1):
        heat = draw.reads(text).data[0]
        wanted = clusters.attend(words, mask, rarity, centres)[0][text - 1, :, : len(draw.TEXTS[text - 1].split())]
        torch.testing.assert_close(torch.tensor(heat.z).double().flip(0), wanted, atol=6e-3, rtol=0)
    for size in draw.SIZES:
        along, blind = (reading._moved(size, move) for move in draw.MOVES)
        assert along[2] >= blind[2] and along[2] >= along[1]
        assert along[3] == pytest.approx(along[2] - along[1], rel=0.5, abs=1e-12)


def test_style_and_content_are_those_of_the_recording():
    guide, judge = draw.styled("λ = 3", 2).data
    for place, (arm, strength) in enumerate(draw.ARMS.values()):
        rows = measured(styling.RUN, what="style", arm=arm, strength=strength)
        for trace, field in ((guide, "guide"), (judge, "judge")):
            assert trace.x[place] == round(fmean(row["kept"] for row in rows), 3)
            assert trace.y[place] == round(fmean(row[field] for row in rows), 3)
        for quote in draw.QUOTES:
            text, output = styling._said(quote, list(draw.ARMS)[place])
            assert len(text.split()) == len(output.split()) and (arm != "copy" or text == output)
