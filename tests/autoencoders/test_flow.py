"""Walks from noise to latents, against a law whose velocity and flow are known."""

import math

import pytest
import torch

from effattn_core.autoencoders.flow import (
    FIRST,
    LAST,
    RELEASED_END,
    ChannelScale,
    GaussianFlow,
    draw_times,
    drift,
    flow_loss,
    guided_from,
    mixed,
    random_walk,
    shifted,
    time_grid,
    walk,
)

LAW = GaussianFlow()


def normal(count, seed=0):
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_velocity_is_the_mean_of_all_that_pass_there():
    generator = torch.Generator().manual_seed(1)
    for time in (0.1, 0.5, 0.9):
        clean = LAW.mean + LAW.spread * torch.randn(400_000, dtype=torch.float64, generator=generator)
        noisy, wanted = mixed(
            clean, torch.randn(clean.shape, dtype=clean.dtype, generator=generator), torch.full((400_000,), time)
        )
        line = torch.stack((noisy, torch.ones_like(noisy)), 1)
        slope, level = torch.linalg.lstsq(line, wanted[:, None]).solution[:, 0]
        for x in (-1.0, 0.5, 2.0):
            assert abs(slope * x + level - LAW.velocity(torch.tensor(x, dtype=torch.float64), time)) < 0.03


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_walks_reach_the_known_flow_with_the_order_of_their_method(method, order):
    start = normal(2000)
    errors = [
        (walk(LAW.velocity, start, time_grid(steps), method) - LAW.flow(start)).square().mean().sqrt().item()
        for steps in (40, 80, 160)
    ]
    orders = [math.log2(before / after) for before, after in zip(errors, errors[1:], strict=False)]
    print(f"{method}: errors {errors}, orders {orders}")
    assert all(abs(each - order) < 0.2 for each in orders)


def test_a_random_walk_ends_in_the_law_within_monte_carlo_error():
    count = 100_000
    found = random_walk(LAW.velocity, normal(count), generator=torch.Generator().manual_seed(2))
    assert abs(found.mean().item() - LAW.mean) < 4 * LAW.spread / count**0.5 + 2e-3
    assert abs(found.std().item() / LAW.spread - 1) < 0.02


def test_the_drift_is_velocity_and_score():
    noisy, time = normal(50), 0.37
    velocity = LAW.velocity(noisy, time)
    score = -(noisy - time * LAW.mean) / LAW.deviation(time) ** 2
    assert (drift(velocity, noisy, time) - velocity - (1 - time) / time * score).abs().max() < 1e-12


def test_the_released_first_step_leaves_noise_of_the_step_over_the_first_time_and_the_second_takes_it_off():
    times = time_grid(249, 0.4, FIRST, LAST)
    trace = []
    random_walk(LAW.velocity, normal(20_000), times, generator=torch.Generator().manual_seed(3), trace=trace)
    factor = (times[1] / times[0] - 2).item()
    assert factor > 100 and abs(trace[0].std().item() / factor - 1) < 0.02
    assert trace[1].std() < 3 and abs(trace[20].std().item() / LAW.deviation(times[21].item()) - 1) < 0.05


def test_the_released_last_step_stops_short_of_the_end():
    start, times = normal(20_000), time_grid(249, 0.4, FIRST, LAST)
    ends = [
        random_walk(LAW.velocity, start, times, end=end, generator=torch.Generator().manual_seed(4)).std().item()
        for end in (None, RELEASED_END)
    ]
    assert times[-1] < 0.991 and ends[0] != ends[1] and all(abs(each / LAW.spread - 1) < 0.03 for each in ends)


def test_the_shift_keeps_the_ends_moves_the_rest_to_the_noise_and_undoes_itself():
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    moved = shifted(times, 0.4)
    assert moved[0] == 0 and moved[-1] == 1 and (moved[1:-1] < times[1:-1]).all()
    assert torch.allclose(shifted(moved, 1 / 0.4), times) and torch.equal(shifted(times, 1.0), times)
    assert abs(shifted(0.5, 0.4) - 0.2 / 0.7) < 1e-15
    drawn = draw_times(20_000, 0.7, torch.Generator().manual_seed(0))
    assert abs(drawn.median().item() - shifted(0.5, 0.7)) < 0.01 and 0 < drawn.min() and drawn.max() < 1


def test_guidance_starts_where_it_is_told_and_moves_the_mean_by_its_weight():
    conditional, without = GaussianFlow(0.7, 1.0), GaussianFlow(0.0, 1.0)
    guided = guided_from(conditional.velocity, without.velocity, 2.0)
    found = walk(guided, normal(4000), time_grid(200), "heun")
    assert (
        abs(found.mean().item() - walk(conditional.velocity, normal(4000), time_grid(200), "heun").mean().item() - 0.7)
        < 1e-3
    )
    late = guided_from(conditional.velocity, without.velocity, 2.0, start=0.5)
    x = normal(5)
    assert torch.equal(late(x, 0.49), conditional.velocity(x, 0.49)) and torch.equal(late(x, 0.5), guided(x, 0.5))


def test_the_loss_counts_length_and_angle():
    wanted = torch.tensor([[[3.0, 0.0]]])
    assert flow_loss(wanted, wanted).item() == 0
    assert abs(flow_loss(torch.tensor([[[0.0, 3.0]]]), wanted).item() - (9 + 1)) < 1e-5
    assert abs(flow_loss(2 * wanted, wanted).item() - 4.5) < 1e-5


def test_channels_are_standardised_one_by_one_and_brought_back():
    latents = torch.randn(40, 16, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 2.0, -3.0])
    scale = ChannelScale.of(latents)
    scaled = scale.scaled(latents)
    assert (
        torch.allclose(scaled.flatten(0, 1).std(0), torch.ones(3)) and scaled.flatten(0, 1).mean(0).abs().max() < 1e-5
    )
    assert torch.allclose(scale.restored(scaled), latents, atol=1e-5)


def test_bad_input_says_what_was_given_and_what_is_wanted():
    for call, sentence in (
        (lambda: shifted(0.5, 0), "shift must be above 0; it is 0"),
        (lambda: time_grid(0), "steps must be a whole number of at least 1; it is 0"),
        (lambda: walk(LAW.velocity, normal(2), time_grid(2), "rk4"), "method must be one of .* it is 'rk4'"),
        (lambda: random_walk(LAW.velocity, normal(2), time_grid(4)), "starts after time 0; its first time is 0.0"),
        (lambda: ChannelScale.of(torch.ones(3, 2, 2)), "channel 0 of the latents never changes"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
