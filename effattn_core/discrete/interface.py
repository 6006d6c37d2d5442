"""The call of the topic: one layer of rules, hard forward and soft backward, by the definition, PyTorch or a kernel."""

import torch

from effattn_core import calls
from effattn_core.discrete.activations import MILD, Activation, conjunction, hard_conjunction, require
from effattn_core.discrete.estimators import graft, soft_conjunction

operators = calls.operators("discrete")


def rules(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    *,
    activation: Activation = MILD,
    implementation: str | None = None,
) -> torch.Tensor:
    """Truth of each AND, 0 or 1, with the gradient of the soft AND at these inputs     (eq. discrete-graft)

    inputs: [rows, n], 0 or 1, in the dtype of weight. weight: [n, nodes] in [0, 1]. An OR is 1 - rules(1 - inputs).
    implementation: "oracle" (broadcast, float64), "torch" (matrix products), "triton" (no gradient to the inputs), or
    None for what fits. Returns [rows, nodes] in the dtype of weight; the oracle answers in float64. Raises ValueError
    for sizes that do not fit, and for kernels where the inputs want a gradient.
    """
    require(inputs, weight)
    misfit = "the kernels give no gradient to inputs" if calls.wants_gradient(inputs) and inputs.requires_grad else ""
    chosen = calls.choose(implementation, weight.device, weight.dtype, misfit)
    if chosen == "oracle":
        return graft(hard_conjunction(inputs.double(), weight), conjunction(inputs, weight, activation))
    if chosen == "triton":
        settings = float(activation.alpha), float(activation.beta), activation.kind == "nlaf"
        total, hard = operators.rule_sums((inputs < 0.5).to(torch.uint8), weight, *settings)
        return graft(hard.to(weight.dtype), activation.squash(total).to(weight.dtype))
    soft = soft_conjunction(1 - inputs, weight, activation, binary=True)
    return graft(hard_conjunction(inputs, weight), soft)
