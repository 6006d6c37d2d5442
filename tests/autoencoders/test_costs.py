"""The formulas of the generator are what runs: weights of its tensors, operations as PyTorch counts them."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from effattn_core.autoencoders import costs
from effattn_core.autoencoders.flow import guided_from, shifted, time_grid, walk
from effattn_core.autoencoders.generator import FlowModel

SIZES = [(16, 8, 64, 3, 4, 160), (9, 4, 32, 1, 2, 48)]


@pytest.mark.parametrize(("tokens", "latent", "width", "layers", "heads", "inner"), SIZES)
def test_weights_and_operations_are_those_of_the_model(tokens, latent, width, layers, heads, inner):
    model = FlowModel(tokens, latent, width=width, layers=layers, heads=heads, inner=inner)
    sizes = dict(width=width, layers=layers, inner=inner)
    assert model.parameter_count == costs.flow_parameters(latent, tokens, **sizes)
    # The fused attention of the CPU is not counted by PyTorch; its plain form is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, tokens, latent), torch.rand(1), torch.zeros(1, dtype=torch.long))
    assert counter.get_total_flops() == costs.pass_flops(latent, tokens, **sizes)


@pytest.mark.parametrize(("sampler", "weight", "start"), [("euler", 1.0, 0.0), ("heun", 1.0, 0.0), ("euler", 2.0, 0.3)])
def test_a_walk_asks_as_often_as_the_formula_says(sampler, weight, start):
    asked = []

    def velocity(noisy, time):
        asked.append(time)
        return -noisy

    steps = 200
    guided = guided_from(velocity, velocity, weight, start)
    walk(guided, torch.ones(1, dtype=torch.float64), time_grid(steps, 0.4), sampler)
    share = costs.shift_share(0.4, start) if weight != 1 else 0.0
    assert abs(len(asked) - costs.sampling_passes(steps, sampler, guided_share=share)) <= 1


def test_the_share_above_a_time_is_that_of_a_shifted_grid():
    times = shifted(torch.arange(100_000) / 100_000, 0.4)
    for above in (0.0, 0.25, 0.3, 0.9):
        assert abs((times >= above).double().mean().item() - costs.shift_share(0.4, above)) < 1e-4
    with pytest.raises(ValueError, match=r"guided_share must lie in \[0, 1\]; it is 1.5"):
        costs.sampling_passes(10, guided_share=1.5)
