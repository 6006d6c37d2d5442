"""The hidden cases of the primer's exercises: launchers of Triton kernels that take and return torch tensors."""

import torch

from effattn_core.exercises import exercise
from kernels import runtime


def _random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(runtime.device())


def _compare(got, wanted, case, hint):
    if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
        shown = tuple(getattr(got, "shape", [type(got).__name__]))
        return f"For {case} the result must be a tensor of shape {tuple(wanted.shape)}; got {shown}."
    if not got.isfinite().all():
        return f"For {case} some results are not finite: {hint}"
    if not torch.allclose(got, wanted, rtol=1e-4, atol=1e-4):
        place = (got - wanted).abs().flatten().argmax().item()
        ours, right = got.flatten()[place], wanted.flatten()[place]
        return f"For {case} element {place} is {ours:.4g} and should be {right:.4g}: {hint}"
    return None


@exercise("primer.scale_add", level="kernel")
def scale_add(function):
    for size in (64, 1, 100, 1000):
        left, right = _random(size), _random(size + 1)[1:]
        hint = "is the last block masked?"
        wrong = _compare(function(left, right, 3.0), 3.0 * left + right, f"{size} elements", hint)
        if wrong:
            return wrong
    return None


@exercise("primer.row_softmax", level="kernel")
def row_softmax(function):
    for rows, columns in ((4, 16), (3, 17), (1, 1), (5, 100)):
        scores = _random(rows, columns)
        hint = "lanes past the row must not count: load them as -inf."
        wrong = _compare(function(scores), scores.softmax(-1), f"{rows} × {columns}", hint)
        if wrong:
            return wrong
    large = 1000 * _random(2, 9)
    return _compare(function(large), large.softmax(-1), "scores near 1000", "subtract the row's maximum first.")


@exercise("primer.blocked_matmul", level="kernel")
def blocked_matmul(function):
    for rows, inner, columns in ((32, 32, 32), (33, 65, 17), (16, 100, 48)):
        left, right = _random(rows, inner), _random(inner, columns)
        case = f"{rows}×{inner} by {inner}×{columns}"
        wrong = _compare(function(left, right), left @ right, case, "do all blocks of the inner size add up, masked?")
        if wrong:
            return wrong
    return None
