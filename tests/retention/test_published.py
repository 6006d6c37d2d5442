"""The released normalisers: equal to the plain form up to a factor a row, hence after a head norm with epsilon 0."""

import pytest
import torch

from effattn_core.retention import chunkwise, decay_schedule, parallel
from effattn_core.retention.published import (
    head_norm,
    published_chunkwise,
    published_parallel,
    published_recurrent,
    slipped_chunkwise,
)


def inputs(time=64):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, time, 16, dtype=torch.float64)
    return query, key / 4, value, decay_schedule(4).double()


def relative(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


FORMS = {
    "parallel": published_parallel,
    "recurrent": published_recurrent,
    "chunkwise": lambda *qkvd: published_chunkwise(*qkvd, 16),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_released_form_differs_before_the_norm_and_agrees_after_it_without_epsilon(form):
    plain, _ = parallel(*inputs(), scale=1.0)
    theirs = FORMS[form](*inputs())
    assert relative(theirs, plain) > 0.1
    assert relative(head_norm(theirs, 0.0), head_norm(plain, 0.0)) < 1e-12
    assert relative(head_norm(theirs, 1e-2), head_norm(plain, 1e-2)) > 1e-4


def test_the_recurrent_scale_is_the_share_of_the_mask():
    theirs = published_parallel(*inputs(), limit_rows=False)
    torch.testing.assert_close(published_recurrent(*inputs()), theirs, rtol=0, atol=1e-12)
    plain, _ = parallel(*inputs(), scale=1.0)
    torch.testing.assert_close(published_parallel(*inputs(), share_mask=False, limit_rows=False), plain)


def test_factors_kept_out_of_the_gradient_change_it_in_size_and_not_in_the_forward_value():
    query, key, value, decay = inputs()
    gradients = []
    for function in (lambda *qkvd: parallel(*qkvd, scale=1.0)[0], published_parallel):
        value = value.detach().requires_grad_()
        head_norm(function(query, key, value, decay), 0.0).sin().sum().backward()
        gradients.append(value.grad)
    assert relative(*gradients) < 1e-12  # a factor that does not depend on the value leaves its gradient alone
    gradients = []
    for function in (lambda *qkvd: parallel(*qkvd, scale=1.0)[0], published_parallel):
        key = key.detach().requires_grad_()
        function(query, key, value, decay).sin().sum().backward()
        gradients.append(key.grad)
    assert relative(*gradients) > 0.1


def test_the_slip_lets_a_token_see_the_rest_of_its_chunk():
    query, key, value, decay = inputs()
    wrong, right = slipped_chunkwise(query, key, value, decay, 16), chunkwise(query, key, value, decay, scale=1.0)[0]
    assert 0.3 < relative(wrong, right) < 3
    # The first chunk: its own state once more, faded from the chunk's end.
    _, own = chunkwise(query[:, :, :16], key[:, :, :16], value[:, :, :16], decay, scale=1.0)
    extra = query[:, :, :1] * decay[:, None, None] @ own
    torch.testing.assert_close(wrong[:, :, :1] - right[:, :, :1], extra)
    # A later value of the chunk moves every output of it, by decay^(16 + i - j); of the chunk before, none.
    later = value.clone()
    later[:, :, 26] += 1
    moved = (slipped_chunkwise(query, key, later, decay, 16) - wrong)[..., 0]
    assert not moved[:, :, :16].any()
    place = torch.arange(10)
    score = (query[:, :, 16:26] * key[:, :, 26:27]).sum(-1)
    torch.testing.assert_close(moved[:, :, 16:26], score * decay[:, None] ** (16 + place - 10))
    kept = chunkwise(query, key, later, decay, scale=1.0)[0][..., 0] - right[..., 0]
    assert kept[:, :, :26].abs().max() < 1e-12


def test_the_released_chunks_must_be_whole():
    with pytest.raises(ValueError, match="65 tokens are not 16"):
        published_chunkwise(*inputs(65), 16)
