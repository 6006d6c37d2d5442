"""Figures of the chapter on speculation: the law, the tree and the chain; the size of a drafter's vocabulary."""
