"""Walking a tree of drafts by its parents alone, beside the masks and depths that the library makes of them."""


def path_of(parents, node):
    """The nodes from the root's child down to `node`, a list; none for -1, the root."""
    path = []
    while node >= 0:
        path.insert(0, node)
        node = int(parents[node])
    return path
