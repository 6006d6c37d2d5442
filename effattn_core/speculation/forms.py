"""Speculative sampling: a cheap law proposes words, the target's law takes or replaces them, and what is said obeys the
target's law exactly, whoever proposed (Leviathan et al. 2023; trees: Miao et al. 2024, Li et al. 2024)."""

from dataclasses import dataclass

import torch

from effattn_core.calls import require_logits, require_temperature

ROOT = -1  # the parent of a draft's first words: the newest word of the text


@dataclass(frozen=True)
class Draft:
    """Words that may come next, a tree below the newest word of the text; a chain is a tree with one child per word.

    tokens: int64 [nodes]. parents: int64 [nodes], the node before each, ROOT for the first; parents stand before their
    children, and siblings in the order in which they are tried.
    laws: [nodes, vocabulary], the law at each node's parent that it was drawn from, before its elder siblings were
    struck out; None if nodes were chosen, not drawn (greedily, looked up, the likeliest k): then each proposes itself
    with certainty.
    scores: [nodes], what the drafter thinks of each (the logarithm of its path's probability), or None.
    """

    tokens: torch.Tensor
    parents: torch.Tensor
    laws: torch.Tensor | None = None
    scores: torch.Tensor | None = None

    def __post_init__(self):
        for name in ("tokens", "parents"):
            given = getattr(self, name)
            if given.ndim != 1 or given.dtype != torch.int64 or len(given) != len(self.tokens):
                raise ValueError(f"{name} must be int64 [{len(self.tokens)}]; it is {given.dtype} {list(given.shape)}.")
        late = [n for n, parent in enumerate(self.parents.tolist()) if not ROOT <= parent < n]
        if late:
            raise ValueError(f"parents must stand before children; node {late[0]} has {self.parents[late[0]]}.")
        if len(self) and self.tokens.min() < 0:
            raise ValueError(f"tokens must be 0 or more; one is {self.tokens.min()}.")
        if self.laws is not None:
            _require_laws(self, self.laws, len(self))
        if self.scores is not None and self.scores.shape != self.tokens.shape:
            raise ValueError(f"scores must be [{len(self)}]; they are {list(self.scores.shape)}.")

    def __len__(self):
        return len(self.tokens)

    def children(self, node):
        """The nodes below a node, in the order in which they are tried."""
        return (self.parents == node).nonzero().flatten().tolist()


def _require_laws(draft, laws, rows, vocabulary=None):
    """Raise ValueError unless laws are finite, [rows, vocabulary] in floats, and have every word of a draft."""
    if laws.ndim != 2 or len(laws) != rows or laws.shape[1] != (vocabulary or laws.shape[1]):
        raise ValueError(f"laws must be [{rows}, {vocabulary or 'vocabulary'}] here; they are {list(laws.shape)}.")
    if not laws.is_floating_point():
        raise ValueError(f"laws must be probabilities, of floats; they are {laws.dtype}.")
    if len(draft) and draft.tokens.max() >= laws.shape[1]:
        raise ValueError(f"word {draft.tokens.max()} of the draft is none of the laws' {laws.shape[1]} words.")
    broken = (~laws.sum(-1).isfinite()).nonzero()
    if len(broken):
        raise ValueError(f"laws must be finite; that of row {int(broken[0])} is not: look for NaN in its logits.")


def chain(tokens, laws=None):
    """The Draft of words in a row. tokens: int64 [length]; laws: [length, vocabulary], or None if chosen, not drawn."""
    return Draft(tokens, torch.arange(len(tokens)) - 1, laws)


def law_of(logits, temperature=1.0):
    """The law that logits [..., vocabulary] mean at a temperature; at 0 all of it lies on the likeliest word.

    Raises ValueError for a temperature that is negative or not finite, and where a largest logit is NaN or infinite.
    """
    require_temperature(temperature)
    require_logits(logits.flatten(0, -2) if logits.ndim > 1 else logits[None])
    if temperature > 0:
        return (logits.float() / temperature).softmax(-1)
    return torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()


def acceptance(target, draft):
    """Σ min(p, q): how likely a word drawn from `draft` is taken (eq. speculation-acceptance). [..., vocabulary]."""
    return torch.minimum(target, draft).sum(-1)


def residual(target, draft):
    """The law that a refused word is replaced by: max(p - q, 0), normalised (eq. speculation-residual)."""
    left = (target - draft).clamp_min(0)
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 0, left / total, target)  # nothing is left only where nothing but rounding is refused


def without(law, token):
    """A law with one word struck out, normalised. law: [vocabulary]."""
    left = law.clone()
    left[token] = 0
    if not left.sum() > 0:
        raise ValueError(f"word {token} is all that the law holds: it cannot have another sibling.")
    return left / left.sum()


def certain(token, like):
    """The law that is certain of one word, [vocabulary] as `like`."""
    law = torch.zeros_like(like)
    law[token] = 1
    return law


def emitted(target, draft):
    """The law of one word that is proposed by `draft` and taken or replaced: it is `target`, by algebra.

    min(p, q) + (1 - Σ min(p, q)) · residual (eq. speculation-emitted). target, draft: [..., vocabulary].
    """
    taken = torch.minimum(target, draft)
    return taken + (1 - taken.sum(-1, keepdim=True)) * residual(target, draft)


def verify(draft, laws, dice):
    """Walk the tree as far as the target agrees: (accepted nodes, from the root on, and the word that follows them).

    laws: [1 + nodes, vocabulary], the target's law after the text and after each node. dice: a `Dice`. At each node the
    children are tried in turn; one is taken with min(1, p / q), and refused it leaves p the residual, and q without it
    to its younger siblings. If none is taken, the word is drawn from what is left of p (eq. speculation-tree).
    Raises ValueError for laws that are not finite, NaN would be taken always, or of another vocabulary.
    """
    _require_laws(draft, laws, 1 + len(draft), None if draft.laws is None else draft.laws.shape[1])
    node, path = ROOT, []
    while True:
        target, proposal, children = laws[node + 1], None, draft.children(node)
        for child in children:
            token = draft.tokens[child].item()
            if draft.laws is None:
                proposal = certain(token, target)  # p / q is p, and the residual is p without the word
            elif proposal is None:
                proposal = draft.laws[child]
            if dice.accept(min(1.0, (target[token] / proposal[token]).item())):
                break
            target = residual(target, proposal)
            if draft.laws is not None and child != children[-1]:
                proposal = without(proposal, token)
        else:
            return path, dice.draw(target)
        path.append(child)
        node = child


def verify_greedy(draft, best):
    """`verify` at temperature 0, without laws. best: the target's likeliest word after the text and after each node."""
    best, node, path = [int(each) for each in best], ROOT, []
    while True:
        taken = [each for each in draft.children(node) if int(draft.tokens[each]) == best[node + 1]]
        if not taken:
            return path, best[node + 1]
        node = taken[0]
        path.append(node)


def draw_children(law, count, dice):
    """`count` different words, each drawn from what its elder siblings leave of `law`, [vocabulary]: a list.

    Fewer only where the law holds fewer, as a sharp one in floats does: all its words, however the dice fall.
    """
    found, count = [], min(count, int((law > 0).sum()))
    for _ in range(count):
        found.append(dice.draw(law))
        if len(found) < count:
            law = without(law, found[-1])
    return found


def expected_tokens(rate, length):
    """Words per cycle of a chain of `length` drafts, each taken with `rate`: (1 - rate^(length+1)) / (1 - rate).

    The word that replaces or follows counts (eq. speculation-tokens; Leviathan et al. 2023, eq. 1).
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is a probability, 0 to 1; it is {rate}.")
    return length + 1.0 if rate == 1 else (1 - rate ** (length + 1)) / (1 - rate)


def expected_tokens_of(rates):
    """Words per cycle where the draft at each depth has its own rate, given that all before it were taken."""
    total = product = 1.0
    for rate in rates:
        product *= rate
        total += product
    return total
