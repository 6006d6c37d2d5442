"""Knowledge moved without its data: what each loss is least for, and what the teacher must not notice."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from effattn_core.splits import writers
from effattn_core.splits.transfer import (
    Reader,
    adapt,
    batchnorm_loss,
    entropy,
    generator_loss,
    information,
    pseudo_labels,
    taught,
)


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_information_is_0_where_all_rows_are_alike_and_least_where_they_are_sure_and_balanced(classes):
    sure = torch.eye(classes, dtype=torch.float64)
    uniform = torch.full((8, classes), 1 / classes, dtype=torch.float64)
    assert abs(information(uniform).item()) < 1e-12
    assert abs(information(sure[:1].expand(8, -1)).item()) < 1e-12
    assert information(sure.repeat(3, 1)).item() == pytest.approx(-math.log(classes), abs=1e-12)


def test_without_diversity_a_collapsed_answer_is_as_good_as_any_can_be():
    sure = torch.eye(4, dtype=torch.float64)
    assert information(sure[:1].expand(8, -1), diverse=False).item() == 0
    assert information(sure, diverse=False).item() == 0


@given(some.integers(0, 1000), some.integers(2, 6), some.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_information_lies_between_minus_log_of_the_classes_and_0(seed, classes, count):
    generator = torch.Generator().manual_seed(seed)
    probability = (4 * torch.randn(count, classes, dtype=torch.float64, generator=generator)).softmax(1)
    assert -math.log(classes) - 1e-12 <= information(probability).item() <= 1e-12
    order = torch.randperm(classes, generator=generator)
    assert information(probability[:, order]).item() == pytest.approx(information(probability).item(), abs=1e-12)


def test_predictions_without_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"shape \(4,\); \[batch, classes\] is wanted"):
        information(torch.full((4,), 0.25))
    with pytest.raises(ValueError, match="2 features were given for 3 predictions"):
        pseudo_labels(torch.ones(2, 4), torch.ones(3, 2))


def test_a_batch_with_the_running_statistics_has_no_loss_and_the_unbiased_variance_has_some():
    inputs = torch.randn(9, 5, dtype=torch.float64)
    own = inputs.mean(0), inputs.var(0, correction=0)
    assert batchnorm_loss([inputs], [own[0]], [own[1]]).item() == 0
    assert batchnorm_loss([inputs], [own[0]], [inputs.var(0)]).item() > 1e-3
    moved = batchnorm_loss([inputs + 2.0], [own[0]], [own[1]]).item()
    assert moved == pytest.approx(5 * 4.0)  # five means, each off by 2; no variance has changed
    twice = batchnorm_loss([inputs, inputs], [own[0], own[0] + 1], [own[1], own[1]]).item()
    assert twice == pytest.approx(5.0)


def test_what_enters_is_what_batchnorm_normalises():
    model = Reader().double().train()
    images = torch.rand(20, 64, dtype=torch.float64)
    for norm in model.norms:
        norm.momentum = 1.0
    model(images)
    model.eval()
    unbiased = [norm.running_var * 19 / 20 for norm in model.norms]
    with torch.no_grad():
        first = model.entering(images)[0]
    torch.testing.assert_close(first.mean(0), model.norms[0].running_mean)
    torch.testing.assert_close(first.var(0, correction=0), unbiased[0])


def test_a_teacher_in_training_mode_is_refused_and_one_that_is_asked_does_not_change():
    torch.manual_seed(0)
    model, pupil = Reader(), Reader((64, 16), normed=False)
    optimizer = torch.optim.SGD(pupil.parameters(), lr=0.1)
    images = torch.rand(8, 64)
    for ask in (model.statistics_loss, lambda given: taught(pupil, model, given, optimizer=optimizer)):
        with pytest.raises(ValueError, match="running statistics; call eval"):
            ask(images)
    model.eval()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    model.statistics_loss(images)
    losses = [taught(pupil, model, images, optimizer=optimizer) for _ in range(60)]
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters()) and losses[-1] < 0.5 * losses[0]


def test_the_generators_loss_is_its_three_terms():
    output, features = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    probability = output.softmax(1)
    sure = -probability.max(1).values.log().mean()
    mean = probability.mean(0)
    wanted = sure - 0.1 * features.abs().mean() + 5 * (mean * mean.log()).sum()
    torch.testing.assert_close(generator_loss(output, features), wanted)
    collapsed = torch.tensor([[9.0, 0, 0, 0]], dtype=torch.float64).expand(4, -1)
    spread = 9 * torch.eye(4, dtype=torch.float64)
    none = torch.zeros(4, 3, dtype=torch.float64)
    assert generator_loss(collapsed, none, beta=0.0) == pytest.approx(generator_loss(spread, none, beta=0.0))
    assert generator_loss(spread, none) < generator_loss(collapsed, none) - 5


def test_pseudo_labels_correct_a_head_that_is_unsure_of_clear_groups():
    torch.manual_seed(0)
    truth = torch.arange(90) % 3
    features = 3 * torch.eye(3)[truth] + 0.3 * torch.randn(90, 3)
    output = torch.eye(3)[truth] + 0.8 * torch.randn(90, 3)
    assert (output.argmax(1) == truth).float().mean() < 0.85
    assert (pseudo_labels(features, output.softmax(1)) == truth).all()
    assert set(pseudo_labels(features[truth < 2], output[truth < 2].softmax(1)).tolist()) <= {0, 1, 2}


def test_adapting_moves_all_but_the_head():
    torch.manual_seed(0)
    model = Reader().eval()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    adapt(model, torch.rand(65, 64), epochs=1, rate=0.01, seed=0, pseudo=0.3)
    changed = {name for name, each in model.state_dict().items() if not torch.equal(each, before[name])}
    assert not any(name.startswith("head") for name in changed) and any(name.startswith("layers.0") for name in changed)
    assert not model.training


def test_entropy_of_a_sure_row_is_0_not_nan():
    assert entropy(torch.tensor([1.0, 0.0])).item() == 0
    assert entropy(torch.tensor([0.5, 0.5])).item() == pytest.approx(math.log(2))


def test_both_collections_have_one_form():
    images, labels, test_images, test_labels = writers.source()
    other, other_labels = writers.target()
    for each in (images, test_images, other, writers.padded()):
        assert each.shape[1] == 64 and each.min() >= 0 and each.max() <= 1
    assert (len(labels), len(test_labels), len(other_labels)) == (4000, 1000, 1797)
    for rows, least, most in ((images, 0.95, 1.0), (writers.padded(), 0.0, 0.2)):  # cropped: ink reaches the top
        reached = (rows.view(-1, 8, 8)[:, 0].sum(1) > 0.2).double().mean()
        assert least <= reached <= most


def test_new_statistics_are_those_of_the_images_layer_by_layer():
    torch.manual_seed(0)
    model, images = Reader().eval(), torch.rand(50, 64)
    with torch.no_grad():
        found = writers.renormalised(model, images)
        assert batchnorm_loss(
            found.entering(images),
            [norm.running_mean for norm in found.norms],
            [norm.running_var * 49 / 50 for norm in found.norms],
        ).item() == pytest.approx(0, abs=1e-8)
    assert isinstance(model.norms[0], nn.BatchNorm1d) and (model.norms[0].running_mean == 0).all()


def test_inverted_images_are_trained_towards_the_wanted_class_and_matched():
    torch.manual_seed(0)
    model = Reader().eval()
    plain, wanted = writers.inverted(model, seed=0, count=20, steps=200)
    matched, _ = writers.inverted(model, seed=0, count=20, steps=200, matching=1.0)
    with torch.no_grad():
        assert (model(plain).argmax(1) == wanted).double().mean() > 0.8
        assert model.statistics_loss(matched) < model.statistics_loss(plain)
