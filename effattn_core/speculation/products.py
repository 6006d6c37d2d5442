"""Products of a matrix with a few rows, in the order that is fast on a CPU: what a cycle of drafts is made of."""

import copy

from torch import nn
from torch.nn import functional

MANY, LARGE = 16, 1 << 22  # rows from which the usual order wins; weights from which a single row is doubled


def few_rows(hidden, weight, *, many=MANY, large=LARGE):
    """hidden · weightᵀ as (weight · hiddenᵀ)ᵀ: for a few rows up to four times as fast on a CPU.

    hidden: [..., width]; weight: [words, width]. Returns [..., words]. A product with a single row takes one thread in
    some libraries; where the matrix is large it is done twice over, which is faster still.
    """
    rows = hidden.reshape(-1, hidden.shape[-1])
    if not 0 < len(rows) <= many:
        return functional.linear(hidden, weight)
    if len(rows) == 1 and weight.numel() >= large:
        out = (weight @ rows.repeat(2, 1).T)[:, :1]
    else:
        out = weight @ rows.T
    return out.T.reshape(*hidden.shape[:-1], len(weight))


class FewRows(nn.Linear):
    """A Linear that multiplies by `few_rows`."""

    def forward(self, hidden):
        out = few_rows(hidden, self.weight)
        return out if self.bias is None else out + self.bias


def quick(module):
    """The same module for few rows at a time, on the same weights: every Linear of it is a FewRows."""
    other = copy.deepcopy(module, {id(weight): weight for weight in module.parameters()})
    for part in other.modules():
        if type(part) is nn.Linear:
            part.__class__ = FewRows
    return other
