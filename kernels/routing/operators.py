"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU; with their gradients."""

import torch

from kernels.routing.combine import launch_combine, launch_expand
from kernels.routing.configurations import choose
from kernels.routing.plan import Plan, make_plan
from kernels.routing.products import launch_product, launch_weights
from kernels.runtime import interpretable

PLAN = "Tensor order, Tensor place, Tensor offsets, Tensor tile_expert, Tensor tile_first, int block_row"


def planned(expert, experts, dtype):
    """The Plan of expert: int64 [tokens, choices], for products in `dtype`."""
    near = interpretable(torch.empty(0, dtype=dtype)).dtype
    return make_plan(expert, experts, choose(near, expert.numel(), experts).block_row)


def run_product(rows, weight, order, place, offsets, tile_expert, tile_first, block_row, gathered):
    """Each row with its expert's matrix: [rows of the plan, columns]. gathered: rows are those of the tokens."""
    plan = Plan(order, place, offsets, tile_expert, tile_first, block_row)
    return launch_product(interpretable(rows), interpretable(weight), plan, place.shape[1], gathered).to(rows.dtype)


def run_product_backward(grad, rows, weight, order, place, offsets, tile_expert, tile_first, block_row, gathered):
    """Gradients (rows, weight): the same product with the matrices turned, and the sum over each expert's rows."""
    plan, choices = Plan(order, place, offsets, tile_expert, tile_first, block_row), place.shape[1]
    grad, near, matrix = interpretable(grad), interpretable(rows), interpretable(weight)
    grad_rows = launch_product(grad, matrix.mT, plan, choices, False)
    if gathered:  # a token was read once per choice
        grad_rows = launch_combine(grad_rows, None, place)
    grad_weight = launch_weights(near, grad, plan, len(weight), choices, gathered)
    return grad_rows.to(rows.dtype), grad_weight.to(weight.dtype)


def run_combine(rows, gates, place, order, offsets):
    """[tokens, dim]: a token's rows, weighed and summed in the order of its choices."""
    return launch_combine(interpretable(rows), gates.float(), place).to(rows.dtype)


def run_combine_backward(grad, rows, gates, place, order, offsets):
    """Gradients (rows, gates)."""
    grad_rows, grad_gates = launch_expand(interpretable(grad), interpretable(rows), gates.float(), order, offsets)
    return grad_rows.to(rows.dtype), grad_gates.to(gates.dtype)


def _operator(name, function, schema):
    return torch.library.custom_op(
        f"effattn::{name}", function, mutates_args=(), device_types=("cpu", "cuda"), schema=schema
    )


COMBINED = "Tensor rows, Tensor gates, Tensor place, Tensor order, Tensor offsets"
grouped_product = _operator(
    "grouped_product", run_product, f"(Tensor rows, Tensor weight, {PLAN}, bool gathered) -> Tensor"
)
grouped_product_backward = _operator(
    "grouped_product_backward",
    run_product_backward,
    f"(Tensor grad, Tensor rows, Tensor weight, {PLAN}, bool gathered) -> (Tensor, Tensor)",
)
combine_rows = _operator("combine_rows", run_combine, f"({COMBINED}) -> Tensor")
combine_rows_backward = _operator(
    "combine_rows_backward", run_combine_backward, f"(Tensor grad, {COMBINED}) -> (Tensor, Tensor)"
)


@grouped_product.register_fake
def _(rows, weight, order, *rest):
    return rows.new_empty(order.shape[0], weight.shape[2])


@grouped_product_backward.register_fake
def _(grad, rows, weight, *rest):
    return rows.new_empty(rows.shape), weight.new_empty(weight.shape)


@combine_rows.register_fake
def _(rows, gates, place, order, offsets):
    return rows.new_empty(place.shape[0], rows.shape[1])


@combine_rows_backward.register_fake
def _(grad, rows, gates, place, order, offsets):
    return rows.new_empty(rows.shape), gates.new_empty(gates.shape)


def _keep_product(ctx, inputs, output):
    *tensors, ctx.block_row, ctx.gathered = inputs
    ctx.save_for_backward(*tensors)


def _product_gradients(ctx, grad):
    found = grouped_product_backward(grad, *ctx.saved_tensors, ctx.block_row, ctx.gathered)
    return *found, None, None, None, None, None, None, None


def _keep_combine(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _combine_gradients(ctx, grad):
    return *combine_rows_backward(grad, *ctx.saved_tensors), None, None, None


grouped_product.register_autograd(_product_gradients, setup_context=_keep_product)
combine_rows.register_autograd(_combine_gradients, setup_context=_keep_combine)
