"""Clusters by attention: rows sum to 1, clusters may be renamed, and the adversary's move does what it says."""

import pytest
import torch
from torch.nn.functional import normalize

from effattn_core.signals import clusters as c


def world(seed=0, texts=12, length=6, dim=5, count=4):
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    mask = torch.arange(length) < torch.randint(1, length + 1, (texts, 1), generator=generator)
    words = normalize(drawn(texts, length, dim), dim=-1) * mask[..., None]
    others = torch.randint(texts, (texts, 5), generator=generator)
    return (words, mask, drawn(texts, length).abs()), normalize(drawn(count, dim), dim=1), others


def test_each_row_of_attention_sums_to_one_over_words_and_is_zero_at_padding():
    (words, mask, rarity), clusters, _ = world()
    weights, read = c.attend(words, mask, rarity, clusters)
    torch.testing.assert_close(weights.sum(-1), torch.ones(12, 4, dtype=torch.float64))
    assert (weights.masked_select(~mask[:, None].expand_as(weights)) == 0).all()
    bias = (c.RARE * rarity).masked_fill(~mask, -torch.inf)[:, None].expand(-1, 4, -1)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        clusters.expand(12, -1, -1), words, words, attn_mask=bias, scale=c.SHARP
    )
    torch.testing.assert_close(read, normalize(wanted, dim=-1))
    mask = mask.clone()
    mask[3] = False
    with pytest.raises(ValueError, match="text 3 has no word"):
        c.attend(words, mask, rarity, clusters)


def test_renaming_clusters_renames_memberships_and_nothing_else():
    given, clusters, others = world(1)
    order = torch.tensor([2, 0, 3, 1])
    share, text, rebuilt = c.memberships(*given, clusters)
    renamed = c.memberships(*given, clusters[order])
    for one, other in zip((share[:, order], text, rebuilt), renamed, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(c.loss_of(*given, clusters, others), c.loss_of(*given, clusters[order], others))


def test_the_adversarys_rise_tends_to_its_size_times_the_gradient_and_no_random_move_is_as_good():
    given, clusters, others = world(2)

    def loss(each):
        return c.loss_of(*given, each, others)

    start = clusters.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(start), start)
    slope, found = gradient.norm(dim=1).sum(), []
    for size in (1e-1, 1e-2, 1e-3):
        move = c.perturbation(loss, clusters, size)
        torch.testing.assert_close(move.norm(dim=1), torch.full((4,), size, dtype=torch.float64))
        found.append(((loss(clusters + move) - loss(clusters)) / (size * slope)).item())
    assert abs(found[2] - 1) < 0.01 and abs(found[2] - 1) < abs(found[0] - 1)
    generator = torch.Generator().manual_seed(0)
    blind = [loss(clusters + c.random_move(clusters, 1e-3, generator)) - loss(clusters) for _ in range(200)]
    assert max(blind) / (1e-3 * slope) < 0.95


def test_without_a_move_the_adversary_only_scales_the_loss():
    given, clusters, others = world(3)

    def loss(each):
        return c.loss_of(*given, each, others)

    for share in (0.0, 0.5, 2.0):
        torch.testing.assert_close(c.against_adversary(loss, clusters, 0.0, share), (1 + share) * loss(clusters))
    assert c.against_adversary(loss, clusters, 0.1) > 2 * loss(clusters)


@pytest.mark.parametrize("how", [{}, {"size": 0.3}, {"size": 0.3, "blind": True}])
def test_training_lowers_the_loss(how):
    given, clusters, others = world(4, texts=60)
    found = c.trained(*given, clusters, steps=40, batch=60, **how)
    assert c.loss_of(*given, found, others) < c.loss_of(*given, clusters, others)
