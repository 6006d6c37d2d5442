"""The diffusion head: a small network that takes the noise off one latent, given what the model made of the past.

It has no attention: given their conditions, latents are independent of each other, so rows are tokens times draws.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from effattn_core import calls

EPSILON = 1e-6  # of the RMS norms, which have no weights
FREQUENCIES = 128
WIDEST = 8192  # numbers in a row that the kernels take


def head_oracle(hidden, modulation, gate_matrix, up_matrix, down_matrix):
    """One block of the head (eq. latents-head-step), the definition: every other form answers to it.

    u + gate ⊙ (silu(y W_gateᵀ) ⊙ y W_upᵀ) W_downᵀ with y = RMS(u) ⊙ (1 + scale) + shift
    hidden, u: [rows, width]   modulation: [rows, 3 · width], shift, scale and gate side by side
    gate_matrix, up_matrix: [inner, width]   down_matrix: [width, inner]   Returns [rows, width].
    """
    shift, scale, gate = modulation.chunk(3, -1)
    normed = hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + EPSILON)
    modulated = normed * (1 + scale) + shift
    inner = functional.silu(modulated @ gate_matrix.mT) * (modulated @ up_matrix.mT)
    return hidden + gate * (inner @ down_matrix.mT)


def head_step(hidden, modulation, gate_matrix, up_matrix, down_matrix, *, implementation=None):
    """One block of the head, `head_oracle` by the form that fits; leading dimensions of any number.

    Shapes as `head_oracle`, with [..., width] and [..., 3 · width] for the rows. implementation: "oracle" (float64),
    "torch", "triton", or None for what fits: see `effattn_core.calls`. Raises ValueError for shapes that do not fit.
    """
    tensors = (hidden, modulation, gate_matrix, up_matrix, down_matrix)
    _require_shapes(*tensors)
    calls.require_alike(
        hidden=hidden, modulation=modulation, gate_matrix=gate_matrix, up_matrix=up_matrix, down_matrix=down_matrix
    )
    width = hidden.shape[-1]
    misfit = "" if width <= WIDEST else f"the kernels take rows of at most {WIDEST} numbers; got {width}"
    chosen = calls.choose(implementation, hidden.device, hidden.dtype, misfit)
    if chosen == "oracle":
        return calls.exactly(head_oracle, *tensors).to(hidden.dtype)
    if chosen == "torch":
        return _plain(*tensors)
    return calls.operators("latents").head_step(*tensors)


def _plain(hidden, modulation, gate_matrix, up_matrix, down_matrix):
    """`head_oracle` by PyTorch's fused norm."""
    shift, scale, gate = modulation.chunk(3, -1)
    normed = functional.rms_norm(hidden, hidden.shape[-1:], eps=EPSILON)
    modulated = torch.addcmul(normed + shift, normed, scale)
    inner = functional.silu(functional.linear(modulated, gate_matrix)) * functional.linear(modulated, up_matrix)
    return torch.addcmul(hidden, gate, functional.linear(inner, down_matrix))


def _require_shapes(hidden, modulation, gate_matrix, up_matrix, down_matrix):
    if not hidden.ndim or not gate_matrix.ndim:
        raise ValueError("hidden must be [..., width] and gate_matrix [inner, width]; one of them is a single number.")
    width, inner = hidden.shape[-1], gate_matrix.shape[0]
    if modulation.shape != (*hidden.shape[:-1], 3 * width):
        wanted = (*hidden.shape[:-1], 3 * width)
        raise ValueError(f"modulation must be {wanted}, three per number; it is {tuple(modulation.shape)}.")
    for name, matrix, wanted in (
        ("gate_matrix", gate_matrix, (inner, width)),
        ("up_matrix", up_matrix, (inner, width)),
        ("down_matrix", down_matrix, (width, inner)),
    ):
        if matrix.shape != wanted:
            raise ValueError(f"{name} must be {wanted}; it is {tuple(matrix.shape)}.")


def time_features(time, frequencies=FREQUENCIES):
    """[..., 2 · frequencies] float32, cosines first: angles time · 10000^(-k / frequencies). time: int64 [...].

    Times stay whole numbers until here: bfloat16 would round those above 256.
    """
    steps = torch.arange(frequencies, dtype=torch.float32, device=time.device)
    angles = time[..., None].float() * torch.exp(-math.log(10000) * steps / frequencies)
    return torch.cat((angles.cos(), angles.sin()), -1)


class HeadBlock(nn.Module):
    """A block of the head: its modulation from the condition, zero at the start, then `head_step`."""

    def __init__(self, width, inner):
        super().__init__()
        self.modulation = nn.Linear(width, 3 * width, bias=False)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.modulation.weight)

    def forward(self, hidden, condition, implementation=None):
        """hidden: [..., width]; condition: [..., width], after silu. Returns [..., width]."""
        weights = self.gate.weight, self.up.weight, self.down.weight
        return head_step(hidden, self.modulation(condition), *weights, implementation=implementation)


class DiffusionHead(nn.Module):
    """Noisy latent, time and condition in, ε or v out (LatentLM's released head, its sizes free).

    latent: numbers of one latent; width: of the head and of the conditions; inner: of each block's SwiGLU. Modulations
    and the last matrix start at zero, so the first output is 0 and the first loss about 1. Its attribute
    `implementation` is that of its steps, see `head_step`: None, the kernels on a GPU; "triton" asks for them anywhere.
    """

    def __init__(self, latent, width, inner, blocks=3):
        super().__init__()
        self.implementation = None
        self.input = nn.Linear(latent, width, bias=False)
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, width, bias=False), nn.SiLU(), nn.Linear(width, width, bias=False)
        )
        self.blocks = nn.ModuleList(HeadBlock(width, inner) for _ in range(blocks))
        self.modulation = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, latent, bias=False)
        for layer in (self.time[0], self.time[2]):
            nn.init.normal_(layer.weight, std=0.02)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)

    @property
    def parameter_count(self):
        return sum(weight.numel() for weight in self.parameters())

    def forward(self, noisy, time, condition):
        """noisy: [..., latent]; time: int64 [...]; condition: [..., width]. Returns [..., latent]."""
        features = time_features(time).to(condition.dtype)
        condition = functional.silu(condition + self.time(features))
        hidden = self.input(noisy)
        if hidden.shape != condition.shape:
            condition = condition.expand(hidden.shape)
        for block in self.blocks:
            hidden = block(hidden, condition, self.implementation)
        shift, scale = self.modulation(condition).chunk(2, -1)
        normed = functional.rms_norm(hidden, hidden.shape[-1:], eps=EPSILON)
        return self.output(normed * (1 + scale) + shift)
