"""What attention between two inputs moves, as formulas that traced kernels must equal. The bill has no line here."""

from effattn_core.costs import Traffic


def fusion_traffic(
    batch, asks, regions, hidden, value_dim, glimpses, *, block_ask, block_region, block_hidden=16, normalised=True,
    element=4,
):  # fmt: skip
    """Exactly what `fusion_kernel` moves: per block of regions a question's hidden numbers again, per block of
    questions all regions and values (eq. coattention-bytes). Operations are those of whole tiles: two products over the
    hidden numbers, or one without a norm, and the values'."""
    rows, ask_tiles, tiles = batch * glimpses, -(-asks // block_ask), -(-regions // block_region)
    loaded = asks * tiles * hidden + ask_tiles * (tiles * hidden + regions * (hidden + value_dim))
    stored = asks * (value_dim * element + 4)
    deep = -(-hidden // block_hidden) * block_hidden
    flops = 2 * ask_tiles * block_ask * tiles * block_region * (deep * (2 if normalised else 1) + value_dim)
    return Traffic(rows * loaded * element, rows * stored, rows * flops)


def formed_bytes(batch, regions, hidden, *, copies=4, element=4):
    """Bytes of the tensors [batch, regions, hidden] that the released code of Dual-MFA forms, `copies` of them."""
    return batch * regions * hidden * copies * element


def graph_traffic(heads, asks, answers_read, live, head_dim, value_dim, *, block=16, element=4):
    """Exactly what `graph_attention_kernel` moves. answers_read: keys of all live blocks, those past the end left out;
    live: their number. A live block has a tile of float32 biases and a column, a block of rows two bounds, and two
    products over the whole tile."""
    tiles = -(-asks // block)
    loaded = (asks * head_dim + answers_read * (head_dim + value_dim)) * element + live * (4 * block**2 + 4) + 8 * tiles
    flops = heads * live * 2 * block**2 * (head_dim + value_dim)
    return Traffic(heads * loaded, heads * asks * (value_dim * element + 4), flops)


def column_traffic(heads, time, head_dim, *, block, causal=True, element=4):
    """Exactly what `column_mass_kernel` moves: keys once, the queries that see a block and their log-sum-exps
    per block; stored is a number per key. Operations are those of whole tiles."""
    seen = [time - start if causal else time for start in range(0, time, block)]
    loaded = (time + sum(seen)) * head_dim * element + 4 * sum(seen)
    flops = sum(-(-each // block) for each in seen) * 2 * block**2 * head_dim
    return Traffic(heads * loaded, 4 * heads * time, heads * flops)
