"""Training an `Extrapolator` on the hidden states of a model that reads text; how often its words would be taken."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.data import shakespeare
from effattn_core.speculation.drafters import Extrapolator
from effattn_core.speculation.forms import acceptance

AGAIN, FEATURES = 0.5, 0.1  # weights of the second reading, and of the hidden states beside the words


def new_extrapolator(target, seed=0):
    """An Extrapolator whose block begins as the target's last, and that reads the word and a little hidden state.

    The hidden state is as large as the final norm makes it: all of it would only say the newest word again.
    """
    torch.manual_seed(seed)
    made = Extrapolator(target.sizes)
    made.block.load_state_dict(target.blocks[-1].state_dict())
    with torch.no_grad():
        eye = torch.eye(target.sizes.width)
        made.join.weight.copy_(torch.cat([eye, 0.02 * eye], 1) + 0.01 * torch.randn_like(made.join.weight))
    return made


@torch.no_grad()
def hidden_states(target, tokens):
    """What the output head reads: [batch, time, width] in float16, for tokens int64 [batch, time]."""
    hidden, _ = target.read(target.embedding(tokens), None)
    return target.norm(hidden).half()


class Lesson(nn.Module):
    """What `train.train` trains: an Extrapolator, beside a target that stays as it is.

    kept: int64 [kept], the words over which the target's law is compared. Its loss is the cross-entropy from the
    target's law of the next word but one, and the distance of its hidden state. It is read twice: the second time with
    its own guesses for hidden states, as it is used.
    """

    def __init__(self, target, extrapolator, kept):
        super().__init__()
        self.extrapolator = extrapolator
        self._fixed = target, target.head.weight[kept].detach()  # in a tuple: no module of ours, not trained, not saved

    def guesses(self, tokens, hidden):
        """Two readings of the hidden states 1 … time - 1, from tokens [batch, time] and hidden [batch, time, width]."""
        target, _ = self._fixed
        embedded = target.embedding(tokens[:, 1:])
        first = target.norm(self.extrapolator(embedded, hidden[:, :-1]))
        yield first
        before = torch.cat([hidden[:, :1], first[:, :-1].detach()], 1)
        yield target.norm(self.extrapolator(embedded, before))

    def loss(self, tokens, hidden):
        hidden, weight, total = hidden.float(), self._fixed[1], 0.0
        wanted = hidden[:, 1:]
        with torch.autocast(hidden.device.type, torch.bfloat16):  # three times as fast on a CPU that has it
            law = (wanted @ weight.T).float().softmax(-1).flatten(0, 1)
            for share, guess in zip((1.0, AGAIN), self.guesses(tokens, hidden), strict=True):
                words = functional.cross_entropy((guess @ weight.T).float().flatten(0, 1), law)
                total = total + share * (words + FEATURES * functional.smooth_l1_loss(guess.float(), wanted))
        return total


class Windows:
    """Endless random windows of passages: (tokens [batch, context], hidden [batch, context, width]).

    tokens: int64 [passages, time]; hidden: [passages, time, width]. `generator` is its whole state.
    """

    def __init__(self, tokens, hidden, batch, context, seed=0):
        if tokens.shape[1] < context:
            raise ValueError(f"a window of {context} words needs passages as long; they have {tokens.shape[1]}.")
        self.tokens, self.hidden, self.batch, self.context = tokens, hidden, batch, context
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def __next__(self):
        rows = torch.randint(len(self.tokens), (self.batch, 1), generator=self.generator)
        starts = torch.randint(self.tokens.shape[1] - self.context + 1, (self.batch, 1), generator=self.generator)
        columns = starts + torch.arange(self.context)
        return self.tokens[rows, columns], self.hidden[rows, columns]


@torch.no_grad()
def agreement(lesson, tokens, hidden, subset=None):
    """How often a draft would be taken on a text that is given, at the first and at a second step: a dict of shares.

    greedy: the likeliest word is the target's; drawn: Σ min(p, q) at temperature 1, q over `subset` alone.
    """
    target, found = lesson._fixed[0], {}
    hidden = hidden.float()
    wanted = (hidden[:, 1:] @ target.head.weight.T).flatten(0, 1)
    for step, guess in zip(("first", "second"), lesson.guesses(tokens, hidden), strict=True):
        logits = guess.flatten(0, 1) @ (target.head.weight if subset is None else target.head.weight[subset.ids]).T
        law = logits.softmax(-1) if subset is None else subset.law(logits)
        found[f"greedy {step}"] = (law.argmax(-1) == wanted.argmax(-1)).float().mean().item()
        found[f"drawn {step}"] = acceptance(wanted.softmax(-1), law).mean().item()
    return found


def texts():
    """Three kinds of text at hand, by name: plays (all but the last twentieth), a manual and programs.

    The manual and the programs are Python's own, so that they differ a little between its versions.
    """
    import importlib
    import inspect
    import pydoc_data.topics

    plays = shakespeare()
    names = "argparse ast asyncio.base_events calendar collections csv datetime decimal difflib doctest email.message"
    names += " fractions heapq inspect json.decoder logging pathlib pickle random shutil statistics subprocess tarfile"
    names += " textwrap threading typing unittest.mock urllib.parse zipfile"
    return {
        "plays": plays[: int(0.95 * len(plays))],
        "manual": "\n\n".join(pydoc_data.topics.topics.values()),
        "programs": "\n\n".join(inspect.getsource(importlib.import_module(name)) for name in names.split()),
    }
