"""The figures of autoencoders: their numbers are the library's, and every state is legible."""

import pytest
import torch
from support.legible import check_legible, check_states, notes

from effattn_core.autoencoders import recorded, unit_rms
from effattn_core.autoencoders.plane import ANGLES
from figures import autoencoders as draw

NOISES = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def flat():
    points = [[100, 0], [0, -140], [35, 70]]
    around = recorded.packed(torch.linspace(-1, 1, ANGLES)[:, None, None, None].expand(-1, 1, 28, 28))
    row = dict(points=points, labels=[3, 3, 7], error=0.1, probe=0.5, deviation=1.0, around=around)
    return [row | dict(objective="KL"), row | dict(objective="unit RMS", probe=0.9)]


@pytest.fixture(scope="module")
def under_noise():
    images = torch.arange(18.0)[:, None, None, None].expand(-1, 1, 28, 28) / 9 - 1
    return [dict(name="GAE", images=recorded.packed(images)), dict(name="σ-VAE", images=recorded.packed(0.5 * images))]


def rows_of(**more):
    return [dict(name=name, seed=seed) | more for name in ("σ-VAE", "GAE") for seed in (0, 1)]


def test_every_state_is_legible_and_says_something_of_its_own(flat, under_noise):
    check_states(draw.escape, draw.escape_says, 200, scale=draw.SCALES, spread=draw.SPREADS)
    check_states(
        draw.walks, draw.walks_says, 120, sampler=draw.WALKS, steps=draw.WALK_STEPS[::2], shift=draw.SHIFTS[::2]
    )
    check_states(
        lambda objective: draw.plane(flat, objective), lambda objective: draw.plane_says(flat, objective), 200,
        objective=["KL", "unit RMS"],
    )  # fmt: skip
    check_states(
        lambda noise: draw.noisy(under_noise, NOISES, noise), lambda noise: draw.noisy_says(under_noise, NOISES, noise),
        250, noise=NOISES,
    )  # fmt: skip


def test_scale_shrinks_the_noise_without_the_norm_alone():
    for spread in draw.SPREADS:
        free, held = zip(*(draw.ratios(scale, spread) for scale in draw.SCALES), strict=True)
        assert free == tuple(spread / scale for scale in draw.SCALES)
        assert all(abs(each - spread) < 1e-3 for each in held)
    figure = draw.escape(8, 0.2)
    assert torch.allclose(torch.tensor(figure.data[3].x, dtype=torch.float64), unit_rms(8 * draw._outputs())[:, 0])
    assert "0.025" in notes(figure)[0] and "0.2" in notes(figure)[1]


def test_the_plane_draws_each_digit_where_it_lies(flat):
    figure = draw.plane(flat, "KL")
    assert list(figure.data[3].x) == [1.0, 0.0] and list(figure.data[3].y) == [0.0, -1.4]
    assert figure.data[3].text == ("3", "3") and list(figure.data[7].x) == [0.35]
    assert figure.data[10].z.shape == (28 * ANGLES // 2, 56) and figure.data[10].z[0, 0] == 0
    assert "90%" in draw.plane_says(flat, "unit RMS")


def test_images_are_those_of_the_noise_that_is_asked_for(under_noise):
    figure = draw.noisy(under_noise, NOISES, 0.5)
    z = figure.data[0].z
    first = recorded.unpacked(under_noise[0]["images"])
    assert z.shape == (56, 168) and z[0, 0] == first[6, 0, 0] and z[0, 167] == first[11, 0, 0]
    assert figure.layout.yaxis.ticktext == ("GAE", "σ-VAE")
    assert draw.noisy_says(under_noise, NOISES, 0.0).endswith("GAE 0.000, σ-VAE 0.000.")


def test_samples_are_the_first_ten_of_each_generator():
    images = torch.arange(20.0)[:, None, None, None].expand(-1, 1, 28, 28) / 20
    made = [dict(images=recorded.packed(sign * images), accuracy=[[10, 0.1], [2000, 0.9]]) for sign in (1, -1)]
    rows = [dict(name=name, steps=2000) | more for name, more in zip(("GAE", "σ-VAE"), made, strict=True)]
    figure = draw.samples(rows)
    check_legible(figure)
    z, wanted = figure.data[0].z, [recorded.unpacked(each["images"]) for each in made]
    assert z.shape == (56, 280) and figure.layout.yaxis.ticktext == ("GAE", "σ-VAE")
    assert all((z[28 * row, ::28] == wanted[row][:10, 0, 0].numpy()).all() for row in range(2))
    assert draw.samples_says(rows).endswith("GAE 90%, σ-VAE 90%.") and "2,000" in notes(figure)[0]


def test_lines_are_those_of_the_rows():
    rows = rows_of(steps=400, distance=[[100, 80.0], [400, 8.0]])
    figure = draw.distances(rows)
    check_legible(figure)
    assert [trace.showlegend for trace in figure.data] == [True, False] * 2 and list(figure.data[2].y) == [80.0, 8.0]
    assert draw.distances_says(rows) == "Fréchet distance after 400 steps, means over seeds: σ-VAE 8; GAE 8."
    rows = rows_of(noise={"0": 0.05, "1": 0.2})
    figure = draw.robust(rows)
    check_legible(figure)
    assert list(figure.data[0].x) == [0.0, 1.0] and list(figure.data[0].y) == [0.05, 0.2]
    assert draw.robust_says(rows).endswith("σ-VAE 4; GAE 4.")


def test_walks_are_those_of_the_library_and_more_steps_come_closer():
    times, paths, _ = draw._walked("heun", 10, 0.4)
    assert paths.shape == (11, draw.PATHS)
    exact = torch.stack([draw.LAW.flow(paths[0], 0.0, time) for time in times.tolist()])
    assert (paths - exact).abs().max() < 0.1
    for sampler in draw.WALKS:
        off = [abs(draw._walked(sampler, steps, 0.4)[2] - 1) for steps in (5, 50)]
        assert off[1] < off[0] and off[1] < 0.1, sampler
