"""What the chapter says of the recorded training: the prose's statements, held against the rows."""

import importlib.util
import inspect

import pytest
from support.house import ROOT

from effattn_core.recordings import measured
from effattn_core.universal import claims, recorded
from figures import universal as draw

LOOPS = (1, 2, 3, 4)


def test_differences_are_taken_over_the_seeds_that_both_models_have():
    found, seeds = recorded.against("YOCO-U", 2, ("YOCO-U", 1))
    both = [recorded.losses("YOCO-U", loops) for loops in (2, 1)]
    assert seeds == 2 and found == pytest.approx(sum(both[0][seed] - both[1][seed] for seed in (0, 1)) / 2)
    found, seeds = recorded.against(*recorded.DEEP, ("YOCO-U", 1))
    assert seeds == 1 and found == pytest.approx(recorded.losses(*recorded.DEEP)[0] - both[1][0])


def test_only_a_second_loop_lowers_the_mean_and_by_less_than_seeds_differ():
    one, spread = recorded.loss("YOCO-U", 1), max(recorded.spreads())
    assert recorded.loss("YOCO-U", 2) < one < min(recorded.loss("YOCO-U", 3), recorded.loss("YOCO-U", 4))
    assert one - recorded.loss("YOCO-U", 2) < spread and recorded.loss("YOCO-U", 4) - one < spread
    each = {loops: recorded.losses("YOCO-U", loops) for loops in LOOPS}
    assert all(each[2][seed] < each[1][seed] < min(each[3][seed], each[4][seed]) for seed in (0, 1))


def test_the_deep_stack_is_below_all_at_the_operations_of_four_loops():
    assert recorded.flops(*recorded.DEEP) == recorded.flops("YOCO-U", 4)
    firsts = [row["loss"] for row in measured(recorded.RUN, what="held out", seed=0) if row["name"] != recorded.DEEP[0]]
    assert recorded.losses(*recorded.DEEP).keys() == {0} and recorded.loss(*recorded.DEEP) < min(firsts)


def test_of_the_looped_transformers_seeds_one_gains_by_a_second_loop_and_the_other_loses_more():
    one, two = (recorded.losses("looped Transformer", loops) for loops in (1, 2))
    assert two[0] - one[0] > one[1] - two[1] > 0


def test_beside_the_looped_transformer_yoco_u_is_lower_and_cheaper_at_each_number_of_loops():
    """As the text says: of one loop's two seeds one differs, and from three loops on one seed is compared."""
    found = [recorded.against("YOCO-U", loops, ("looped Transformer", loops)) for loops in LOOPS]
    assert all(nats < 0 for nats, _ in found) and [seeds for _, seeds in found] == [2, 2, 1, 1]
    assert -found[0][0] < max(recorded.spreads())
    for loops in LOOPS:
        assert recorded.loss("YOCO-U", loops) < recorded.loss("looped Transformer", loops)
        assert recorded.flops("YOCO-U", loops) < recorded.flops("looped Transformer", loops)


def test_the_claims_tell_both_ratios_and_both_ways_to_count_seeds():
    noise, both = (claim.conditions() for claim in claims.CLAIMS[-2:])
    four, one = (recorded.losses("YOCO-U", loops) for loops in (4, 1))
    ratios = [four[seed] / one[seed] for seed in (0, 1)]
    # of two numbers: half their distance, twice
    assert f"independent, as the verdict does, {abs(ratios[0] - ratios[1]):.2f} paired by seed" in noise
    looped = recorded.losses("looped Transformer", 4)
    assert looped.keys() == {0} and f"from that seed is {four[0] / looped[0]:.2f}" in both
    assert f"ratio to it is {recorded.loss('YOCO-U', 4) / recorded.loss('YOCO-U', 1):.2f}" in both


def test_all_models_of_a_comparison_have_about_as_many_parameters():
    sizes = {row["name"]: row["parameters"] for row in measured(recorded.RUN, what="curve")}
    assert 1 < sizes["YOCO-U"] / sizes["looped Transformer"] < 1.005
    assert sizes[recorded.DEEP[0]] > 2 * sizes["YOCO-U"]


def test_a_fixed_number_of_loops_is_best_asked_for_and_fewer_worsen_faster_beyond():
    for name, loops in draw.TRAINED.values():
        asked = {each: recorded.loss(name, loops, each) for each in (1, 2, 3, 4, 6, 8) if recorded.held_out(
            name, loops, each)}  # fmt: skip
        assert len(asked) > 4 and ("random" in name or min(asked, key=asked.get) == loops)
    worse = [recorded.loss("YOCO-U", loops, 8) - recorded.loss("YOCO-U", loops) for loops in LOOPS]
    assert worse == sorted(worse, reverse=True)


def test_drawn_loops_have_the_flattest_curve():
    """From the fewest loops asked to the most, mean losses of the seeds, as the figure draws them."""
    ranges = {}
    for words, (name, loops) in draw.TRAINED.items():
        found = [recorded.loss(name, loops, each) for each in (1, 2, 3, 4, 6, 8)]
        ranges[words] = max(found) - min(found)
    assert min(ranges, key=ranges.get) == "drawn loops"


def test_the_chapter_names_the_settings_that_the_run_has():
    text = (ROOT / "book" / "3-yoco" / "universal.md").read_text()
    path = ROOT / "book" / "measurements" / "universal" / "run.py"
    source = importlib.util.spec_from_file_location("universal_run", path)
    run = importlib.util.module_from_spec(source)
    source.loader.exec_module(run)
    told = " ".join(text.split())
    assert f"steps on {run.BATCH} windows of {run.CONTEXT} letters each" in told
    rate = inspect.signature(run.finished).parameters["learning_rate"].default
    assert f"with a peak rate of {rate}, and takes the loss of {run.HELD_OUT - 1:,} held-out letters" in told
    for row in measured(recorded.RUN, what="curve"):
        assert row["every"] * len(row["losses"]) == run.STEPS


def test_five_of_eleven_points_have_one_seed_and_among_loops_of_changes_the_last_two():
    seeds = [len(recorded.losses(row["name"], row["loops"])) for row in measured(
        recorded.RUN, what="held out", seed=0) if row["asked"] == row["loops"]]  # fmt: skip
    assert len(seeds) == 11 and seeds.count(1) == 5 and set(seeds) == {1, 2}
    assert [len(recorded.losses(*key)) for key in draw.TRAINED.values()] == [2, 2, 2, 2, 1, 1]


def test_each_loop_after_the_first_adds_about_one_step_and_the_first_leaves_about_two():
    for row in measured(recorded.RUN, what="changes", name="YOCO-U", loops=4):
        steps = recorded.steps(row)
        assert max(steps) / min(steps) < 1.2
        assert row["sizes"][0] > 20, "the text says: tens of times as large as the embedding"
    assert all(abs(first - 2) < 0.3 for first in recorded.first_over_later())


def test_drawn_loops_are_better_from_the_first_seed_by_less_than_seeds_differ():
    drawn = {asked: recorded.loss("YOCO-U, random loops", 4, asked, seeds=[0]) for asked in LOOPS}
    gains = [recorded.loss("YOCO-U", loops, seeds=[0]) - drawn[loops] for loops in LOOPS]
    assert 0 < min(gains) and max(gains) < max(recorded.spreads())
    assert [recorded.loss("YOCO-U", loops) < drawn[loops] for loops in LOOPS] == [True, True, False, False]


def test_the_embedding_again_does_not_help_and_grows_less_past_four():
    again = [recorded.loss("YOCO-U, embedding again", 4, asked, seeds=[0]) for asked in (4, 8)]
    plain = [recorded.loss("YOCO-U", 4, asked, seeds=[0]) for asked in (4, 8)]
    assert again[0] > plain[0] and again[1] - again[0] < plain[1] - plain[0]
