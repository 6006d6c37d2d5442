"""What attention between two inputs moves, as formulas that traced kernels must equal. The bill has no line here."""

from effattn_core.costs import Traffic


def fusion_traffic(
    batch, asks, regions, hidden, value_dim, glimpses, *, block_ask, block_region, normalised=True, element=4
):
    """Exactly what `fusion_kernel` moves: per block of regions a question's hidden numbers again, per block of
    questions all regions and values. Products of the norm are counted where there is one (eq. coattention-bytes)."""
    rows, ask_tiles, tiles = batch * glimpses, -(-asks // block_ask), -(-regions // block_region)
    loaded = asks * tiles * hidden + ask_tiles * (tiles * hidden + regions * (hidden + value_dim))
    stored = asks * (value_dim * element + 4)
    flops = 2 * asks * regions * (hidden * (2 if normalised else 1) + value_dim)
    return Traffic(rows * loaded * element, rows * stored, rows * flops)


def formed_bytes(batch, regions, hidden, *, copies=4, element=4):
    """Bytes of the tensors [batch, regions, hidden] that the released code of Dual-MFA forms, `copies` of them."""
    return batch * regions * hidden * copies * element


def graph_traffic(heads, asks, answers_read, live, head_dim, value_dim, *, block=16, element=4):
    """Exactly what `graph_attention_kernel` moves. answers_read: keys of all live blocks, those past the end left out;
    live: their number. A live block has a tile of float32 biases and a column, a block of rows two bounds."""
    tiles = -(-asks // block)
    loaded = (asks * head_dim + answers_read * (head_dim + value_dim)) * element + live * (4 * block**2 + 4) + 8 * tiles
    return Traffic(heads * loaded, heads * asks * (value_dim * element + 4), 0)


def column_traffic(heads, time, head_dim, *, block, causal=True, element=4):
    """Exactly what `column_mass_kernel` moves: keys once, the queries that see a block and their log-sum-exps
    per block; stored is a number per key."""
    read = sum(time - start if causal else time for start in range(0, time, block))
    return Traffic(heads * ((time + read) * head_dim * element + 4 * read), 4 * heads * time, 0)
