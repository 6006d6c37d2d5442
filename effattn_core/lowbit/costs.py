"""What optimizer states cost: bytes kept per parameter, bytes that a step moves, the memory of models of 7B and 70B."""

from dataclasses import dataclass, replace

from effattn_core.bill import Stage
from effattn_core.calls import require_count
from effattn_core.costs import Model, cdiv
from effattn_core.lowbit.levels import WHOLE, require_bits
from effattn_core.lowbit.quantisers import BLOCK
from effattn_core.lowbit.traffic import bytes_per_parameter

NUMBER = 4  # bytes of a scale, a slope, or a moment in float32

LLAMA_7B = Model(
    name="LLaMA 7B",
    layers=32,
    width=4096,
    heads=32,
    key_value_heads=32,
    head_dim=128,
    feed_forward=11008,
    vocabulary=32000,
    source="LLaMA, table 2 (arXiv 2302.13971); feed-forward by its rule, 2/3 · 4 widths, and the released weights",
)
LLAMA_70B = Model(
    name="Llama 3 70B",
    layers=80,
    width=8192,
    heads=64,
    key_value_heads=8,
    head_dim=128,
    feed_forward=28672,
    vocabulary=128256,
    source="The Llama 3 Herd of Models, table 3 (arXiv 2407.21783)",
)
MODELS = (LLAMA_7B, LLAMA_70B)


@dataclass(frozen=True)
class Design:
    """How an optimizer keeps two moments. bits: of m and v, 32 for float32, 16 for bfloat16; block: elements per scale.

    slopes: whether v has a slope beside its scale; nibbles: whether three bits are kept in four, as SOLO was released.
    """

    name: str
    bits: tuple[int, int]
    block: int = BLOCK
    slopes: bool = False
    nibbles: bool = False

    @property
    def bytes_per_parameter(self) -> float:
        """What both moments take, without what a short last block adds (eq. lowbit-bytes)."""
        return moment_bytes(self.bits[0], self.block, nibbles=self.nibbles) + moment_bytes(
            self.bits[1], self.block, numbers=1 + self.slopes, nibbles=self.nibbles
        )


def moment_bytes(bits: int, block: int = BLOCK, *, numbers: int = 1, nibbles: bool = False) -> float:
    """Bytes per parameter of one moment: bits / 8, and `numbers` of four bytes per block; none at 16 or 32 bits."""
    require_count("block", block)
    require_count("numbers", numbers)
    if bits in (16, WHOLE):
        return bits / 8
    require_bits(bits)
    return (4 if nibbles and bits == 3 else bits) / 8 + NUMBER * numbers / block


DESIGNS = (
    Design("AdamW, float32", (WHOLE, WHOLE)),
    Design("AdamW, bfloat16", (16, 16)),
    Design("8-bit AdamW", (8, 8), block=256),
    Design("4-bit AdamW", (4, 4)),
    Design("SOLO 3/3, as released", (3, 3), slopes=True, nibbles=True),
    Design("SOLO 3/3", (3, 3), slopes=True),
    Design("SOLO 4/2", (4, 2), slopes=True),
    Design("SOLO 2/2", (2, 2), slopes=True),
)


def design(name: str) -> Design:
    """The Design of a name in DESIGNS. Raises ValueError for another."""
    found = {each.name: each for each in DESIGNS}
    if name not in found:
        raise ValueError(f"name must be one of {', '.join(found)}; it is {name!r}.")
    return found[name]


def tensor_bytes(count: int, bits: int, block: int = BLOCK, *, numbers: int = 1) -> int:
    """Exactly what one moment of a tensor of `count` elements takes: codes to whole bytes, numbers per begun block."""
    require_count("count", count, 0)
    if bits == WHOLE:
        return NUMBER * count
    require_bits(bits)
    return cdiv(count * bits, 8) + NUMBER * numbers * cdiv(count, block)


def step_bytes(kept: Design, element: int = 4) -> float:
    """Bytes per parameter that one pass must move: the weight read and written, its gradient read, states both ways.

    element: bytes of a weight and of a gradient. 3 · element + 2 · bytes_per_parameter (eq. lowbit-traffic).
    """
    return bytes_per_parameter(kept.bytes_per_parameter, element)


def state_memory(model: Model, kept: Design) -> float:
    """Bytes of a model's optimizer states, all parameters kept alike."""
    return model.parameters * kept.bytes_per_parameter


@dataclass(frozen=True)
class Memory:
    """Bytes that training keeps, activations left out."""

    weights: float
    gradients: float
    states: float

    @property
    def total(self):
        return self.weights + self.gradients + self.states


def training_memory(model: Model, kept: Design, *, weight: int = 2, gradient: int = 2) -> Memory:
    """The Memory of a model: `weight` and `gradient` are bytes of each; no float32 copy of the weights is kept."""
    return Memory(model.parameters * weight, model.parameters * gradient, state_memory(model, kept))


def _changes(lines, context):
    """The optimizer's line alone: two float32 moments become four bits and two."""
    share = design("SOLO 4/2").bytes_per_parameter / design("AdamW, float32").bytes_per_parameter
    line = lines["optimizer"]
    told = "two moments per weight in four bits and two, and three numbers per block of 128"
    return {"optimizer": replace(line, weights=line.weights * share, explanation=told)}


STAGE = Stage(
    topic="lowbit",
    place=(6, 1),
    method="States in 4 and 2 bits",
    design="grouped heads, trained with moments in 4 and 2 bits",
    on="attention",
    changes=_changes,
    cost="Rounding adds noise to every step, which a lower β1 keeps down: of this line alone, and in training alone.",
)
