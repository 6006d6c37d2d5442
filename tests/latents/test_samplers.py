"""Samplers against data whose answer is known in closed form, and the loss's optimum against a known score."""

import math

import pytest
import torch

from effattn_core.latents import schedule as forms
from effattn_core.latents.exact import Gaussian, Mixture, distance, normal_quantiles, regressed
from effattn_core.latents.samplers import (
    CLIPPED,
    LAST,
    ddim_step,
    dpmpp_2m_step,
    even_grid,
    grid,
    guided,
    sample,
)

SCHEDULE, GAUSSIAN, MIXTURE = forms.cosine(), Gaussian(), Mixture()


def test_the_cosine_schedule_has_the_values_of_the_released_code():
    alpha, log_snr = SCHEDULE.alpha, SCHEDULE.log_snr
    assert alpha[0].item() == pytest.approx(0.9999794, abs=1e-7) and log_snr[0].item() == pytest.approx(
        5.0475, abs=1e-4
    )
    assert log_snr[998].item() == pytest.approx(-6.464, abs=1e-3)
    assert alpha[999].item() == pytest.approx(4.928e-5, abs=1e-8)
    assert log_snr[999].item() == pytest.approx(-9.918, abs=1e-3)
    assert alpha[950].item() == pytest.approx(0.07629, abs=1e-5)
    assert (alpha**2 + SCHEDULE.sigma**2 - 1).abs().max() < 1e-15 and (log_snr.diff() < 0).all()
    assert log_snr[CLIPPED].item() == pytest.approx(-5.1, abs=0.05)


@pytest.mark.parametrize("prediction", forms.PREDICTIONS)
def test_an_output_means_the_latent_and_the_noise_that_it_was_made_of(prediction):
    latent, noise = torch.randn(2, 7, 3, dtype=torch.float64)
    time = torch.randint(900, (7,))
    alpha, sigma = SCHEDULE.at(time, latent)
    noisy, output = alpha * latent + sigma * noise, forms.target_of(prediction, latent, noise, alpha, sigma)
    assert (forms.clean_of(prediction, output, noisy, alpha, sigma) - latent).abs().max() < 1e-9
    assert (forms.noise_of(prediction, output, noisy, alpha, sigma) - noise).abs().max() < 1e-9


def error(sampler, steps, even=False):
    """Root mean square distance to the exact flow, on normal quantiles."""
    line = even_grid(steps) if even else grid(SCHEDULE, steps)
    now, after = (line.alpha[0].item(), line.sigma[0].item()), (line.alpha[-1].item(), line.sigma[-1].item())
    start = normal_quantiles(2001)
    if even:  # the flow's own law at the first time
        start = now[0] * GAUSSIAN.mean + start * math.hypot(now[0] * GAUSSIAN.spread, now[1])
    wanted = GAUSSIAN.flow(start, now, after)
    found = sample(GAUSSIAN.denoise, start, line, sampler=sampler)
    return (found - wanted).square().mean().sqrt().item()


def test_errors_on_the_cosine_grid_are_those_of_the_sheet():
    known = {"ddim": (1.17e-1, 6.36e-2, 3.35e-2, 1.73e-2), "2m": (1.08e-1, 4.14e-2, 9.1e-3, 9.8e-4)}
    for sampler, wanted in known.items():
        for steps, figure in zip((5, 10, 20, 40), wanted, strict=True):
            assert error(sampler, steps) == pytest.approx(figure, rel=0.03), (sampler, steps)


@pytest.mark.parametrize(("sampler", "low", "high"), [("ddim", 0.9, 1.1), ("2m", 1.8, 2.1)])
def test_the_measured_order_is_the_one_that_is_claimed(sampler, low, high):
    errors = [error(sampler, steps, even=True) for steps in (40, 80, 160)]
    orders = [math.log2(before / after) for before, after in zip(errors, errors[1:], strict=False)]
    assert all(low < each < high for each in orders), orders


@pytest.mark.parametrize("sampler", ["ddpm", "ddpm large", "ddim", "2m"])
def test_moments_of_a_gaussian_come_out_within_the_monte_carlo_error(sampler):
    count, steps = 40000, 400
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(count, dtype=torch.float64, generator=generator)
    found = sample(GAUSSIAN.denoise, start, grid(SCHEDULE, steps), sampler=sampler, generator=generator)
    noise = GAUSSIAN.spread / math.sqrt(count)
    # Beside four standard errors, what the grid itself is off: 3% of the deviation at 400 steps.
    assert abs(found.mean().item() - GAUSSIAN.mean) < 4 * noise
    assert abs(found.std().item() - GAUSSIAN.spread) < 4 * noise / math.sqrt(2) + 0.03 * GAUSSIAN.spread


def test_few_steps_are_too_narrow_by_every_sampler():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(20000, dtype=torch.float64, generator=generator)
    known = {"ddim": 0.236, "2m": 0.258, "ddpm": 0.214}
    for sampler, wanted in known.items():
        found = sample(GAUSSIAN.denoise, start, grid(SCHEDULE, 10), sampler=sampler, generator=generator)
        assert found.std().item() == pytest.approx(wanted, abs=0.006) and found.std() < GAUSSIAN.spread


def test_a_mixture_comes_out_with_its_masses():
    start = normal_quantiles(4001)
    wanted = MIXTURE.quantile(torch.special.ndtr(start))
    known = {"ddim": (0.0535, 0.2900), "2m": (0.0120, 0.2973)}
    for sampler, (figure, mass) in known.items():
        found = sample(MIXTURE.denoise, start, grid(SCHEDULE, 20), sampler=sampler)
        assert distance(found, wanted) == pytest.approx(figure, rel=0.03)
        assert (found < -0.7).double().mean().item() == pytest.approx(mass, abs=1e-3)
    assert MIXTURE.cumulative(torch.tensor([-0.7], dtype=torch.float64)).item() == pytest.approx(0.30023, abs=1e-5)


def test_the_flow_of_a_mixture_of_one_is_that_of_the_gaussian():
    start, now = normal_quantiles(101), (0.6, 0.8)
    one = Mixture((1.0,), (GAUSSIAN.mean,), (GAUSSIAN.spread,))
    assert (one.flow(start, *now) - GAUSSIAN.flow(start, now)).abs().max() < 1e-9
    assert (one.denoise(start, 0, *now) - GAUSSIAN.denoise(start, 0, *now)).abs().max() < 1e-12


def test_ddim_is_the_first_order_step_and_a_last_step_answers_what_is_expected():
    noisy, clean = torch.randn(2, 50, dtype=torch.float64)
    now, after = (0.3, math.sqrt(1 - 0.09)), (0.7, math.sqrt(1 - 0.49))
    first = dpmpp_2m_step(noisy, clean, None, None, now, after)
    assert (first - ddim_step(noisy, clean, now, after)).abs().max() < 1e-12
    assert torch.equal(dpmpp_2m_step(noisy, clean, noisy, (0.1, 0.99), now, (1.0, 0.0)), clean)


def test_a_sampler_keeps_nothing_from_one_call_to_the_next():
    start, line = normal_quantiles(50), grid(SCHEDULE, 7)
    first = sample(GAUSSIAN.denoise, start, line)
    sample(MIXTURE.denoise, start, line)
    assert torch.equal(first, sample(GAUSSIAN.denoise, start, line))


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.5, 3.0])
def test_guidance_of_equal_spreads_moves_the_mean_and_nothing_else(weight):
    with_class, without = Gaussian(0.8, 1.0), Gaussian(0.0, 1.0)

    def denoise(*given):
        return guided(with_class.denoise(*given), without.denoise(*given), weight)

    start, line = normal_quantiles(2001), grid(SCHEDULE, 40)
    found = sample(denoise, start, line)
    # The flow of a unit normal is a shift: α' w m - α w m of the first time, which is hardly any signal.
    assert found.mean().item() == pytest.approx(weight * 0.8, abs=2e-3)
    assert found.std().item() == pytest.approx(start.std().item(), abs=2e-3)


def test_eps_prediction_from_the_last_time_amplifies_an_error_that_v_does_not_see():
    """A bias of 0.01 in the first output alone: sheet A11.1."""

    def biased(prediction, bias, everywhere=False):
        def denoise(noisy, time, alpha, sigma):
            clean = GAUSSIAN.denoise(noisy, time, alpha, sigma)
            output = forms.target_of(prediction, clean, (noisy - alpha * clean) / sigma, alpha, sigma)
            wrong = bias if everywhere or time == LAST else 0.0
            return forms.clean_of(prediction, output + wrong, noisy, alpha, sigma)

        return denoise

    start = normal_quantiles(2001)
    means = {
        prediction: sample(biased(prediction, 0.01), start, grid(SCHEDULE, 20)).mean().item()
        for prediction in forms.PREDICTIONS
    }
    assert means["eps"] == pytest.approx(-3.68, abs=0.02) and means["v"] == pytest.approx(0.6995, abs=2e-3)
    clipped = sample(biased("eps", 0.01, everywhere=True), start, grid(SCHEDULE, 20, CLIPPED)).mean().item()
    assert clipped == pytest.approx(0.653, abs=5e-3)


@pytest.mark.parametrize("prediction", forms.PREDICTIONS)
@pytest.mark.parametrize("time", [200, 500, 800])
def test_the_optimum_of_the_loss_is_the_known_score_of_a_mixture(prediction, time):
    alpha, sigma = SCHEDULE.alpha[time].item(), SCHEDULE.sigma[time].item()
    generator = torch.Generator().manual_seed(time)
    found = regressed(
        MIXTURE.sample(50000, generator),
        lambda latent, noise: forms.target_of(prediction, latent, noise, alpha, sigma),
        alpha,
        sigma,
        draws=4,
        generator=generator,
    )
    held = alpha * MIXTURE.sample(20000, generator) + sigma * torch.randn(20000, dtype=torch.float64)
    noise = forms.noise_of(prediction, found(held), held, alpha, sigma)
    wanted = -sigma * MIXTURE.score(held, alpha, sigma)
    assert (noise - wanted).square().mean().sqrt() < 0.03 < wanted.std()


def test_a_score_is_the_slope_of_the_density_and_says_what_the_denoiser_says():
    x = torch.linspace(-4, 3, 200, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(MIXTURE.density(x, 0.8, 0.6).log().sum(), x)
    assert (slope - MIXTURE.score(x, 0.8, 0.6)).abs().max() < 1e-10
    tweedie = (x + 0.36 * MIXTURE.score(x, 0.8, 0.6)) / 0.8
    assert (tweedie - MIXTURE.denoise(x, 0, 0.8, 0.6)).abs().max() < 1e-10


def test_bad_input_says_what_was_given_and_what_is_wanted():
    with pytest.raises(ValueError, match="prediction must be one of .* it is 'x'"):
        forms.clean_of("x", *torch.zeros(2, 1), 1.0, 0.0)
    with pytest.raises(ValueError, match="steps and first must fit .* got 1000 and 999"):
        grid(SCHEDULE, 1000)
    with pytest.raises(ValueError, match="sampler must be one of .* it is 'euler'"):
        sample(GAUSSIAN.denoise, torch.zeros(1), grid(SCHEDULE, 2), sampler="euler")
    for eta, sampler in ((1.5, "ddim"), (-0.1, "ddim"), (0.5, "2m")):
        with pytest.raises(ValueError, match=rf"eta must lie in \[0, 1\], .* it is {eta} for '{sampler}'"):
            sample(GAUSSIAN.denoise, torch.zeros(1), grid(SCHEDULE, 2), sampler=sampler, eta=eta)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1; it is 2.5"):
        grid(SCHEDULE, 2.5)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 2; it is 1"):
        forms.cosine(1)
    with pytest.raises(ValueError, match="as many weights, summing to 1"):
        Mixture((0.5, 0.4), (0.0, 1.0), (1.0, 1.0))
