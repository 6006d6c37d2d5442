"""Rule nets: activations against their limits, estimators against their definitions, rules against the net."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from effattn_core.discrete import activations as act
from effattn_core.discrete import estimators, nets, reading, rules, rulesets, tables

ALL = list(act.ACTIVATIONS.values())
BINARY = [act.PRODUCT, act.LAF, act.SHARP, act.MILD]


def drawn(rows=6, n=9, nodes=4, seed=0):
    dice = torch.Generator().manual_seed(seed)
    inputs = (torch.rand(rows, n, generator=dice) < 0.7).double()
    return inputs, 0.95 * torch.rand(n, nodes, generator=dice, dtype=torch.float64)


def slope_of(function, weight, upstream):
    given = weight.clone().requires_grad_()
    return torch.autograd.grad((function(given) * upstream).sum(), given)[0]


@settings(deadline=None, max_examples=20, derandomize=True)
@given(seed=st.integers(0, 1000), which=st.integers(0, len(ALL) - 1))
def test_an_or_is_the_opposite_of_an_and_of_opposites_and_truth_is_monotone(seed, which):
    inputs, weight = drawn(seed=seed)
    inputs = inputs * 0.8 + 0.1
    conj, disj = act.conjunction(inputs, weight, ALL[which]), act.disjunction(inputs, weight, ALL[which])
    torch.testing.assert_close(disj, 1 - act.conjunction(1 - inputs, weight, ALL[which]))
    assert (act.conjunction(inputs + 0.05, weight, ALL[which]) >= conj).all()
    assert (act.disjunction(inputs, (weight + 0.02).clamp(max=1), ALL[which]) >= disj).all()


def test_activations_are_the_formulas_of_the_papers_written_out():
    inputs, weight = drawn()
    inputs = 0.8 * inputs + 0.1
    left = (1 - (1 - inputs)[:, :, None] * weight).prod(1)
    torch.testing.assert_close(act.conjunction(inputs, weight, act.PRODUCT), left)
    torch.testing.assert_close(act.conjunction(inputs, weight, act.LAF), 1 / (1 - left.log()))
    for activation in (act.SHARP, act.STEEP, act.MILD):
        alpha, beta, gamma = activation.alpha, activation.beta, activation.gamma
        first, second = (-1 + 1 / (1 - (alpha * each) ** beta) for each in (1 - inputs, weight))
        torch.testing.assert_close(act.conjunction(inputs, weight, activation), (1 + first @ second) ** -gamma)
    left = [act.residual(each) for each in (act.SHARP, act.STEEP, act.MILD)]
    assert left == pytest.approx([6.5e-5, 2.7e-13, 1.8e-3], rel=0.02)


def test_near_weights_of_0_and_1_the_product_and_a_sharp_nlaf_are_the_hard_answer_and_laf_is_not():
    inputs, weight = drawn(rows=200)
    cut = (weight > 0.5).double()
    hard = act.hard_conjunction(inputs, weight)
    assert 0.02 < hard.mean() < 0.98
    for activation in ALL:
        gap = (act.conjunction(inputs, cut, activation) - hard).abs().max().item()
        assert gap == pytest.approx(act.residual(activation), rel=1e-6)  # a row of one violation is the worst
    assert act.residual(act.LAF) > 0.09 > act.residual(act.MILD)


@pytest.mark.parametrize("activation", ALL, ids=str)
def test_a_violation_leaves_what_the_formula_says(activation):
    one = torch.ones(1, 1, dtype=torch.float64)
    assert act.conjunction(0 * one, one, activation).item() == pytest.approx(act.residual(activation), rel=1e-9)
    assert act.conjunction(one, one, activation).item() == 1 and act.conjunction(0 * one, 0 * one, activation) == 1


def exact_mean_slope(activation, n):
    """A mean of slopes over weights uniform in [0, ½] is a difference of values: P(u = 1) (y(0) - y(½)) / ½, in mean.

    With p = 1 or gamma, (1 + S)^-p = ∫ t^(p-1) e^(-t (1 + S)) dt / Γ(p), and e^(-t S) is a product over n - 1 others.
    """
    weight = (torch.arange(2000, dtype=torch.float64) + 0.5) / 4000
    one = torch.ones(1, 1, dtype=torch.float64)
    found = act.total_violation(one, weight[None], activation)
    last = act.total_violation(one, 0.5 * one, activation).item()

    def others(t):
        return (0.5 + 0.5 * (-t * found).exp().mean().item()) ** (n - 1)

    if activation.kind == "product":
        return others(1) * (1 - math.exp(-last))
    p, scale = (1.0 if activation.kind == "laf" else activation.gamma), 1 + n * found.mean().item() / 2

    def inside(s):
        t = s / scale
        return t ** (p - 1) * (1 - math.exp(-t * last)) * math.exp(-t) * others(t) / scale

    return quad(inside, 0, 80, limit=200)[0] / math.gamma(p)


@pytest.mark.parametrize("name", act.ACTIVATIONS)
@pytest.mark.parametrize("n", [16, 64, 256])
def test_mean_slopes_at_the_start_are_those_of_sampled_nets_within_four_standard_errors(name, n):
    dice, activation, found = torch.Generator().manual_seed(n), act.ACTIVATIONS[name], []
    for _ in range(100):
        inputs = (torch.rand(16, n, generator=dice) < 0.5).double()
        weight = 0.5 * torch.rand(n, 16, generator=dice, dtype=torch.float64)
        found.append(
            slope_of(lambda each, x=inputs: act.conjunction(x, each, activation), weight, 1.0).abs().mean() / 16
        )
    mean, error = torch.stack(found).mean().item(), torch.stack(found).std().item() / 10
    exact = exact_mean_slope(activation, n)
    print(f"z {(mean - exact) / error:.1f}, error {error / mean:.1%}")
    assert abs(mean - exact) <= 4 * error


@pytest.mark.parametrize("name", act.ACTIVATIONS)
def test_the_closed_forms_of_mean_slopes_are_off_by_a_fifth_for_few_inputs_and_by_little_for_many(name):
    ratios = {n: act.mean_slope(act.ACTIVATIONS[name], n) / exact_mean_slope(act.ACTIVATIONS[name], n)
              for n in (16, 64, 256, 1024, 4096)}  # fmt: skip
    print(ratios)
    if name == "product":
        assert list(ratios.values()) == pytest.approx([1] * 5, rel=1e-9)
    assert all(0.8 < each < 1.21 for each in ratios.values()) and 0.98 < ratios[4096] < 1.001


@pytest.mark.parametrize("activation", BINARY, ids=str)
def test_a_graft_is_hard_to_the_bit_and_has_the_slope_of_the_soft_at_the_hard_input(activation):
    inputs, weight = drawn()
    upstream = torch.randn(6, 4, dtype=torch.float64)
    found = estimators.estimated(1 - inputs, weight, activation, "grafted")
    assert torch.equal(found, act.hard_conjunction(inputs, weight))
    torch.testing.assert_close(
        slope_of(lambda each: estimators.estimated(1 - inputs, each, activation, "grafted"), weight, upstream),
        slope_of(lambda each: act.conjunction(inputs, each, activation), weight, upstream),
    )


@pytest.mark.parametrize("activation", [act.LAF, act.MILD], ids=str)
def test_in_two_layers_each_graft_takes_its_slope_at_the_hard_output_of_the_one_below(activation):
    torch.manual_seed(0)
    net = nets.RuleNet(9, 3, 2, layers=2, activation=activation).double()
    inputs, _ = drawn(rows=20)
    upstream = torch.randn(20, 2, dtype=torch.float64)
    with torch.no_grad():
        for level in net.levels:
            level.weight.copy_(torch.rand_like(level.weight))  # some above a half: no rule is empty
    found = torch.autograd.grad((net(inputs) * upstream).sum(), [level.weight for level in net.levels])

    def soft(weight, inputs):
        conj, disj = weight.split(3, 1)
        return torch.cat([act.conjunction(inputs, conj, activation), act.disjunction(inputs, disj, activation)], 1)

    below, above = (level.weight.detach().clone().requires_grad_() for level in net.levels)
    hard = net.levels[0].hard(inputs).requires_grad_()
    truth = soft(above, torch.cat([hard, 1 - hard], 1))
    into = (upstream @ net.votes.weight / net.log_temperature.exp()).detach()
    at_hard, at_above = torch.autograd.grad((truth * into).sum(), (hard, above))
    (at_below,) = torch.autograd.grad((soft(below, inputs) * at_hard).sum(), below)
    torch.testing.assert_close(found, (at_below, at_above))


def test_the_logarithm_as_a_matrix_product_has_the_slopes_of_the_broadcast():
    inputs, weight = drawn()
    upstream = torch.randn(6, 4, dtype=torch.float64)
    for place in (0, 1):
        found = []
        for total in (estimators.LogSum.apply, lambda *given: act.total_violation(*given, act.LAF)):
            pair = [(1 - inputs).clone().requires_grad_(), weight.clone().requires_grad_()]
            found.append(torch.autograd.grad((total(*pair) * upstream).sum(), pair[place])[0])
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_straight_through_is_autograd_of_the_product_at_the_cut_weights(seed):
    inputs, weight = drawn(seed=seed)
    upstream, cut = torch.randn(6, 4, dtype=torch.float64), (weight > 0.5).double()
    wanted = slope_of(lambda each: (1 - (1 - inputs)[:, :, None] * each).prod(1), cut, upstream)
    found = slope_of(lambda each: estimators.StraightAnd.apply(1 - inputs, each), weight, upstream)
    torch.testing.assert_close(found, wanted)
    wanted = slope_of(lambda each: (1 - each[:, :, None] * cut).prod(1), 1 - inputs, upstream)
    found = slope_of(lambda each: estimators.StraightAnd.apply(each, weight), 1 - inputs, upstream)
    torch.testing.assert_close(found, wanted)
    twice = ((1 - inputs) @ cut) >= 2
    assert not slope_of(lambda each: estimators.StraightAnd.apply(1 - inputs, each), weight, upstream * twice).any()


def test_a_weight_at_zero_has_no_slope_by_nlaf_and_one_by_laf():
    inputs, weight = drawn()
    weight[0], inputs[:, 0] = 0, 0
    slopes = [slope_of(lambda each, a=a: act.conjunction(inputs, each, a), weight, 1.0)[0] for a in (act.MILD, act.LAF)]
    assert not slopes[0].any() and slopes[1].any()


def test_random_binarisation_of_all_weights_has_no_slope_and_of_none_is_the_plain_net():
    inputs, weight = drawn()
    settings = dict(activation=act.PRODUCT, estimator="random")
    for share, wanted in ((torch.ones(9, 4), 0.0), (torch.zeros(9, 4), 1.0)):
        found = slope_of(lambda each, m=share: estimators.estimated(1 - inputs, each, mask=m, **settings), weight, 1.0)
        plain = slope_of(lambda each: act.conjunction(inputs, each, act.PRODUCT), weight, 1.0)
        torch.testing.assert_close(found, wanted * plain)
    stacked = weight[None]
    second = torch.rand(1, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(
        rulesets.rule_set(inputs, [stacked, second])[0],
        act.disjunction(act.conjunction(inputs, weight, act.PRODUCT), second[0], act.PRODUCT),
    )


def test_hard_rule_sets_are_those_of_the_cut_weights_and_ties_go_to_class_0():
    inputs, weight = drawn()
    levels = [weight[None], torch.rand(1, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)]
    wanted = act.hard_disjunction(act.hard_conjunction(inputs, weight), levels[1][0])
    assert torch.equal(rulesets.rule_set(inputs, levels, hard=True)[0], wanted) and 0 < wanted.mean() < 1
    silent = [torch.zeros(1, 9, 4, dtype=torch.float64), torch.zeros(1, 4, 2, dtype=torch.float64)]  # no rule fires
    right, tied = rulesets.judged(inputs, torch.tensor([0, 0, 0, 1, 1, 1]), silent, hard=True)
    assert right.item() == 0.5 and tied.item() == 1


def test_every_final_board_is_enumerated_and_a_full_line_of_x_tells_who_won():
    found = tables.table("tic-tac-toe")
    assert len(found) == 958 and found.labels.sum() == 626
    literals = tables.Encoder(found, slice(None))(found.columns)
    lines = [reading.Rule("and", tuple(3 * place for place in line), (0.0, 1.0), 0.0) for line in tables.LINES]
    assert torch.equal(reading.truth(lines, literals).amax(1).long(), found.labels)


def test_rules_that_are_read_give_the_net_s_logits():
    found = tables.table("wine")
    train, _ = tables.split(found, 0)
    encoder = tables.Encoder(found, train)
    literals = encoder(found.columns)[train]
    torch.manual_seed(0)
    net = nets.fit(nets.RuleNet(literals.shape[1], 8, 3), literals, found.labels[train], steps=60)
    read, bias = reading.read(net, literals)
    wanted = net.vote(net.truths(literals)).detach()
    torch.testing.assert_close(reading.logits(read, bias, literals).float(), wanted, rtol=1e-4, atol=1e-4)
    assert all(0 < rule.support < 1 for rule in read) and read[0].words(encoder.literals)
    always = literals[:, :1] * 0 + 1  # a literal that is always true makes rules that fold into the bias
    net = nets.RuleNet(literals.shape[1] + 1, 8, 3)
    with torch.no_grad():
        net.levels[0].weight[-1], net.levels[0].weight[:-1, :2] = 0.9, 0.0
        net.levels[0].weight[:-1, 2:6] = 0.9 * (torch.arange(literals.shape[1]) == 1)[:, None]  # four of one kind
    wider = torch.cat([literals, always], 1)
    read, bias = reading.read(net, wider)
    assert len({(rule.kind, rule.picks) for rule in read}) == len(read) and len(read) < 16
    torch.testing.assert_close(reading.logits(read, bias, wider).float(), net.vote(net.truths(wider)).detach())
    deep = nets.RuleNet(literals.shape[1], 8, 3, layers=2, estimator="single")
    assert torch.equal(deep(literals), deep.vote(deep.truths(literals)))


def test_of_several_bounds_a_rule_prints_the_one_that_decides_and_no_training_row_is_a_test_row():
    literals = [tables.Literal("x", op, bound) for op in (">", "≤") for bound in (1.0, 2.0)]
    assert reading.Rule("and", (0, 1, 2, 3), (0.0,), 0.5).words(literals) == "x > 2 & x ≤ 1"
    assert reading.Rule("or", (0, 1, 2, 3), (0.0,), 0.5).words(literals) == "x > 1 | x ≤ 2"
    found = tables.table("wine")
    train, test = tables.split(found, 0)
    assert not {*train.tolist()} & {*test.tolist()} and len(train) + len(test) == len(found)


def test_bad_input_says_what_was_given_and_what_is_wanted():
    with pytest.raises(ValueError, match="product, laf or nlaf; got 'mean'"):
        act.Activation("mean")
    with pytest.raises(ValueError, match="alpha in"):
        act.Activation("nlaf", 1.0)
    with pytest.raises(ValueError, match=r"must share n; got \(2, 3\) and \(4, 5\)"):
        rules(torch.ones(2, 3), torch.ones(4, 5))
    with pytest.raises(ValueError, match="an estimator is one of"):
        nets.RuleNet(3, 2, 2, estimator="magic")
    with pytest.raises(ValueError, match="needs a mask"):
        estimators.estimated(torch.ones(2, 3), torch.ones(3, 5), act.LAF, "random")
    with pytest.raises(ValueError, match="levels come in pairs"):
        rulesets.rule_set(torch.ones(2, 3), [torch.ones(1, 3, 2)])
    with pytest.raises(ValueError, match="a table is one of"):
        tables.table("adult")
