"""What kernels of the book share in sizes with the forms that they answer to."""

DIMS = (32, 64, 128)  # head sizes that the tables have rows for
MOST = 64  # rows of a tree of drafts, bits of an integer that is a row's mask; and words that a list of the head keeps
