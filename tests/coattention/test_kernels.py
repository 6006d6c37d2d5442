"""The kernels of attention between two inputs, interpreted: right, and exact in what they move."""

import pytest
import torch

from effattn_core.coattention import attend, costs
from effattn_core.coattention.fusion import fused
from effattn_core.coattention.pooling import column_mass
from effattn_core.costs import Traffic
from kernels import coattention, runtime
from kernels.coattention import columns, fusion, operators, sparse
from kernels.trace import trace

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
watched = pytest.mark.skipif(runtime.mode != "interpreter", reason="the tracer watches the interpreter")
both = pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)


def drawn(dtype, *shape, seed=0):
    """Not contiguous: each row of a wider tensor."""
    made = torch.randn(*shape[:-1], shape[-1] + 3, generator=torch.Generator().manual_seed(seed + sum(shape)))
    return made.to(DEVICE, dtype)[..., 1:-2]


def judged(ours, plain, wanted):
    for one, other, truth in zip(ours, plain, wanted, strict=True):
        finite = truth.isfinite()
        assert torch.equal(one.isfinite(), finite) and not one.isnan().any()
        if finite.any():
            error, lost = ((each.double() - truth)[finite].abs().max().item() for each in (one, other))
            budget = max(2 * lost, 2 * torch.finfo(one.dtype).eps * truth[finite].abs().max().clamp(min=1).item())
            print(f"error {error:.2e}, budget {budget:.2e}")
            assert error <= budget


def asked(region, context, weight, value, normalised):
    """The oracle over glimpses and questions, and its log-sum-exp."""
    output = torch.stack(
        [fused(region, each, weight, value, normalised=normalised)[0] for each in context.unbind(1)], 2
    )
    scores = (context[:, None, :, None] * region[:, None, None]) * weight[None, :, None, None]
    norm = (context[:, None, :, None] * region[:, None, None]).norm(dim=-1) if normalised else 1
    return output, (scores.sum(-1) / norm).logsumexp(-1)


@pytest.mark.proves("oracle", "fusion_kernel")
@both
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("sizes", [(2, 1, 1, 5), (1, 17, 33, 37), (2, 3, 65, 64)], ids=str)
def test_fusion_loses_at_most_twice_what_plain_pytorch_loses(sizes, normalised, dtype, nan_filled):
    batch, asks, regions, hidden = sizes
    given = (drawn(dtype, batch, regions, hidden), drawn(dtype, batch, asks, hidden, seed=1),
             drawn(dtype, 2, hidden), drawn(dtype, batch, regions, 32))  # fmt: skip
    plain = asked(*given, normalised)
    ours = operators.fusion_forward(*given, normalised)
    judged(ours, plain, asked(*(each.double() for each in given), normalised))


@pytest.mark.proves("oracle", "graph_attention_kernel")
@both
@pytest.mark.parametrize("sizes", [(2, 1, 17), (1, 33, 5), (2, 17, 49)], ids=str)
@pytest.mark.parametrize("name", ["few edges", "no edge"])
def test_a_graph_in_blocks_loses_at_most_twice_what_plain_pytorch_loses(sizes, name, dtype, nan_filled):
    heads, asks, answers = sizes
    bias = coattention.graphs(asks, answers, DEVICE)[name]
    given = (drawn(dtype, heads, asks, 32), drawn(dtype, heads, answers, 32, seed=1), drawn(dtype, heads, answers, 64))
    output, _, lse = attend(*given, bias=bias.to(dtype), scale=0.3)
    truth, _, truth_lse = attend(*(each.double() for each in given), bias=bias.double(), scale=0.3)
    ours = operators.graph_attention_forward(*given, *coattention.live_blocks(bias), 0.3)
    judged(ours, (output, lse), (truth, truth_lse))
    assert not ours[0][:, 0].any() and (ours[1][:, 0] == -torch.inf).all()  # the first row sees nothing


@pytest.mark.proves("oracle", "column_mass_kernel")
@both
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("time", [1, 33, 65])
def test_column_mass_loses_at_most_twice_what_plain_pytorch_loses(time, causal, dtype, nan_filled):
    query, key = drawn(dtype, 12, time, 32), drawn(dtype, 12, time, 32, seed=1)
    mask = torch.ones(time, time, dtype=torch.bool, device=DEVICE).tril() if causal else None
    _, _, lse = attend(query.float(), key.float(), key.float(), mask=mask, scale=0.2)
    _, truth, truth_lse = attend(query.double(), key.double(), key.double(), mask=mask, scale=0.2)
    # A saved log-sum-exp is an input, float32, and all its readers see the rounding: exp(-lse · eps / 2) in a weight.
    # The truth of the second pass is that of the number that was saved; what plain PyTorch loses is its second pass, as
    # its first at time 1 loses nothing: there score and log-sum-exp are one number. Twelve heads, for maxima to settle.
    given = (query.double(), key.double(), lse.double(), 0.2, causal)
    ours = operators.column_mass(query, key, lse, 0.2, causal)
    judged([ours], [column_mass(query.float(), key.float(), lse, 0.2, causal)], [column_mass(*given)])
    torch.testing.assert_close(column_mass(query.double(), key.double(), truth_lse, 0.2, causal), truth.sum(1))


@watched
@pytest.mark.proves("traffic", "fusion_kernel")
@both
@pytest.mark.parametrize("normalised", [True, False])
def test_fusion_moves_exactly_what_the_formula_says(normalised, dtype):
    for batch, asks, regions, hidden in ((1, 16, 32, 32), (2, 17, 65, 37)):
        given = [drawn(dtype, *shape) for shape in
                 ((batch, regions, hidden), (batch, asks, hidden), (3, hidden), (batch, regions, 32))]  # fmt: skip
        with trace() as moved:
            coattention.launch_fusion(*given, normalised)
        blocks = dict(
            block_ask=fusion.BLOCK_ASK, block_region=fusion.BLOCK_REGION, block_hidden=fusion.BLOCKS_HIDDEN[32],
            element=dtype.itemsize,
        )  # fmt: skip
        formula = costs.fusion_traffic(batch, asks, regions, hidden, 32, 3, normalised=normalised, **blocks)
        assert Traffic(moved.loaded_bytes, moved.stored_bytes, moved.flops) == formula


@watched
@pytest.mark.proves("traffic", "graph_attention_kernel")
@both
def test_a_graph_moves_exactly_its_live_blocks(dtype):
    for asks, answers in ((16, 16), (33, 49)):
        for bias in coattention.graphs(asks, answers).values():
            tiles, first, column = coattention.live_blocks(bias)
            given = drawn(dtype, 2, asks, 32), drawn(dtype, 2, answers, 32), drawn(dtype, 2, answers, 64)
            with trace() as moved:
                coattention.launch_graph_attention(*given, tiles, first, column, 0.3)
            read = (answers - sparse.BLOCK * column).clamp(max=sparse.BLOCK).sum().item()
            formula = costs.graph_traffic(2, asks, read, len(column), 32, 64, element=dtype.itemsize)
            assert Traffic(moved.loaded_bytes, moved.stored_bytes, moved.flops) == formula


@watched
@pytest.mark.proves("traffic", "column_mass_kernel")
@both
@pytest.mark.parametrize("causal", [True, False])
def test_column_mass_moves_exactly_what_the_formula_says(causal, dtype):
    for time in (32, 65):
        with trace() as moved:
            coattention.launch_column_mass(
                drawn(dtype, 2, time, 32), drawn(dtype, 2, time, 32), torch.ones(2, time), 0.2, causal
            )
        formula = costs.column_traffic(2, time, 32, block=columns.BLOCKS[32], causal=causal, element=dtype.itemsize)
        assert Traffic(moved.loaded_bytes, moved.stored_bytes, moved.flops) == formula


def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    states, bias = drawn(torch.float32, 1, 17, 32), coattention.graphs(17, 17, DEVICE)["few edges"]
    blocks = coattention.live_blocks(bias)
    torch.library.opcheck(operators.fusion_forward, (states, states, states[0, :2], states, True))
    torch.library.opcheck(operators.graph_attention_forward, (states, states, states, *blocks, 1.0))
    torch.library.opcheck(operators.column_mass, (states, states, torch.ones(1, 17, device=DEVICE), 1.0, True))


def test_sizes_that_no_kernel_takes_are_refused_in_a_sentence():
    states = drawn(torch.float32, 1, 4, 24)
    with pytest.raises(ValueError, match="value_dim is one of"):
        coattention.launch_fusion(states, states, states[0], states, True)
    with pytest.raises(ValueError, match="head_dim is one of"):
        coattention.launch_column_mass(states, states, torch.ones(1, 4), 1.0, True)
