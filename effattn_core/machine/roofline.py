"""Operations and bytes of the steps that a Transformer is made of, and the least time that a machine needs for them.

A multiply and an add are two operations. Bytes are the fewest possible: each input read once, each output written once.
"""

from dataclasses import dataclass

from effattn_core import costs
from effattn_core.calls import require_sizes


@dataclass(frozen=True)
class Work:
    """flops: operations; moved: bytes that pass between memory and chip."""

    flops: int
    moved: int

    @property
    def intensity(self):
        """Operations per byte moved."""
        return self.flops / self.moved


def linear(tokens, inputs=4096, outputs=4096, *, element=2):
    """A linear layer on `tokens` rows at once: the weight is read once for all of them.

    element: bytes per number. Raises ValueError for a size below 1.
    """
    require_sizes(tokens=tokens, inputs=inputs, outputs=outputs)
    moved = element * (inputs * outputs + tokens * (inputs + outputs))
    return Work(2 * tokens * inputs * outputs, moved)


def decode_attention(keys, *, heads=32, key_value_heads=8, head_dim=128, element=2):
    """Attention of one new token over `keys` cached tokens: the cache is read once, and no other text can share it.

    Every cached number serves the heads / key_value_heads query heads of its group, with a multiply and an add each.
    Queries and output, a row each, are left out. Raises ValueError for a size below 1.
    """
    require_sizes(keys=keys, heads=heads, key_value_heads=key_value_heads, head_dim=head_dim)
    return Work(4 * heads * keys * head_dim, element * 2 * key_value_heads * keys * head_dim)


def prefill_attention(tokens, *, heads=32, key_value_heads=8, head_dim=128, element=2):
    """Causal attention over a prompt of `tokens`, if queries, keys, values and output pass through memory once.

    No kernel quite reaches that, for keys are read again per block of queries. Raises ValueError for a size below 1.
    """
    require_sizes(tokens=tokens, heads=heads, key_value_heads=key_value_heads, head_dim=head_dim)
    moved = element * tokens * head_dim * 2 * (heads + key_value_heads)
    return Work(4 * heads * head_dim * tokens * (tokens + 1) // 2, moved)


def prefill(model, tokens):
    """A whole model reads a prompt of `tokens`: every weight is read once, every key and value is written once."""
    return Work(costs.prefill_flops(model, tokens), costs.decode_bytes(model, tokens))


def decode(model, context, *, texts=1, dtype="bfloat16"):
    """A whole model writes one token in each of `texts` texts of `context` tokens: weights once, each cache once."""
    moved = costs.decode_bytes(model, context, batch=texts, dtype=dtype, weights=dtype)
    return Work(costs.decode_flops(model, context, batch=texts), moved)


def ridge(hardware, dtype="bfloat16"):
    """Operations per byte above which computing takes longer than moving: peak rate over bandwidth."""
    return hardware.peak(dtype) / hardware.bandwidth


def attainable(intensity, hardware, dtype="bfloat16"):
    """Operations per second that the roofline allows: min(peak rate, intensity · bandwidth)."""
    return min(hardware.peak(dtype), intensity * hardware.bandwidth)
