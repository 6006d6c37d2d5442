"""The diffusion head: one block against the float64 oracle, the whole head as it starts, times as it reads them."""

import pytest
import torch

from effattn_core.latents import head
from effattn_core.latents.head import DiffusionHead, head_oracle, head_step, time_features
from kernels import latents
from kernels.latents import operators


def tensors(rows, width, inner, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((*rows, width), (*rows, 3 * width), (inner, width), (inner, width), (width, inner))
    return [
        (torch.randn(shape, generator=generator) * (0.1 if number > 1 else 1)).to(dtype)
        for number, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize(("rows", "width", "inner"), [((65,), 64, 96), ((2, 3), 32, 16), ((1,), 7, 5), ((0,), 16, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_block_loses_at_most_twice_what_the_oracle_loses_in_that_dtype(rows, width, inner, dtype):
    given = tensors(rows, width, inner, dtype)
    truth = head_oracle(*(each.double() for each in given))
    lost, plain = ((each.double() - truth).abs() for each in (head_step(*given), head_oracle(*given)))
    assert not truth.numel() or lost.max() <= 2 * plain.max() + torch.finfo(dtype).tiny
    assert torch.equal(head_step(*given, implementation="oracle"), truth.to(dtype))


def test_the_oracle_gives_what_is_computed_by_hand():
    """u = (3, 4): RMS is sqrt(12.5). One inner number reads the first, gated by silu, and goes to the second."""
    hidden = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    modulation = torch.tensor([[0.5, 0.0, 1.0, 0.0, 0.0, 2.0]], dtype=torch.float64)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    down = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    read = 3 / 12.5**0.5 * 2 + 0.5
    silu = read / (1 + torch.exp(torch.tensor(-read))).item()
    found = head_oracle(hidden, modulation, first, first, down)
    assert found[0].tolist() == pytest.approx([3.0, 4.0 + 2 * silu * read], abs=1e-5)


def test_a_block_whose_gate_is_zero_is_the_identity():
    hidden, modulation, *matrices = tensors((9,), 16, 32)
    modulation[:, 32:] = 0
    assert torch.equal(head_step(hidden, modulation, *matrices), hidden)


def test_gradients_of_the_plain_form_are_those_of_the_oracle():
    given = [each.double().requires_grad_() for each in tensors((5,), 8, 6)]
    weight = torch.randn(5, 8, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((form(*given) * weight).sum(), given) for form in (head_step, head_oracle)
    )  # fmt: skip
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).abs().max() < 1e-10


def test_the_head_starts_at_zero_so_that_its_first_loss_is_one():
    torch.manual_seed(0)
    head = DiffusionHead(8, 32, 48)
    noise, time = torch.randn(4000, 8), torch.randint(1000, (4000,))
    output = head(noise, time, torch.randn(4000, 32))
    assert not output.any() and (output - noise).square().mean().item() == pytest.approx(1, abs=0.05)


def test_each_row_of_the_head_has_its_own_time_and_one_time_serves_all():
    torch.manual_seed(0)
    head = DiffusionHead(4, 16, 16).double()
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    noisy, condition = torch.randn(3, 4).double(), torch.randn(3, 16).double()
    apart = torch.cat([head(noisy[each, None], torch.tensor([10 * each]), condition[each, None]) for each in range(3)])
    assert (head(noisy, torch.tensor([0, 10, 20]), condition) - apart).abs().max() < 1e-12
    one = head(noisy, torch.tensor(20), condition)
    assert (one[2] - apart[2]).abs().max() < 1e-12 and (one[0] - apart[0]).abs().max() > 1e-3


def test_times_are_whole_until_they_are_angles():
    """In bfloat16 999 is 1000; the features of both differ by far more than they would then."""
    features = time_features(torch.tensor([0, 999, 1000]))
    assert (
        features.shape == (3, 256) and torch.equal(features[0, :128], torch.ones(128)) and not features[0, 128:].any()
    )
    assert features[1, 0].item() == pytest.approx(torch.tensor(999.0).cos().item(), abs=1e-4)
    assert (features[1] - features[2]).abs().max() > 0.5


def test_bad_input_says_what_was_given_and_what_is_wanted():
    hidden, modulation, *matrices = tensors((5,), 8, 6)
    with pytest.raises(ValueError, match=r"modulation must be \(5, 24\), three per number; it is \(5, 23\)"):
        head_step(hidden, modulation[:, 1:], *matrices)
    with pytest.raises(ValueError, match=r"down_matrix must be \(8, 6\); it is \(6, 8\)"):
        head_step(hidden, modulation, *matrices[:2], matrices[2].mT)
    with pytest.raises(ValueError, match="one of them is a single number"):
        head_step(hidden[0, 0], modulation, *matrices)
    with pytest.raises(ValueError, match="must share a floating dtype"):
        head_step(hidden.double(), modulation, *matrices)
    with pytest.raises(ValueError, match="implementation must be 'oracle'"):
        head_step(hidden, modulation, *matrices, implementation="fast")


def test_the_kernels_answer_for_any_leading_dimensions_and_refuse_rows_that_no_program_holds():
    hidden, modulation, *matrices = tensors((2, 3), 32, 48)
    wanted = head_step(hidden, modulation, *matrices, implementation="oracle")
    found = head_step(hidden, modulation, *matrices, implementation="triton")
    assert found.shape == hidden.shape and (found - wanted).abs().max() < 1e-5
    odd = tensors((2,), 7, 5)
    wanted = head_step(*odd, implementation="oracle")
    assert (head_step(*odd, implementation="triton") - wanted).abs().max() < 1e-5
    wide = tensors((1,), head.WIDEST + 1, 1)
    with pytest.raises(ValueError, match="rows of at most 8192 numbers; got 8193: use implementation='torch'"):
        head_step(*wide, implementation="triton")
    with pytest.raises(ValueError, match="the kernels take rows of at most 8192 numbers; got 8193"):
        operators.head_step(*wide)
    assert head_step(*wide).shape == (1, 8193) and head.WIDEST == latents.WIDEST
