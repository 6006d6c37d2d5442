"""The figures of key channels: their numbers are the library's, and every state is legible."""

import functools
import math

import pytest
import torch
from support.legible import check_legible

from effattn_core import channels
from effattn_core.channels import costs as costs_channels
from figures import explore
from figures.channels import forms as draw

IMPORTANCE = draw.frozen(torch.rand(2, 4, 32, generator=torch.Generator().manual_seed(0)).round(decimals=4).tolist())
NEEDLE = torch.rand(3, 2, 64, generator=torch.Generator().manual_seed(1)).round(decimals=4)
TASKS = {"needle": tuple(draw.frozen([seed]) for seed in NEEDLE.tolist()), "Shakespeare": (IMPORTANCE,) * 2}
# The grids of the chapter: name -> (builder, its sentence, the parameters).
GRIDS = {
    "cache-layout": (
        functools.partial(draw.layout, IMPORTANCE), functools.partial(draw.layout_says, IMPORTANCE),
        dict(pruned=draw.SHARES, stage=draw.STAGES),
    ),
    "survivors": (
        functools.partial(draw.survivors, TASKS), functools.partial(draw.survivors_says, TASKS),
        dict(task=list(TASKS), pruned=draw.SHARES, align=[1, 8]),
    ),
    "rounding": (
        functools.partial(draw.rounding, IMPORTANCE), functools.partial(draw.rounding_says, IMPORTANCE),
        dict(pruned=draw.SHARES, align=draw.ALIGNS),
    ),
    "empty-head": (draw.empty_head, draw.empty_head_says, dict(far=draw.FAR, logit=draw.LOGITS)),
}  # fmt: skip
ROWS = [
    dict(rule=rule, pruned=pruned, seed=seed, kl=(1 + number) * (pruned + 0.1 * seed), kept=1.02 - pruned)
    for number, rule in enumerate(draw.RULES) for pruned in (0.25, 0.75) for seed in (0, 1)
]  # fmt: skip


@pytest.fixture(scope="module")
def made():
    """name -> (its HTML, the figure of every state in it)."""

    def drawn(name, build, says, grid):
        figures = []

        def keep(**state):
            figures.append(build(**state))
            return figures[-1]

        return explore.explore(keep, name=name, caption="c", alt=says, **grid).html, figures

    return {name: drawn(name, *grid) for name, grid in GRIDS.items()}


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_is_drawn_and_legible_and_says_something_of_its_own(made, name):
    _, figures = made[name]
    build, says, grid = GRIDS[name]
    assert len(figures) == math.prod(len(values) for values in grid.values())
    for figure in figures:
        check_legible(figure)
    for parameter, values in grid.items():
        told = {says(**{parameter: value}) for value in values}
        assert len(told) == len(values), (parameter, told)
        assert all(sentence.endswith(".") and not sentence[0].islower() for sentence in told)


def test_the_figures_stay_in_their_budgets(made):
    sizes = {name: len(html.encode()) for name, (html, _) in made.items()}
    print(", ".join(f"{name} {size / 1000:.0f} KB" for name, size in sizes.items()))
    assert max(sizes.values()) < 300_000 and sum(sizes.values()) < 600_000, sizes


@pytest.mark.parametrize("pruned", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("stage", draw.STAGES)
def test_the_layout_holds_what_the_mask_keeps(pruned, stage):
    kept = channels.build_mask(torch.tensor(IMPORTANCE), pruned, 8).flatten(0, 1)
    counts = kept.sum(-1).tolist()
    figure = draw.layout(IMPORTANCE, pruned, stage)
    keys = [[cell is not None for cell in row[:32]] for row in figure.data[0].z]
    values = [[cell is not None for cell in row[-32:]] for row in figure.data[0].z]
    if stage == draw.STAGES[0]:
        assert keys == kept.tolist()
    else:
        wanted = sorted(counts, reverse=True) if stage == draw.STAGES[2] else counts
        assert keys == [[place < count for place in range(32)] for count in wanted]
    assert [sum(row) for row in values] == [32 if any(row) else 0 for row in keys]
    share = costs_channels.relative_bytes(kept.double().mean().item(), counts.count(0) / 8)
    assert sum(map(sum, keys)) + sum(map(sum, values)) == pytest.approx(2 * 32 * 8 * share)
    assert f"{share:.0%} of a whole cache" in figure.layout.annotations[0].text
    lines = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert len(lines) == (len(set(counts)) - 1 if stage == draw.STAGES[2] else 0)


def test_survivors_are_the_masks_of_all_seeds_and_their_shares_by_eighths():
    seeds = [torch.rand(2, 4, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 2, 5)]
    kept = [channels.build_mask(seed, 0.7, 8).flatten(0, 1) for seed in seeds]
    tasks = {"Shakespeare": tuple(draw.frozen(seed.tolist()) for seed in seeds)}
    cells, bars, released = draw.survivors(tasks, "Shakespeare", 0.7, 8).data
    assert [[cell is not None for cell in row] for row in cells.z] == torch.cat(kept).tolist()
    parts = torch.stack([each.double().view(8, 8, 4).mean((0, 2)) for each in kept])
    assert list(bars.y) == pytest.approx(parts.mean(0).tolist())
    assert list(bars.error_y.array) == pytest.approx((parts.amax(0) - parts.mean(0)).tolist())
    assert list(released.y)[:4] == list(costs_channels.RELEASED_QUARTERS)
    assert torch.tensor(draw.kept_by_eighths(tasks["Shakespeare"], 0.7)).allclose(parts.float())


def test_rounding_shows_both_counts_and_an_empty_head_its_two_masses():
    before, after = (channels.build_mask(torch.tensor(IMPORTANCE), 0.7, align).flatten(0, 1).sum(-1).tolist()
                     for align in (1, 16))  # fmt: skip
    solid, hollow = draw.rounding(IMPORTANCE, 0.7, 16).data
    assert list(solid.y) == after and list(hollow.y) == before
    trained, deployed, here = draw.empty_head(65536, 4.0).data
    assert list(here.y) == [channels.middle_mass(1152, 4.0, 65536)] and set(deployed.y) == {0.0}
    assert list(trained.y) == sorted(trained.y) and "51.0%" in draw.empty_head_says(65536, 4.0)
    assert list(draw.empty_head(8192, 4.0, whole=132).data[2].y) == [channels.middle_mass(132, 4.0, 8192)]
    assert "1,152 tokens" in draw.empty_head_says() and "53.2%" in draw.empty_head_says(8192, 4.0, whole=132)


def test_errors_are_means_between_the_least_and_the_most():
    tables = {"Shakespeare": (ROWS, "kl", "KL", True), "needle": (ROWS[:8], "kl", "error", False)}
    figure = draw.errors(tables)
    check_legible(figure)
    first = figure.data[0]
    assert first.name == "learned, two stages" and list(first.x) == pytest.approx([0.77, 0.27])
    assert list(first.y) == pytest.approx([0.3, 0.8])
    assert list(first.error_y.array) == pytest.approx([0.05, 0.05])
    assert "learned, two stages 0.8; learned 1.6; sizes of q and k 2.4" in draw.errors_says(tables)
    assert len(draw.errors(tables, "needle").data) == 2 and draw.errors_says(tables, "needle").startswith("Error, 75%")
    with pytest.raises(ValueError, match="errors needs rows with a rule"):
        draw.errors({"Shakespeare": ([], "kl", "KL", False)})
