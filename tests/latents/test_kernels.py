"""The kernels of the head step: within twice what plain PyTorch loses, exact in what they move, the same bits again."""

import inspect as python_inspect
from functools import partial

import pytest
import torch
from support.placed import allowed

from effattn_core import costs as shared_costs
from effattn_core.latents import head_oracle
from effattn_core.latents import traffic as formulas
from kernels import latents, runtime
from kernels.latents import backward, forward, operators, weights
from kernels.latents.configurations import EPSILON, splits_for
from kernels.latents.operators import head_step
from kernels.trace import launched, shuffled, trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
SIZES = (*latents.SIZES, (131, 24, 16), (3, 1280, 32))  # rows that are split and merged, and the widest
NAMES = ("output", "u", "modulation", "active", "linear", "down")
FORWARD = ("head_modulate_kernel", "head_up_kernel", "head_down_kernel")


def made(*shape, dtype=torch.float32, seed=0, scale=1.0):
    """Normal numbers of a strided view: every second of a row."""
    numbers = torch.randn(*shape[:-1], 2 * shape[-1], generator=torch.Generator().manual_seed(seed + sum(shape)))
    return (numbers * scale).to(DEVICE, dtype)[..., ::2]


def inputs(size, dtype=torch.float32):
    """What `head_step` takes, all of it strided: rows have gaps, matrices lie turned."""
    rows, width, hidden = size
    shapes = ((rows, width), (rows, 3 * width), (hidden, width), (hidden, width), (width, hidden))
    scales = (1.0, 0.5, width**-0.5, width**-0.5, hidden**-0.5)
    tensors = [made(*shape, dtype=dtype, seed=n, scale=scales[n]) for n, shape in enumerate(shapes)]
    return [each.mT.contiguous().mT if n > 1 else each for n, each in enumerate(tensors)]


def plain(u, modulation, active, linear, down):
    """The step in PyTorch, in the dtype of u; the norm in float32, as the kernels have it."""
    wide = u.to(torch.promote_types(u.dtype, torch.float32))
    normal = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)).to(u.dtype)
    shift, scale, gate = modulation.chunk(3, -1)
    modulated = normal * (1 + scale) + shift
    return u + gate * (torch.nn.functional.silu(modulated @ active.mT) * (modulated @ linear.mT) @ down.mT)


def gradients(function, tensors, direction):
    """The output, and the gradients of all that was given."""
    given = [each.detach().requires_grad_() for each in tensors]
    output = function(*given)
    return [output.detach(), *torch.autograd.grad((output * direction.to(output.dtype)).sum(), given)]


def assert_within(found, lost, wanted, what):
    """At most twice as far from the float64 oracle as plain PyTorch is, or a few roundings of the largest number."""
    assert found.dtype == lost.dtype and found.isfinite().all(), what
    if wanted.numel():
        error, budget = ((each.double() - wanted).abs().max().item() for each in (found, lost))
        budget = allowed(budget, wanted, found.dtype)
        print(f"{what}: error {error:.2e}, budget {budget:.2e}")
        assert error <= budget, what


@pytest.mark.proves(
    "oracle", "head_modulate_kernel", "head_up_kernel", "head_down_kernel", "head_*_backward_kernel",
    "head_weights_kernel", "head_merge_kernel",
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_step_and_its_gradients_lose_at_most_twice_what_plain_pytorch_loses(size, dtype, nan_filled):
    tensors, direction = inputs(size, dtype), made(size[0], size[1], seed=9)
    truth = gradients(head_oracle, [each.double() for each in tensors], direction.double())
    lost, ours = (gradients(function, tensors, direction) for function in (plain, head_step))
    for what, found, plain_found, wanted in zip(NAMES, ours, lost, truth, strict=True):
        assert_within(found, plain_found, wanted, what)
    if not size[0]:
        assert all((gradient == 0).all() for gradient in ours[3:])


@pytest.mark.proves("oracle", "head_sample_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_step_without_gradients_keeps_nothing_and_loses_as_little(size, dtype, nan_filled):
    tensors = inputs(size, dtype)
    with launched() if runtime.mode == "interpreter" else torch.no_grad() as names:
        output, *kept = operators.step(*tensors, False)
    assert_within(output, plain(*tensors), head_oracle(*(each.double() for each in tensors)), "output")
    assert all(each.numel() == 0 for each in kept)
    rows, width, hidden = size
    assert sum(each.numel() for each in operators.step(*tensors, True)[1:]) == rows * (2 * hidden + 2 * width + 1)
    if names is not None and size[0]:
        few = size[0] <= latents.FEW
        assert names == ({"head_sample_kernel", "head_down_kernel"} if few else set(FORWARD))


def test_the_oracle_has_the_gradients_of_finite_differences():
    tensors = [each.double().requires_grad_() for each in inputs((3, 6, 5))]
    assert torch.autograd.gradcheck(head_oracle, tensors)


def test_with_gates_of_zero_a_step_changes_no_bit():
    """As at the start of training: the modulation's matrix is zero, and the head passes its input on."""
    for size in ((66, 24, 16), (3, 40, 48)):
        u, modulation, *matrices = inputs(size)
        assert torch.equal(head_step(u, torch.zeros_like(modulation), *matrices), u)
        first, second = (gradients(head_step, (u, modulation * 0, *matrices), u)[k] for k in (1, 3))
        assert torch.equal(first, u) and (second == 0).all()


def test_a_row_sees_no_other_row_and_the_scale_of_u_does_not_pass_the_norm():
    # Compiled, other strides are another kernel, which may sum a row in another order: all are contiguous here.
    u, modulation, *matrices = (each.contiguous() for each in inputs((70, 40, 80)))
    before = head_step(u, modulation, *matrices)
    other, turned = u.clone(), modulation.clone()
    other[30], turned[31] = 3.0, -1.0
    after = head_step(other, turned, *matrices)
    same = torch.ones(70, dtype=torch.bool)
    same[30:32] = False
    assert torch.equal(before[same], after[same]) and not torch.equal(before[30], after[30])
    assert (before[31] != after[31]).any()
    torch.testing.assert_close(head_step(8 * u, modulation, *matrices) - 8 * u, before - u, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("rows", [131, 40])
def test_any_split_of_the_rows_gives_the_matrix_s_gradient(rows, nan_filled):
    left, right = made(rows, 40).contiguous(), made(rows, 56, seed=1).contiguous()
    wanted = left.double().mT @ right.double()
    for splits in (1, 2, 3, 100):
        torch.testing.assert_close(latents.launch_weights(left, right, splits).double(), wanted, rtol=1e-5, atol=1e-4)
    assert (latents.launch_weights(left[:0], right[:0]) == 0).all()


def test_the_rows_are_split_where_tiles_are_few_and_each_split_has_rows():
    device = torch.device("cpu")
    for rows in (0, 1, 63, 64, 80, 1000, 4096):
        for tiles in (1, 3, 1000):
            splits, share = splits_for(rows, tiles, 16, device)
            assert splits >= 1 and share % 16 == 0 and (splits - 1) * share < max(rows, 1)
            assert splits * share >= rows and (splits == 1 or share >= 4 * 16)
    assert splits_for(4096, 1, 16, device)[0] == 8 and splits_for(4096, 1000, 16, device)[0] == 1


def test_two_runs_give_the_same_bits_and_so_does_another_order_of_the_programs():
    tensors, direction = inputs((131, 24, 16)), made(131, 24, seed=9)

    def run():
        return gradients(head_step, tensors, direction)

    first, second = run(), run()
    if runtime.mode == "interpreter":
        with shuffled(1):
            third = run()
    else:
        third = run()
    for one, two, three in zip(first, second, third, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


@pytest.mark.proves("traffic", "head_*_kernel")
@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("size", SIZES[:-1], ids=str)
def test_the_kernels_move_exactly_what_the_formulas_say(size, dtype):
    (rows, width, hidden), element = size, dtype.itemsize
    u, modulation, active, linear, down = inputs(size, dtype)
    row = latents.choose(dtype, rows)
    product = dict(blocks=(row.block_row, row.block_column, row.block_inner), element=element)
    modulated, root = latents.launch_modulate(u, modulation)
    inner, products = latents.launch_up(modulated, active, linear, True)
    _, kept = latents.launch_down(inner, down, u, modulation, True)
    whole, grad = latents.launch_gate_backward(u, kept, modulation)
    _, grads = latents.launch_inner_backward(grad, down, products)
    walked = dict(block_walk=row.block_walk, side=row.side, element=element)
    tiles = -(-2 * hidden // row.side) * -(-width // row.side)
    split = -(-rows // row.block_walk // 3) * row.block_walk or row.block_walk
    pairs = {
        "modulate": (lambda: latents.launch_modulate(u, modulation),
                     formulas.modulate_traffic(rows, width, element=element)),
        "up": (lambda: latents.launch_up(modulated, active, linear, False),
               formulas.up_traffic(rows, width, hidden, kept=False, **product)),
        "up, kept": (lambda: latents.launch_up(modulated, active, linear, True),
                     formulas.up_traffic(rows, width, hidden, kept=True, **product)),
        "sample": (lambda: latents.launch_sample(u, modulation, active, linear),
                   formulas.sample_traffic(rows, width, hidden, **product)),
        "down": (lambda: latents.launch_down(inner, down, u, modulation, False),
                 formulas.down_traffic(rows, width, hidden, kept=False, **product)),
        "down, kept": (lambda: latents.launch_down(inner, down, u, modulation, True),
                       formulas.down_traffic(rows, width, hidden, kept=True, **product)),
        "gate": (lambda: latents.launch_gate_backward(u, kept, modulation),
                 formulas.gate_backward_traffic(rows, width, element=element)),
        "inner": (lambda: latents.launch_inner_backward(grad, down, products),
                  formulas.inner_backward_traffic(rows, width, hidden, **product)),
        "hidden": (lambda: latents.launch_hidden_backward(grads, active, linear, whole),
                   formulas.hidden_backward_traffic(rows, width, hidden, **product)),
        "norm": (lambda: latents.launch_norm_backward(u, modulation, root, u, whole),
                 formulas.norm_backward_traffic(rows, width, element=element)),
        "weights": (lambda: latents.launch_weights(grads, modulated),
                    formulas.weights_traffic(rows, 2 * hidden, width, **walked,
                                             share=splits_for(rows, tiles, row.block_walk, u.device)[1])),
        "weights, split": (lambda: latents.launch_weights(grads, modulated, 3),
                           formulas.weights_traffic(rows, 2 * hidden, width, share=split, **walked)),
        "a step": (lambda: operators.run_step(u, modulation, active, linear, down, False),
                   formulas.step_traffic(rows, width, hidden, kept=False, few=rows <= latents.FEW, **product)),
        "a step, kept": (lambda: operators.run_step(u, modulation, active, linear, down, True),
                         formulas.step_traffic(rows, width, hidden, kept=True, few=rows <= latents.FEW, **product)),
    }  # fmt: skip
    for what, (launch, wanted) in pairs.items():
        with trace() as traffic:
            launch()
        assert shared_costs.Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops) == wanted, what


@pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
def test_the_norm_belongs_before_the_product_from_two_tiles_of_columns_on():
    """Numbers moved per number of a row, without the matrices and what is stored of the products."""

    def moved(launch):
        with trace() as traffic:
            launch()
        return traffic.loaded_bytes + traffic.stored_bytes

    def apart(u, modulation, active, linear):
        latents.launch_up(latents.launch_modulate(u, modulation)[0], active, linear, False)

    for hidden in (32, 64, 320):
        u, modulation, active, linear, _ = given = inputs((16, 32, hidden))
        rest = 2 * active.numel() * 4 + 4 * 16 * hidden
        wanted = formulas.fused_reads(hidden, latents.choose(torch.float32, 16).block_column)
        found = [moved(partial(launch, *given[:4])) - rest for launch in (latents.launch_sample, apart)]
        assert found == [wanted[0] * u.numel() * 4, wanted[1] * u.numel() * 4 + 4 * 16]
        assert (wanted[0] < wanted[1]) is (hidden <= 32)


def test_the_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    tensors = [each.detach().requires_grad_() for each in inputs((5, 24, 16))]
    torch.library.opcheck(operators.step, (*tensors, True))
    torch.library.opcheck(operators.step, (*(each.detach() for each in tensors), False))
    compiled = torch.compile(head_step, backend="aot_eager", fullgraph=True)
    for one, two in zip(
        gradients(compiled, tensors, tensors[0]), gradients(head_step, tensors, tensors[0]), strict=True
    ):
        torch.testing.assert_close(one, two)


def test_leading_axes_are_rows_and_bfloat16_comes_back_as_it_went():
    u, modulation, *matrices = inputs((12, 24, 16))
    flat = head_step(u, modulation, *matrices)
    assert torch.equal(head_step(u.unflatten(0, (3, 4)), modulation.unflatten(0, (3, 4)), *matrices).view(12, 24), flat)
    low = [each.bfloat16() for each in (u, modulation, *matrices)]
    found = gradients(head_step, low, u)
    assert all(each.dtype == torch.bfloat16 for each in found)
    torch.testing.assert_close(found[0].float(), flat, rtol=0.05, atol=0.05)


def test_what_the_step_does_not_take_is_refused_in_a_sentence():
    tensors = inputs((4, 24, 16))
    with pytest.raises(ValueError, match=r"beside u of shape \(4, 24\), modulation must be \(4, 72\); got \(4, 48\)"):
        head_step(tensors[0], tensors[1][:, :48], *tensors[2:])
    with pytest.raises(ValueError, match="u is torch.float32 and down is torch.float16; the head step takes one dtype"):
        head_step(*tensors[:-1], tensors[-1].half())
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16; got torch.float64"):
        head_step(*(each.double() for each in tensors))
    output = operators.step(*(each.detach().requires_grad_() for each in tensors), False)[0]
    with pytest.raises(RuntimeError, match="ran with kept=False, for sampling"):
        output.sum().backward()


def test_every_offset_is_made_in_64_bits():
    """No device here holds 2^31 numbers twice, so the sources are read: a pointer is moved by a cast, or by rows_of."""
    for module in (forward, backward, weights):
        for line in python_inspect.getsource(module).splitlines():
            if "_pointer +=" in line or "return pointer +" in line or "root_pointer +" in line:
                assert "tl.int64)" in line, line
