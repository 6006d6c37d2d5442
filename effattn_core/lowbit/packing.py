"""Codes in bytes: 2, 3, 4 or 8 bits per element, nothing lost between them.

The first element of a byte takes its highest bits, as in SOLO's and torchao's code: 2 bits stand in 7–6, 5–4, 3–2, 1–0,
4 bits in the high half, then the low. Three bits run on over bytes, eight elements in three. What is left of the last
byte is 0.
"""

import torch

from effattn_core.calls import require_count
from effattn_core.lowbit.levels import require_bits


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` codes: count · bits / 8, rounded up."""
    require_bits(bits)
    require_count("count", count, 0)
    return -(-count * bits // 8)


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes of any shape, uint8 below 2**bits, as uint8 [packed_bytes(count, bits)], in their order when flattened.

    Raises ValueError for another dtype, or for a code that does not fit.
    """
    require_bits(bits)
    if codes.dtype != torch.uint8:
        raise ValueError(f"codes must be uint8; got {codes.dtype}.")
    checked = not torch.compiler.is_compiling() and codes.device.type == "cpu" and codes.numel()
    if checked and (largest := int(codes.max())) >= 2**bits:
        raise ValueError(f"a code of {bits} bits must be below {2**bits}; the largest is {largest}.")
    flat, size = codes.reshape(-1), packed_bytes(codes.numel(), bits)
    if bits == 8:
        return flat.clone()
    if bits == 3:
        return _pack_threes(flat)[:size]
    share = 8 // bits
    rows = _filled(flat, share)
    packed = rows[:, 0] << (8 - bits)
    for place in range(1, share):
        packed = packed | rows[:, place] << (8 - bits - bits * place)
    return packed


def unpack(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The `count` codes, uint8 [count], that `pack` made bytes of. Raises ValueError for another number of bytes."""
    size = packed_bytes(count, bits)
    if packed.dtype != torch.uint8 or packed.shape != (size,):
        given = f"{tuple(packed.shape)} {packed.dtype}"
        raise ValueError(f"{count} codes of {bits} bits are [{size}] torch.uint8; got {given}.")
    if bits == 8:
        return packed.clone()
    if bits == 3:
        return _unpack_threes(packed)[:count]
    places = [packed >> shift & (2**bits - 1) for shift in range(8 - bits, -1, -bits)]
    return torch.stack(places, 1).reshape(-1)[:count]


def _filled(flat, size):
    """[ceil(count / size), size], with zeros after the last."""
    return torch.nn.functional.pad(flat, (0, -flat.numel() % size)).view(-1, size)


def _pack_threes(flat):
    """Eight codes as 24 bits, in three bytes."""
    first, second, third, fourth, fifth, sixth, seventh, last = _filled(flat, 8).unbind(1)
    high = first << 5 | second << 2 | third >> 1
    middle = third << 7 | fourth << 4 | fifth << 1 | sixth >> 2  # uint8 drops what does not fit
    low = sixth << 6 | seventh << 3 | last
    return torch.stack((high, middle, low), 1).reshape(-1)


def _unpack_threes(packed):
    high, middle, low = _filled(packed, 3).unbind(1)
    codes = (
        high >> 5,
        high >> 2,
        high << 1 | middle >> 7,
        middle >> 4,
        middle >> 1,
        middle << 2 | low >> 6,
        low >> 3,
        low,
    )
    return torch.stack([each & 7 for each in codes], 1).reshape(-1)
