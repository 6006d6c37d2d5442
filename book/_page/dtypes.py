"""The types of numbers, how each rounds or wraps, and which type two of them meet in: Triton's rules."""

import math
import struct
from array import array

LOWEST_NORMAL, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # of float32


class NotOnThePage(AttributeError):
    """Something of Triton or PyTorch that the page does not have; the message names it."""


class Dtype:
    """A type of number. kind: "bool", "int", "uint" or "float"; bits: its width; code: its letter in `struct`."""

    def __init__(self, name, kind, bits, code):
        self.name, self.kind, self.bits, self.code = name, kind, bits, code
        self.is_integer, self.is_float = kind != "float", kind == "float"
        self.zero = 0.0 if self.is_float else 0
        self.lowest = -(2 ** (bits - 1)) if kind == "int" else 0
        self.highest = 2 ** (bits - (kind == "int")) - 1 if self.is_integer else None

    @property
    def poison(self):
        """What no kernel takes for a number of its own: odd, for of the lowest number an even count adds up to 0."""
        return math.nan if self.is_float else self.lowest + 1 if self.kind == "int" else self.highest

    @property
    def bytes(self):
        return max(1, self.bits // 8)

    itemsize = bytes

    def __repr__(self):
        return self.name

    def is_floating(self):
        return self.is_float

    def fit(self, values):
        """A list of what arithmetic gave, as this type holds it: floats rounded to the nearest, integers wrapped."""
        if self.kind == "float":
            return ROUNDED[self.name](values)
        if self.kind == "bool":
            return [bool(value & 1) for value in values]
        if not values or (min(values) >= self.lowest and max(values) <= self.highest):
            return list(values)
        span, lowest = 2**self.bits, self.lowest
        return [(value - lowest) % span + lowest for value in values]

    def pack(self, values):
        """The bytes in memory of a list of values, as bits of this type: of bfloat16 the upper half of a float32's."""
        whole = struct.pack(f"<{len(values)}{self.code}", *values)
        return b"".join(whole[at : at + 2] for at in range(2, len(whole), 4)) if self is bfloat16 else whole

    def unpack(self, content):
        """The list of values whose bytes these are."""
        if self is bfloat16:
            content = b"".join(b"\0\0" + content[at : at + 2] for at in range(0, len(content), 2))
        return list(struct.unpack(f"<{len(content) // struct.calcsize(self.code)}{self.code}", content))


def _round16(values):
    values = list(map(float, values))
    try:
        return list(struct.unpack(f"{len(values)}e", struct.pack(f"{len(values)}e", *values)))
    except OverflowError:
        return [_half(value) for value in values]


def _half(value):
    try:
        return struct.unpack("e", struct.pack("e", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def _round_brain(values):
    """To the upper half of a float32: to the nearest, of two as near to the even one, as adding half of it carries."""
    narrow = array("f", values)
    words = [
        (word + 0x7FFF + (word >> 16 & 1)) & 0xFFFF0000 if value == value else 0x7FC00000
        for word, value in zip(array("I", narrow.tobytes()), narrow, strict=True)
    ]
    return array("f", array("I", words).tobytes()).tolist()


ROUNDED = {
    "float16": _round16,
    "bfloat16": _round_brain,
    "float32": lambda values: array("f", values).tolist(),
    "float64": lambda values: [float(value) for value in values],
}

int1 = Dtype("bool", "bool", 1, "?")
int8, int16, int32, int64 = (
    Dtype(f"int{bits}", "int", bits, code) for bits, code in zip((8, 16, 32, 64), "bhiq", strict=True)
)
uint8, uint16, uint32, uint64 = (
    Dtype(f"uint{bits}", "uint", bits, code) for bits, code in zip((8, 16, 32, 64), "BHIQ", strict=True)
)
float16, float32, float64 = (
    Dtype(f"float{bits}", "float", bits, code) for bits, code in zip((16, 32, 64), "efd", strict=True)
)
bfloat16 = Dtype("bfloat16", "float", 16, "f")  # whose code is that of the float32 that it is the upper half of
ALL = (int1, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, float64)


class Pointer:
    """The type of addresses in one tensor: an address is an offset in elements from the tensor's first."""

    kind, is_integer, is_float = "pointer", False, False

    def __init__(self, element, tensor, name):
        self.element, self.tensor, self.name = element, tensor, f"pointer to {name}"
        self.of = name

    def __repr__(self):
        return self.name


def type_of(number):
    """The type that a Python number has in a kernel. Raises TypeError for what is no number."""
    if isinstance(number, bool):
        return int1
    if isinstance(number, int):
        for dtype in (int32, uint32, int64, uint64):
            if dtype.lowest <= number <= dtype.highest:
                return dtype
        raise ValueError(f"the integer {number} does not fit in 64 bits.")
    if isinstance(number, float):
        plain = number == 0 or not math.isfinite(number) or LOWEST_NORMAL <= abs(number) <= LARGEST
        return float32 if plain else float64
    raise TypeError(f"a kernel cannot compute with {number!r} of type {type(number).__name__}.")


def _rank(dtype):
    return {"bool": 0, "uint": 1, "int": 1, "float": 2}[dtype.kind]


def common(left, right, left_is_number=False, right_is_number=False, dividing=False):
    """The type in which two types compute. A Python number of no higher kind takes the type of the tile."""
    if left_is_number != right_is_number:
        number, tile = (left, right) if left_is_number else (right, left)
        if _rank(number) <= _rank(tile):
            left = right = tile
    if float64 in (left, right):
        return float64
    if dividing and (left.is_float or right.is_float):
        return float32
    for dtype in (float32, float16):
        if dtype in (left, right):
            return dtype
    if bfloat16 in (left, right):
        return bfloat16 if left is right else float32
    if dividing and (left.kind == "int") != (right.kind == "int"):
        raise TypeError(f"/, // and % want integers of one signedness; got {left} and {right}: cast one of them.")
    signed = left.kind == "int", right.kind == "int"
    if signed[0] == signed[1]:
        return left if left.bits > right.bits else right
    unsigned, other = (right, left) if signed[0] else (left, right)
    return unsigned if unsigned.bits >= other.bits else other


def converted(values, source, target):
    """A list of values of one type as another holds them."""
    if source is target:
        return values
    if target.kind == "bool":
        return [value != 0 for value in values]
    if source.is_float and target.is_integer:
        return target.fit([_whole(value, target) for value in values])
    return target.fit([int(value) for value in values] if source.kind == "bool" else values)


def _whole(value, target):
    """Towards zero; what no integer of the processor holds becomes its lowest, as x86 has it."""
    lowest = -(2 ** (31 if target.bits < 64 and target is not uint32 else 63))
    return int(value) if math.isfinite(value) and lowest <= value < -lowest else lowest


def reinterpreted(values, source, target):
    """The same bits read as another type of the same width."""
    if source.bits != target.bits:
        raise ValueError(f"a bitcast keeps the width; {source} and {target} differ.")
    return target.unpack(source.pack(values))
