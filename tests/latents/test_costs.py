"""The formulas of latents are what runs: weights of modules, passes of backbone and head, bytes of caches."""

import pytest
import torch

from effattn_core import bill
from effattn_core import costs as shared
from effattn_core.latents import costs
from effattn_core.latents.claims import THREE_BILLION
from effattn_core.latents.decoding import draw
from effattn_core.latents.head import DiffusionHead
from effattn_core.latents.model import LatentModel, latent_sizes
from effattn_core.states import kept_bytes


@pytest.mark.parametrize("sizes", [(8, 96, 256, 3), (4, 16, 48, 1), (16, 64, 176, 6)])
def test_a_head_has_the_weights_that_the_formula_says(sizes):
    assert DiffusionHead(*sizes).parameter_count == costs.head_parameters(*sizes)


def test_an_image_runs_the_backbone_once_per_latent_and_the_head_at_every_step():
    torch.manual_seed(0)
    model = LatentModel(latent_sizes(11, width=16, layers=2, heads=2, latent=4, places=6, context=16))
    passes = {"backbone": 0, "head": 0}

    def count(name, rows_of):
        def hook(module, given):
            passes[name] += rows_of(given)

        return hook

    model.backbone.blocks[0].register_forward_pre_hook(count("backbone", lambda given: given[0].shape[:2].numel()))
    model.head.register_forward_pre_hook(count("head", lambda given: len(given[0])))
    label = torch.zeros(3, 1, dtype=torch.int64)
    for weight, doubled in ((1.0, 1), (2.0, 2)):
        passes.update(backbone=0, head=0)
        draw(model, label, without=label + 10, weight=weight, steps=5)
        # The last latent is read too, so that words can follow: one pass more than the formula's N.
        assert passes == {"backbone": doubled * 3 * 7, "head": doubled * 3 * 6 * 5}
    pair = costs.Pair(1000, 10)
    assert costs.image_flops(pair, 6, 5) == 2 * (6 * 1000 + 6 * 5 * 10)
    assert costs.image_flops(pair, 6, 5, guided=True) == 2 * costs.image_flops(pair, 6, 5)
    assert costs.training_flops(pair) == 6 * (1000 + 4 * 10)


def test_the_saving_is_the_ratio_of_the_two_and_that_of_the_sheet():
    pair = costs.Pair(100_000, 17_000)
    assert costs.saving(pair, 20) == pytest.approx(costs.whole_flops(pair.backbone) / costs.image_flops(pair))
    assert costs.saving(pair, 20) == pytest.approx(4.5, abs=0.05)
    assert costs.image_bytes(pair, 256, 20) == 2 * 256 * (100_000 + 340_000)
    assert costs.whole_bytes(100_000, 20) == 2 * 20 * 100_000


def test_the_cache_of_an_image_is_what_its_states_keep():
    sizes = latent_sizes(11, width=16, layers=2, heads=2, latent=4, places=6, context=7)
    model = LatentModel(sizes)
    label = torch.zeros(1, 1, dtype=torch.int64)
    for guided, weight in ((False, 1.0), (True, 2.0)):
        _, states = draw(model, label, without=label + 10, weight=weight, steps=2)
        priced = shared.Model("tiny", 2, 16, 2, 2, 8, 48, 11, "the test")
        assert kept_bytes(states) == costs.cache_bytes(priced, 7, guided=guided, dtype="float32")


def test_the_published_number_of_parameters_is_that_of_six_head_blocks():
    """The released configuration has eight, narrower ones, and 494M by this count."""
    six, eight = costs.Pair.released(32, 1024, 4, 6, inner=2730), costs.Pair.released(32, 1024, 4, 8)
    assert (six.backbone + six.head) / 1e6 == pytest.approx(479, abs=3)
    assert (eight.backbone + eight.head) / 1e6 == pytest.approx(494, abs=4)
    assert costs.released_inner(1024, 4) == 2688


def test_the_released_sizes_that_come_nearest_to_the_published_throughput_s():
    """As the claim's conditions say."""
    assert (THREE_BILLION.backbone + THREE_BILLION.head) / 1e9 == pytest.approx(3.7, abs=0.05)


def test_bits_of_latents_and_codes():
    assert costs.latent_bits(16, 8) == 2048 and costs.code_bits(16, 128) == 112 and costs.code_bits(1, 129) == 8


def test_the_bill_s_image_is_the_model_at_every_step_before_and_the_head_alone_after():
    before, after = bill.before("latents"), bill.lines("latents")
    assert before["image"].weights == costs.whole_flops(costs.BILLED.backbone)
    assert after["image"].weights == costs.image_flops(costs.BILLED)
    assert before["image"].text == costs.STEPS * after["image"].text
    assert after["weights"].value - before["weights"].value == 2 * costs.BILLED.head
    assert [old.key for old, _ in bill.moved("latents")] == ["weights", "optimizer", "image"]
    assert bill.stage("latents").cost.endswith(".")
    assert costs.TOKENS * costs.STEPS == 5120  # as the cost's sentence says
