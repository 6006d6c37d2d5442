"""Decoding with drafts: propose, verify all of them in one pass of the target, keep the path that won."""

import time
from dataclasses import dataclass, field

import torch

from effattn_core.calls import require_count, require_logits, require_temperature
from effattn_core.model import require_room, sample
from effattn_core.speculation.dice import Dice
from effattn_core.speculation.drafters import require_one_vocabulary
from effattn_core.speculation.forms import law_of, verify, verify_greedy
from effattn_core.speculation.states import Branch, branch_out, tree_states
from effattn_core.speculation.trees import depths, tree_mask


@dataclass
class Decoded:
    """What decoding made. tokens: the new words; drafted, accepted: per cycle, words proposed and words taken.

    trees: per cycle (Draft, accepted nodes, the word after them), if they were asked for. started: time.perf_counter()
    when the first word was there.
    """

    tokens: list = field(default_factory=list)
    drafted: list = field(default_factory=list)
    accepted: list = field(default_factory=list)
    trees: list = field(default_factory=list)
    started: float = 0.0

    @property
    def cycles(self):
        """Passes of the target after the prompt."""
        return len(self.accepted)

    @property
    def per_cycle(self):
        """Words per cycle, that of the target itself included (before the text was cut to what was asked)."""
        return 1 + sum(self.accepted) / max(1, self.cycles)


def read_tree(model, states, token, draft):
    """One pass of the target over the newest word and a draft: (logits, hidden), rows 0 the word's, then the nodes'.

    token: the newest word, not read yet. Returns [1 + nodes, vocabulary] and [1 + nodes, width], after the final norm.
    The states hold all rows afterwards: `TreeCache.keep` makes text of the path that won.
    """
    rows, length = torch.cat([torch.tensor([token]), draft.tokens]), states[0].length
    straight = bool((draft.parents == torch.arange(len(draft)) - 1).all())
    if not straight:  # a chain is a stretch of text, and needs no mask
        depth = torch.cat([torch.zeros(1, dtype=torch.int64), depths(draft.parents)])
        branch_out(states, Branch.of(model.sizes, length, length, depth, tree_mask(draft.parents)))
    hidden, _ = model.read(model.embedding(rows[None]), states)
    branch_out(states, None)
    hidden = model.norm(hidden[0])
    return model.head(hidden), hidden


def require_call(model, prompt, count, temperature):
    """Raise ValueError unless the prompt has words of the model, and `count` of at least 1 more fit its context."""
    require_count("count", count)
    require_temperature(temperature)
    if prompt.ndim != 1 or prompt.dtype != torch.int64 or not len(prompt):
        raise ValueError(
            f"prompt must be int64 [time] with at least one word; it is {prompt.dtype} {list(prompt.shape)}."
        )
    least, most, last = int(prompt.min()), int(prompt.max()), model.sizes.vocabulary - 1
    if least < 0 or most > last:
        raise ValueError(
            f"prompt must be words 0..{last}; it goes from {least} to {most}: use the model's own tokenizer."
        )
    require_room(model, prompt, count)


@torch.inference_mode()
def generate(model, prompt, count, drafter, *, temperature=0.0, generator=None, dice=None, keep_trees=False):
    """`count` words after prompt, int64 [time], in the law of the target alone: a Decoded.

    At temperature 0 these are the words of `effattn_core.model.generate`; above it, words with that law, whatever the
    drafter. dice: where chance comes from, by default `generator`. keep_trees: whether to keep each cycle's tree.
    Raises ValueError for a prompt, count or temperature that is none, if they do not fit the context, for a drafter of
    another number of words, and for logits of either that are NaN.
    """
    require_one_vocabulary(model, drafter)
    require_call(model, prompt, count, temperature)
    dice, states, made = dice or Dice(generator), tree_states(model), Decoded()
    drafter.begin(model, states)
    hidden, _ = model.read(model.embedding(prompt[None]), states)
    hidden = model.norm(hidden[0])
    law = law_of(model.head(hidden[-1]), temperature)
    made.tokens.append(dice.draw(law) if temperature > 0 else int(law.argmax()))
    text = torch.cat([prompt, torch.tensor(made.tokens)])
    drafter.accept(text[1:], hidden)
    made.started = time.perf_counter()
    while len(made.tokens) < count:
        room = count - len(made.tokens) - 1
        draft = drafter.propose(text, room, temperature, dice)
        logits, hidden = read_tree(model, states, made.tokens[-1], draft)
        if temperature > 0:
            path, last = verify(draft, law_of(logits, temperature), dice)
        else:
            require_logits(logits)
            path, last = verify_greedy(draft, logits.argmax(-1).tolist())
        rows = [0, *(node + 1 for node in path)]
        for state in states:
            state.keep(len(text) - 1, rows)
        new = [*draft.tokens[path].tolist(), last]
        text = torch.cat([text, torch.tensor(new)])
        drafter.accept(text[len(text) - len(new) :], hidden[rows])
        made.tokens += new
        made.drafted.append(len(draft))
        made.accepted.append(len(path))
        if keep_trees:
            made.trees.append((draft, path, last))
    return made


@torch.inference_mode()
def plain(model, prompt, count, *, temperature=0.0, generator=None):
    """`count` words without drafts, one pass each: what every speed-up here is over. A Decoded without cycles.

    Raises ValueError as `generate` does.
    """
    require_call(model, prompt, count, temperature)
    logits, states = model.prefill(prompt[None], tree_states(model))
    made = Decoded()
    for _ in range(count):
        token = sample(logits[:, -1], temperature, generator)
        made.tokens.append(int(token))
        made.started = made.started or time.perf_counter()
        if len(made.tokens) < count:
            logits, states = model(token, states)
    return made
