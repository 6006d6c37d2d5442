"""The fused step, interpreted: the plain step bit for bit, exact in what it moves, one graph under torch.compile."""

import inspect as python_inspect

import numpy as np
import pytest
import torch

from effattn_core.costs import Traffic
from effattn_core.lowbit import SOLOAdamW, levels, midpoints, unpack
from effattn_core.lowbit.traffic import bytes_per_parameter, step_traffic
from kernels import lowbit, runtime
from kernels.lowbit import step as step_module
from kernels.lowbit.configurations import midpoints as middles_of
from kernels.lowbit.operators import fused_step
from kernels.trace import shuffled, trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")
STATES = ("m_codes", "m_scale", "v_codes", "v_scale", "v_slope")
PAIRS = [(m, v) for m in lowbit.BITS for v in lowbit.BITS]
SETTINGS = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)


def made(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(DEVICE, dtype)


@pytest.fixture
def quick(monkeypatch):
    """The interpreter patches triton.language at each call inside a kernel: once per launch is enough, and quicker."""
    if runtime.mode != "interpreter":
        return
    from triton import language
    from triton.runtime import interpreter

    patch, seen = interpreter._patch_lang, set()

    def once(function):
        found = function.__globals__.values()
        key = tuple(any(each is lang for each in found) for lang in (language, language.core))
        if key in seen:
            return interpreter._LangPatchScope()
        seen.add(key)
        scope = patch(function)
        restore = scope.restore
        scope.restore = lambda: (restore(), seen.clear())
        return scope

    monkeypatch.setattr(interpreter, "_patch_lang", once)


@pytest.fixture
def same_functions(monkeypatch):
    """NumPy's exp2, log2 and sqrt, which the interpreter takes, for PyTorch's: they differ in the last place."""
    if runtime.mode != "interpreter":
        return

    def by_numpy(function):
        return lambda tensor, *rest: torch.from_numpy(np.asarray(function(tensor.detach().numpy())))

    for owner, name in ((torch, "exp2"), (torch, "log2"), (torch.Tensor, "sqrt")):
        monkeypatch.setattr(owner, name, by_numpy(getattr(np, name)))


def gradients(count, steps, dtype=torch.float32, spoiled=()):
    """Of magnitudes over two decades, some always 0, some NaN or infinite at the steps `spoiled`.

    Few enough are 0 that the quantile lies among those that are not.
    """
    size = 10 ** torch.linspace(-1.5, 0.5, count)[torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    for step in range(1, steps + 1):
        gradient = made(count, seed=step) * size.to(DEVICE)
        gradient[3::40] = 0.0
        if step in spoiled:
            gradient[5], gradient[6], gradient[130 % count] = torch.nan, torch.inf, 1e30
        yield gradient.to(dtype)


def beside(count, steps, dtype=torch.float32, spoiled=(), **settings):
    """Both optimizers over the same gradients: yields (plain parameter, its state, fused parameter, its state)."""
    both = []
    for implementation in ("torch", "triton"):
        parameter = torch.nn.Parameter(made(count, dtype=dtype))
        given = SETTINGS | settings
        both.append((parameter, SOLOAdamW([parameter], implementation=implementation, seed=3, least=1, **given)))
    for gradient in gradients(count, steps, dtype, spoiled):
        for parameter, optimizer in both:
            parameter.grad = gradient.clone()
            optimizer.step()
        yield tuple(each for parameter, optimizer in both for each in (parameter, optimizer.state[parameter]))


def compare(plain, state, fused, fused_state, step):
    """Equal bits where both take the same functions; on a GPU, whose exp2 differs, a few codes may."""
    if runtime.mode == "interpreter":
        for name in STATES:
            assert torch.equal(state[name], fused_state[name]), (name, step)
        assert torch.equal(plain, fused), step
        return
    for name in ("m_codes", "v_codes"):
        assert (state[name] != fused_state[name]).float().mean() < 0.01, (name, step)


@pytest.mark.proves("oracle", "lowbit_step_kernel")
@pytest.mark.filterwarnings("ignore:the gradient of parameter")
def test_codes_scales_and_weights_equal_the_plain_step_s_over_a_hundred_steps(same_functions, quick):
    moved = set()
    for step, (plain, state, fused, fused_state) in enumerate(beside(461, 100, spoiled=(7, 40)), 1):
        compare(plain, state, fused, fused_state, step)
        moved.add(bytes(fused_state["v_codes"].tolist()))
        assert fused.isfinite().all()
    assert len(moved) > 50  # codes do change, of v a few per step


@pytest.mark.proves("oracle", "lowbit_step_kernel")
@pytest.mark.parametrize("bits", PAIRS, ids=str)
@pytest.mark.parametrize("count", [1, 129, 300])
def test_every_pair_of_bits_equals_the_plain_step_over_short_tensors(bits, count, same_functions, quick):
    settings = dict(bits=bits, unbiased=bits[1] == 4, signed_extreme=bits[0] == 2, quantile=0.25)
    for step, found in enumerate(beside(count, 4, **settings), 1):
        compare(*found, step)


@pytest.mark.parametrize("bits", lowbit.BITS)
def test_a_value_on_a_midpoint_takes_the_upper_level(bits, quick):
    """With β1 = 0 the moment is the gradient, and its block's scale is 1: ties, their neighbours, and both ends."""
    table = levels("exponent", bits, signed=True).float()
    middles = midpoints(levels("exponent", bits, signed=True)).float()
    beside_them = [middles.nextafter(torch.tensor(each)) for each in (-1.0, 1.0)]
    values = torch.cat([middles, *beside_them, table, torch.tensor([1.0, -1.0, 0.0, -0.0])]).to(DEVICE)
    given = dict(bits=(bits, 2), betas=(0.0, 0.999), step=1)
    states = stepped(values, values, lowbit.empty_states(len(values), (bits, 2), DEVICE), **given)[1:]
    wanted = (values[:, None] >= middles.to(DEVICE)).sum(1)
    assert states[1].tolist() == [1.0] and torch.equal(unpack(states[0], bits, len(values)).long(), wanted)


def test_bfloat16_weights_are_rounded_as_the_plain_step_rounds_them(same_functions, quick):
    dtype = torch.bfloat16
    for step, (plain, state, fused, fused_state) in enumerate(beside(300, 5, dtype, unbiased=True), 1):
        assert fused.dtype == dtype
        compare(plain, state, fused, fused_state, step)


@interpreted
def test_without_the_same_functions_few_codes_differ(quick):
    """PyTorch's exp2 and log2 differ from NumPy's in the last place: a code differs where a draw comes as near."""
    for step, (_plain, state, _fused, fused_state) in enumerate(beside(461, 12), 1):
        differing = sum((state[name] != fused_state[name]).sum().item() for name in ("m_codes", "v_codes"))
        assert differing <= 2, step


def stepped(parameter, gradient, states, **settings):
    """(parameter, *states) after a launch, copies."""
    copies = [each.clone() for each in (parameter, *states)]
    given = dict(seed_v=5, seed_parameter=6, step=3, **SETTINGS) | settings
    lowbit.launch_step(copies[0], gradient, *copies[1:], **given)
    return copies


def begun(count, bits=(4, 2)):
    """(parameter, gradient, states) after a first step."""
    parameter, gradient = made(count), made(count, seed=1)
    parameter, *states = stepped(parameter, gradient, lowbit.empty_states(count, bits, DEVICE), bits=bits, step=1)
    return parameter, gradient, states


@interpreted
def test_rows_per_program_and_the_order_of_programs_change_no_bit(quick):
    parameter, gradient, states = begun(1025)
    first = stepped(parameter, gradient, states)
    with shuffled(1):
        second = stepped(parameter, gradient, states)
    third = stepped(parameter, gradient, states, rows=16)
    for one, two, three in zip(first, second, third, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


def test_a_parameter_in_two_shares_steps_as_the_whole_one_does(quick):
    """Random numbers go by the global place, so shares that begin at a block draw what the whole parameter draws."""
    parameter, gradient, states = begun(512)
    whole = stepped(parameter, gradient, states, base=2**33)
    for low, high in ((0, 128), (128, 512)):
        share = [each[low * len(each) // 512 : high * len(each) // 512] for each in (parameter, *states)]
        found = stepped(share[0], gradient[low:high], share[1:], base=2**33 + low)
        for one, all_of_it in zip(found, whole, strict=True):
            assert torch.equal(one, all_of_it[low * len(all_of_it) // 512 : high * len(all_of_it) // 512])
    moved = stepped(parameter, gradient, states, base=2**33 + 4)
    assert not torch.equal(moved[3], whole[3]) and torch.equal(moved[1], whole[1])


@pytest.mark.proves("traffic", "lowbit_step_kernel")
@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("bits", PAIRS, ids=str)
@pytest.mark.parametrize("count", [1, 131, 640])
def test_the_kernel_moves_exactly_what_the_formula_says(count, bits, dtype, quick):
    parameter, states = made(count, dtype=dtype), lowbit.empty_states(count, bits)
    with trace() as traffic:
        lowbit.launch_step(parameter, parameter.clone(), *states, seed_v=5, step=1, bits=bits, **SETTINGS)
    found = Traffic(traffic.loaded_bytes, traffic.stored_bytes, traffic.flops)
    assert found == step_traffic(count, bits=bits, element=dtype.itemsize)
    if count == 640 and bits == (4, 2):
        per_parameter = (found.loaded + found.stored) / count
        print(f"{per_parameter} bytes per parameter")
        assert per_parameter == {4: 13.6875, 2: 7.6875}[dtype.itemsize]
        assert per_parameter == bytes_per_parameter(0.84375, dtype.itemsize)


@pytest.mark.parametrize("bits", lowbit.BITS)
def test_the_levels_in_the_compiled_code_are_those_of_the_library(bits):
    table = levels("exponent", bits, signed=True)
    from_zero = table[table >= 0]
    np.testing.assert_allclose(lowbit.DYNAMIC[bits], from_zero, rtol=1e-15)
    np.testing.assert_array_equal(np.float32(middles_of(lowbit.DYNAMIC[bits])), midpoints(from_zero).float())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("count", [1, 2, 13, 127, 128])
def test_the_place_of_the_quantile_is_that_of_torch(count, share):
    values = made(count).sort().values
    rank, weight = lowbit.quantile_place(count, share)
    found = values[rank] + weight * (values[min(rank + 1, count - 1)] - values[rank])
    torch.testing.assert_close(found, torch.quantile(values, share))


def arguments(parameter, gradient, states):
    return parameter, gradient, *states, 5, 6, 0, 1e-2, 0.9, 0.999, 1e-8, 0.1, 2, 4, 2, 0.1, False, True


def test_the_operator_passes_the_library_s_own_checks_and_compiles_as_one_graph(quick):
    parameter, _, states = begun(300)
    gradient = made(300, seed=2)
    torch.library.opcheck(fused_step, arguments(parameter, gradient, states))

    def call(*given):
        fused_step(*arguments(given[0], given[1], given[2:]))

    plain, compiled = ([each.clone() for each in (parameter, gradient, *states)] for _ in range(2))
    call(*plain)
    torch.compile(call, backend="aot_eager", fullgraph=True)(*compiled)
    for one, two, before in zip(plain, compiled, (parameter, gradient, *states), strict=True):
        assert torch.equal(one, two) and (one is plain[1] or not torch.equal(one, before))


def test_strides_are_honoured(quick):
    parameter, gradient, states = begun(15 * 20)
    plain = [parameter.view(15, 20).clone(), *(each.clone() for each in states)]
    fused_step(*arguments(plain[0], gradient.view(15, 20), plain[1:]))
    turned = [parameter.view(15, 20).mT.contiguous().mT, *(each.clone() for each in states)]
    assert not turned[0].is_contiguous()
    fused_step(*arguments(turned[0], gradient.view(15, 20).mT.contiguous().mT, turned[1:]))
    for one, two in zip(plain, turned, strict=True):
        assert torch.equal(one, two)


def test_an_empty_parameter_is_no_launch_and_a_silent_block_stays_zeros(quick):
    lowbit.launch_step(made(0), made(0), *lowbit.empty_states(0, (4, 2), DEVICE), seed_v=1, step=1, **SETTINGS)
    zeros = torch.zeros(200, device=DEVICE)
    parameter, *states = stepped(zeros, zeros, lowbit.empty_states(200, (4, 2), DEVICE))
    assert (parameter == 0).all() and all((each == 0).all() for each in (states[1], *states[2:]))
    parameter, *states = stepped(made(200), zeros, states, step=4)  # and is not NaN at the next step
    assert parameter.isfinite().all() and (states[3] == 0).all()


def test_what_the_kernel_does_not_take_is_refused_in_a_sentence():
    parameter, states = made(256), lowbit.empty_states(256, (4, 2), DEVICE)
    given = dict(seed_v=1, step=1, **SETTINGS)
    with pytest.raises(ValueError, match="2 or 4 bits for each state; got 3 and 2"):
        lowbit.launch_step(parameter, parameter, *states, bits=(3, 2), **given)
    with pytest.raises(ValueError, match="multiple of 4.*it is 6"):
        lowbit.launch_step(parameter, parameter, *states, base=6, **given)
    with pytest.raises(ValueError, match="contiguous"):
        lowbit.launch_step(parameter[::2], parameter[::2], *states, **given)
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16"):
        lowbit.launch_step(parameter.double(), parameter, *states, **given)
    with pytest.raises(ValueError, match="element must be 2 or 4"):
        step_traffic(4, element=8)
    with pytest.raises(ValueError, match="count must be a whole number"):
        step_traffic(-1)


def test_every_offset_is_made_in_64_bits():
    """No device here holds 2^31 parameters, so the source is read: a row is cast before it is scaled."""
    source = python_inspect.getsource(step_module.lowbit_step_kernel.fn)
    assert "row = tl.cast(tl.program_id(0), tl.int64) * ROWS" in source
    assert source.count("row[:, None] * BLOCK") == 4 and "program_id" not in source.replace(
        "tl.program_id(0), tl.int64", ""
    )
