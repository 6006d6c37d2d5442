"""The operators of graphs: kernels compiled on a GPU and interpreted on a CPU, a fake form, a backward."""

raise NotImplementedError("TO WRITE: the operators over the launchers, as kernels.attention.operators has them.")
