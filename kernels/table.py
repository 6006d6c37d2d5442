"""What all kernels of the book share in sizes: the head sizes that their tables have rows for."""

DIMS = (32, 64, 128)
