"""Devices of a plan: published peaks from a laptop to a B200, and a link in one direction. Read in 2026.

No data sheet of NVIDIA after the H100's could be opened here. The H200's and the B200's numbers are those of copies of
their tables, which agree with each other; `source` says which. A rate "with sparsity" is halved.
"""

from dataclasses import dataclass

from effattn_core import costs

LOCKWOOD = "G. K. Lockwood, processors/"


@dataclass(frozen=True)
class Device:
    """Published peaks of a device, and of its link. link: bytes per second that it sends; as many come in meanwhile."""

    hardware: costs.Hardware
    link: float
    source: str

    @property
    def name(self):
        return self.hardware.name


def own_device(bandwidth=50e9, flops=1e12, memory=16e9, link=1e9):
    """A Device of the reader's own numbers, in bytes and FLOP per second. The defaults are round, and no product's."""
    hardware = costs.Hardware(
        "your own device", bandwidth, memory, {"bfloat16": flops, "float32": flops}, "what its owner says or measured"
    )
    return Device(hardware, link, "what its owner says or measured")


# The GPU multiplies float16 no faster than float32; bfloat16 is priced as float16.
M1_MAX = costs.Hardware(
    "M1 Max, a laptop", 400e9, 64e9, {"bfloat16": 10.6e12, "float16": 10.6e12, "float32": 10.6e12},
    "32 GPU cores: philipturner/metal-benchmarks at dc2adc6, README, GOPS32 and GOPS16; 400 GB/s and 64 GB: Apple's "
    "announcement as reported (9to5mac, 2021-10-18)",
)  # fmt: skip
H200 = costs.Hardware(
    "H200 SXM", 4.8e12, 141e9, {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    "NVIDIA's H200 data sheet as copied in astroC86/gpu-datasheet at 01ede5f (1,979 TFLOPS with sparsity); float32: "
    "66.9, hmc-tech.com",
)  # fmt: skip
B200 = costs.Hardware(
    "B200 SXM", 7.7e12, 180e9, {"bfloat16": 2250e12, "float16": 2250e12, "float32": 75e12},
    "NVIDIA's table of the HGX B200 as copied in zdszero.github.io, Hardware (4.5 PFLOPS with sparsity, 180 GB, 7.7 "
    "TB/s); pytorch/ao #4002 has 7.67 TB/s from the driver",
)  # fmt: skip
DEVICES = {
    device.name: device
    for device in (
        Device(M1_MAX, 5e9, "Thunderbolt 4, 40 Gb/s (macrumors, 2020-11-10)"),
        Device(costs.HARDWARE["A100 80GB SXM"], 300e9, f"NVLink, 300 GB/s each way ({LOCKWOOD}A100)"),
        Device(costs.HARDWARE["H100 SXM"], 450e9, f"half of NVLink's 900 GB/s both ways ({LOCKWOOD}h100)"),
        Device(H200, 450e9, "half of NVLink's 900 GB/s (MLPerf inference v4.1, NVIDIA's system H200-SXM-141GBx8)"),
        Device(B200, 900e9, f"NVLink, 900 GB/s each way ({LOCKWOOD}B200)"),
        own_device(),
    )
}
