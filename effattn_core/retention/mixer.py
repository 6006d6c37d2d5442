"""Retention as a token mixer: rotary positions, a decay a head or a gate a token, a norm a head, and an output gate."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from effattn_core.model import even_speeds, turn
from effattn_core.recurrences import gated_recurrence
from effattn_core.retention import decay_schedule, retention


@dataclass(frozen=True)
class RetentionState:
    """What decoding keeps of all tokens so far. memory: [batch, heads, key_dim, value_dim] float32; length: tokens."""

    memory: torch.Tensor
    length: int = 0

    @property
    def nbytes(self):
        return self.memory.nbytes


class MultiScaleRetention(nn.Module):
    """(silu(x W_gate) ⊙ norm(retention(x))) W_out, one decay a head (Sun et al. 2023, eq. 8).

    Queries and keys turn by rotary positions with speeds 10000^-linspace(0, 1), pairs interleaved, as the released code
    has them. The norm is a root mean square a head, without weights. Its state is a RetentionState.
    """

    epsilon = 1e-6  # of the norm a head

    def __init__(self, sizes):
        super().__init__()
        self.sizes, self.value_dim = sizes, sizes.value_dim or sizes.head_dim
        keys, values = sizes.heads * sizes.head_dim, sizes.heads * self.value_dim
        self.query, self.key = nn.Linear(sizes.width, keys, bias=False), nn.Linear(sizes.width, keys, bias=False)
        self.value, self.gate = nn.Linear(sizes.width, values, bias=False), nn.Linear(sizes.width, values, bias=False)
        self.output = nn.Linear(values, sizes.width, bias=False)
        self.register_buffer("decay", decay_schedule(sizes.heads), persistent=False)

    def new_state(self, batch, like):
        """The state before any token."""
        wide = torch.promote_types(like.dtype, torch.float32)
        shape = (batch, self.sizes.heads, self.sizes.head_dim, self.value_dim)
        return RetentionState(torch.zeros(shape, dtype=wide, device=like.device))

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
        return mixed, RetentionState(memory, state.length + query.shape[2])

    def prefill(self, hidden):
        """A whole prompt by chunks: (output, the state that `step` goes on from)."""
        return self(hidden, self.new_state(hidden.shape[0], hidden))

    def step(self, hidden, state):
        """One decoded token, hidden: [batch, 1, width]. Raises ValueError for more."""
        if hidden.shape[1] != 1:
            raise ValueError(f"a step decodes one token; hidden is {tuple(hidden.shape)}: use prefill for a text.")
        return self(hidden, state)


class GatedRetention(MultiScaleRetention):
    """Retention whose decay each token sets itself: log decay = logsigmoid(x W_forget) / temperature, a head and token.

    (Sun et al. 2024, YOCO, eq. 8 and the released gate_retention.py.) A temperature of 16 starts a new model at
    decays near 2^(-1/16), and a gate that wants to forget at once still can. A state that has
    `recur(query, key, value, log_gate, scale)` decides itself how it goes on.
    """

    temperature = 16

    def __init__(self, sizes):
        super().__init__(sizes)
        del self.decay
        self.forget = nn.Linear(sizes.width, sizes.heads, bias=False)

    def log_gate(self, hidden):
        """Natural logarithm of what each token leaves of the past: [batch, heads, time], at most 0."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        return functional.logsigmoid(self.forget(hidden).to(wide)).mT / self.temperature

    def retain(self, hidden, query, key, value, state):
        """(what each token reads: [batch, heads, time, value_dim], the state after them)."""
        scale, log_gate = query.shape[-1] ** -0.5, self.log_gate(hidden)
        if hasattr(state, "recur"):
            return state.recur(query, key, value, log_gate, scale)
        mixed, memory = gated_recurrence(query, key, value, log_gate, scale=scale, state=state.memory)
        return mixed, RetentionState(memory, state.length + query.shape[2])
