"""The kernels of experts: within twice what plain PyTorch loses, zeros for empty experts, their traffic exactly."""

import inspect as python_inspect

import pytest
import torch
from support.placed import allowed
from torch.utils._python_dispatch import TorchDispatchMode

from effattn_core import costs as shared_costs
from effattn_core.routing import MixtureOfExperts, costs, mixed, oracle, route
from effattn_core.routing.experts import chosen_experts
from effattn_core.routing.future import skewed
from kernels import routing, runtime, tiles
from kernels.routing.configurations import BLOCK_DIM, BLOCK_TOKEN
from kernels.routing.operators import combine_rows, grouped_product, planned
from kernels.trace import shuffled, trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
CASES = routing.cases(DEVICE)
EXPERTS, WIDTH, INNER = 6, 40, 72


def made(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(DEVICE, dtype)


def inputs(name, dtype):
    """What `mixed` takes, for a case: the mask of its choices, gates, and three strided matrices per expert."""
    expert = CASES[name]
    hot = (expert[..., None] == torch.arange(EXPERTS, device=DEVICE)).any(1)
    gates = made(len(expert), EXPERTS, seed=1).sigmoid().to(dtype)
    shapes = ((EXPERTS, WIDTH, INNER), (EXPERTS, WIDTH, INNER), (EXPERTS, INNER, WIDTH))
    weights = [made(*shape[:1], *shape[:0:-1], dtype=dtype, seed=n).mT * 0.3 for n, shape in enumerate(shapes)]
    return made(len(expert), WIDTH, dtype=dtype), hot, gates, *weights


def gradients(function, tensors, direction):
    """The output, and the gradients of all but the mask."""
    given = [each.detach().requires_grad_() if each.is_floating_point() else each for each in tensors]
    output = function(*given)
    floating = [each for each in given if each.requires_grad]
    return [output.detach(), *torch.autograd.grad((output * direction.to(output.dtype)).sum(), floating)]


@pytest.mark.proves("oracle", "grouped_product_kernel", "grouped_weights_kernel", "combine_kernel", "expand_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_lose_at_most_twice_what_plain_pytorch_loses(name, dtype, nan_filled):
    tensors = inputs(name, dtype)
    direction, choices = made(len(tensors[0]), WIDTH, seed=5), CASES[name].shape[1]
    double = [each.double() if each.is_floating_point() else each for each in tensors]
    truth = gradients(oracle, double, direction)
    plain = gradients(lambda *given: mixed(*given, implementation="torch"), tensors, direction)
    ours = gradients(lambda *given: mixed(*given, choices=choices, implementation="triton"), tensors, direction)
    for what, found, lost, wanted in zip(
        ("output", "tokens", "gates", "gate", "up", "down"), ours, plain, truth, strict=True
    ):
        assert found.dtype == dtype and found.isfinite().all()
        if not wanted.numel():
            continue
        error, budget = ((each.double() - wanted).abs().max().item() for each in (found, lost))
        # What is exact in plain PyTorch may be rounded here: a few roundings of the largest number are allowed.
        budget = allowed(budget, wanted, dtype)
        print(f"{what}: error {error:.2e}, budget {budget:.2e}")
        assert error <= budget, what
    empty = [expert for expert in range(EXPERTS) if not tensors[1][:, expert].any()]
    for gradient in ours[3:]:
        assert (gradient[empty] == 0).all()


def test_what_is_dropped_is_stored_as_zeros_and_an_expert_without_rows_gets_zeros(nan_filled):
    expert = CASES["dropped"]
    plan = planned(expert, EXPERTS, torch.float32)
    rows, weight = made(len(expert), WIDTH), made(EXPERTS, WIDTH, INNER)
    output = routing.launch_product(rows, weight, plan, 2, True)
    kept = int(plan.offsets[EXPERTS])
    assert kept < len(output) and (output[kept:] == 0).all() and (output[:kept] != 0).any(1).all()
    empty = planned(CASES["one takes all"], EXPERTS, torch.float32)
    tokens = made(41, WIDTH)
    weights = routing.launch_weights(tokens, made(41, INNER), empty, EXPERTS, 1, True)
    assert (weights[[0, 1, 2, 4, 5]] == 0).all() and weights[3].abs().min() > 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("block_row", [16, 128])
def test_the_plan_puts_every_choice_in_a_tile_of_its_expert_and_back(name, block_row):
    expert = CASES[name]
    plan = routing.make_plan(expert, EXPERTS, block_row)
    flat = torch.where(expert < 0, EXPERTS, expert).flatten()
    assert torch.equal(plan.order[plan.place.flatten()], torch.arange(flat.numel(), device=DEVICE))
    counts = flat.bincount(minlength=EXPERTS + 1)
    assert torch.equal(plan.offsets.diff(), counts) and plan.offsets[0] == 0
    seen = torch.zeros(flat.numel(), dtype=torch.int64, device=DEVICE)
    for number, first in zip(plan.tile_expert.tolist(), plan.tile_first.tolist(), strict=True):
        if number >= 0:
            rows = slice(first, min(first + block_row, int(plan.offsets[number + 1])))
            assert (flat[plan.order[rows]] == number).all() and rows.stop > rows.start
            seen[rows] += 1
    assert (seen == 1).all()
    order = plan.order
    for number in range(EXPERTS):  # stable: each expert's rows in the order of the tokens
        assert (order[plan.offsets[number] : plan.offsets[number + 1]].diff() > 0).all()


def test_permuting_and_back_with_unit_weights_gives_each_token_once_per_choice():
    expert = CASES["two each"]
    plan = planned(expert, EXPERTS, torch.float32)
    hidden = made(len(expert), 33)
    rows = hidden[plan.order // 2]
    torch.testing.assert_close(routing.launch_combine(rows, None, plan.place), 2 * hidden)


class Waits(TorchDispatchMode):
    """Notes operators that look at a device's values on the host, or whose output has a size that depends on them."""

    names = ("_local_scalar_dense", "nonzero", "bincount", "unique", "masked_select", "is_nonzero", "item", "_to_copy")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        name, named = function.overloadpacket.__name__, named or {}
        if any(name.startswith(each) for each in self.names[:-1]) or (name == "_to_copy" and "device" in named):
            self.found.append(name)
        return function(*arguments, **named)


def test_nothing_waits_for_the_host(monkeypatch):
    """The plan, and forward and backward around the launches, which alone are left out: interpreted they must look."""
    from kernels.routing import operators

    for name in ("launch_product", "launch_weights", "launch_combine", "launch_expand"):
        launch = getattr(operators, name)
        monkeypatch.setattr(operators, name, _without_watching(launch))
    tokens, mask, gates, *weights = (
        each.requires_grad_() if each.is_floating_point() else each for each in inputs("dropped", torch.float32)
    )
    with Waits() as waits:
        mixed(tokens, mask, gates, *weights, choices=2, implementation="triton").sum().backward()
    assert waits.found == []
    with Waits() as waits:  # the plain form does wait: the watch sees it
        mixed(tokens, mask, gates, *weights, implementation="torch")
    assert {"nonzero", "_local_scalar_dense"} <= set(waits.found)


def _without_watching(launch):
    def quiet(*arguments):
        with torch.utils._python_dispatch._disable_current_modes():
            return launch(*arguments)

    return quiet


def test_two_runs_give_the_same_bits_and_so_does_another_order_of_the_programs():
    tensors, direction = inputs("dropped", torch.float32), made(29, WIDTH, seed=5)

    def run():
        return gradients(lambda *given: mixed(*given, choices=2, implementation="triton"), tensors, direction)

    first, second = run(), run()
    if runtime.mode == "interpreter":
        with shuffled(1):
            third = run()
    else:
        third = run()
    for one, two, three in zip(first, second, third, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


@pytest.mark.proves("traffic", "grouped_product_kernel", "grouped_weights_kernel", "combine_kernel", "expand_kernel")
@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_move_exactly_what_the_formulas_say(name, dtype):
    expert, element = CASES[name], dtype.itemsize
    (tokens, choices), plan = expert.shape, planned(expert, EXPERTS, dtype)
    row = routing.choose(dtype, expert.numel(), EXPERTS)
    counts = plan.offsets.diff().tolist()
    load, dropped, kept = counts[:-1], counts[-1], sum(counts[:-1])
    hidden, rows = made(tokens, WIDTH, dtype=dtype), made(expert.numel(), INNER, dtype=dtype)
    weight, gates = made(EXPERTS, WIDTH, INNER, dtype=dtype), made(tokens, choices)
    blocks = (row.block_row, row.block_column, row.block_inner)
    common = dict(blocks=blocks, tiles=len(plan.tile_expert), element=element)
    square = dict(block_row=row.block_walk, side=min(row.block_column, 64), element=element)
    pairs = [
        (lambda: routing.launch_product(hidden, weight, plan, choices, True),
         costs.product_traffic(load, dropped, WIDTH, INNER, gathered=True, **common)),
        (lambda: routing.launch_product(rows, weight.mT, plan, choices, False),
         costs.product_traffic(load, dropped, INNER, WIDTH, gathered=False, **common)),
        (lambda: routing.launch_weights(hidden, rows, plan, EXPERTS, choices, True),
         costs.weights_traffic(load, WIDTH, INNER, gathered=True, **square)),
        (lambda: routing.launch_combine(rows, gates, plan.place),
         costs.combine_traffic(tokens, choices, INNER, block_dim=BLOCK_DIM, weighted=True, element=element)),
        (lambda: routing.launch_combine(rows, None, plan.place),
         costs.combine_traffic(tokens, choices, INNER, block_dim=BLOCK_DIM, weighted=False, element=element)),
        (lambda: routing.launch_expand(made(tokens, INNER, dtype=dtype), rows, gates, plan.order, plan.offsets),
         costs.expand_traffic(expert.numel(), kept, INNER, block_row=BLOCK_TOKEN, element=element)),
    ]  # fmt: skip
    for number, (launch, wanted) in enumerate(pairs):
        with trace() as traffic:
            launch()
        assert shared_costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops) == wanted, number


@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
def test_the_fused_gather_saves_a_pass_over_the_rows():
    """Read in place, each row costs its number, 8 bytes, per tile of columns; permuted before, two passes over it."""
    counts, sizes = [100, 40, 0, 60], dict(blocks=(64, 64, 32), tiles=9)
    fused, plain = (costs.product_traffic(counts, 0, 512, 128, gathered=each, **sizes).loaded for each in (True, False))
    assert fused - plain == 8 * 200 * 2 and fused - plain < 2 * 200 * 512 * 4 / 100


def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    tokens, mask, gates, *weights = inputs("dropped", torch.float32)
    plan = planned(CASES["dropped"], EXPERTS, torch.float32)
    torch.library.opcheck(grouped_product, (tokens.requires_grad_(), weights[0].requires_grad_(), *plan, True))
    rows = made(CASES["dropped"].numel(), WIDTH).requires_grad_()
    torch.library.opcheck(combine_rows, (rows, made(29, 2).requires_grad_(), plan.place, plan.order, plan.offsets))

    def call(*given):
        return mixed(*given, choices=2, implementation="triton")

    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    given = tokens.detach(), mask, gates, *(each.detach() for each in weights)
    torch.testing.assert_close(compiled(*given), call(*given))


@pytest.mark.parametrize("router", ["prices", "expert_choice", "gshard"])
def test_a_layer_by_kernels_is_the_layer(router):
    torch.manual_seed(0)
    layer = MixtureOfExperts(16, 24, 4, 2, router=router).to(DEVICE)
    hidden = made(2, 9, 16)
    plain = layer(hidden)
    layer.implementation = "triton"
    torch.testing.assert_close(layer(hidden), plain, rtol=1e-4, atol=1e-6)


def test_the_experts_of_a_mask_stand_in_their_order():
    mask = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool, device=DEVICE)
    assert chosen_experts(mask, 2).tolist() == [[1, 2], [-1, -1], [0, -1]]
    found = route(skewed(20, 5, 1.0, torch.Generator().manual_seed(0)), router="prices", top_k=2)
    experts = chosen_experts(found.mask, 2)
    assert torch.equal((experts[..., None] == torch.arange(5)).any(1), found.mask)


def test_every_offset_is_made_in_64_bits():
    """By the arithmetic of shapes: an expert's matrix, a row and a choice are numbered in int64 before they are scaled.

    No device here holds 2^31 numbers twice, so the sources are read: each pointer is moved by rows_of, or by a product
    whose first factor was cast.
    """
    assert "tl.cast(first + rows, tl.int64)" in python_inspect.getsource(tiles.rows_of.fn)
    for module in (routing.products, routing.combine):
        for line in python_inspect.getsource(module).splitlines():
            if "_pointer +=" in line:
                assert "tl.int64) *" in line, line
    plan = planned(CASES["two each"], EXPERTS, torch.float32)
    assert {each.dtype for each in (plan.order, plan.place, plan.offsets, plan.tile_first)} == {torch.int64}


def test_what_the_kernels_do_not_take_is_refused_in_a_sentence():
    tensors = inputs("two each", torch.float64)
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16; got torch.float64"):
        mixed(*tensors, implementation="triton")
    with pytest.raises(ValueError, match="must have the shapes"):
        mixed(*tensors[:-1], tensors[-1][:, :5])
