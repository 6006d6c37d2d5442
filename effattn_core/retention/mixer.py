"""Retention as a token mixer: rotary positions, one decay per head, one norm per head, and an output gate."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.layers import Constants
from effattn_core.positions import even_speeds, turn
from effattn_core.retention import decay_schedule, retention
from effattn_core.states import Memory


class MultiScaleRetention(Constants):
    """(silu(x W_gate) ⊙ norm(retention(x))) W_out, one decay per head (Sun et al. 2023, eq. 8).

    Queries and keys turn by rotary positions with speeds 10000^-linspace(0, 1), pairs interleaved, as the released code
    has them. The norm is a root mean square per head, without weights. Its state is a Memory, float32 or wider.
    """

    epsilon = 1e-6  # of the norm per head

    def __init__(self, sizes):
        super().__init__()
        self.sizes, self.value_dim = sizes, sizes.value_dim or sizes.head_dim
        keys, values = sizes.heads * sizes.head_dim, sizes.heads * self.value_dim
        self.query, self.key = nn.Linear(sizes.width, keys, bias=False), nn.Linear(sizes.width, keys, bias=False)
        self.value, self.gate = nn.Linear(sizes.width, values, bias=False), nn.Linear(sizes.width, values, bias=False)
        self.output = nn.Linear(values, sizes.width, bias=False)
        self.make_constants()

    def constants(self):
        return {"decay": decay_schedule(self.sizes.heads)}

    def new_state(self, batch, like):
        """The state before any token."""
        wide = torch.promote_types(like.dtype, torch.float32)
        shape = (batch, self.sizes.heads, self.sizes.head_dim, self.value_dim)
        return Memory(torch.zeros(shape, dtype=wide, device=like.device))

    def forward(self, hidden, state=None):
        """hidden: [batch, time, width]. Returns (output of that shape, state); state None starts from nothing."""
        first = state.length if state is not None else 0
        query, key, value = (
            projection(hidden).unflatten(-1, (self.sizes.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        speed = even_speeds(query.shape[-1], self.sizes.rotary_base, hidden)
        query, key = turn(query, first, speed), turn(key, first, speed)
        state = self.new_state(hidden.shape[0], hidden) if state is None else state
        mixed, state = self.retain(hidden, query, key, value, state)
        mixed = functional.rms_norm(mixed, (self.value_dim,), eps=self.epsilon).transpose(1, 2).flatten(2)
        output = self.output(functional.silu(self.gate(hidden)) * mixed)
        return output, state

    def retain(self, hidden, query, key, value, state):
        """(what each token reads: [batch, heads, time, value_dim], the state after them)."""
        mixed, memory = retention(query, key, value, self.decay, state=state.memory)
        return mixed, Memory(memory, state.length + query.shape[2])

    def prefill(self, hidden):
        """A whole prompt by chunks: (output, the state that `step` goes on from)."""
        return self(hidden, self.new_state(hidden.shape[0], hidden))

    def step(self, hidden, state):
        """One decoded token, hidden: [batch, 1, width]. Raises ValueError for more."""
        if hidden.shape[1] != 1:
            raise ValueError(f"a step decodes one token; hidden is {tuple(hidden.shape)}: use prefill for a text.")
        return self(hidden, state)
