"""The fused step as a `torch.library` operator that mutates: compiled on a GPU, interpreted on a CPU."""

import torch

from kernels.lowbit.step import launch_step
from kernels.runtime import interpretable

STATES = "Tensor(b!) m_codes, Tensor(c!) m_scale, Tensor(d!) v_codes, Tensor(e!) v_scale, Tensor(f!) v_slope"
SETTINGS = (
    "int seed_v, int seed_parameter, int base, float lr, float beta1, float beta2, float eps, float weight_decay, "
    "int step, int m_bits, int v_bits, float share, bool unbiased, bool stochastic, bool signed_extreme=False"
)


def run_step(
    parameter, gradient, m_codes, m_scale, v_codes, v_scale, v_slope,
    seed_v, seed_parameter, base, lr, beta1, beta2, eps, weight_decay, step, m_bits, v_bits, share,
    unbiased, stochastic, signed_extreme=False,
):  # fmt: skip
    """One step of AdamW in place: `launch_step`, for a parameter and gradient of any strides.

    stochastic: a bfloat16 parameter is rounded up or down at random, with the mean kept; others ignore it.
    """
    near = interpretable(parameter).contiguous()
    launch_step(
        near, interpretable(gradient).contiguous(), m_codes, m_scale, v_codes, v_scale, v_slope,
        seed_v=seed_v, seed_parameter=seed_parameter, base=base, lr=lr, betas=(beta1, beta2), eps=eps,
        weight_decay=weight_decay, step=step, bits=(m_bits, v_bits), share=share, unbiased=unbiased,
        stochastic=stochastic and parameter.dtype == torch.bfloat16, signed_extreme=signed_extreme,
    )  # fmt: skip
    if near is not parameter:
        parameter.copy_(near)


fused_step = torch.library.custom_op(
    "effattn::lowbit_step",
    run_step,
    mutates_args=("parameter", "m_codes", "m_scale", "v_codes", "v_scale", "v_slope"),
    device_types=("cpu", "cuda"),
    schema=f"(Tensor(a!) parameter, Tensor gradient, {STATES}, {SETTINGS}) -> ()",
)


@fused_step.register_fake
def _(*_given):
    return None
