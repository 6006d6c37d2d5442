"""The optimizers: one step is AdamW's, 32 bits are AdamW's, what is kept survives, what is strange is contained."""

import copy
import math

import pytest
import torch

from effattn_core.lowbit import (
    AdamW8bit,
    LowBitAdamW,
    LowBitSGD,
    NaiveAdamW,
    Quantiser,
    SOLOAdamW,
    dequantise,
    optimizer,
    quantise,
    state_bytes,
)
from effattn_core.lowbit.optimizer import moment
from effattn_core.lowbit.philox import derived
from effattn_core.lowbit.rules import SECOND, rounded_to_bfloat16

SHAPES = [(30, 7), (300,), (5,), (), (0, 4), (257, 33)]
ALL = {
    "SOLO 4/2": SOLOAdamW,
    "SOLO 2/2": lambda weights, **given: SOLOAdamW(weights, bits=(2, 2), signed_extreme=True, **given),
    "SOLO 3/3": lambda weights, **given: SOLOAdamW(weights, bits=(3, 3), unbiased=True, **given),
    "8-bit": AdamW8bit,
    "naive": NaiveAdamW,
    "4/4": lambda weights, **given: LowBitAdamW(weights, stochastic=True, **given),
    "SGD": LowBitSGD,
}  # fmt: skip


def weights_of(shapes=SHAPES, dtype=torch.float32, seed=0):
    dice = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=dice).to(dtype)) for shape in shapes]


def descend(weights, chosen, steps, *, start=0, scale=1.0):
    """Steps with gradients that depend on the step alone."""
    for step in range(start, start + steps):
        dice = torch.Generator().manual_seed(1000 + step)
        for each in weights:
            each.grad = (torch.randn(each.shape, generator=dice) * scale).to(each.dtype)
        chosen.step()


def run(make, steps=4, **settings):
    weights = weights_of(**settings)
    chosen = make(weights)
    descend(weights, chosen, steps)
    return weights, chosen


def same(these, those):
    return all(torch.equal(one, other) for one, other in zip(these, those, strict=True))


def kept(chosen):
    """All tensors of the states, in order."""
    return [each for state in chosen.state.values() for each in state.values() if isinstance(each, torch.Tensor)]


def apart(these, those):
    return max((one - other).abs().max().item() for one, other in zip(these, those, strict=True) if one.numel())


@pytest.mark.parametrize("name", [each for each in ALL if each != "SGD"])
def test_the_first_step_is_adamw_s(name):
    betas = (0.9, 0.99)
    ours, _ = run(lambda weights: ALL[name](weights, lr=0.1, betas=betas), steps=1)
    theirs, _ = run(lambda weights: torch.optim.AdamW(weights, lr=0.1, betas=betas), steps=1)
    assert apart(ours, theirs) < 1e-6


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.3, "eps": 1e-3, "betas": (0.5, 0.9), "lr": 0.05}])
def test_thirty_two_bits_are_adamw(settings):
    ours, chosen = run(lambda weights: LowBitAdamW(weights, bits=(32, 32), **settings), steps=20)
    theirs, _ = run(lambda weights: torch.optim.AdamW(weights, **settings), steps=20)
    assert apart(ours, theirs) < 1e-6 and state_bytes(chosen) == 8 * sum(each.numel() for each in ours)


def test_thirty_two_bits_are_sgd_with_momentum():
    settings = dict(lr=0.05, momentum=0.9, weight_decay=0.1)
    ours, _ = run(lambda weights: LowBitSGD(weights, bits=32, **settings), steps=20)
    theirs, _ = run(lambda weights: torch.optim.SGD(weights, **settings), steps=20)
    assert apart(ours, theirs) < 1e-5


@pytest.mark.parametrize("count", [256, 300])
def test_the_second_step_uses_what_was_kept_and_keeps_its_own(count):
    (weight,) = weights_of([(count,)])
    chosen = SOLOAdamW([weight], lr=0.1, betas=(0.9, 0.99), seed=7)
    first, second = torch.randn(2, count, generator=torch.Generator().manual_seed(0))
    weight.grad = first.clone()
    chosen.step()
    after, (group,) = weight.detach().clone(), chosen.param_groups
    m, v = (moment(chosen, group, weight, name) for name in "mv")
    signed = Quantiser("exponent", 4, signed=True)
    assert torch.equal(m, dequantise(quantise((1 - 0.9) * first, signed)))
    assert not torch.equal(v, 0.01 * first.square())
    weight.grad = second.clone()
    chosen.step()
    m, v = m + (1 - 0.9) * (second - m), v + (1 - 0.99) * (second * second - v)
    wanted = after * (1 - 0.1 * 0.01) - 0.1 * (m / (1 - 0.9**2)) / ((v / (1 - 0.99**2)).sqrt() + 1e-8)
    assert torch.allclose(weight, wanted, atol=1e-6)
    assert torch.equal(moment(chosen, group, weight, "m"), dequantise(quantise(m, signed)))
    draw = derived(7, 2, chosen.state[weight]["stream"], SECOND)
    again = dequantise(quantise(v, Quantiser("logarithmic", 2, signed=False), seed=draw))
    assert torch.equal(moment(chosen, group, weight, "v"), again)


@pytest.mark.parametrize("name", ALL)
def test_together_tile_by_tile_or_strided_the_bits_are_the_same(name, monkeypatch):
    weights, chosen = run(ALL[name])
    together, joined = run(lambda given: ALL[name](given, foreach=True))
    assert same(weights, together) and same(kept(chosen), kept(joined))
    monkeypatch.setattr(optimizer, "TILE", 512)  # several tiles of one parameter
    tiled, cut = run(ALL[name])
    assert same(weights, tiled) and same(kept(chosen), kept(cut))
    strided = [torch.nn.Parameter(each.detach().T.contiguous().T) if each.ndim == 2 else each for each in weights_of()]
    assert not strided[0].is_contiguous()
    turned = ALL[name](strided)
    descend(strided, turned, 4)
    assert same(weights, strided) and same(kept(chosen), kept(turned))


@pytest.mark.parametrize("name", ALL)
def test_saved_and_loaded_it_goes_on_bit_for_bit(name, tmp_path):
    weights, chosen = run(ALL[name], steps=6)
    first, begun = run(lambda given: ALL[name](given, seed=0), steps=3)
    torch.save([begun.state_dict(), [each.detach() for each in first]], tmp_path / "saved.pt")
    state, values = torch.load(tmp_path / "saved.pt", weights_only=True)
    again = [torch.nn.Parameter(each) for each in values]
    resumed = ALL[name](again, seed=99)  # the seed is the saved one's
    resumed.load_state_dict(state)
    descend(again, resumed, 3, start=3)
    assert same(weights, again) and same(kept(chosen), kept(resumed))
    assert [each.dtype for each in kept(resumed)] == [each.dtype for each in kept(chosen)]


def test_a_state_keeps_its_block_bits_and_dtype_whatever_it_is_loaded_into():
    weights, chosen = run(lambda given: SOLOAdamW(given, block=64, bits=(3, 2)), dtype=torch.bfloat16)
    other = SOLOAdamW(weights_of(dtype=torch.bfloat16))
    other.load_state_dict(copy.deepcopy(chosen.state_dict()))
    (group,) = other.param_groups
    assert group["block"] == 64 and group["bits"] == (3, 2)
    assert same(kept(chosen), kept(other)) and all(each.dtype != torch.bfloat16 for each in kept(other))
    descend(weights, chosen, 1)
    descend(other.param_groups[0]["params"], other, 1)
    assert same(kept(chosen), kept(other))


def test_a_state_of_another_kind_or_shape_is_refused_and_plain_adamw_does_not_take_ours():
    _, plain = run(torch.optim.AdamW)
    _, ours = run(SOLOAdamW)
    with pytest.raises(ValueError, match="the state is of an optimizer without bits, block, maps, seed"):
        SOLOAdamW(weights_of()).load_state_dict(plain.state_dict())
    wrong = copy.deepcopy(ours.state_dict())
    wrong["state"][0]["m_codes"] = wrong["state"][0]["m_codes"][:-1]
    with pytest.raises(ValueError, match="m_codes of parameter 0 must be .105,. torch.uint8; it is .104,. torch.uint8"):
        SOLOAdamW(weights_of()).load_state_dict(wrong)
    weights = weights_of()
    loaded = torch.optim.AdamW(weights)
    with pytest.raises((KeyError, ValueError, AttributeError)):
        loaded.load_state_dict(ours.state_dict())
        descend(weights, loaded, 1)


def test_groups_have_settings_of_their_own_and_one_that_is_bad_is_not_added():
    first, second, third = weights_of([(256,), (256,), (256,)])
    groups = [{"params": [first], "bits": (32, 32), "lr": 0.5}, {"params": [second], "betas": (0.5, 0.9)}]
    chosen = SOLOAdamW(groups, lr=0.01)
    chosen.add_param_group({"params": [third], "bits": (2, 2), "weight_decay": 0.0})
    descend([first, second, third], chosen, 2)
    assert {"m", "v"} <= chosen.state[first].keys() and "m_codes" in chosen.state[second]
    assert chosen.state[third]["m_codes"].numel() == 64 and chosen.state[second]["m_codes"].numel() == 128
    with pytest.raises(ValueError, match="bits must be one of"):
        chosen.add_param_group({"params": weights_of([(3,)]), "bits": (5, 2)})
    assert len(chosen.param_groups) == 3


def test_a_closure_gives_its_loss_and_sees_gradients():
    (weight,) = weights_of([(200,)])
    chosen = SOLOAdamW([weight], lr=0.1)

    def closure():
        chosen.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    losses = [chosen.step(closure).item() for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0] and SOLOAdamW([weight]).step() is None


@pytest.mark.parametrize("tensor", [False, True])
def test_a_schedule_is_heard_with_a_rate_that_is_a_number_or_a_tensor(tensor):
    def make(weights):
        return SOLOAdamW(weights, lr=torch.tensor(0.125) if tensor else 0.125)

    weights = weights_of()
    chosen = make(weights)
    schedule = torch.optim.lr_scheduler.LambdaLR(chosen, lambda step: 0.5**step)
    for step in range(3):
        descend(weights, chosen, 1, start=step)
        schedule.step()
    plain = weights_of()
    by_hand = SOLOAdamW(plain, lr=0.125)
    for step in range(3):
        by_hand.param_groups[0]["lr"] = 0.125 * 0.5**step
        descend(plain, by_hand, 1, start=step)
    assert same(weights, plain)


def test_rounding_depends_on_seed_step_parameter_and_place_and_not_on_the_order_or_on_absent_gradients():
    def codes(chosen, weight):
        return chosen.state[weight]["v_codes"]

    def made(seed, skip=()):
        weights = weights_of([(256,), (256,)])
        chosen = SOLOAdamW(weights, seed=seed)
        gradient = torch.randn(256, generator=torch.Generator().manual_seed(5))
        for _ in range(2):
            for number, each in enumerate(weights):
                each.grad = None if number in skip else gradient.clone()
            chosen.step()
        return weights, chosen

    weights, chosen = made(0)
    assert not torch.equal(codes(chosen, weights[0]), codes(chosen, weights[1]))  # one seed, two streams
    other, apart = made(1)
    assert not torch.equal(codes(chosen, weights[0]), codes(apart, other[0]))
    alone, skipped = made(0, skip=(0,))
    assert torch.equal(codes(chosen, weights[1]), codes(skipped, alone[1]))


def test_named_parameters_draw_by_their_name():
    def codes(names):
        weights = dict(zip("ab", weights_of([(256,), (256,)]), strict=True))
        chosen = SOLOAdamW([(name, weights[name]) for name in names])
        descend([weights["a"], weights["b"]], chosen, 2)
        return [chosen.state[weights[name]]["v_codes"] for name in "ab"]

    assert same(codes("ab"), codes("ba"))


@pytest.mark.parametrize("strange", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("name", ["SOLO 4/2", "8-bit", "SGD"])
def test_a_gradient_that_is_no_number_is_contained_and_named(name, strange):
    (weight,) = weights_of([(512,)])
    (other,) = weights_of([(512,)])
    chosen, clean = ALL[name]([("layer.weight", weight)]), ALL[name]([("layer.weight", other)])
    gradient = torch.randn(512, generator=torch.Generator().manual_seed(2))
    gradient[[3, 200]] = 0.0
    other.grad, weight.grad = gradient.clone(), gradient.clone()
    weight.grad[[3, 200]] = strange
    clean.step()
    with pytest.warns(RuntimeWarning, match="parameter 'layer.weight' has 2 elements at step 1 that are NaN"):
        chosen.step()
    assert torch.equal(weight, other) and same(kept(chosen), kept(clean))
    descend([weight], chosen, 3)
    assert weight.isfinite().all() and all(each.isfinite().all() for each in kept(chosen))


def largest_move(make, steps=150):
    """The largest move over the rate of 128 weights of which 16 have no gradient: decay left out."""
    (weight,) = weights_of([(128,)])
    chosen, largest = make([weight]), 0.0
    dice = torch.Generator().manual_seed(3)
    for _ in range(steps):
        weight.grad = torch.randn(128, generator=dice)
        weight.grad[::8] = 0.0
        before = weight.detach().clone()
        chosen.step()
        largest = max(largest, (weight - before).abs().max().item() / 1e-3)
    return largest


def test_weights_without_a_gradient_stay_unless_m_has_no_zero_or_v_has_one():
    class Unguarded(LowBitAdamW):
        UNGUARDED = True

    settings = dict(lr=1e-3, weight_decay=0.0, betas=(0.9, 0.999))
    assert largest_move(lambda each: torch.optim.AdamW(each, **settings)) < 2
    for guarded in (SOLOAdamW, lambda each, **given: LowBitAdamW(each, bits=(4, 2), **given)):
        assert largest_move(lambda each, make=guarded: make(each, **settings)) < 10
    for maps in (("linear", "exponent"), ("exponent", "exponent")):
        bad = largest_move(lambda each, maps=maps: Unguarded(each, bits=(4, 2), maps=maps, **settings))
        assert bad > 100, maps


def test_small_second_moments_are_kept_and_a_parameter_without_gradients_only_decays():
    (weight,) = weights_of([(256,)])
    start, chosen = weight.detach().clone(), SOLOAdamW([weight], lr=0.1, weight_decay=0.5)
    descend([weight], chosen, 5, scale=1e-9)  # v of 1e-18 and less: the released clamp of 1e-12 is far above it
    v = moment(chosen, chosen.param_groups[0], weight, "v")
    assert 1e-22 < v.max() < 1e-17 and (weight - start * 0.95**5).abs().max() < 1
    (idle,) = weights_of([(256,)])
    start, chosen = idle.detach().clone(), SOLOAdamW([idle], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        idle.grad = torch.zeros(256)
        chosen.step()
    assert torch.allclose(idle, start * 0.95**3, rtol=1e-6)


def test_bfloat16_weights_are_rounded_at_random_and_right_in_the_mean():
    value = torch.full((40000,), 1.0 + 0.3 / 128)
    drawn = rounded_to_bfloat16(value, torch.randint(2**32, (40000,), generator=torch.Generator().manual_seed(0)))
    assert set(drawn.unique().tolist()) == {1.0, 1.0078125}
    assert drawn.float().mean().item() == pytest.approx(1 + 0.3 / 128, abs=4 * 0.0078125 * 0.5 / 200)
    edge = torch.tensor(
        [torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max, math.inf, -math.inf, math.nan]
    )
    edge = torch.cat([edge, torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)])
    kept = rounded_to_bfloat16(edge, torch.full((6,), 0xFFFF))
    assert kept[:2].isfinite().all() and kept[2:4].tolist() == [math.inf, -math.inf] and kept[4:].isnan().all()
    exact = torch.randn(100).bfloat16()
    assert torch.equal(rounded_to_bfloat16(exact.float(), torch.full((100,), 0xFFFF)), exact)


def test_small_steps_are_not_lost_in_bfloat16_and_decay_is_not_either():
    weight = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    chosen = SOLOAdamW([weight], lr=1e-3, weight_decay=0.1)
    for _ in range(20):
        weight.grad = torch.zeros_like(weight)
        chosen.step()
    # Each step takes 1e-4 of 1, a fortieth of bfloat16's step below 1: rounded to the nearest nothing would move.
    assert weight.float().mean().item() == pytest.approx(1 - 20e-4, abs=3e-4)


def test_a_compiled_step_is_one_graph_with_the_same_bits():
    graphs = []

    def counted(graph, examples):
        graphs.append(graph)
        return graph.forward

    weights, chosen = run(SOLOAdamW, shapes=[(300, 7)], steps=3)
    ours, compiled = run(lambda given: SOLOAdamW(given, compiled=counted), shapes=[(300, 7)], steps=3)
    assert same(weights, ours) and same(kept(chosen), kept(compiled)) and len(graphs) == 1
    again = weights_of([(300, 7)])
    outer = SOLOAdamW(again)
    step = torch.compile(outer.step, backend="eager")  # as a training loop that is compiled calls it
    for number in range(3):
        dice = torch.Generator().manual_seed(1000 + number)
        again[0].grad = torch.randn(300, 7, generator=dice)
        step()
    assert same(weights, again)


def test_an_odd_dtype_and_a_copied_optimizer_work():
    half, chosen = run(SOLOAdamW, dtype=torch.float16)
    assert all(each.dtype == torch.float16 and each.isfinite().all() for each in half)
    twin = copy.deepcopy(chosen)
    assert same(kept(chosen), kept(twin)) and twin.param_groups[0]["maps"] == ("exponent", "logarithmic")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda each: SOLOAdamW(each, lr=-1.0), "lr must be a finite number of at least 0; it is -1.0"),
        (lambda each: SOLOAdamW(each, lr=torch.ones(2)), "lr must be one number; its shape is .2,."),
        (lambda each: SOLOAdamW(each, betas=(0.9, 1.0)), "betas must be two numbers from 0 to under 1"),
        (lambda each: SOLOAdamW(each, bits=(4,)), "bits must name one per moment, 2; it is .4,."),
        (lambda each: SOLOAdamW(each, bits=(6, 2)), "bits must be one of 2, 3, 4, 8; it is 6"),
        (lambda each: SOLOAdamW(each, seed=-1), "seed must be a whole number of at least 0"),
        (lambda each: SOLOAdamW(each, block=100), "block must be a multiple of 8"),
        (lambda each: SOLOAdamW(each, weight_decay=math.nan), "weight_decay must be a finite number"),
        (lambda each: SOLOAdamW(each, implementation="fast"), "implementation must be 'oracle', 'torch', 'triton'"),
        (lambda each: LowBitAdamW(each, maps=("linear", "linear")), "the first moment needs a level of zero; 'linear'"),
        (lambda each: LowBitAdamW(each, maps=("exponent",) * 2), "the second moment must have no level of zero"),
        (lambda each: LowBitSGD(each, momentum=1.0), "momentum must be from 0 to under 1; it is 1.0"),
        (lambda each: SOLOAdamW(each, least=-1), "least must be a whole number of at least 0"),
    ],
)
def test_bad_settings_say_what_was_given_and_what_is_wanted(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(weights_of([(300,)]))


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(200, 4, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="a sparse gradient has no blocks"):
        SOLOAdamW(table.parameters()).step()
