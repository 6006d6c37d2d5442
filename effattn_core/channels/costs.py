"""What pruned key channels save: bytes kept, bytes read, the traffic of the kernels, and the bill of a model."""

from dataclasses import replace

from effattn_core import costs
from effattn_core.bill import Stage

# Counted in the masks that were released with LeanK for Llama 3.1 8B: share of key channels kept, heads without any of
# 32 layers × 8; by quarters of the rotary pairs, fastest first, the share kept; heads by their count. Then sinks,
# recent and chunk as deployed, and the recent tokens that training reads whole.
RELEASED_KEPT, RELEASED_EMPTY = 0.3125, 47 / 256
RELEASED_QUARTERS = (0.046, 0.139, 0.470, 0.599)
RELEASED_COUNTS = {0: 47, 32: 120, 64: 67, 96: 22, 128: 0}
SINKS, RECENT, CHUNK = 128, 768, 128
TRAINED_RECENT = 1024


def relative_bytes(kept, empty=0.0):
    """Bytes of the middle over a dense cache's: (kept + 1 - empty) / 2 (eq. channels-bytes).

    kept: share of all key channels; empty: share of heads that keep none, whose values are dropped too.
    """
    return (kept + 1 - empty) / 2


def dense_tokens(tokens, sinks=SINKS, recent=RECENT, chunk=CHUNK):
    """Of `tokens` in a cache, those that are kept whole: sinks, recent, and what waits to fill a chunk."""
    return tokens - max(0, tokens - sinks - recent) // chunk * chunk


def layer_bytes(tokens, counts, head_dim, *, value_dim=None, element=2, sinks=SINKS, recent=RECENT, chunk=CHUNK):
    """Bytes of one layer's keys and values after `tokens` tokens. counts: channels kept by each key head."""
    value_dim, whole = value_dim or head_dim, dense_tokens(tokens, sinks, recent, chunk)
    middle = sum(count + value_dim for count in counts if count)
    return element * (whole * len(counts) * (head_dim + value_dim) + (tokens - whole) * middle)


def decode_traffic(
    batch, group, key_heads, dense, far, head_dim, value_dim, groups, *, splits, block, blocks, element=4
):
    """Exactly what decoding one token moves (eq. channels-traffic); masked-off lanes are not counted.

    dense, far: tokens kept whole, tokens of the middle; groups: (heads, count) of each, as `Plan.groups`; splits: of
    the dense region and of the middle; block, blocks: keys of a block, in the dense kernel and in each group's. A
    program reads its queries once and, in a group, its channels' int64 numbers; parts are float32.
    """
    heads, rows = group * key_heads, max(16, 1 << (group - 1).bit_length())
    whole, parts = (head_dim + value_dim), 4 * (value_dim + 1)
    loaded = element * (splits[0] * heads * head_dim + key_heads * dense * whole)
    stored = splits[0] * heads * parts
    flops = key_heads * costs.cdiv(dense, block) * 2 * rows * block * whole
    for (members, count), size in zip(groups, blocks, strict=True):
        loaded += splits[1] * members * (element * group * count + 8 * count)
        loaded += element * members * far * (count + value_dim)
        stored += splits[1] * members * group * parts
        width = max(16, 1 << (count - 1).bit_length())
        flops += members * costs.cdiv(far, size) * 2 * rows * size * (width + value_dim)
    loaded += heads * sum(splits) * parts  # the merge
    stored += heads * (element * value_dim + 4)
    return costs.Traffic(batch * loaded, batch * stored, batch * flops)


def _changes(lines, context):
    """Key channels pruned as in the masks released for Llama 3.1 8B."""
    whole = dense_tokens(context)
    cache = lines["cache"].text
    kept = int(cache / context * (whole + (context - whole) * relative_bytes(RELEASED_KEPT, RELEASED_EMPTY)))
    return {
        "cache": replace(
            lines["cache"], text=kept, explanation="values of heads that keep a channel, three of ten key channels"
        ),
        "decode": replace(
            lines["decode"], text=kept, explanation="all weights but the embedding, and the cache with its keys thinned"
        ),
    }


STAGE = Stage(
    topic="channels",
    place=(4, 3),
    method="LeanK",
    design="grouped heads with thinned keys",
    on="attention",
    changes=_changes,
    cost="A mask has to be trained once per model, and what a dropped channel knew of a key is lost for every text.",
)
