"""Optimizers that smooth their step: around any optimizer, exactly the formula, and no state of their own."""

import copy
import io
import pickle

import pytest
import torch

from effattn_core.graphs import AdamWSEvo, RowwiseAdamW, Smoothed, exact, normalised, oracle, smooth
from effattn_core.graphs.worlds import world
from effattn_core.lowbit import SOLOAdamW

OPTIMIZERS = {
    "SGD": (torch.optim.SGD, dict(lr=0.1)),
    "SGD, momentum and L2": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
    "Adam, L2": (torch.optim.Adam, dict(lr=0.01, weight_decay=0.1)),
    "AdamW": (torch.optim.AdamW, dict(lr=0.01, weight_decay=0.1)),
    "AdamW, amsgrad, foreach": (torch.optim.AdamW, dict(lr=0.01, amsgrad=True, foreach=True)),
    "NAdam": (torch.optim.NAdam, dict(lr=0.01, weight_decay=0.1, decoupled_weight_decay=True)),
    "RMSprop": (torch.optim.RMSprop, dict(lr=0.01)),
    "Adagrad": (torch.optim.Adagrad, dict(lr=0.1)),
    "Adafactor": (torch.optim.Adafactor, dict(lr=0.01)),
    "RowwiseAdamW": (RowwiseAdamW, dict(lr=0.01, weight_decay=0.1)),
}
LOW_BIT = "SOLO 4/2"  # steps in float32
ADJACENCY = world("karate").adjacency


def made(nodes=ADJACENCY.nodes, dim=3, seed=0, dtype=torch.float64):
    start = torch.randn(nodes, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.nn.Parameter(start)


def gradient(table, number):
    """The gradient of a batch that has some of the rows."""
    generator = torch.Generator().manual_seed(number)
    found = torch.randn(table.shape, generator=generator, dtype=table.dtype)
    found[torch.rand(len(table), generator=generator) < 0.5] = 0
    return found


def stepped(optimizer, tables, steps, start=0):
    for number in range(start, start + steps):
        for place, each in enumerate(tables):
            each.grad = gradient(each, 100 * number + place)
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_optimizer_s_own_smoothed_and_decay_stays_apart(name):
    kind, settings = OPTIMIZERS[name]
    ours, theirs = made(), made()
    optimizer, plain = Smoothed(kind([ours], **settings), ours, ADJACENCY, beta=0.9), kind([theirs], **settings)
    for number in range(4):
        before = ours.detach().clone()
        theirs.data.copy_(ours)  # so that both stand at the same place, with the same gradient
        ours.grad = theirs.grad = gradient(ours, number)
        optimizer.step()
        plain.step()
        group = plain.param_groups[0]
        apart = group["lr"] * group["weight_decay"] if group.get("decoupled_weight_decay") else 0
        step = before * (1 - apart) - theirs.detach()
        wanted = before * (1 - apart) - oracle(step, ADJACENCY, 0.9, 3)
        torch.testing.assert_close(ours.detach(), wanted, atol=1e-12, rtol=0)
        assert (ours - theirs).abs().max() > 1e-4


def test_a_low_bit_optimizer_is_smoothed_like_any_other():
    """Its states are those of its own gradients, its decay stays apart, and what is smoothed is what it would move."""
    ours, theirs = made(dtype=torch.float32), made(dtype=torch.float32)
    settings = dict(lr=0.01, weight_decay=0.1, least=0)
    optimizer, plain = (
        Smoothed(SOLOAdamW([ours], **settings), ours, ADJACENCY, beta=0.9),
        SOLOAdamW([theirs], **settings),
    )
    for number in range(5):
        before = ours.detach().clone()
        theirs.data.copy_(ours)
        ours.grad = theirs.grad = gradient(ours, number)
        optimizer.step()
        plain.step()
        step = before * (1 - 0.001) - theirs.detach()
        wanted = before * (1 - 0.001) - oracle(step, ADJACENCY, 0.9, 3).float()
        torch.testing.assert_close(ours.detach(), wanted, atol=1e-6, rtol=0)
        for name, kept in plain.state[theirs].items():
            assert torch.equal(torch.as_tensor(kept), torch.as_tensor(optimizer.state[ours][name])), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_beta_or_without_hops_it_is_the_optimizer(name):
    kind, settings = OPTIMIZERS[name]
    for smoothing in (dict(beta=0.0), dict(layers=0)):
        ours, theirs = made(), made()
        stepped(Smoothed(kind([ours], **settings), ours, ADJACENCY, **smoothing), [ours], 5)
        stepped(kind([theirs], **settings), [theirs], 5)
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_decay_can_be_said_to_be_decoupled_or_be_smoothed():
    for apart in (True, False):
        table = made()
        start = table.detach().clone()
        inner = torch.optim.AdamW([table], lr=0.1, weight_decay=0.5)
        table.grad = torch.zeros_like(table)  # so that decay alone moves it
        Smoothed(inner, table, ADJACENCY, beta=0.9, decay_apart=apart).step()
        moved = start - table.detach()
        torch.testing.assert_close(moved, 0.05 * (start if apart else smooth(start, ADJACENCY, beta=0.9)))


def test_two_tables_are_one_graph_and_other_parameters_are_stepped_as_ever():
    found = world("davis")
    women, events, bias = made(18), made(14, seed=1), torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    whole, alone = made(32), torch.nn.Parameter(bias.detach().clone())
    whole.data.copy_(torch.cat([women, events]).detach())
    apart = AdamWSEvo([women, events], found.adjacency, others=[bias], lr=0.01, beta=0.7)
    joined, plain = AdamWSEvo(whole, found.adjacency, lr=0.01, beta=0.7), torch.optim.AdamW([alone], 0.01)
    plain.param_groups[0]["weight_decay"] = 0.1
    for number in range(5):
        whole.grad = gradient(whole, number)
        women.grad, events.grad = whole.grad.split([18, 14])
        bias.grad = torch.full_like(bias, 0.3 * number - 0.5)
        bias.grad[1] = 0  # a row, but not one to be corrected
        alone.grad = bias.grad.clone()
        for optimizer in (apart, joined, plain):
            optimizer.step()
    torch.testing.assert_close(torch.cat([women, events]), whole)
    torch.testing.assert_close(bias, alone)


def test_a_table_without_a_gradient_takes_its_neighbours_steps_and_none_is_stepped_where_all_are_without():
    found = world("davis")
    women, events = made(18), made(14, seed=1)
    kept = [each.detach().clone() for each in (women, events)]
    optimizer = AdamWSEvo([women, events], found.adjacency, lr=0.01)
    optimizer.step()
    assert all(torch.equal(each, old) for each, old in zip((women, events), kept, strict=True))
    women.grad = torch.ones_like(women)
    optimizer.step()
    step = torch.cat([torch.ones(18, 3), torch.zeros(14, 3)]).double() / (1 + 1e-8)
    moved = torch.cat([kept[0] * (1 - 0.001), kept[1]]) - torch.cat([women, events]).detach()
    torch.testing.assert_close(moved, 0.01 * smooth(step, found.adjacency))


def reference(table, gradients, adjacency, lr, betas, eps, decay, beta, layers, corrected):
    """The released loop, row by row, in its own words: moments, correction, ψ, decay first."""
    mean, square, found = torch.zeros_like(table), torch.zeros_like(table), table.clone()
    for number, grad in enumerate(gradients, start=1):
        step = torch.zeros_like(table)
        for row in range(len(table)):
            own = grad[row]
            squared = own**2
            if corrected and not own.any():
                before = max(1, number - 1)
                own, squared = mean[row] / (1 - betas[0] ** before), square[row] / (1 - betas[1] ** before)
            mean[row] = betas[0] * mean[row] + (1 - betas[0]) * own
            square[row] = betas[1] * square[row] + (1 - betas[1]) * squared
            step[row] = mean[row] / (1 - betas[0] ** number)
            step[row] /= (square[row] / (1 - betas[1] ** number)).sqrt() + eps
        found = found * (1 - lr * decay) - lr * oracle(step, adjacency, beta, layers)
    return found


@pytest.mark.parametrize("corrected", [True, False])
def test_the_paper_s_adamw_is_the_released_loop(corrected):
    table = made()
    gradients = [gradient(table, number) for number in range(6)]
    given = dict(lr=0.02, betas=(0.8, 0.99), eps=1e-8, beta=0.9, layers=3, corrected=corrected)
    wanted = reference(table.detach(), gradients, ADJACENCY, decay=0.3, **given)
    optimizer = AdamWSEvo(table, ADJACENCY, weight_decay=0.3, **given)
    for grad in gradients:
        table.grad = grad
        optimizer.step()
    torch.testing.assert_close(table.detach(), wanted, atol=1e-12, rtol=0)


def test_with_beta_zero_it_is_adamw_until_a_row_has_no_gradient():
    ours, theirs = made(), made()
    optimizer = AdamWSEvo(ours, ADJACENCY, lr=0.01, beta=0.0, weight_decay=0.1)
    plain = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for number in range(4):
        full = 0.1 + gradient(ours, number).abs()
        ours.grad, theirs.grad = full, full.clone()
        optimizer.step(), plain.step()
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    for each in (ours, theirs):
        each.grad[3] = 0
    optimizer.step(), plain.step()
    differs = (ours - theirs).abs().amax(1) > 1e-6
    assert differs.nonzero().flatten().tolist() == [3]


def test_a_row_without_a_gradient_keeps_its_estimates_and_repeats_its_step_for_ever():
    for corrected, wanted in ((True, -1.0), (False, -0.0098)):
        table = torch.nn.Parameter(torch.zeros(2, 1, dtype=torch.float64))
        optimizer = RowwiseAdamW([table], lr=1e-3, weight_decay=0.0, correct_rows=corrected)
        for number in range(1050):
            table.grad = torch.ones_like(table)
            if number >= 50:
                table.grad[1] = 0
            if number == 50:
                begun = table[1].item()
            before = {key: each.clone() for key, each in optimizer.state[table].items()}
            optimizer.step()
            after = optimizer.state[table]
            if corrected and number >= 50:
                for key, rate in (("exp_avg", 0.9), ("exp_avg_sq", 0.999)):
                    old, new = before[key] / (1 - rate**number), after[key] / (1 - rate ** (number + 1))
                    torch.testing.assert_close(old, new)
        assert table[1].item() - begun == pytest.approx(wanted, rel=0.02)  # the sheet's drift


def test_the_first_step_of_a_row_without_a_gradient_is_none_and_not_nan():
    table = made()
    start = table.detach().clone()
    optimizer = RowwiseAdamW([table], weight_decay=0.0)
    table.grad = torch.zeros_like(table)
    optimizer.step()
    assert torch.equal(table.detach(), start)


@pytest.mark.parametrize("name", ["SGD, momentum and L2", "AdamW", "Adafactor", "RowwiseAdamW", LOW_BIT])
def test_a_run_that_is_cut_and_loaded_goes_on_bit_for_bit(name):
    kind, settings = (OPTIMIZERS | {LOW_BIT: (SOLOAdamW, dict(lr=0.01, weight_decay=0.1, least=0))})[name]
    ours, other = made(dtype=torch.float32), made(dtype=torch.float32)
    whole = Smoothed(kind([ours], **settings), ours, ADJACENCY)
    stepped(whole, [ours], 6)
    first = Smoothed(kind([other], **settings), other, ADJACENCY)
    stepped(first, [other], 3)
    stream = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "table": other.detach()}, stream)
    stream.seek(0)
    stored = torch.load(stream, weights_only=True)
    again = torch.nn.Parameter(stored["table"])
    second = Smoothed(kind([again], **settings | {"lr": 77.0}), again, ADJACENCY)
    second.load_state_dict(stored["optimizer"])
    assert second.param_groups is second.optimizer.param_groups and second.param_groups[0]["lr"] == settings["lr"]
    stepped(second, [again], 3, start=3)
    assert torch.equal(again, ours)


def test_a_checkpoint_of_the_plain_optimizer_is_read_and_written():
    table, other = made(), made()
    plain = torch.optim.AdamW([table])
    stepped(plain, [table], 2)
    smoothed = Smoothed(torch.optim.AdamW([other]), other, ADJACENCY)
    smoothed.load_state_dict(plain.state_dict())
    torch.testing.assert_close(smoothed.state[other]["exp_avg"], plain.state[table]["exp_avg"])
    assert smoothed.state_dict().keys() == plain.state_dict().keys()


def test_copies_and_pickles_go_on_apart():
    table = made()
    optimizer = AdamWSEvo(table, ADJACENCY, lr=0.01)
    stepped(optimizer, [table], 2)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (twin,) = other.tables
        assert twin is not table and other.param_groups[0]["params"][0] is twin
        stepped(other, [twin], 1, start=2)
        assert other.state[twin]["step"] == 3 and optimizer.state[table]["step"] == 2
        assert (twin - table).abs().max() > 0


def test_schedulers_closures_and_hooks_work_as_with_the_optimizer():
    table = made()
    optimizer = AdamWSEvo(table, ADJACENCY, lr=0.1)
    schedule, seen = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), []
    optimizer.register_step_post_hook(lambda *given: seen.append(table.detach().clone()))

    def closure():
        optimizer.zero_grad()
        loss = table.square().sum()
        loss.backward()
        return loss

    losses = []
    for _ in range(3):
        losses.append(optimizer.step(closure).item())
        schedule.step()
    assert losses == sorted(losses, reverse=True) and len(seen) == 3 and torch.equal(seen[-1], table.detach())
    assert optimizer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


def test_a_rate_may_be_a_tensor_and_another_group_may_come():
    table, other = made(), torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    twin = made()
    rate = torch.tensor(0.01, dtype=torch.float64)
    optimizer = Smoothed(torch.optim.AdamW([table], lr=rate), table, ADJACENCY)
    plain = Smoothed(torch.optim.AdamW([twin], lr=0.01), twin, ADJACENCY)
    stepped(optimizer, [table], 3)
    stepped(plain, [twin], 3)
    torch.testing.assert_close(table, twin, atol=1e-7, rtol=0)
    optimizer.add_param_group({"params": [other], "lr": 0.5})
    assert len(optimizer.param_groups) == len(optimizer.optimizer.param_groups) == 2
    other.grad = torch.ones(3, dtype=torch.float64)
    optimizer.step()
    assert (other < 1).all()


def test_one_smoothed_stands_inside_another():
    women, people = made(32), made()
    start = people.detach().clone()
    inner = torch.optim.AdamW([women, people], lr=0.01, weight_decay=0.1)
    optimizer = Smoothed(Smoothed(inner, women, world("davis").adjacency), people, ADJACENCY)
    twin = made()
    alone = Smoothed(torch.optim.AdamW([twin], lr=0.01, weight_decay=0.1), twin, ADJACENCY)
    twin.data.copy_(start)
    for number in range(3):
        women.grad = gradient(women, number)
        people.grad = twin.grad = gradient(people, number)
        optimizer.step(), alone.step()
    torch.testing.assert_close(people, twin)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups is inner.param_groups


def test_a_bfloat16_table_is_smoothed_and_stays_one():
    table = made(dtype=torch.bfloat16)
    optimizer = AdamWSEvo(table, ADJACENCY, lr=0.1)
    stepped(optimizer, [table], 3)
    assert table.dtype == torch.bfloat16 and table.isfinite().all()
    assert optimizer.state[table]["exp_avg"].dtype == torch.float32


def test_a_sparse_gradient_is_smoothed_by_an_optimizer_that_takes_one():
    embedding = torch.nn.Embedding(ADJACENCY.nodes, 3, sparse=True)
    start = embedding.weight.detach().clone()
    optimizer = Smoothed(torch.optim.SparseAdam(list(embedding.parameters()), lr=0.1), embedding.weight, ADJACENCY)
    embedding(torch.tensor([0])).sum().backward()
    optimizer.step()
    moved = ((embedding.weight - start).abs().amax(1) > 1e-6).sum()
    assert moved > 1 + ADJACENCY.offsets.diff()[0]  # further than its neighbours
    table = torch.nn.Parameter(torch.ones(3, 2))
    table.grad = torch.sparse_coo_tensor([[0]], torch.ones(1, 2), (3, 2), check_invariants=True)
    with pytest.raises(RuntimeError, match="it takes no sparse gradient"):
        RowwiseAdamW([table]).step()


def test_a_sum_of_squares_comes_down_and_many_hops_step_as_the_dense_solve_says():
    table = made()
    optimizer = Smoothed(torch.optim.SGD([table], lr=0.1), table, ADJACENCY, beta=0.5, layers=60)
    before = table.detach().clone()
    (table.square().sum() / 2).backward()
    optimizer.step()
    torch.testing.assert_close(table.detach(), before - 0.1 * exact(before, ADJACENCY, 0.5), atol=1e-9, rtol=0)
    for _ in range(60):
        optimizer.zero_grad()
        (table.square().sum() / 2).backward()
        optimizer.step()
    assert table.square().sum() < 1e-1 * before.square().sum()


TABLE, SMALL = made(), normalised(torch.tensor([[0], [1]]))
REFUSED = [
    (lambda: Smoothed("AdamW", TABLE, ADJACENCY), "optimizer must be a torch.optim.Optimizer; it is a str."),
    (lambda: around([made()]), "tables must be parameters that the optimizer steps; one of them is not, or none"),
    (lambda: around([]), "tables must be parameters that the optimizer steps"),
    (lambda: around([TABLE, TABLE]), "tables must be different parameters; one stands twice."),
    (lambda: around(TABLE, SMALL), "update must have a row per node, 2; it has 34."),
    (lambda: around(TABLE, beta=1.0), "beta must be a number from 0 to below 1; it is 1.0."),
    (lambda: around(TABLE, layers=2.0), "layers must be a whole number of at least 0; it is 2.0."),
    (lambda: AdamWSEvo(torch.nn.Parameter(torch.ones(3)), SMALL), "tables must be [rows, dim] with one dim; they are"),
    (lambda: AdamWSEvo(TABLE, ADJACENCY, lr=-1.0), "lr must be a finite number of at least 0; it is -1.0."),
    (lambda: AdamWSEvo(TABLE, ADJACENCY, betas=(0.9, 1.0)), "betas must be two numbers from 0 to below 1; they are"),
]


def around(tables, adjacency=ADJACENCY, **smoothing):
    return Smoothed(torch.optim.SGD([TABLE], lr=0.1), tables, adjacency, **smoothing)


@pytest.mark.parametrize(("call", "sentence"), REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_what_does_not_fit_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError) as refused:
        call()
    assert str(refused.value).startswith(sentence)


def test_tables_of_one_graph_have_one_rate():
    women, events = made(18), made(14)
    groups = [{"params": [women], "lr": 0.1}, {"params": [events], "lr": 0.2}]
    optimizer = Smoothed(torch.optim.SGD(groups), [women, events], world("davis").adjacency)
    with pytest.raises(ValueError, match="tables of one graph must have one learning rate; they have"):
        optimizer.step()
