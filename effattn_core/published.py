"""What peers publish of their own speed: their figures, on their hardware, each read where the source says.

None of it was measured here, and none of it is ours: a row stands beside a topic of this book, for a reader who has the
same hardware. Sources were read on 27 November 2026.
"""

from dataclasses import dataclass

FLA_README = "README.md of fla-org/flash-linear-attention at bc3b101, Benchmarks (main at 0a484709)"
FLASH3_FIGURE = "assets/flash3_fp16_fwd.png of Dao-AILab/flash-attention at 0251105"
FLASH2_FIGURE = "assets/flash2_h100_fwd_bwd_benchmark.png of Dao-AILab/flash-attention at 0251105"
AO_README = "torchao/optim/README.md of pytorch/ao at 36027d8, Benchmarks"
LIGER_README = "README.md of linkedin/Liger-Kernel at ead96b6"
NONE = "none of this book"
GB200, H100 = "NVIDIA GB200, CUDA 12.9, PyTorch 2.9.0", "NVIDIA H100 80GB SXM5"


@dataclass(frozen=True)
class Published:
    """One figure of a peer. source: its key in references.bib; place: where it was read; topic: of this book."""

    topic: str
    source: str
    name: str
    what: str
    shape: str
    hardware: str
    figure: float
    unit: str
    place: str


# (batch, tokens, heads, head_dim), then milliseconds of chunk_retention and flash_attn: forward, forward and backward
FLA = (
    ((1, 8192, 96, 128), (0.787, 3.753), (2.618, 15.371)),
    ((2, 16384, 16, 128), (0.792, 5.035), (2.122, 19.960)),
    ((4, 2048, 16, 128), (0.559, 0.346), (1.047, 0.902)),
    ((4, 4096, 64, 128), (0.997, 2.560), (3.459, 10.815)),
    ((8, 1024, 8, 64), (0.425, 0.157), (0.898, 0.477)),
    ((8, 2048, 32, 256), (1.174, 1.408), (51.103, 6.748)),
)
# (head_dim, mask), then TFLOP/s at 16K tokens of FlashAttention-2, Triton, cuDNN and FlashAttention-3
FLASH3 = ((64, "causal", (299, 363, 388, 473)), (128, "causal", (335, 378, 539, 616)))
# head_dim, then TFLOP/s at 16K tokens of FlashAttention and FlashAttention-2, causal
FLASH2 = ((64, (156, 284)), (128, (137, 328)))
# (what was tuned, hardware, unit, shape), then speed and peak gigabytes of each AdamW
AO = (
    (
        "fine-tuning ViT-H, 630M parameters", "RTX 4070 Ti SUPER, PyTorch 2.4", "images per second",
        "batch 8, BF16 AMP, compiled",
        {"PyTorch, fused": (41.9, 12.23), "bitsandbytes, 8 bits": (43.6, 8.32), "torchao, 8 bits": (42.5, 8.33),
         "torchao, 4 bits": (42.4, 7.72)},
    ),
    (
        "fine-tuning Llama 2 7B", "NVIDIA A100, PyTorch 2.4", "tokens per second", "full BF16, Alpaca",
        {"PyTorch, fused": (3200, 51.6), "bitsandbytes, 8 bits": (3000, 39.3), "torchao, 8 bits": (2900, 39.1),
         "torchao, 4 bits": (2900, 33.2)},
    ),
)  # fmt: skip


def published():
    """Every figure of a peer, in the order of the book's topics."""
    return [*_flash(), *_fla(), *_optimizers(), *_training()]


def _flash():
    names = "FlashAttention-2", "Triton", "cuDNN", "FlashAttention-3"
    for head_dim, mask, speeds in FLASH3:
        shape = f"head_dim {head_dim}, {mask}, 16K tokens, FP16"
        for name, speed in zip(names, speeds, strict=True):
            yield Published("attention", "flash3", name, "forward", shape, H100, speed, "TFLOP/s", FLASH3_FIGURE)
    for head_dim, speeds in FLASH2:
        shape, what = f"head_dim {head_dim}, causal, 16K tokens, FP16/BF16", "forward and backward"
        for name, speed in zip(("FlashAttention", "FlashAttention-2"), speeds, strict=True):
            yield Published("attention", "flash2", name, what, shape, H100, speed, "TFLOP/s", FLASH2_FIGURE)


def _fla():
    for (batch, tokens, heads, head_dim), *passes in FLA:
        shape = f"batch {batch}, {tokens:,} tokens, {heads} heads of {head_dim}"
        for what, taken in zip(("forward", "forward and backward"), passes, strict=True):
            for name, milliseconds in zip(("chunk_retention", "flash_attn"), taken, strict=True):
                yield Published("retention", "fla", name, what, shape, GB200, milliseconds, "ms", FLA_README)


def _optimizers():
    for what, hardware, unit, shape, speeds in AO:
        for name, (speed, memory) in speeds.items():
            yield Published("lowbit", "torchao", name, what, shape, hardware, speed, unit, AO_README)
            yield Published("lowbit", "torchao", name, what, shape, hardware, memory, "GB at the peak", AO_README)


def _training():
    shape, hardware = "batch 8, BF16, AdamW, FSDP, checkpointed", "8 NVIDIA A100"
    what = "training Llama 3 8B, against Hugging Face's layers"
    for figure, unit in ((20, "% more tokens per second, at least"), (60, "% less memory")):
        yield Published(NONE, "liger", "Liger Kernel", what, shape, hardware, figure, unit, LIGER_README)


def by_hardware(rows):
    """(source, hardware, topic, place, rows of a table) of each source and device: a column for each name compared."""
    groups = {}
    for row in rows:
        table = groups.setdefault((row.source, row.hardware, row.topic, row.place), {})
        line = {"what and shape": f"{row.what}, {row.shape}", "unit": row.unit}
        table.setdefault((row.what, row.shape, row.unit), line)[row.name] = f"{row.figure:,}"
    for key, table in groups.items():
        yield *key, list(table.values())


def slower(rows, ours="chunk_retention", theirs="flash_attn"):
    """(what, shape, times) of each published shape at which a peer's own table has `ours` slower than `theirs`."""
    taken = {(row.what, row.shape, row.name): row.figure for row in rows if row.unit == "ms"}
    for (what, shape, name), figure in taken.items():
        other = taken.get((what, shape, theirs))
        if name == ours and other is not None and figure > other:
            yield what, shape, figure / other
