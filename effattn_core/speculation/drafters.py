"""Drafters by one interface: a lookup in the text, a model (or its own first layers), a head that was trained."""

import copy

import torch
from torch import nn

from effattn_core.calls import require_logits
from effattn_core.layers import AttentionMixer
from effattn_core.model import Block
from effattn_core.speculation.forms import ROOT, Draft, chain
from effattn_core.speculation.products import few_rows
from effattn_core.speculation.states import Branch, TreeCache, branch_out, tree_states
from effattn_core.speculation.trees import chain_of, grow


class Drafter:
    """What `decoding.generate` asks of a drafter. vocabulary: the words that its drafts count by.

    begin(model, states): a text begins; the target and its states, whose first layers a drafter may borrow.
    accept(tokens, hidden): words that are settled now, int64 [new], and the target's last hidden state that each was
    drawn from, [new, width] after the final norm; first the prompt but for its first word.
    propose(text, room, temperature, dice): a Draft of at most `room` words in depth. text: int64 [time], all settled.
    """

    vocabulary: int

    def begin(self, model, states):
        pass

    def accept(self, tokens, hidden):
        pass

    def propose(self, text, room, temperature, dice):
        raise NotImplementedError


class Lookup(Drafter):
    """N-gram lookup: what followed when the last words stood before (prompt lookup decoding). It costs nothing.

    longest, shortest: words that must agree, the longest match wins, the latest of equals. length: words proposed.
    """

    def __init__(self, vocabulary, *, length=8, longest=3, shortest=1):
        if not 1 <= shortest <= longest or length < 1:
            raise ValueError(
                f"shortest must lie in 1..longest and length be at least 1; they are {shortest}, {longest}, {length}."
            )
        self.vocabulary, self.length, self.longest, self.shortest = vocabulary, length, longest, shortest

    def propose(self, text, room, temperature, dice):
        for size in range(min(self.longest, len(text) - 1), self.shortest - 1, -1):
            same = (text[:-1].unfold(0, size, 1) == text[-size:]).all(-1).nonzero()
            if len(same):
                after = int(same[-1]) + size
                return chain(text[after : after + min(self.length, room)])
        return chain(text[:0])


class Head:
    """The output head over the words of a Subset, or over all: logits [..., kept] from hidden states [..., width].

    weight: [vocabulary, width], the target's; its kept rows are copied once, so that a step reads no others.
    """

    def __init__(self, weight, subset=None):
        self.subset, self.vocabulary = subset, len(weight)
        if subset is not None and subset.vocabulary != len(weight):
            raise ValueError(f"the subset is of {subset.vocabulary:,} words, the head has {len(weight):,}.")
        self.weight = weight if subset is None else weight[subset.ids].contiguous()
        self.ids = None if subset is None else subset.ids

    def __call__(self, hidden):
        return few_rows(hidden, self.weight)


class StepDrafter(Drafter):
    """A drafter that reads words one level of a tree at a time. Subclasses say what a step is.

    shape: a `Fixed` (see `chain_of`) or `Grown`. head: a `Head`.
    """

    def __init__(self, head, shape):
        self.head, self.shape, self.vocabulary = head, shape, head.vocabulary

    def _hidden(self, tokens, parents):
        """The hidden states [new, width], after the final norm, of what is read: see `trees.grow`."""
        raise NotImplementedError

    def _branch(self, sizes, length, parents):
        """The Branch of the next nodes of this draft, whose parents are numbers of those read before."""
        first = len(self._seen)
        own = torch.eye(len(parents), dtype=torch.bool)
        for parent in parents.tolist():
            above = [] if parent == ROOT else [*self._seen[parent], parent]
            self._seen.append(above)
        seen = torch.zeros(len(parents), first + len(parents), dtype=torch.bool)
        for row, above in enumerate(self._seen[first:]):
            seen[row, above] = True
        seen[:, first:] |= own
        depth = torch.tensor([len(above) for above in self._seen[first:]])
        return Branch.of(sizes, length, length + first, depth, seen)

    def propose(self, text, room, temperature, dice):
        self._text, self._seen = text, []
        shape, heat = self._within(room), temperature if temperature > 0 else 1.0
        if shape is None:
            return chain(text[:0])

        def step(tokens, parents):
            logits = self.head(self._hidden(tokens, parents)).float()
            require_logits(logits)
            return (logits / heat).log_softmax(-1)

        draft = grow(step, shape, temperature=temperature, dice=dice, ids=self.head.ids, vocabulary=self.vocabulary)
        self._forget()
        return draft

    def _within(self, room):
        """The shape, no deeper than `room`; None if nothing is left of it."""
        shape = copy.copy(self.shape)
        if room < 1:
            return None
        if shape.depth > room:
            settings = dict(widths=shape.widths[:room]) if hasattr(shape, "widths") else {**vars(shape), "depth": room}
            shape = type(shape)(**settings)
        return shape

    def _forget(self):
        """Take the draft's rows back."""


class ModelDrafter(StepDrafter):
    """A model proposes: a smaller one of the same words, or (`early_exit`) the target's own first layers.

    model: a LanguageModel of plain attention. subset: words it may propose, None for all. borrowed: whether its layers
    are the target's first ones, whose cache of the text is then read, not made again. tokenizers: of the target and of
    a model of its own, by which `require_one_tokenizer` sees whether equal numbers are equal words; models do not know.
    """

    def __init__(self, model, shape=None, *, subset=None, borrowed=False, tokenizers=None):
        if tokenizers is not None:
            require_one_tokenizer(*tokenizers)
        super().__init__(Head(model.head.weight, subset), shape or chain_of(4))
        self.model, self.borrowed = model, borrowed

    def begin(self, model, states):
        layers = len(self.model.blocks)
        self.states = states[:layers] if self.borrowed else tree_states(self.model)

    def _hidden(self, tokens, parents):
        kept = self.states[0].length - len(self._seen)  # words of the text that the cache holds
        if tokens is None:
            branch, tokens = None, self._text[kept:]
        else:
            branch = self._branch(self.model.sizes, kept, parents)
        branch_out(self.states, branch)
        hidden, _ = self.model.read(self.model.embedding(tokens[None]), self.states)
        branch_out(self.states, None)
        return self.model.norm(hidden[0] if branch else hidden[0, -1:])

    def _forget(self):
        for state in self.states:
            state.crop(len(self._text) - 1)  # the newest word is read again, by the target itself if it lent its cache


def early_exit(model, layers, shape=None, *, subset=None):
    """A drafter of the model's own first layers and its head: nothing is trained, nothing is kept twice."""
    if not 1 <= layers < len(model.blocks):
        raise ValueError(f"layers must lie in 1..{len(model.blocks) - 1}; it is {layers}.")
    short = copy.copy(model)
    short._modules = dict(model._modules)
    short.blocks = nn.ModuleList(list(model.blocks)[:layers])
    return ModelDrafter(short, shape, subset=subset, borrowed=True)


class Extrapolator(nn.Module):
    """EAGLE's head: from a word and the hidden state that it was drawn from, the next hidden state, in one block.

    sizes: the target's Configuration. Returns what the target's final norm takes: [batch, time, width].
    """

    def __init__(self, sizes):
        super().__init__()
        self.join = nn.Linear(2 * sizes.width, sizes.width, bias=False)
        self.block = Block(sizes, AttentionMixer)

    def forward(self, embedded, hidden, state=None):
        """embedded, hidden: [batch, time, width], of each word and the hidden state before it; state: a TreeCache."""
        return self.block(self.join(torch.cat([embedded, hidden], -1)), state)[0]


class Eagle(StepDrafter):
    """An `Extrapolator` in front of the target's own embedding, norm and head (EAGLE; Li et al. 2024).

    target: the model that it was trained on. subset: words it may propose, None for all (FR-Spec's cut).
    """

    def __init__(self, target, extrapolator, shape=None, *, subset=None):
        super().__init__(Head(target.head.weight, subset), shape or chain_of(4))
        self.target, self.extrapolator = target, extrapolator

    def begin(self, model, states):
        sizes = self.target.sizes
        self.state = TreeCache(
            1, sizes.key_value_heads, sizes.context + 64, sizes.head_dim, dtype=self.head.weight.dtype
        )
        self._settled, self._guesses = None, None

    def _run(self, tokens, hidden):
        out = self.extrapolator(self.target.embedding(tokens)[None], hidden[None], self.state)[0]
        return self.target.norm(out)

    def accept(self, tokens, hidden):
        self._settled = self._run(tokens, hidden)[-1:]

    def _hidden(self, tokens, parents):
        if tokens is None:  # the settled words have been read: what follows the newest is known
            self._length, self._guesses = self.state.length, self._settled
            return self._settled
        before = torch.where(parents[:, None] == ROOT, self._settled, self._guesses[parents + 1])
        self.state.branch = self._branch(self.target.sizes, self._length, parents)
        made = self._run(tokens, before)
        self.state.branch = None
        self._guesses = torch.cat([self._guesses, made])
        return made

    def _forget(self):
        self.state.crop(self._length)


def require_one_vocabulary(model, drafter):
    """Raise ValueError unless a drafter has as many words as the target; whether they are the same: see below."""
    if drafter.vocabulary != model.sizes.vocabulary:
        raise ValueError(
            f"a drafter must have the target's {model.sizes.vocabulary:,} words; "
            f"{type(drafter).__name__} has {drafter.vocabulary:,}."
        )


def require_one_tokenizer(target, draft):
    """Raise ValueError unless two tokenizers give every word the same number, with the first word that differs."""
    ours, theirs = target.get_vocab(), draft.get_vocab()
    if len(ours) != len(theirs):
        raise ValueError(
            f"a drafter must have the target's tokenizer of {len(ours):,} words; its own has {len(theirs):,}."
        )
    for word, number in sorted(ours.items(), key=lambda each: each[1]):
        if theirs.get(word) != number:
            raise ValueError(
                f"a drafter must have the target's tokenizer, in which {word!r} is word {number}; "
                f"its own has {theirs.get(word, 'no such word')}."
            )


__all__ = [
    "Draft", "Drafter", "Eagle", "Extrapolator", "Head", "Lookup", "ModelDrafter", "StepDrafter", "early_exit",
    "require_one_tokenizer", "require_one_vocabulary",
]  # fmt: skip
