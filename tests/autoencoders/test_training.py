"""Teachers, downsamplers, tokenisers with targets, probes and generators: what each promises, on few digits."""

import functools

import pytest
import torch
from torch.nn import functional

from effattn_core.autoencoders import autoencoder, plane, probes, recorded, teacher
from effattn_core.autoencoders.blocks import Attention, Block
from effattn_core.autoencoders.flow import ChannelScale
from effattn_core.autoencoders.generator import FlowModel, generate, train_flow
from effattn_core.latents.digits import Digits, data_of_digits
from effattn_core.latents.tokenisers import Tokeniser


@functools.cache
def few(count=200):
    found = data_of_digits()
    return Digits(*(each[:count] for each in (found.images, found.labels, found.held_images, found.held_labels)))


def test_windows_hold_neighbours_and_go_back():
    grid = torch.arange(16.0).view(1, 16, 1)
    assert teacher.windows(grid, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    hidden = torch.randn(3, 36, 5)
    for side in (1, 2, 3, 6):
        assert torch.equal(teacher.from_windows(teacher.windows(hidden, side), side), hidden)
    for tokens, side in ((16, 3), (15, 1)):
        with pytest.raises(ValueError, match=f"must fill a square grid; there are {tokens} tokens"):
            teacher.windows(torch.ones(1, tokens, 2), side)


def test_a_teacher_learns_and_its_targets_bring_back_more_of_it_than_at_the_start():
    digits = few()
    judge = teacher.train_teacher(digits, steps=40, batch=32)
    named = (judge(digits.images).argmax(1) == digits.labels).double().mean().item()
    features = teacher.features_of(judge, digits.images)
    assert named > 0.5 and features.shape == (200, 16, teacher.WIDTH)
    assert torch.allclose(features.square().mean(-1), torch.ones(200, 16), atol=1e-3)
    down, losses = teacher.train_downsampler(features, steps=40, batch=32)
    targets = teacher.targets_of(down, features)
    assert targets.shape == (200, 16, 8) and not targets.requires_grad
    assert torch.allclose(targets.square().mean(-1), torch.ones(200, 16), atol=1e-3)
    print(f"2 - 2 cos {losses[0]:.2f} to {losses[-1]:.2f}")
    assert abs(losses[0] - 2) < 0.4 and losses[-1] < 0.7 * losses[0]
    pooled = teacher.features_of(judge, digits.images, pooled=True)
    assert pooled.shape == (200, 1, teacher.WIDTH)


def test_a_target_seen_through_windows_reaches_its_own_window_of_the_grid():
    torch.manual_seed(0)
    down = teacher.Downsampler(window=2)
    features = torch.randn(1, 16, teacher.WIDTH)
    down.attention = torch.nn.Identity()  # attention reaches all tokens; without it a window is all that a target sees
    changed = features.clone()
    changed[:, 0] += 1
    moved = (down(features) - down(changed)).abs().amax(-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("kind", ["vae", "sigma", "fixed", "rms"])
def test_without_a_target_the_losses_are_those_of_the_tokeniser(kind):
    torch.manual_seed(0)
    model, images = Tokeniser(kind), few().images[:8]
    first = model.losses(images, torch.Generator().manual_seed(3))
    found = autoencoder.losses_with_target(model, images, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first[0], found[0]) and torch.equal(first[1], found[1]) and found[2] == 0


def test_the_semantic_loss_asks_the_mean_and_not_its_noise():
    torch.manual_seed(0)
    model, images = autoencoder.geometric(spread=5.0), few().images[:8]
    mean = model.encode(images).mean.detach()
    *_, semantic = autoencoder.losses_with_target(model, images, mean, weight=3.0)
    assert semantic.item() < 1e-6
    *_, half = autoencoder.losses_with_target(model, images, torch.roll(mean, 1, 0), weight=1.0)
    *_, whole = autoencoder.losses_with_target(model, images, torch.roll(mean, 1, 0), weight=2.0)
    assert abs(whole.item() / half.item() - 2) < 1e-5 and half > 0.01
    assert all(weight.grad is None for weight in model.decoder.parameters())


def test_training_turns_latents_to_their_targets():
    digits = few()
    torch.manual_seed(0)
    targets = torch.randn(200, 16, 8)[digits.labels]  # a direction per class and place
    found = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        model = autoencoder.geometric(width=32)
        losses = autoencoder.train_autoencoder(model, digits.images, targets, weight=weight, steps=60, batch=64)
        means = autoencoder.means_of(model, digits.images)
        assert torch.allclose(means.square().mean(-1), torch.ones(200, 16), atol=1e-2) and losses[-1] < losses[0]
        found[weight] = autoencoder.agreement(means, targets)
    print(f"mean cosine {found}")
    assert abs(found[0.0]) < 0.2 and found[1.0] > found[0.0] + 0.3
    with pytest.raises(ValueError, match="weight of the semantic loss must be at least 0; it is -1"):
        autoencoder.train_autoencoder(model, digits.images, targets, weight=-1)


def test_a_probe_reads_what_a_line_can_read_and_no_more():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(600, 2, generator=generator)
    line, ring = (rows @ torch.tensor([1.0, -2.0]) > 0).long(), (rows.norm(dim=1) > 1.18).long()
    assert probes.probe(rows[:400], line[:400], rows[400:], line[400:], classes=2) > 0.95
    assert probes.probe(rows[:400], ring[:400], rows[400:], ring[400:], classes=2) < 0.7
    noisy = rows + 0.5 * torch.randn(600, 2, generator=generator)
    both = [
        probes.probe(scale * noisy[:400] + 3, line[:400], scale * noisy[400:] + 3, line[400:]) for scale in (1e-4, 1)
    ]
    assert both[0] == both[1]  # latents are read at their own scale: the ridge is the same for small ones
    assert torch.equal(probes.pooled(torch.ones(2, 3, 4)), torch.ones(2, 4))


def test_plain_blocks_see_all_tokens_and_modulated_ones_start_as_the_identity():
    torch.manual_seed(0)
    hidden, condition = torch.randn(2, 5, 16), torch.randn(2, 16)
    assert torch.equal(Block(16, 2, 32, modulated=True)(hidden, condition), hidden)
    plain, changed = Block(16, 2, 32), hidden.clone()
    changed[:, 4] += 1
    assert ((plain(hidden) - plain(changed)).abs().amax(-1) > 0).all()
    with pytest.raises(ValueError, match="heads must divide the width of 16; they are 3"):
        Attention(16, 3)


def test_attention_is_that_of_its_definition():
    torch.manual_seed(0)
    layer, hidden = Attention(12, 3).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    query, key, value = (each.unflatten(-1, (3, 4)).transpose(1, 2) for each in layer.read(hidden).chunk(3, -1))
    query, key = (each / (each.square().mean(-1, keepdim=True) + 1e-6).sqrt() for each in (query, key))
    mixed = (query @ key.mT / 2).softmax(-1) @ value
    assert torch.allclose(layer(hidden), mixed.transpose(1, 2).flatten(2) @ layer.write.weight.mT, atol=1e-12)


def test_a_generator_starts_at_no_velocity_learns_and_is_the_same_from_the_same_seed():
    torch.manual_seed(0)
    latents = functional.one_hot(torch.arange(40) % 10, 16).float()[:, :, None].expand(-1, -1, 4) + 0.1 * torch.randn(
        40, 16, 4
    )
    labels, seen = torch.arange(40) % 10, []
    scaled = ChannelScale.of(latents).scaled(latents)

    def trained(watch=None):
        torch.manual_seed(1)
        model = FlowModel(16, 4, width=32, layers=1, heads=2, inner=48)
        assert model(scaled, torch.rand(40), labels).abs().max() == 0
        return model, train_flow(model, scaled, labels, steps=40, batch=20, rate=3e-3, warmup=5, watch=watch)

    model, losses = trained(lambda step, now: seen.append((step, now.output.weight.clone())))
    again, others = trained()
    assert losses == others and sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert len(seen) == 40 and torch.equal(seen[-1][1], model.output.weight)  # it is watched as it will end: averaged
    for sampler in ("euler", "heun", "random"):
        settings = dict(sampler=sampler, steps=6, weight=1.5, start=0.3)
        drawn = [
            generate(each, labels, (16, 4), generator=torch.Generator().manual_seed(2), **settings)
            for each in (model, again)
        ]
        assert torch.equal(*drawn) and drawn[0].shape == (40, 16, 4) and drawn[0].isfinite().all()


def test_latents_of_the_plane_lie_on_a_circle_where_their_length_is_one():
    digits = few()
    targets = plane.plane_targets(teacher.train_teacher(digits, steps=30, batch=64), digits.images, steps=20)
    assert targets.shape == (200, 1, 2)
    for objective, (settings, _) in plane.OBJECTIVES.items():
        model = plane.plane_tokeniser(objective, digits, targets, steps=3)
        length = plane.points(model, digits.images).norm(dim=1)
        on_circle = bool((length - 2**0.5).abs().max() < 0.05)
        assert on_circle == (settings["kind"] == "rms"), objective
    angles, images = plane.around(model, digits.images)
    assert len(angles) == plane.ANGLES and images.shape == (plane.ANGLES, 1, 28, 28)


def test_images_are_kept_as_text_and_steps_to_a_distance_lie_between_the_points_of_a_curve():
    images = torch.rand(6, 1, 28, 28) * 2 - 1
    back = recorded.unpacked(recorded.packed(images))
    assert (back.float() / 127.5 - 1 - images[:, 0]).abs().max() < 1 / 127
    tiled = recorded.mosaic(back, 3)
    assert tiled.shape == (56, 84) and torch.equal(tiled[28:, 28:56], back[4])
    with pytest.raises(ValueError, match="6 images do not fill rows of 4"):
        recorded.mosaic(back, 4)
    curve = [(100, 80.0), (200, 40.0), (400, 10.0)]
    assert recorded.steps_to(curve, 40) == 200 and recorded.steps_to(curve, 90) == 100
    assert abs(recorded.steps_to(curve, 20) - 200 * 2**0.5) < 1e-9 and recorded.steps_to(curve, 5) is None
