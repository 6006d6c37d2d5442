"""What was recorded is whole, and holds what the chapter says of it."""

from statistics import fmean

import pytest

from effattn_core.autoencoders import plane, recorded
from effattn_core.recordings import measured

RUN = "autoencoders/training-cpu"
SEEDS = {row["seed"] for row in measured(RUN, what="generator")}
GENERATED = ("KL-VAE, β 1e-6", "KL-VAE, β 1e-2", "σ-VAE", "unit RMS", "GAE", "KL-VAE, target", "GAE, untrained teacher")
MORE = (
    "GAE, weight 0.01",
    "GAE, weight 0.03",
    "GAE, weight 0.1",
    "GAE, weight 0.3",
    "GAE, weight 1",
    "unit RMS, σ 0.05",
    "unit RMS, σ 0.5",
)


def mean(what, name, value):
    found = [value(row) for row in measured(RUN, what=what, name=name)]
    assert len(found) == len(SEEDS), (what, name)
    return fmean(found)


@pytest.mark.parametrize("name", GENERATED + MORE)
def test_every_tokeniser_is_of_one_size_and_judged_on_every_seed(name):
    rows = measured(RUN, what="tokeniser", name=name)
    assert {row["seed"] for row in rows} == SEEDS
    for row in rows:
        assert 0.95 < row["parameters"] / 81_289 < 1.05
        errors = list(row["noise"].values())
        assert errors == sorted(errors) and row["error"] == errors[0]
        assert 0.1 < row["pooled"] <= row["probe"] + 0.02 <= 1.02 and -1 <= row["cosine"] <= 1
        if row["kind"] == "rms":
            assert abs(row["deviation"] - 1) < 0.05


@pytest.mark.parametrize("name", GENERATED)
def test_every_generator_comes_closer_as_it_trains(name):
    rows = measured(RUN, what="generator", name=name)
    assert {row["seed"] for row in rows} == SEEDS and len({row["parameters"] for row in rows}) == 1
    for row in rows:
        assert row["distance"][-1][1] < 0.5 * row["distance"][0][1] and row["distance"][-1][0] == row["steps"]
    assert [len(recorded.unpacked(row["images"])) for row in rows if "images" in row] == [20]


def test_the_judge_is_good_and_the_teacher_s_targets_say_more_than_those_of_drawn_weights():
    assert len(SEEDS) >= 2
    (judge,) = measured(RUN, what="classifier")
    trained, drawn = (measured(RUN, what="teacher", trained=each)[0] for each in (True, False))
    assert judge["accuracy"] > 0.95 and trained["accuracy"] > 0.9
    assert trained["pooled"] > drawn["pooled"] + 0.3


def test_the_plane_holds_each_objective_and_the_target_spreads_classes_on_the_circle():
    rows = {row["objective"]: row for row in measured(RUN, what="plane")}
    assert list(rows) == list(plane.OBJECTIVES)
    assert rows["unit RMS, target × 1"]["probe"] > rows["unit RMS"]["probe"] + 0.2
    for objective, row in rows.items():
        on_circle = all(abs((x**2 + y**2) / 20_000 - 1) < 0.1 for x, y in row["points"])
        assert on_circle == objective.startswith("unit RMS") and len(recorded.unpacked(row["around"])) == plane.ANGLES


def test_the_target_is_what_a_line_reads_and_little_noise_is_what_breaks():
    assert mean("tokeniser", "GAE", lambda row: row["pooled"]) > mean(
        "tokeniser", "unit RMS", lambda row: row["pooled"]
    )

    def rise(name):
        return mean("tokeniser", name, lambda row: row["noise"]["0.5"] / row["noise"]["0"])

    assert rise("unit RMS, σ 0.05") > rise("unit RMS") > rise("unit RMS, σ 0.5")
    assert rise("KL-VAE, β 1e-6") > rise("unit RMS")


def test_geometry_and_meaning_are_two_ideas_and_neither_moves_the_generator_far():
    """What the chapter says: the target works beside a KL weight, and all generators end close together."""
    read = {name: mean("tokeniser", name, lambda row: row["pooled"]) for name in GENERATED}
    assert min(read["GAE"], read["KL-VAE, target"]) > 0.2 + max(read["unit RMS"], read["KL-VAE, β 1e-2"])
    ends = {name: mean("generator", name, lambda row: row["distance"][-1][1]) for name in GENERATED}
    assert max(ends.values()) < 1.5 * min(ends.values())
    assert max(read, key=read.get) == "GAE"
    last = {(row["name"], row["seed"]): row["distance"][-1][1] for row in measured(RUN, what="generator")}
    order = [("unit RMS", name) for name in ("KL-VAE, β 1e-6", "KL-VAE, β 1e-2", "σ-VAE", "GAE")]
    for near, far in (*order, ("GAE, untrained teacher", "unit RMS")):
        assert all(last[near, seed] < last[far, seed] for seed in SEEDS), (near, far)


def test_guidance_from_a_time_on_keeps_to_the_data_where_guidance_throughout_does_not():
    rows = {(row["weight"], row["start"]): row for row in measured(RUN, what="sampler", sampler="euler", steps=20)}
    assert rows[2.5, 0.3]["distance"] < rows[1.0, 0.0]["distance"] < rows[2.5, 0.0]["distance"]
    assert rows[2.5, 0.0]["accuracy"] > 0.97


def test_a_walk_of_more_steps_is_recorded_for_every_sampler():
    rows = measured(RUN, what="sampler")
    assert {row["sampler"] for row in rows} == {"euler", "heun", "random"} and {row["name"] for row in rows} == {"GAE"}
    assert {(row["weight"], row["start"]) for row in rows} >= {
        (1.0, 0.0),
        (1.5, 0.0),
        (1.5, 0.3),
        (2.5, 0.0),
        (2.5, 0.3),
    }
