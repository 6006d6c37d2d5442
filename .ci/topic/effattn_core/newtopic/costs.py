"""What newtopic costs: bytes and operations, as formulas that the traced kernels and the recorded runs must equal."""


def decode_bytes(context: int) -> int:
    """TO WRITE: bytes read for one decoded token after `context` tokens (eq. newtopic-bytes)."""
    raise NotImplementedError("TO WRITE: the formula of the bytes, with its equation in the chapter.")
