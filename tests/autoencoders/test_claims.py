"""What the claims compute of recorded rows: seed by seed, against the better baseline, with the range over seeds."""

import pytest

from effattn_core.autoencoders import claims


@pytest.fixture
def rows(monkeypatch):
    def row(name, seed, last, **more):
        curve = [[100, 4 * last], [400, last]]
        return dict(what="generator", name=name, seed=seed, steps=400, distance=curve) | more

    made = [row("A", seed, 10.0 + seed) for seed in (0, 1)] + [row("B", seed, 20.0 + 4 * seed) for seed in (0, 1)]
    made += [row("C", seed, 12.0) for seed in (0, 1)]

    def measured(recording, **wanted):
        return [each for each in made if all(each[field] == value for field, value in wanted.items())]

    monkeypatch.setattr(claims, "measured", measured)
    return made


def test_tokenisers_are_compared_seed_by_seed(rows):
    ratio = claims.Compared("generator", "B", "A", claims._last)
    assert ratio.found() == [2.0, 24 / 11] and ratio() == (2 + 24 / 11) / 2 and ratio.noise() == 24 / 11 - 2


def test_the_baseline_is_the_better_of_the_two(rows):
    better = claims.Better("generator", "A", ("B", "C"), claims._last)
    assert better.found() == [10 / 12, 11 / 12]
    assert claims.Better("generator", "A", ("C", "B"), claims._last).found() == better.found()


def test_steps_are_those_to_a_distance_that_all_reach(rows, monkeypatch):
    monkeypatch.setattr(claims, "REACHED", 40)
    sooner = claims.Compared("generator", "A", "B", lambda row: row, claims._sooner)
    # A starts with 40, at step 100; B falls from 80 at step 100 to 20 at step 400, and has 40 at step 200.
    assert abs(sooner.found()[0] - 2) < 1e-12
    late = claims.Compared("generator", "B", "A", lambda row: row, claims._sooner)
    assert abs(late.found()[0] - 1 / 2) < 1e-12


def test_identities_need_no_recording():
    assert claims._identity() < 1e-5 and abs(claims._radius() - 32**0.5) < 1e-3
    first, second = claims.CLAIMS[:2]
    assert first.verdict == "not reproduced" and second.verdict == "exact"
