"""A YOCO with one index: it decodes as it reads, reads everything as a YOCO does, and its two stages teach."""

import math

import pytest
import torch

from effattn_core import bill
from effattn_core.attention import attention
from effattn_core.indexing import choose_rows, hide_future, scores_oracle
from effattn_core.indexing import costs as prices
from effattn_core.indexing.model import IndexedYOCO, IndexerAlone, Jointly, LightningIndexer, distillation
from effattn_core.indexing.neighbours import (
    CHOICES,
    LayerIndexers,
    agreeing_layers,
    choices,
    coverage,
    nsa,
    observed,
    trained_indexer,
    unmasked_scores,
)
from effattn_core.model import Configuration

SIZES = Configuration(20, width=32, layers=5, cross_layers=3, heads=4, key_value_heads=2, head_dim=8, feed_forward=32,
                      window=6, context=64)  # fmt: skip


def small(top_k=None, seed=0):
    torch.manual_seed(seed)
    model = IndexedYOCO(SIZES, top_k=top_k, index_heads=3, index_dim=8).double()
    for block in model.cross_blocks:
        torch.nn.init.normal_(block.mixer.query.weight, std=2.0)  # so that layers attend to something
    return model, torch.randint(20, (2, 41))


@pytest.mark.parametrize("top_k", [None, 5, 12, 100])
def test_decoding_by_a_gather_is_the_whole_text_under_a_mask(top_k):
    model, tokens = small(top_k)
    whole = model(tokens)[0]
    with torch.no_grad():
        logits, states = model.prefill(tokens[:, :30], chunk=11)
        torch.testing.assert_close(logits, whole[:, 29:30], rtol=0, atol=1e-12)
        for place in range(30, 41):
            logits, states = model(tokens[:, place : place + 1], states)
            torch.testing.assert_close(logits, whole[:, place : place + 1], rtol=0, atol=1e-12)
    assert states[-1].index.shape == (2, 1, 41, 8) and states[-1].nbytes == 2 * 64 * 8 * (2 * 2 * 8 + 8)


def test_reading_everything_is_a_yoco_and_the_future_changes_nothing():
    model, tokens = small()
    dense = model(tokens)[0]
    model.top_k = 41
    torch.testing.assert_close(model(tokens)[0], dense, rtol=0, atol=1e-12)
    model.top_k = 4
    changed = tokens.clone()
    changed[:, 25:] = (changed[:, 25:] + 1) % 20
    torch.testing.assert_close(model(changed)[0][:, :25], model(tokens)[0][:, :25], rtol=0, atol=0)
    assert (model(tokens)[0] - dense).abs().max() > 1e-3


def test_the_indexer_scores_as_a_loop_over_heads_does():
    model, tokens = small()
    hidden = torch.randn(1, 9, 32, dtype=torch.float64)
    scores = model.indexer(hidden)
    query, weight = model.indexer.ask(hidden)
    key = model.indexer.keys(hidden)
    for t in range(9):
        for s in range(9):
            each = sum(weight[0, h, t] * max(0.0, (query[0, h, t] @ key[0, 0, s]).item()) for h in range(3))
            wanted = -math.inf if s > t else each.item() / math.sqrt(3) / math.sqrt(8)
            assert scores[0, t, s].item() == pytest.approx(wanted, abs=1e-12)
    later = model.indexer.keys(hidden[:, 4:], first=4)
    torch.testing.assert_close(later, key[:, :, 4:])
    with pytest.raises(ValueError, match="must be a multiple of 4; it is 10"):
        LightningIndexer(8, 2, 10)


def test_the_mean_of_divergences_and_the_divergence_of_the_mean_have_one_gradient():
    weights = torch.randn(5, 2, 7, 7, dtype=torch.float64).mul(3).softmax(-1)
    scores = torch.randn(2, 7, 7, dtype=torch.float64, requires_grad=True)
    each = torch.stack([distillation(layer, scores) for layer in weights]).mean()
    mean = distillation(weights.mean(0), scores)
    left, right = (torch.autograd.grad(loss, scores, retain_graph=True)[0] for loss in (each, mean))
    torch.testing.assert_close(left, right, rtol=0, atol=1e-15)
    torch.testing.assert_close(left, (scores.softmax(-1) - weights.mean(0)) / 14, rtol=0, atol=1e-15)
    assert each > mean  # they differ by how much the layers disagree


def test_a_divergence_on_chosen_rows_renormalises_both_sides():
    teacher, scores = torch.randn(3, 9).softmax(-1), torch.randn(3, 9)
    seen = torch.zeros(3, 9, dtype=torch.bool)
    seen[:, [1, 4, 7]] = True
    part = teacher[:, [1, 4, 7]] / teacher[:, [1, 4, 7]].sum(-1, keepdim=True)
    wanted = (part * (part.log() - scores[:, [1, 4, 7]].log_softmax(-1))).sum(-1).mean()
    torch.testing.assert_close(distillation(teacher, scores, seen), wanted)
    assert distillation(teacher, teacher.log()).abs() < 1e-6


def test_the_first_stage_moves_the_indexer_alone_and_the_second_lets_no_loss_cross():
    model, tokens = small()
    alone = IndexerAlone(model)
    assert {id(each) for each in alone.parameters()} == {id(each) for each in model.indexer.parameters()}
    alone.loss(tokens, None).backward()
    assert all((each.grad is None) == (not name.startswith("indexer")) for name, each in model.named_parameters())
    model.zero_grad(set_to_none=True)
    model.top_k = 6
    Jointly(model).loss(tokens, tokens.roll(-1, 1)).backward()
    joint = {name: each.grad.clone() for name, each in model.named_parameters()}
    assert all(joint[name].abs().sum() > 0 for name in joint if name.startswith("indexer"))
    # The language model's own loss gives the rest of the model the same gradient, and the indexer none.
    model.zero_grad(set_to_none=True)
    model.loss(tokens, tokens.roll(-1, 1)).backward()
    for name, each in model.named_parameters():
        if name.startswith("indexer"):
            assert each.grad is None or not each.grad.any()
        else:
            torch.testing.assert_close(joint[name], each.grad, rtol=0, atol=1e-12)


def test_the_indexer_learns_where_layers_attend():
    found = agreeing_layers(1.0, tokens=96, layers=3, seed=1)
    indexer, loss = trained_indexer(found, steps=60)
    with torch.no_grad():
        scores = unmasked_scores(indexer, found.hidden)
    rows = choices(found.weights, scores, 12, torch.Generator().manual_seed(0))
    caught = {name: coverage(found.weights, row).mean().item() for name, row in rows.items()}
    assert list(caught) == list(CHOICES)
    assert caught["per layer"] == pytest.approx(caught["shared oracle"], abs=1e-6)  # layers that agree
    assert caught["per layer"] >= caught["trained shared"] > 0.6 > 3 * caught["random"]


def test_coverage_counts_each_layer_and_sharing_never_beats_choosing_alone():
    weights = torch.tensor([[[[0.7, 0.2, 0.1]]], [[[0.0, 0.1, 0.9]]]])
    assert coverage(weights, torch.tensor([[[0, 2]]])).tolist() == pytest.approx([0.8, 0.9])
    assert coverage(weights, torch.tensor([[[1, -1]]])).tolist() == pytest.approx([0.2, 0.1])
    assert coverage(weights, torch.tensor([[[[0]]], [[[2]]]])).tolist() == pytest.approx([0.7, 0.9])
    for agreement in (0.0, 0.5):
        found = agreeing_layers(agreement, tokens=64, layers=4)
        rows = choices(found.weights, torch.randn(1, 64, 64), 8, torch.Generator().manual_seed(0))
        caught = {name: coverage(found.weights, row).mean() for name, row in rows.items()}
        assert caught["per layer"] > caught["shared oracle"] > caught["random"]


def test_an_index_a_layer_scores_with_each_layers_query_and_the_self_decoders_keys():
    model, tokens = small()
    each = LayerIndexers(model, index_heads=2, index_dim=8).double()
    weights, before = observed(model, tokens)
    scores = each.scores(before)
    assert scores.shape == weights.shape == (3, 2, 41, 41)
    query, weight = each.indexers[2].ask(before[2])
    torch.testing.assert_close(scores[2], hide_future(scores_oracle(query, each.indexers[2].keys(before[0]), weight)))
    loss = each.loss(tokens, None)
    loss.backward()
    assert all(weight.grad is not None for weight in each.parameters())
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 41, dtype=torch.float64))


def test_nsa_with_every_block_is_dense_attention_and_sees_no_future():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 30, 8, dtype=torch.float64, generator=generator)
    key, value = torch.randn(2, 1, 2, 30, 8, dtype=torch.float64, generator=generator)
    gates = torch.zeros(1, 4, 30, 3, dtype=torch.float64)
    chosen, near, coarse = gates.clone(), gates.clone(), gates.clone()
    chosen[..., 1], near[..., 2], coarse[..., 0] = 1, 1, 1
    call = dict(block_size=4, blocks=8, window=7)
    torch.testing.assert_close(nsa(query, key, value, chosen, **call), attention(query, key, value))
    torch.testing.assert_close(nsa(query, key, value, near, **call), attention(query, key, value, window=7))
    first = nsa(query, key, value, coarse, **call)
    assert not first[:, :, :3].any()  # no whole block yet
    torch.testing.assert_close(first[:, :2, 3:7], value[:, :1, :4].mean(2, keepdim=True).expand(1, 2, 4, 8))
    mixed = gates + 0.5
    few = dict(block_size=4, blocks=2, window=5)
    changed_key, changed_value = key.clone(), value.clone()
    changed_key[:, :, 20:], changed_value[:, :, 20:] = 9.0, -9.0
    before, after = (nsa(query, k, v, mixed, **few) for k, v in ((key, value), (changed_key, changed_value)))
    torch.testing.assert_close(before[:, :, :20], after[:, :, :20], rtol=0, atol=0)
    assert (nsa(query, key, value, chosen, **few) - attention(query, key, value)).abs().max() > 1e-3


def test_the_published_sizes_divide_into_what_yoco_saves_and_what_the_index_saves():
    transformer, yoco, indexed = (each / 2**20 for each in prices.published(131072))
    assert (transformer, yoco, indexed) == (8192, 16 + 4096, 16 + 16.5 + 64)
    assert prices.published(131072, gathered=True) == (8192 * 2**20, 4112 * 2**20, 100.5 * 2**20)
    assert prices.published(256)[0] == 2 * 16 * 256 * prices.row_bytes(4, 128) == prices.published(256)[1]


def test_costs_follow_from_their_formulas():
    dense = prices.step(131072, 16, 8, 128, top_k=None)
    ours = prices.step(131072, 16, 8, 128)
    assert dense.total == 16 * 131072 * 2 * 8 * 128 * 2 and ours.rows == 16 * 2048 * 2 * 8 * 128 * 2
    assert ours.index == 131072 * (128 + 4)
    each = prices.step(131072, 16, 8, 128, shared=False)
    assert each.index == 16 * ours.index and each.rows == ours.rows
    assert prices.step(1000, 16, 8, 128).rows == prices.step(1000, 16, 8, 128, top_k=None).rows  # top_k past the end
    moved = {new.key: new.value - old.value for old, new in bill.moved("indexing")}
    assert moved == {"cache": ours.index, "decode": ours.total - dense.total}
    assert choose_rows(torch.zeros(1, 1, 3), 2).tolist() == [[[1, 2]]]
