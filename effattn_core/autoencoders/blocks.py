"""A Transformer block that sees all tokens: plain in teachers, modulated by time and class in a generator."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.calls import require_count
from effattn_core.latents.head import EPSILON, head_step


def normed(hidden):
    """RMS norm without a weight over the last dimension."""
    return functional.rms_norm(hidden, hidden.shape[-1:], eps=EPSILON)


class Attention(nn.Module):
    """Attention over all tokens, queries and keys brought to unit RMS per head. [batch, tokens, width] to the same."""

    def __init__(self, width, heads):
        super().__init__()
        require_count("heads", heads)
        if width % heads:
            raise ValueError(f"heads must divide the width of {width}; they are {heads}.")
        self.heads = heads
        self.read, self.write = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, hidden):
        query, key, value = self.read(hidden).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(normed(query), normed(key), value)
        return self.write(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x += gate · attention(norm(x)), then `head_step`: the gated MLP behind its own norm.

    modulated: shift, scale and gate of both halves come from a condition [batch, width], zero at the start, so that the
    block starts as the identity; otherwise they are 0, 0 and 1.
    """

    def __init__(self, width, heads, inner, modulated=False):
        super().__init__()
        self.attention = Attention(width, heads)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.modulation = nn.Linear(width, 6 * width, bias=False) if modulated else None
        if modulated:
            nn.init.zeros_(self.modulation.weight)
        else:
            still = torch.cat((torch.zeros(2 * width), torch.ones(width))).repeat(2)
            self.register_buffer("still", still, persistent=False)

    def forward(self, hidden, condition=None):
        """hidden: [batch, tokens, width]; condition: [batch, width], after silu, for a modulated block."""
        said = self.still[None] if self.modulation is None else self.modulation(condition)
        first, second = said[:, None].chunk(2, -1)
        shift, scale, gate = first.chunk(3, -1)
        hidden = hidden + gate * self.attention(normed(hidden) * (1 + scale) + shift)
        modulation = second.expand(*hidden.shape[:-1], -1)
        return head_step(hidden, modulation, self.gate.weight, self.up.weight, self.down.weight)
