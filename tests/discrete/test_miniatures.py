"""The data of voxels, pairs and names say what they claim, and margins settle where the closed forms say."""

import math

import pytest
import torch

from effattn_core.discrete import linking, pairs, voxels
from effattn_core.discrete.factors import propagated
from effattn_core.discrete.margins import settled


def test_only_voxels_of_the_region_see_a_digit():
    rows = torch.arange(200)
    seen = voxels.subject(rows, torch.Generator().manual_seed(0))
    pixels = voxels.images()[0][rows]
    # How much of each voxel a regression on 64 pixels explains, beyond what it would of noise.
    fitted = pixels @ torch.linalg.lstsq(pixels, seen.voxels, driver="gelsd").solution
    explained = 1 - (seen.voxels - fitted).square().mean(0) / seen.voxels.var(0)
    assert voxels.area(explained.view(32, 32), seen.region) > 0.95
    assert 0.5 < voxels.overlap(seen.region, seen.annotated) < 0.8


def test_the_area_under_the_curve_is_the_chance_to_rank_a_voxel_right():
    region = torch.tensor([True, True, False, False])
    assert voxels.area(torch.tensor([3.0, 1.0, 2.0, 0.0]), region) == 0.75
    assert voxels.area(torch.ones(4), region) == 0.5


def test_missing_labels_are_only_removed_and_a_rate_of_0_keeps_all():
    labels = torch.rand(500, 8, generator=torch.Generator().manual_seed(0)) < 0.3
    left = pairs.dropped(labels, 0.4, 1)
    assert not (left & ~labels).any() and abs(left.sum() / labels.sum() - 0.6) < 0.05
    assert torch.equal(pairs.dropped(labels, 0.0, 1), labels)


def test_the_best_threshold_is_no_worse_than_any():
    generator = torch.Generator().manual_seed(0)
    margin, labels = torch.randn(40, 8, generator=generator), torch.rand(40, 8, generator=generator) < 0.2
    every = [pairs.f1(margin >= cut, labels) for cut in margin.flatten()]
    assert pairs.best_f1(margin, labels) == pytest.approx(max(every), abs=1e-12)


def test_the_threshold_of_bce_is_0_and_the_others_learn_theirs():
    (features, labels), _ = pairs.drawn(0)
    few = pairs.trained("BCE", features[:200], labels[:200], steps=3)(features[:5])
    other = pairs.trained("SAT", features[:200], labels[:200], steps=3)(features[:5])
    assert not torch.allclose(few, other)
    with pytest.raises(ValueError, match="one of BCE"):
        pairs.trained("CE", features, labels)


def test_names_as_a_graph_of_factors_give_the_beliefs_of_tensors():
    names = linking.drawn(4, 1, 1)[0]
    weights = linking.zero_weights() | {"link": torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)}
    weights |= {"transitivity": torch.tensor(0.7).double(), "consistency": torch.tensor(0.4).double()}
    fast = linking.believed(names, weights, damping=0.3, tolerance=1e-9)
    slow = propagated(linking.as_graph(names, weights), damping=0.3, tolerance=1e-9)
    together = [*fast.link, *fast.pair]
    assert max((one - two).abs().max().item() for one, two in zip(together, slow.variables, strict=True)) < 1e-8


@pytest.mark.parametrize("missing", [0.2, 0.4, 0.7])
def test_margins_that_settle_together_settle_at_the_log_odds_by_sat(missing):
    margin, others = settled("SAT", [missing], steps=600)
    assert margin.item() == pytest.approx(math.log((1 - missing) / missing), abs=1e-3) and others.item() < -4


def test_mean_sat_falls_through_the_threshold_where_its_closed_form_says():
    below, above = settled("MeanSAT", [8 / 9 - 0.02, 8 / 9 + 0.02], steps=600)[0].tolist()
    assert below > 0 > above


def test_hinge_abl_turns_later_if_the_others_settle_as_well():
    # .5 with the others at -inf: its normalised weights make them come back to just above -5.
    margin, others = settled("HingeABL", [0.6], steps=400)
    assert margin.item() > 0 and -5 < others.item() < 0
