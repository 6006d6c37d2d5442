"""What is called with something that makes no sense is refused in a sentence that says what was given."""

import pytest
import torch

from effattn_core import autoencoders as gae
from effattn_core.autoencoders import autoencoder, blocks, costs, flow, plane, probes, recorded, teacher

TWO, THREE = torch.ones(2, 4, 8), torch.ones(3, 4, 8)
IMAGES, NAMES = torch.zeros(3, 1, 28, 28), torch.zeros(2, dtype=torch.int64)


def generated(**settings):
    return gae.generate(gae.FlowModel(4, width=8, layers=1, inner=8), NAMES, (4, 8), **settings)


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: gae.unit_rms_backward(TWO, THREE), r"one shape; they have \(2, 4, 8\) and \(3, 4, 8\)"),
    (lambda: gae.directional(TWO, THREE), r"one shape; they have \(2, 4, 8\) and \(3, 4, 8\)"),
    (lambda: flow.time_grid(2.5), "steps must be a whole number of at least 1; it is 2.5"),
    (lambda: generated(sampler="random", steps=1), "steps must be a whole number of at least 2; it is 1"),
    (lambda: generated(sampler="leap"), "sampler must be one of .*'random'.*; it is 'leap'"),
    (lambda: gae.train_flow(gae.FlowModel(4), THREE, NAMES, steps=1), "there are 3 images and 2 labels"),
    (lambda: gae.train_flow(gae.FlowModel(4), TWO, NAMES, steps=0), "steps must be a whole number .*; it is 0"),
    (lambda: autoencoder.train_autoencoder(gae.geometric(), IMAGES, TWO), "there are 3 images and 2 targets"),
    (lambda: blocks.Attention(8, 0), "heads must be a whole number of at least 1; it is 0"),
    (lambda: gae.Teacher(28, 0), "patch must be a whole number of at least 1; it is 0"),
    (lambda: teacher.windows(TWO, 0), "side must be a whole number of at least 1; it is 0"),
    (lambda: plane.plane_tokeniser("none", None), "objective must be one of .*; it is 'none'"),
    (lambda: probes.probe(TWO, NAMES, THREE, NAMES), "there are 3 rows and 2 labels"),
    (lambda: recorded.mosaic(torch.zeros(4, 2, 2), 0), "columns must be a whole number of at least 1; it is 0"),
    (lambda: recorded.steps_to([(1, 2.0)], 0), "distance must be above 0; it is 0"),
    (lambda: costs.sampling_passes(0), "steps must be a whole number of at least 1; it is 0"),
    (lambda: costs.shift_share(0, 0.3), "shift must be above 0, .* they are 0 and 0.3"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
