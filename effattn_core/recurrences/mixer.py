"""Any rule of `RULES` as a token mixer, and retention whose decay each token sets itself."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.layers import Constants
from effattn_core.recurrences import discretised, gated_recurrence, new_state, recurrence, unit_keys
from effattn_core.recurrences.rules import rule_named
from effattn_core.retention import decay_schedule
from effattn_core.retention.mixer import MultiScaleRetention
from effattn_core.states import Memory

TEMPERATURE = 16  # of the gates: sigmoid(x) ** (1 / 16) starts near 1, so that a new model forgets slowly
RANK = 8  # of the two matrices that make a gate for each key dimension
STEPS = (1e-3, 1e-1)  # Mamba-2's first step sizes, spread over the heads


class RecurrentMixer(Constants):
    """(silu(x W_gate) ⊙ norm(recurrence(x))) W_out for the rule that `sizes.rule` names.

    Between rules nothing differs but the update and what its gates need. There is no position and no short
    convolution: order reaches the state through its gates alone. The norm is a root mean square per head, weightless.
    """

    epsilon = 1e-6  # of the norm per head

    def __init__(self, sizes):
        super().__init__()
        self.sizes, self.rule = sizes, rule_named(sizes.rule)
        self.value_dim = sizes.value_dim or sizes.head_dim
        keys, values, heads = sizes.heads * sizes.head_dim, sizes.heads * self.value_dim, sizes.heads
        self.query, self.key = nn.Linear(sizes.width, keys, bias=False), nn.Linear(sizes.width, keys, bias=False)
        self.value, self.gate = nn.Linear(sizes.width, values, bias=False), nn.Linear(sizes.width, values, bias=False)
        self.output = nn.Linear(values, sizes.width, bias=False)
        self.make_constants()
        if self.rule.gate == "scalar":
            self.forget = nn.Linear(sizes.width, heads)
            nn.init.zeros_(self.forget.bias)
        elif self.rule.gate == "vector":
            self.forget = nn.Sequential(nn.Linear(sizes.width, RANK, bias=False), nn.Linear(RANK, keys))
            nn.init.constant_(self.forget[1].bias, -3.0 if self.rule.name == "rwkv6" else 0.0)
        if self.rule.name == "mamba2":
            first = torch.logspace(*torch.tensor(STEPS).log10().tolist(), heads)
            with torch.no_grad():
                self.forget.bias.copy_(first.expm1().log())  # the inverse of softplus
            self.log_rate = nn.Parameter(torch.linspace(1, 16, heads).log())
        if self.rule.bonus:
            self.bonus = nn.Parameter(torch.zeros(heads, sizes.head_dim))
        if self.rule.erases:
            self.beta = nn.Linear(sizes.width, heads)
            nn.init.zeros_(self.beta.bias)

    def constants(self):
        return {"log_decay": decay_schedule(self.sizes.heads).double().log()} if self.rule.gate == "constant" else {}

    def new_state(self, batch, like):
        """The state before any token."""
        query = like.new_empty(batch, self.sizes.heads, 0, self.sizes.head_dim)
        value = like.new_empty(batch, self.sizes.heads, 0, self.value_dim)
        return Memory(new_state(query, value, rule=self.rule.name))

    def gates(self, hidden, key):
        """(key, keyword arguments of `recurrence`): what this rule keeps and writes at each token of `hidden`."""
        settings, wide = {}, torch.promote_types(hidden.dtype, torch.float32)
        if self.rule.gate == "constant":
            settings["log_gate"] = self.log_decay.to(wide)
        elif self.rule.gate == "scalar":
            logit = self.forget(hidden).to(wide).mT  # [batch, heads, time]
            if self.rule.name == "mamba2":
                settings["log_gate"], key = discretised(key, -self.log_rate.to(wide).exp(), functional.softplus(logit))
            else:
                settings["log_gate"] = functional.logsigmoid(logit) / TEMPERATURE
        elif self.rule.gate == "vector":
            logit = self.forget(hidden).to(wide).unflatten(-1, (self.sizes.heads, -1)).transpose(1, 2)
            if self.rule.name == "rwkv6":  # keeps exp(-exp(x)); GLA sigmoid(x) ** (1 / 16)
                settings["log_gate"] = -logit.clamp(max=5).exp()
            else:
                settings["log_gate"] = functional.logsigmoid(logit) / TEMPERATURE
        if self.rule.bonus:
            settings["bonus"] = self.bonus
        if self.rule.erases:
            key, settings["beta"] = unit_keys(key), self.beta(hidden).to(wide).sigmoid().mT
        return key, settings

    def forward(self, hidden, state=None):
        """hidden: [batch, time, width]. Returns (output of that shape, state); state None starts from nothing."""
        query, key, value = (
            projection(hidden).unflatten(-1, (self.sizes.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        key, settings = self.gates(hidden, key)
        memory, first = (state.memory, state.length) if state is not None else (None, 0)
        mixed, memory = recurrence(query, key, value, rule=self.rule.name, state=memory, **settings)
        mixed = functional.rms_norm(mixed, (self.value_dim,), eps=self.epsilon).transpose(1, 2).flatten(2)
        return self.output(functional.silu(self.gate(hidden)) * mixed), Memory(memory, first + hidden.shape[1])


class GatedMemory(Memory):
    """The state of a GatedRetention: what all tokens so far left, each as far as the later ones let it."""

    def recur(self, query, key, value, log_gate, scale):
        """(what each new token reads: [batch, heads, time, value_dim], the state after them)."""
        mixed, memory = gated_recurrence(query, key, value, log_gate, scale=scale, state=self.memory)
        return mixed, GatedMemory(memory, self.length + query.shape[2])


class GatedRetention(MultiScaleRetention):
    """Retention whose decay each token sets itself, per head: log decay = logsigmoid(x W_forget) / TEMPERATURE.

    (Sun et al. 2024, YOCO, eq. 8 and the released gate_retention.py.) A temperature of 16 starts a new model at
    decays near 2^(-1/16), and a gate that wants to forget at once still can. Its state is a GatedMemory, or another
    that has `recur(query, key, value, log_gate, scale)`: see `effattn_core.states`.
    """

    def __init__(self, sizes):
        super().__init__(sizes)
        self.forget = nn.Linear(sizes.width, sizes.heads, bias=False)

    def constants(self):
        return {}  # a gate stands where the decay was

    def new_state(self, batch, like):
        """The state before any token."""
        return GatedMemory(super().new_state(batch, like).memory)

    def log_gate(self, hidden):
        """Natural logarithm of what each token leaves of the past: [batch, heads, time], at most 0."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        return functional.logsigmoid(self.forget(hidden).to(wide)).mT / TEMPERATURE

    def retain(self, hidden, query, key, value, state):
        """(what each token reads: [batch, heads, time, value_dim], the state after them)."""
        scale, log_gate = query.shape[-1] ** -0.5, self.log_gate(hidden)
        return state.recur(query, key, value, log_gate, scale)
