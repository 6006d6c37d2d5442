"""What the kernels of speculation move, exactly: the traced launches must equal these formulas."""

from effattn_core import costs


def head_traffic(count, kept, width, top_k, *, splits, rows, block, chunk, element=4):
    """Exactly what the head over `kept` words moves (eq. frspec-traffic); masked-off lanes are not counted.

    count: rows of hidden; rows, block, chunk: of the kernel's tile; splits: programs per tile of rows. Each tile of
    rows reads every kept word, and its number in the table (int64); for each block of words it reads its rows of
    hidden again, from a cache on a GPU. Of the logits only top_k entries of 8 bytes and a sum per split are stored.
    """
    tiles, blocks = costs.cdiv(count, rows), costs.cdiv(kept, block)
    loaded = tiles * kept * (element * width + 8) + blocks * count * element * width
    stored = count * splits * (8 * top_k + 4)
    loaded += count * (splits * (8 * top_k + 4) + 8 * top_k)  # the merge, and the numbers of the words that it kept
    stored += count * (12 * top_k + 4)
    flops = tiles * blocks * costs.cdiv(width, chunk) * 2 * rows * block * chunk
    return costs.Traffic(loaded, stored, flops)


def tree_traffic(batch, group, key_heads, nodes, key_time, head_dim, value_dim, *, splits, rows, block, element=4):
    """Exactly what the attention of a tree moves (eq. tree-traffic); masked-off lanes are not counted.

    nodes: rows of the tree, the last of key_time; rows, block: of a tile of queries and of keys; splits: programs of
    the text per tile. A tile reads the cache once, its queries once per split, the masks (int64) in the last split.
    """
    heads, whole, parts = group * key_heads, head_dim + value_dim, 4 * (value_dim + 1)
    tiles, text = costs.cdiv(nodes * group, rows), key_time - nodes
    loaded = element * (splits * heads * nodes * head_dim + key_heads * tiles * key_time * whole)
    loaded += 8 * heads * nodes + heads * nodes * splits * parts  # the masks; the merge
    stored = heads * nodes * (splits * parts + element * value_dim + 4)
    flops = key_heads * tiles * (costs.cdiv(text, block) + costs.cdiv(nodes, block)) * 2 * rows * block * whole
    return costs.Traffic(batch * loaded, batch * stored, batch * flops)
