"""What one shared index costs: bytes and operations a decoded token, the kernels' traffic, and the bill."""

import math
from dataclasses import dataclass, replace

from effattn_core import costs
from effattn_core.bill import MODEL, Stage

TOP_K, INDEX_DIM, INDEX_HEADS = 2048, 128, 64  # top_k as published of CLSA; the others are DSA's
INDEX_ELEMENT = 1  # bytes per number of an index key: DSA keeps FP8, and one float32 factor per token
SCALE_BYTES = 4
# Of the published model: layers of the cross-decoder, half of all, and its cache; the windows of the self-decoder below
# it. UNVERIFIED: the sections of CLSA that give them were not read.
CROSS_DECODER, WINDOW = dict(layers=16, key_value_heads=4, head_dim=128), 512


@dataclass(frozen=True)
class Step:
    """Bytes read for one decoded token by the layers that share a cache: index keys, and rows of keys and values."""

    index: int
    rows: int

    @property
    def total(self):
        return self.index + self.rows


def row_bytes(key_value_heads, head_dim, element=2):
    """Bytes of one token in the cache: a key and a value for each head."""
    return 2 * key_value_heads * head_dim * element


def index_bytes(context, index_dim=INDEX_DIM, index_element=INDEX_ELEMENT, scale_bytes=SCALE_BYTES):
    """Bytes of the index keys of a text; scale_bytes: of the factor that goes with a key in eight bits, 0 for none."""
    return context * (index_dim * index_element + scale_bytes)


def step(context, layers, key_value_heads, head_dim, *, top_k=TOP_K, element=2, shared=True, gathered=False, **index):
    """Bytes read per token (eq. clsa-bytes): top_k rows in each of `layers` layers, and the index once, or in each.

    shared: one index for all layers (CLSA), or one per layer (DSA). gathered: the rows are copied once to lie together,
    which reads them one time more; what is then read by the layers is as much, but in one piece. top_k None: dense.
    """
    row = row_bytes(key_value_heads, head_dim, element)
    if top_k is None:
        return Step(0, layers * context * row)
    rows = (layers + bool(gathered)) * min(top_k, context) * row
    return Step(index_bytes(context, **index) * (1 if shared else layers), rows)


def published(context, *, gathered=False):
    """Bytes of cache that a token reads in three models of CLSA's sizes, two bytes per number, as a tuple of three.

    A Transformer with a cache in every layer; a YOCO of the same depth, windows below and a shared cache above; that
    YOCO with one index. gathered: as in `step`.
    """
    heads = {name: CROSS_DECODER[name] for name in ("key_value_heads", "head_dim")}
    half = CROSS_DECODER["layers"]
    windows = step(min(WINDOW, context), half, **heads, top_k=None).total
    transformer = step(context, 2 * half, **heads, top_k=None).total
    yoco, indexed = (step(context, half, **heads, top_k=k, gathered=gathered and k is not None).total
                     for k in (None, TOP_K))  # fmt: skip
    return transformer, windows + yoco, windows + indexed


def select_traffic(batch, time, index_dim, index_heads, top_k, *, splits, element=4):
    """Exactly what scoring with a running top-k moves: index keys once, a list of 8-byte entries per split; no row."""
    from kernels.indexing.configurations import capacity_of, select_configuration

    block = select_configuration(element).keys
    capacity = capacity_of(top_k, block)
    rows = max(16, 1 << (index_heads - 1).bit_length())
    ask = splits * index_heads * (index_dim * element + element)
    loaded = ask + time * index_dim * element + splits * capacity * 8
    stored = splits * capacity * 8 + top_k * (4 + 4)
    span = math.ceil(math.ceil(time / splits) / capacity) * capacity
    blocks = sum(
        -(-max(0, min(span, time - split * span)) // capacity) * (capacity // block) for split in range(splits)
    )
    return costs.Traffic(batch * loaded, batch * stored, batch * blocks * 2 * rows * block * index_dim)


def gather_traffic(batch, key_heads, head_dim, count, *, element=4):
    """Exactly what copying `count` rows moves: the list once a program, the rows once in and once out."""
    moved = batch * 2 * key_heads * count * head_dim * element
    return costs.Traffic(moved + batch * key_heads * count * 4, moved, 0)


def attention_traffic(batch, group, key_heads, head_dim, count, *, splits, element=4):
    """Exactly what attention over `count` rows and its merge move in one layer."""
    query, parts = group * head_dim * element, group * splits * 4 * (head_dim + 1)
    loaded = splits * query + 4 * count + 2 * count * head_dim * element + parts
    stored = parts + group * (head_dim * element + 4)
    return costs.Traffic(*(batch * key_heads * each for each in (loaded, stored, 0)))


def _changes(lines, context):
    """The gated YOCO with one index: its upper half reads TOP_K rows per layer, and the index keys once."""
    model = MODEL
    readers = model.layers - model.layers // 2
    sizes = (context, readers, model.key_value_heads, model.head_dim)
    saved = step(*sizes, top_k=None).total - step(*sizes).total
    return {
        "cache": replace(
            lines["cache"],
            text=lines["cache"].text + index_bytes(context),
            explanation="one cache for all layers, small states, and one index key per token",
        ),
        "decode": replace(
            lines["decode"],
            text=lines["decode"].text - saved,
            parts=("weights", "index and rows"),
            explanation="all weights, the index keys once, the chosen rows once per layer",
        ),
    }


STAGE = Stage(
    topic="indexing",
    place=(4, 2),
    method="CLSA",
    design="a gated YOCO with one index",
    on="yoco",
    changes=_changes,
    cost="The cache grows by an index key per token, the index has to be trained, and it still scores every token.",
)
