"""YOCO: a self-decoder reads the text, keys and values are made once, and a cross-decoder attends to them.

The first layers mix tokens by something cheap: attention within a window, or gated retention. What they make is
normalised once and gives one key and one value per token. Every later layer has a query of its own and reads those. So
one cache serves half of the layers, and a prompt needs those layers for its last token only. (Sun et al. 2024)
"""

from torch import nn

from effattn_core.model import Block, LanguageModel
from effattn_core.positions import even_speeds, turn
from effattn_core.states import KeyValueCache, SharedKeyValue


class SharedCacheWriter(nn.Module):
    """norm, then W_key and W_value, keys turned to their positions: the one place where YOCO makes keys and values."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes, keys = sizes, sizes.key_value_heads * sizes.head_dim
        self.norm = nn.RMSNorm(sizes.width)
        self.key, self.value = nn.Linear(sizes.width, keys, bias=False), nn.Linear(sizes.width, keys, bias=False)

    def forward(self, hidden, cache=None):
        """hidden: [batch, time, width]. Returns the cache with the new tokens in it; without one a SharedKeyValue."""
        normed, first = self.norm(hidden), cache.length if cache is not None else 0
        key, value = (
            projection(normed).unflatten(-1, (-1, self.sizes.head_dim)).transpose(1, 2)
            for projection in (self.key, self.value)
        )
        key = turn(key, first, even_speeds(self.sizes.head_dim, self.sizes.rotary_base, hidden))
        if cache is None:
            return SharedKeyValue(key, value)
        cache.append(key, value)
        return cache


class CrossAttention(nn.Module):
    """Causal attention from this layer's queries to the shared keys and values: W_query and W_output, nothing else."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.query = nn.Linear(sizes.width, sizes.heads * sizes.head_dim, bias=False)
        self.output = nn.Linear(sizes.heads * sizes.head_dim, sizes.width, bias=False)

    def forward(self, hidden, shared):
        """hidden: [batch, time, width], of the last `time` tokens that are in `shared`: a query sees up to itself.

        `shared` decides by its `look(query)` what a query reads: see `effattn_core.states`.
        """
        query = self.query(hidden).unflatten(-1, (-1, self.sizes.head_dim)).transpose(1, 2)
        first = shared.length - hidden.shape[1]
        query = turn(query, first, even_speeds(self.sizes.head_dim, self.sizes.rotary_base, hidden))
        return self.output(shared.look(query).transpose(1, 2).flatten(2)), shared


class YOCO(LanguageModel):
    """layers - cross_layers self-decoder blocks, one cache, cross_layers blocks that read it.

    The mixer of the self-decoder is the one that `sizes` names: "attention" with a window, "gated" or "retention". Its
    states are those of its blocks, and last the shared KeyValueCache.
    """

    def make_layers(self, mixer):
        sizes = self.sizes
        if sizes.cross_layers < 1:
            raise ValueError("a YOCO needs cross_layers of at least 1; use a LanguageModel for none.")
        self.blocks = nn.ModuleList(Block(sizes, mixer) for _ in range(sizes.layers - sizes.cross_layers))
        self.writer = SharedCacheWriter(sizes)
        self.cross_blocks = nn.ModuleList(Block(sizes, CrossAttention) for _ in range(sizes.cross_layers))

    def new_states(self, batch=1):
        """An empty state for each block of the self-decoder, then the shared cache for the whole context."""
        sizes, weight = self.sizes, self.head.weight
        shape = (batch, sizes.key_value_heads, sizes.context, sizes.head_dim)
        return [*super().new_states(batch), KeyValueCache(*shape, dtype=weight.dtype, device=weight.device)]

    def read(self, hidden, states):
        """The self-decoder, and the tokens' keys and values: all that a prompt needs but for its last token."""
        *states, cache = states if states is not None else [None] * (len(self.blocks) + 1)
        hidden, states = super().read(hidden, states)
        return hidden, [*states, self.writer(hidden, cache)]

    def answer(self, hidden, states):
        """The cross-decoder, for the last tokens of the text: [batch, time, width] to the same."""
        for block in self.cross_blocks:
            hidden, _ = block(hidden, states[-1])
        return hidden
