"""The levels of memory of a data-centre GPU and of a laptop: sizes, rates and waits, each with its source.

H100: sizes from NVIDIA; rates and waits of the levels on the chip as gpu-benches measured them on the PCIe card, which
has 114 multiprocessors at 1.755 GHz where the SXM card has 132. What no source gives is None.
"""

from dataclasses import dataclass

from effattn_core.costs import HARDWARE, Hardware

MULTIPROCESSORS = 132  # H100 SXM5: NVIDIA Hopper Architecture In-Depth, table 3
CLOCK = 1.755e9  # cycles a second, of the card that was measured

NVIDIA = "NVIDIA Hopper Architecture In-Depth"  # its tables 3 and 4
BENCHES = "measured on the PCIe card by gpu-benches"  # te42kyfo/gpu-benches at commit 1c36d50


@dataclass(frozen=True)
class Level:
    """One level of memory. size: bytes of one copy; copies: how many the chip has (one per multiprocessor, or one).

    bandwidth: bytes per second of all copies together; cycles: from asking for a number to having it.
    """

    name: str
    size: int
    copies: int
    bandwidth: float | None
    cycles: float | None
    source: str

    @property
    def whole(self):
        """Bytes of all copies together."""
        return self.size * self.copies


H100 = (
    Level("registers", 256 << 10, MULTIPROCESSORS, None, None, NVIDIA),
    Level("shared memory", 228 << 10, MULTIPROCESSORS, 25.2e12, 34.1, f"{NVIDIA}; rate and wait {BENCHES}"),
    Level("L2 cache", 50_000_000, 1, 6.9e12, 265.5, f"{NVIDIA}; rate and wait {BENCHES}"),
    Level("HBM", 80_000_000_000, 1, HARDWARE["H100 SXM"].bandwidth, 657.2,
          f"{HARDWARE['H100 SXM'].source}; wait {BENCHES}"),
)  # fmt: skip

# Apple's figures of June 2022, as Phoronix reported them; the GPU's rate as Hugging Face's hardware page has it.
LAPTOP = Hardware(
    "Laptop (Apple M2)",
    100e9,
    24e9,
    {"float32": 3.6e12},
    "bandwidth and memory: Apple, June 2022, reported by Phoronix; rate: huggingface.co/hardware/apple-m2",
)
M2 = (
    Level("cache of the fast cores", 16_000_000, 1, None, None, "Apple, June 2022, reported by Phoronix"),
    Level("memory", int(LAPTOP.memory), 1, LAPTOP.bandwidth, None, LAPTOP.source),
)

HIERARCHIES = {"H100 SXM": H100, LAPTOP.name: M2}
