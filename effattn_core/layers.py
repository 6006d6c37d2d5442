"""What the layers of a language model are made of: attention as a token mixer, SwiGLU, and numbers that stay exact."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.attention import attention
from effattn_core.positions import given_speeds, speeds, turn
from effattn_core.states import KeyValueCache, WindowCache


class AttentionMixer(nn.Module):
    """Causal softmax attention over the tokens, with grouped key heads.

    Its state has `attend(query, key, value)`, see `effattn_core.states`, and the layer's own window and sinks as mask.
    """

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.query = nn.Linear(sizes.width, sizes.heads * sizes.head_dim, bias=sizes.biases)
        self.key = nn.Linear(sizes.width, sizes.key_value_heads * sizes.head_dim, bias=sizes.biases)
        self.value = nn.Linear(sizes.width, sizes.key_value_heads * sizes.head_dim, bias=sizes.biases)
        if sizes.head_norms:
            self.query_norm, self.key_norm = (nn.RMSNorm(sizes.head_dim, sizes.epsilon) for _ in range(2))
        self.output = nn.Linear(sizes.heads * sizes.head_dim, sizes.width, bias=False)

    def new_state(self, batch, like):
        """An empty cache: of the window where there is one (and no sinks before it), else of the whole context."""
        sizes, place = self.sizes, dict(dtype=like.dtype, device=like.device)
        if sizes.window is not None and not sizes.sinks:
            return WindowCache(batch, sizes.key_value_heads, sizes.window, sizes.head_dim, **place)
        return KeyValueCache(batch, sizes.key_value_heads, sizes.context, sizes.head_dim, **self.mask, **place)

    @property
    def mask(self):
        """What a token sees, as `attention` and a state take it: a window and sinks before it."""
        return dict(window=self.sizes.window, sinks=self.sizes.sinks)

    def forward(self, hidden, state=None):
        """hidden: [batch, time, width]. Returns (output of that shape, state); state None keeps nothing.

        Raises ValueError for a state of a layer with another window or other sinks.
        """
        sizes, first = self.sizes, state.length if state else 0
        query, key, value = (
            projection(hidden).unflatten(-1, (-1, sizes.head_dim)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        query, key = self.turned(query, key, first)
        if state is None:
            mixed = attention(query, key, value, **self.mask)
        elif state.mask != self.mask:
            raise ValueError(f"the state must have the layer's mask, {self.mask}; it has {state.mask}.")
        else:
            mixed = state.attend(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2)), state

    def turned(self, query, key, first):
        """Queries and keys, normed where the model does that, turned to the positions from `first` on."""
        sizes = self.sizes
        if sizes.head_norms:
            query, key = self.query_norm(query), self.key_norm(key)
        if sizes.rotary_speeds is None:
            speed = speeds(sizes.head_dim, sizes.rotary_base, query)
        else:
            speed = given_speeds(sizes.rotary_speeds, query.dtype, query.device)
        # One call for both: the angles are computed once.
        return turn(torch.cat((query, key), 1), first, speed).split((sizes.heads, sizes.key_value_heads), 1)


class Constants(nn.Module):
    """A module with numbers that are neither learned nor stored, and that keep their precision.

    `constants()` gives them by name, on the CPU; each is a buffer. Whatever is done to the module (`.bfloat16()`,
    `.to(device)`, `.to_empty()`) only moves them, while a buffer alone would be rounded for good, or hold garbage.
    """

    def constants(self):
        """name -> tensor."""
        return {}

    def make_constants(self):
        """Register them: once, when all that `constants` needs is there."""
        for name, tensor in self.constants().items():
            self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn, recurse=True):
        device = next(super()._apply(fn, recurse).parameters()).device
        for name, tensor in self.constants().items():
            setattr(self, name, tensor.to(device))
        return self


class SwiGLU(nn.Module):
    """(silu(x gate) ⊙ x up) down (Shazeer 2020)."""

    def __init__(self, width, inner):
        super().__init__()
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, hidden):
        return self.down(functional.silu(self.gate(hidden)) * self.up(hidden))
