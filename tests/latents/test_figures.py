"""The figures of latents: their numbers are the library's, and every state is legible."""

import math

import pytest
import torch
from support.legible import check_legible, check_states, notes

from effattn_core.latents import collapse as closed
from effattn_core.latents import cosine
from effattn_core.latents.exact import Mixture
from figures.latents import forms as draw

SCHEDULE = cosine()


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(draw.collapse, draw.collapse_says, 220, beta=draw.BETAS, kind=list(draw.KINDS))
    check_states(draw.samplers, draw.samplers_says, 220, steps=draw.STEPS, sampler=list(draw.SAMPLERS))
    check_states(
        draw.amplified, draw.amplified_says, 240, first=draw.FIRSTS, bias=draw.BIASES, prediction=list(draw.WORDS)
    )


@pytest.mark.parametrize("kind", closed.KINDS)
@pytest.mark.parametrize("beta", [1e-4, 1e-2, 0.2])
def test_the_closed_form_is_where_descent_on_the_loss_ends(kind, beta):
    """The loss written out over (ln m, ln s, d), for data of one number; m and s are held where a kind holds them."""
    wanted = closed.optimum(kind, beta)
    power, rms = closed.DEVIATION**2, wanted.rms
    free = torch.tensor([-0.5, -0.5, 0.3], dtype=torch.float64, requires_grad=True)

    def loss():
        mean = torch.ones(()) if kind == "rms" else free[0].exp()
        noise = free[1].exp() if kind == "vae" else torch.tensor(rms)
        # x = q n with n normal, its latent m n + s ε, decoded as d times that.
        error = (closed.DEVIATION - free[2] * mean) ** 2 + (free[2] * noise) ** 2
        kl = (mean**2 + noise**2 - 1 - torch.log(noise**2)) / 2
        return error + {"vae": beta * kl, "sigma": beta * mean**2, "rms": 0.0}[kind], error, mean, noise

    search = torch.optim.LBFGS([free], max_iter=300, tolerance_grad=1e-13, tolerance_change=1e-16,
                               line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        search.zero_grad()
        value = loss()[0]
        value.backward()
        return value

    search.step(closure)
    _, error, mean, noise = (each.item() for each in loss())
    assert error == pytest.approx(wanted.error, rel=1e-4) and wanted.error <= power
    assert noise == pytest.approx(rms, rel=1e-3)
    assert mean == pytest.approx(wanted.deviation, rel=1e-3, abs=2e-3)


def test_the_noise_of_a_vae_dies_out_with_the_weight_and_that_of_unit_rms_does_not():
    ratios = {kind: [closed.optimum(kind, beta).ratio for beta in draw.BETAS] for kind in closed.KINDS}
    vae, sigma, rms = ratios.values()
    assert vae == sorted(vae) and sigma == sorted(sigma) and set(rms) == {draw.SPREAD}
    assert vae[0] == pytest.approx(math.sqrt(1e-6 / 2) / closed.DEVIATION, rel=1e-3)  # √(β / 2) / q, for small β
    assert all(low < high for low, high in zip(vae[:3], sigma[:3], strict=True))  # σ-VAE falls as √√β alone
    assert math.isinf(closed.optimum("vae", 0.3).ratio) and math.isinf(closed.optimum("sigma", 1.0).ratio)
    with pytest.raises(ValueError, match="kind must be one of .*; it is 'vq'"):
        closed.optimum("vq", 0.1)
    with pytest.raises(ValueError, match=r"beta must be above 0; it is 0\.0"):
        closed.optimum("vae", 0.0)


def test_circles_have_the_radius_of_the_optimum_and_recorded_rows_lie_where_they_were_measured():
    rows = [dict(kind=kind, beta=beta, ratio=0.1 + beta) for kind in ("vae", "sigma") for beta in (0.0, 1e-3, 1e-2)]
    figure = draw.collapse(1e-2, "sigma", rows)
    check_legible(figure)
    circles, means = figure.data[:2]
    assert circles.x[0] - means.x[0] == pytest.approx(closed.optimum("sigma", 1e-2, spread=draw.SPREAD).ratio)
    assert len(means.x) == draw.IMAGES and circles.x.count(None) == draw.IMAGES
    marks = {trace.name: list(trace.x) for trace in figure.data if str(trace.name).endswith("measured")}
    assert marks == {"VAE, measured": [1e-3, 1e-2], "σ-VAE, measured": [1e-3, 1e-2]}


def test_sampled_numbers_close_on_the_mixture_and_the_second_order_first():
    gaps = {sampler: [draw._sampled(steps, sampler)[3] for steps in draw.STEPS] for sampler in draw.SAMPLERS}
    for found in gaps.values():
        assert found == sorted(found, reverse=True)
    assert all(two < one for two, one in zip(gaps["2m"], gaps["ddim"], strict=True))
    figure = draw.samplers(40, "2m")
    bars, exact = figure.data[-2:]
    width = draw.BINS[1] - draw.BINS[0]
    assert sum(bars.x) * width == pytest.approx(1, abs=2e-3)
    middles = torch.tensor(bars.y, dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(exact.x, dtype=torch.float64), Mixture().density(middles))
    assert (torch.tensor(bars.x) - torch.tensor(exact.x)).abs().max() < 0.1
    assert f"<b>{gaps['2m'][-1]:.4f}</b>" in notes(figure)[1]


def test_an_error_at_the_last_time_moves_the_mean_by_eps_alone():
    """By the straight line that all steps together are: its slope times the error of the clean latent."""
    means = {each: draw._ended(each, 999, 0.01)[0] for each in draw.WORDS}
    assert means["eps"] == pytest.approx(-3.68, abs=0.01) and means["v"] == pytest.approx(0.7, abs=1e-3)
    clean = draw._ended("v", 999, 0.0)[0]
    assert (means["eps"] - clean) / (means["v"] - clean) == pytest.approx(1 / SCHEDULE.alpha[999].item(), rel=1e-6)
    assert abs(draw._ended("eps", 995, 0.01)[0] - 0.7) < 0.1
    assert draw._ended("eps", 999, 0.0) == pytest.approx(draw._ended("v", 999, 0.0))
    assert draw._factor("eps", 999) == pytest.approx(1 / 4.928e-5, rel=1e-3) and draw._factor("v", 999) < 1
    ring = draw.amplified(995, 0.01, "eps").data[2]
    assert (ring.x[0], ring.y[0]) == (995, draw._factor("eps", 995))
