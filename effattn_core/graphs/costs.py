"""What graphs costs: bytes and operations, as formulas that the traced kernels and the recorded runs must equal.

TO WRITE: STAGE, what the chapter does to the bill: a `Stage` of `effattn_core.bill` (part and number of the chapter,
the design that it changes, the lines that differ, what is paid for them). The bill finds it by itself.
"""


def decode_bytes(context: int) -> int:
    """TO WRITE: bytes read for one decoded token after `context` tokens (eq. graphs-bytes)."""
    raise NotImplementedError("TO WRITE: the formula of the bytes, with its equation in the chapter.")
