"""YOCO-U: the self-decoder is gone through several times with one set of weights: depth grows, the cache does not.

Only the layers that keep little run in loops. The last loop's output makes the keys and values, once, and the
cross-decoder reads them, once. A looped Transformer is the contrast: each of its loops keeps a cache of its own.
(After the abstract of Sun et al. 2026. No code and no equation of it was found: the design here is a RECONSTRUCTION.)
"""

import copy
import dataclasses

import torch
from torch import nn

from effattn_core.model import LanguageModel
from effattn_core.yoco import YOCO


class UniversalTransformer(LanguageModel):
    """A LanguageModel whose blocks are gone through `sizes.loops` times: X[r] = blocks(X[r-1] + what enters loop r).

    What enters: nothing; the embedding X[0] again from the second loop on, with `sizes.reinject`; a learned vector that
    starts at zero, with `sizes.loop_embedding` (a loop past the last vector takes the last). Each loop attends to what
    the same loop made of earlier tokens, so it needs states of its own: loops × blocks of them, loop by loop.
    """

    def make_layers(self, mixer):
        super().make_layers(mixer)
        self.make_loop_embedding()

    def make_loop_embedding(self):
        """One vector per loop, all zero: a model starts as if it had none."""
        vectors = self.sizes.loops if self.sizes.loop_embedding else 0
        self.loop_embedding = nn.ParameterList(nn.Parameter(torch.zeros(self.sizes.width)) for _ in range(vectors))

    def with_loops(self, loops):
        """The same weights, not copied, gone through `loops` times. States of one count do not fit another."""
        other = copy.copy(self)
        other.sizes = dataclasses.replace(self.sizes, loops=loops)
        return other

    def new_states(self, batch=1):
        """An empty state for each block of each loop."""
        states = []
        for _ in range(self.sizes.loops):
            states += super().new_states(batch)
        return states

    def enter(self, loop, hidden, first):
        """What loop number `loop`, from 0, is given: the output of the one before, and what is added to it."""
        if loop and self.sizes.reinject:
            hidden = hidden + first
        if self.loop_embedding:
            hidden = hidden + self.loop_embedding[min(loop, len(self.loop_embedding) - 1)]
        return hidden

    def unrolled(self, hidden, states=None):
        """Yield (hidden, states) after each loop; the states are those of its blocks. Arguments as in `read`."""
        first, blocks, loops = hidden, len(self.blocks), self.sizes.loops
        if states is None or all(state is None for state in states):
            states = [None] * (loops * blocks)
        if len(states) != loops * blocks:
            raise ValueError(f"{loops} loops of {blocks} blocks keep {loops * blocks} states; got {len(states)}.")
        for loop in range(loops):
            own = states[loop * blocks : (loop + 1) * blocks]
            hidden, own = super().read(self.enter(loop, hidden, first), own)
            yield hidden, own

    def read(self, hidden, states):
        """Take tokens in, loop after loop: (the last loop's output: [batch, time, width], the states of all loops)."""
        kept = []
        for after, own in self.unrolled(hidden, states):
            hidden, kept = after, [*kept, *own]
        return hidden, kept


class UniversalYOCO(YOCO, UniversalTransformer):
    """A YOCO whose self-decoder is gone through in loops: YOCO's `read` asks the next class, which is the looped one.

    Its states are those of the self-decoder's blocks, loop by loop, windows or memories that do not grow with the text,
    and last the one shared cache.
    """

    def make_layers(self, mixer):
        super().make_layers(mixer)
        self.make_loop_embedding()


class RandomLoops(nn.Module):
    """Trains `model` with another number of loops at each step, drawn evenly from 1 to `most`.

    The step's number is kept with the weights: a run that goes on from a checkpoint draws what it would have drawn.
    """

    def __init__(self, model, most, seed=0):
        super().__init__()
        if most < 1:
            raise ValueError(f"most must be at least 1 loop; it is {most}.")
        self.model, self.most, self.seed = model, most, seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def draw(self):
        """The loops of the next step."""
        self.step += 1
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step.item())
        return torch.randint(1, self.most + 1, (), generator=generator).item()

    def loss(self, tokens, targets):
        """Mean cross-entropy in nats per token, of as many loops as were drawn."""
        return self.model.with_loops(self.draw()).loss(tokens, targets)


@torch.no_grad()
def loop_changes(model, tokens):
    """What each loop still changes: a list of (‖X[r] - X[r-1]‖ / ‖X[r-1]‖, ‖X[r]‖ / ‖X[0]‖), means over all tokens.

    tokens: [batch, time] int64; X[0] is their embedding, r goes from 1 to the model's loops.
    """
    before = first = model.embedding(tokens)
    changes = []
    for hidden, _ in model.unrolled(first):
        change, size = (hidden - before).norm(dim=-1), hidden.norm(dim=-1)
        changes.append(((change / before.norm(dim=-1)).mean().item(), (size / first.norm(dim=-1)).mean().item()))
        before = hidden
    return changes


def kept_tensors(states):
    """All tensors that states hold, as they were allocated: key and value of each cache or window, or a memory."""
    return [each for state in states for each in vars(state).values() if isinstance(each, torch.Tensor)]
