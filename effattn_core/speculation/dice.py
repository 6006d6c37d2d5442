"""Chance, as an argument: drawn from a generator where text is made, gone through case by case where it is proved."""

from collections import defaultdict

import torch


class Dice:
    """What decoding asks of chance. generator: a torch.Generator, None for PyTorch's own."""

    def __init__(self, generator=None):
        self.generator = generator

    def accept(self, probability):
        """True with this probability."""
        return probability >= 1 or torch.rand((), generator=self.generator).item() < probability

    def draw(self, law):
        """A word of a law, [vocabulary]."""
        return torch.multinomial(law, 1, generator=self.generator).item()


class Replay(Dice):
    """Dice that fall as they are told, and then as they first can. `weight`: how likely all that fell was."""

    def __init__(self, told):
        self.told, self.rest, self.weight = told, [], 1.0

    def _next(self, cases):
        """One of `cases`, [(what, probability)] of those that can be."""
        turn = len(self.rest)
        self.rest.append(len(cases))
        what, probability = cases[self.told[turn] if turn < len(self.told) else 0]
        self.weight *= probability
        return what

    def accept(self, probability):
        return self._next([(each, p) for each, p in ((True, probability), (False, 1 - probability)) if p > 0])

    def draw(self, law):
        return self._next([(token, p) for token, p in enumerate(law.tolist()) if p > 0])


def enumerated(run):
    """The exact law of what `run(dice)` returns: {result: probability}, over every way in which its dice can fall.

    run: a function of Dice whose result can be hashed; it is called once per way. The program that makes text is thus
    proved itself, not a model of it.
    """
    found, told = defaultdict(float), []
    while True:
        dice = Replay(told)
        found[run(dice)] += dice.weight
        path = told + [0] * (len(dice.rest) - len(told))
        while path and path[-1] + 1 == dice.rest[len(path) - 1]:
            path.pop()
        if not path:
            return dict(found)
        path[-1] += 1
        told = path
