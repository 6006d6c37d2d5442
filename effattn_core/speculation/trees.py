"""Draft trees: who sees whom, how deep each word lies, masks in 64 bits, and the loop that grows a tree."""

import math
from dataclasses import dataclass

import torch

from effattn_core.calls import require_count
from effattn_core.speculation.forms import ROOT, Draft, draw_children
from kernels.table import MOST


@dataclass(frozen=True)
class Fixed:
    """Each word of depth d has widths[d] children: the likeliest at temperature 0, else drawn without replacement.

    Fewer only where the law after it holds fewer words: how many is then said by the words before the children. It may
    not depend on which of them were drawn, or the law of the output is no longer the target's. A chain of four is
    Fixed((1, 1, 1, 1)). Raises ValueError unless widths are whole numbers, at least one of them, for a tree of 63
    drafts at most.
    """

    widths: tuple[int, ...]

    def __post_init__(self):
        if not isinstance(self.widths, tuple) or not self.widths:
            raise ValueError(f"widths must be a tuple of at least one whole number; they are {self.widths!r}.")
        for width in self.widths:
            require_count("a width", width)
        _require_small(sum(math.prod(self.widths[: depth + 1]) for depth in range(self.depth)))

    @property
    def depth(self):
        return len(self.widths)


@dataclass(frozen=True)
class Grown:
    """EAGLE-2's loop (Li et al. 2024): `width` words go on at each depth, and the `nodes` likeliest paths are kept.

    Nothing is drawn at any temperature: children are the likeliest words, so any shape is exact. floor: paths that the
    drafter gives less than this probability are left out. Raises ValueError for sizes that are not whole numbers of at
    least 1, and for more than 63 nodes, or as many words that a drafter would read on the way.
    """

    depth: int = 5
    width: int = 4
    nodes: int = 16
    floor: float = 0.0

    def __post_init__(self):
        for name in ("depth", "width", "nodes"):
            require_count(name, getattr(self, name))
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must be a probability, 0 to 1; it is {self.floor}.")
        _require_small(self.nodes)
        _require_small((self.depth - 1) * self.width, " on the way")


def _require_small(drafts, where=""):
    """Raise ValueError for more drafts than a row's mask has bits for, and caches room, beside the root's."""
    if drafts >= MOST:
        raise ValueError(
            f"a tree has at most {MOST - 1} drafts; this shape has {drafts}{where}: make it narrower or less deep."
        )


def chain_of(length):
    """The shape of a chain."""
    require_count("length", length)
    return Fixed((1,) * length)


def depths(parents):
    """How many steps below the root each node lies, from 1: int64 [nodes]."""
    found = []
    for parent in parents.tolist():
        found.append(1 + (found[parent] if parent != ROOT else 0))
    return torch.tensor(found, dtype=torch.int64)


def tree_mask(parents):
    """Who sees whom among the root, which is row 0, and the nodes: bool [1 + nodes, 1 + nodes]; row i sees column j.

    Each sees itself, its ancestors and the root: never a cousin.
    """
    rows = len(parents) + 1
    seen = torch.eye(rows, dtype=torch.bool)
    seen[:, 0] = True
    for node, parent in enumerate(parents.tolist()):
        seen[node + 1] |= seen[parent + 1]
    return seen


def packed(parents):
    """`tree_mask` in one integer per row: int64 [1 + nodes], bit j says whether the row sees row j.

    Raises ValueError for more than 64 rows, the root among them. The 64th bit is the integer's sign.
    """
    rows = len(parents) + 1
    if rows > MOST:
        raise ValueError(
            f"a row of the mask is one 64-bit integer: at most {MOST} rows; the root and drafts are {rows}."
        )
    masks = [1]
    for node, parent in enumerate(parents.tolist()):
        masks.append(masks[parent + 1] | 1 << node + 1)
    return torch.tensor([mask - (mask >> 63 << 64) for mask in masks], dtype=torch.int64)


def grow(step, shape, *, temperature=0.0, dice=None, ids=None, vocabulary=None):
    """A Draft of `shape`, level by level.

    step(tokens, parents): read these nodes, int64 [new] each (parents count nodes in the order in which they were read;
    None, None: the text itself), and return log-probabilities of what follows each, [new, kept].
    ids: int64 [kept], the word of each place of a law, None if the law is over the whole `vocabulary`.
    """
    if isinstance(shape, Grown):
        return _grow_likeliest(step, shape, ids)
    return _grow_fixed(step, shape, temperature, dice, ids, vocabulary)


def _words(places, ids):
    return places if ids is None else ids[places]


def _grow_likeliest(step, shape, ids):
    """Level by level the likeliest paths; then, of all that were seen, the likeliest `nodes`."""
    laws = step(None, None)
    scores, places = laws[0].topk(min(shape.width, laws.shape[-1]))
    history = [(_words(places, ids), torch.full_like(places, ROOT), scores)]
    read = {}  # a node's number in the history -> its number among those that `step` read
    frontier = torch.arange(len(places))
    for _ in range(1, shape.depth):
        alive = scores.exp() >= shape.floor
        if not alive.any():
            break
        frontier, scores = frontier[alive], scores[alive]
        tokens, parents = (torch.cat([level[part] for level in history])[frontier] for part in (0, 1))
        laws = step(tokens, torch.tensor([read.get(int(parent), ROOT) for parent in parents]))
        for node in frontier.tolist():
            read[node] = len(read)
        likely, places = laws.topk(min(shape.width, laws.shape[-1]))
        likely = scores[:, None] + likely
        first = sum(len(level[0]) for level in history)
        history.append((_words(places.flatten(), ids), frontier.repeat_interleave(likely.shape[1]), likely.flatten()))
        scores, best = likely.flatten().topk(min(shape.width, likely.numel()))
        frontier = first + best
    tokens, parents, scores = (torch.cat(parts) for parts in zip(*history, strict=True))
    # A child is never likelier than its parent, and stands after it: with a stable order no kept node is an orphan.
    kept = scores.argsort(descending=True, stable=True)[: shape.nodes].sort().values
    kept = kept[scores[kept].exp() >= shape.floor]
    number = {int(node): new for new, node in enumerate(kept)} | {ROOT: ROOT}
    parents = torch.tensor([number[int(parents[node])] for node in kept], dtype=torch.int64)
    return Draft(tokens[kept], parents, None, scores[kept])


def _grow_fixed(step, shape, temperature, dice, ids, vocabulary):
    """Every node of a depth gets equally many children, or all words of its law: the likeliest, or drawn."""
    tokens, parents, scores, drawn = [], [], [], []
    level = [ROOT]
    for depth, width in enumerate(shape.widths):
        if depth == 0:
            laws = step(None, None)
        else:
            laws = step(torch.tensor([tokens[each] for each in level]), torch.tensor([parents[each] for each in level]))
        below = []
        for node, law in zip(level, laws, strict=True):
            if temperature > 0:
                places = draw_children(law.exp(), width, dice)
                whole = law.exp() if ids is None else law.new_zeros(vocabulary).index_put_((ids,), law.exp())
            else:
                places, whole = law.topk(min(width, len(law))).indices.tolist(), None
            for place in places:
                below.append(len(tokens))
                tokens.append(place if ids is None else int(ids[place]))
                parents.append(node)
                scores.append((scores[node] if node != ROOT else 0.0) + float(law[place]))
                drawn.append(whole)
        level = below
    laws = torch.stack(drawn) if temperature > 0 and drawn else None
    return Draft(torch.tensor(tokens, dtype=torch.int64), torch.tensor(parents, dtype=torch.int64), laws,
                 torch.tensor(scores))  # fmt: skip
