"""What a Transformer does with a token: pairs in a matrix, turned pairs, shared heads, and how unsure it is."""

from effattn_core.token.forms import (
    as_unsure_as,
    entropy,
    key_head_of,
    letters_after,
    plain_letters,
    read,
    speeds,
    tempered,
    turned,
    write,
)

__all__ = [
    "as_unsure_as",
    "entropy",
    "key_head_of",
    "letters_after",
    "plain_letters",
    "read",
    "speeds",
    "tempered",
    "turned",
    "write",
]
