"""Training the candidate's projections on a frozen model: two kinds of lesson, one loss.

A lesson is a memory, a local context and the tokens that come next, which alone are scored. In a continuation the local
context follows the memory; in a reconstruction it is a span inside it, so that candidates must carry what they read.
What is scored is never in the prompt: a candidate has read all of that, and every local token reads the candidate.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from effattn_core.calls import require_count
from effattn_core.focus.model import condense, predict

LOSSES = ("continuation", "reconstruction")
MIXES = ("turns", "sum")


class Lesson(NamedTuple):
    """memory: [batch, count · chunk] int64; local: [batch, time]; target: [batch, scored], what follows local."""

    memory: torch.Tensor
    local: torch.Tensor
    target: torch.Tensor


def continuation(tokens, memory, local, scored=1):
    """Memory, local context and target in a row: [batch, memory + local + scored] int64 to a Lesson.

    Raises ValueError for a text of another length, and sizes under 1.
    """
    _require_counts(memory=memory, local=local, scored=scored)
    _require_length(tokens, memory + local + scored)
    return Lesson(*tokens.split([memory, local, scored], 1))


def reconstruction(tokens, memory, local, scored=1, generator=None):
    """Local context and target are a span of the memory, at a place drawn at random for each text.

    tokens: [batch, at least memory] int64, of which the first `memory` are read. Raises ValueError for a shorter text,
    and a span that is longer than the memory.
    """
    _require_counts(memory=memory, local=local, scored=scored)
    if local + scored > memory:
        raise ValueError(f"a span of {local} + {scored} tokens does not fit a memory of {memory}.")
    if tokens.ndim != 2 or tokens.shape[1] < memory:
        raise ValueError(f"tokens must be [batch, at least {memory}]; the shape is {tuple(tokens.shape)}.")
    tokens = tokens[:, :memory]
    start = torch.randint(memory - local - scored + 1, (len(tokens), 1), generator=generator)
    place = (start + torch.arange(local + scored)).to(tokens.device)
    return Lesson(tokens, *tokens.gather(1, place).split([local, scored], 1))


def _require_counts(**sizes):
    for name, size in sizes.items():
        require_count(name, size)


def _require_length(tokens, wanted):
    if tokens.ndim != 2 or tokens.shape[1] != wanted:
        raise ValueError(f"tokens must be [batch, {wanted}]; the shape is {tuple(tokens.shape)}.")


def logits(model, added, lesson, *, chunk, prompt):
    """Logits of a lesson's target, [batch, scored, vocabulary], under candidates of its memory (eq. focus-loss).

    added None: of the window alone, which is the local context without candidates.
    Raises ValueError for a memory that is no whole number of chunks, and for no token that is scored.
    """
    memory, local, target = lesson
    if target.ndim != 2 or not target.shape[1]:
        shape = tuple(target.shape)
        raise ValueError(f"a lesson scores at least one token of a target [batch, scored]; its shape is {shape}.")
    if memory.shape[1] == 0 or memory.shape[1] % chunk:
        raise ValueError(f"the memory must be whole chunks of {chunk} tokens; it has {memory.shape[1]}.")
    chunks = memory.unflatten(1, (-1, chunk))
    candidates = None if added is None else condense(model, added, chunks, local, prompt=prompt)
    return predict(model, candidates, torch.cat([local, target[:, :-1]], 1), last=target.shape[1])[0]


def loss(model, added, lesson, *, chunk, prompt):
    """Mean cross-entropy of a lesson's target in nats per token; gradients reach `added` and nothing else."""
    found = logits(model, added, lesson, chunk=chunk, prompt=prompt)
    return functional.cross_entropy(found.flatten(0, 1), lesson.target.flatten())


class Condensing(nn.Module):
    """A frozen model and what is added to it, as `effattn_core.train` trains a model: `added` is all that it learns.

    chunk, local, prompt: tokens. Making it freezes `model`.
    """

    def __init__(self, model, added, *, chunk, local, prompt):
        super().__init__()
        self.added, self.chunk, self.local, self.prompt = added, chunk, local, prompt
        self._frozen = (model.requires_grad_(False).eval(),)  # a tuple hides it from parameters() and state_dict()

    def loss(self, tokens, target):
        """tokens: [batch, memory + local]; target: [batch, scored]. Mean nats per token."""
        lesson = Lesson(tokens[:, : -self.local], tokens[:, -self.local :], target)
        found = logits(self._frozen[0], self.added, lesson, chunk=self.chunk, prompt=self.prompt)
        return functional.cross_entropy(found.flatten(0, 1), self.scored(target).flatten())

    def scored(self, target):
        """The targets that the loss counts, IGNORED elsewhere: all of them, unless a subclass leaves some out."""
        return target


class Lessons:
    """Endless batches of lessons for a `Condensing`: (memory and local: [batch, time], target: [batch, scored]).

    texts: (batch, time, generator) -> tokens, [batch, time] int64. chunks: counts of chunks, one drawn per step.
    losses: names of LOSSES. mix: "turns", one of them drawn per step, as released; "sum", all of them in every step, a
    batch of each. Its `generator` is its whole state. Raises ValueError for a name that is none, and sizes under 1.
    """

    def __init__(
        self, texts, *, batch, chunk, chunks, local, scored=1, losses=LOSSES, mix="turns", seed=0,
    ):  # fmt: skip
        if not losses or not set(losses) <= set(LOSSES):
            raise ValueError(f"losses must be some of {', '.join(LOSSES)}; they are {losses!r}.")
        if mix not in MIXES:
            raise ValueError(f"mix must be one of {', '.join(MIXES)}; it is {mix!r}.")
        _require_counts(batch=batch, chunk=chunk, local=local, scored=scored)
        self.texts, self.batch, self.chunk, self.chunks = texts, batch, chunk, tuple(chunks)
        self.local, self.scored, self.losses, self.mix = local, scored, tuple(losses), mix
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def _drawn(self, of):
        return of[int(torch.randint(len(of), (), generator=self.generator))]

    def __next__(self):
        memory = self._drawn(self.chunks) * self.chunk
        lessons = [
            self._lesson(name, memory) for name in (self.losses if self.mix == "sum" else [self._drawn(self.losses)])
        ]
        memories, locals_, targets = (torch.cat(each) for each in zip(*lessons, strict=True))
        return torch.cat([memories, locals_], 1), targets

    def _lesson(self, name, memory):
        sizes = memory, self.local, self.scored
        if name == "continuation":
            return continuation(self.texts(self.batch, sum(sizes), self.generator), *sizes)
        return reconstruction(self.texts(self.batch, memory, self.generator), *sizes, self.generator)
