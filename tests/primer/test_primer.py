"""The primer's kernels agree with PyTorch, ragged and strided, and refuse what they cannot do."""

import pytest
import torch

from figures import primer as draw
from kernels import primer, runtime

pytestmark = pytest.mark.usefixtures("nan_filled")


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(runtime.device())


@pytest.mark.proves("oracle", "scale_kernel")
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65])
def test_scaling_any_number_of_elements(size):
    source = random(size)
    assert torch.equal(primer.scale(source, 3.0), 3.0 * source)


@pytest.mark.proves("oracle", "row_maximum_kernel")
def test_row_maximum_honours_strides():
    table = random(5, 33)
    for view in (table, table.mT, table[:, ::2], table[1:2]):
        assert torch.equal(primer.row_maximum(view), view.amax(1))


@pytest.mark.proves("oracle", "product_kernel")
@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 65, 17), (16, 16, 16)])
def test_the_product_of_ragged_sizes(shape):
    rows, inner, columns = shape
    left, right = random(rows, inner), random(columns, inner).mT
    torch.testing.assert_close(primer.product(left, right), left @ right, rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="source must be contiguous; its strides are"):
        primer.scale(random(4, 4).mT, 1.0)
    with pytest.raises(ValueError, match="inner sizes must agree; got"):
        primer.product(random(2, 3), random(4, 5))


def test_the_figure_says_what_it_shows():
    assert draw.program_blocks_says(2, 8) == (
        "Program 2 of 3 owns elements 16 to 19, and 4 of its lanes fall past the end: masked off."
    )
    assert "nothing to do" in draw.program_blocks_says(4, 8)
    assert draw.program_blocks(1, 8).data[0].z[0][8] == 2
