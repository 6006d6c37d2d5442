"""What a state can hold: multi-query associative recall as a task to train on, and the bare memory without training.

A pair comes as one token, key and value together, so that what is tested is the state, and not whether a model can tie
a value to the key one token before it. (Arora et al. 2023, arXiv 2312.04927, give them as two tokens.)
"""

import torch
from torch import nn

from effattn_core.data import IGNORED
from effattn_core.model import LanguageModel, configuration
from effattn_core.recurrences import RULES, recurrence
from effattn_core.recurrences.rules import rule_named


def recall_sequences(pairs, batch, generator, *, keys=32, values=32, queries=16, rewritten=0):
    """(tokens, targets), each [batch, pairs + rewritten + asked]: pairs are shown, then asked for in random order.

    Keys differ within a sequence; the first `rewritten` of them are shown again, all at the end, with a new value, and
    the last value counts. Of the pairs at most `queries` are asked for, rewritten ones first. A token is
    key · (values + 1), and value + 1 more where a value is shown. Targets are values, or -100 where nothing is asked.
    Raises ValueError for more pairs than keys, or more rewritten than pairs.
    """
    if not 1 <= pairs <= keys:
        raise ValueError(f"pairs must lie in 1..{keys}, the number of keys; it is {pairs}.")
    if not 0 <= rewritten <= pairs:
        raise ValueError(f"rewritten must lie in 0..{pairs}, the number of pairs; it is {rewritten}.")
    key = torch.rand(batch, keys, generator=generator).argsort(1)[:, :pairs]
    value = torch.randint(values, (batch, pairs), generator=generator)
    again = (value[:, :rewritten] + torch.randint(1, values, (batch, rewritten), generator=generator)) % values
    last = torch.cat([again, value[:, rewritten:]], 1)
    asked = min(pairs, queries)
    order = torch.rand(batch, asked, generator=generator).argsort(1)
    shown = torch.cat([key * (values + 1) + value + 1, key[:, :rewritten] * (values + 1) + again + 1], 1)
    tokens = torch.cat([shown, key.gather(1, order) * (values + 1)], 1)
    targets = torch.cat([torch.full_like(shown, IGNORED), last.gather(1, order)], 1)
    return tokens, targets


class RecallBatches:
    """Endless batches of `recall_sequences`, each of one of the `cases`: (pairs, rewritten), by turns at random.

    Its `generator` is its whole state, as `effattn_core.train` wants it.
    """

    def __init__(self, cases, batch, seed=0, **sizes):
        self.cases, self.batch, self.sizes = list(cases), batch, sizes
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def __next__(self):
        pairs, rewritten = self.cases[torch.randint(len(self.cases), (), generator=self.generator)]
        return recall_sequences(pairs, self.batch, self.generator, rewritten=rewritten, **self.sizes)


class PairEmbedding(nn.Module):
    """The vector of a token of `recall_sequences`: that of its key, and that of its value if one is shown."""

    def __init__(self, keys, values, width):
        super().__init__()
        self.key, self.value = nn.Embedding(keys, width), nn.Embedding(values + 1, width)
        for table in (self.key, self.value):
            nn.init.normal_(table.weight, std=0.5)

    def forward(self, tokens):
        shown = self.value.num_embeddings
        return self.key(tokens // shown) + self.value(tokens % shown)


def recall_model(rule, *, keys=32, values=32, **changes):
    """A "tiny" LanguageModel of `rule` (None: softmax attention) that reads pairs and answers with values."""
    model = LanguageModel(recall_configuration(rule, values, **changes))
    model.embedding = PairEmbedding(keys, values, model.sizes.width)
    return model


def recall_configuration(rule, vocabulary, **changes):
    """Two layers of width 64, two heads with states of 16 × 16; softmax attention gets as many parameters."""
    shared = dict(heads=2, key_value_heads=2, feed_forward=128, context=128) | changes
    if rule is None:  # no output gate: its matrix goes to the feed-forward
        return configuration("tiny", vocabulary, **{**shared, "feed_forward": shared["feed_forward"] + 11})
    return configuration("tiny", vocabulary, mixer="recurrent", rule=rule, **shared)


@torch.no_grad()
def recall_accuracy(model, pairs, *, rewritten=0, batch=128, seed=1, **sizes):
    """Share of right answers on fresh sequences; of the rewritten keys alone, if there are any."""
    generator = torch.Generator().manual_seed(seed)
    queries = rewritten or pairs
    tokens, targets = recall_sequences(pairs, batch, generator, rewritten=rewritten, **{"queries": queries, **sizes})
    device = next(model.parameters()).device
    answers = model(tokens.to(device))[0].argmax(-1).cpu()
    asked = targets != IGNORED
    return (answers[asked] == targets[asked]).double().mean().item()


def written(rule, key, value, *, keep=1.0, beta=1.0):
    """The state after key and value were written by `rule`, in float64; the same gate and beta at every token.

    key, value: [batch, heads, time, size]; keep: share kept per token, of rules with a gate, a number or a tensor that
    spreads over the gate's shape; beta: of the delta rules. Raises ValueError for a rule that is not in RULES.
    """
    rule, settings = rule_named(rule), {}
    batch, heads, time, key_dim = key.shape
    keep = torch.as_tensor(keep, dtype=torch.float64)
    shapes = {"constant": (heads,), "scalar": (batch, heads, time), "vector": tuple(key.shape)}
    if rule.gate != "none":
        settings["log_gate"] = keep.log().expand(shapes[rule.gate])
    if rule.erases:
        settings["beta"] = torch.as_tensor(beta, dtype=torch.float64).expand(batch, heads, time)
    if rule.bonus:
        settings["bonus"] = key.new_zeros(heads, key_dim, dtype=torch.float64)
    return recurrence(key.double(), key.double(), value.double(), rule=rule.name, scale=1.0, **settings)[1]


def read(rule, key, state):
    """What a state holds for each key: [batch, heads, time, value_dim]; a rule that normalises does so."""
    features = RULES[rule].feature_map
    if features is None:
        return key.double() @ state
    held = features(key.double()) @ state
    return held[..., :-1] / held[..., -1:]


def memory_recall(rule, pairs, key_dim, *, rewritten=False, passes=1, keep=1.0, beta=1.0, trials=16, seed=0):
    """Without training: (share of keys whose nearest value is the last one written, mean relative error of the read).

    Random keys and values of length 1 and size key_dim are written in turn, `passes` times over; rewritten: once before
    with other values. Then all keys are read. The nearest is sought among all values ever written, old ones included.
    Raises ValueError for no pair or no pass.
    """
    if pairs < 1 or passes < 1:
        raise ValueError(f"pairs and passes must be at least 1; got {pairs} and {passes}.")
    generator = torch.Generator().manual_seed(seed)
    key, old, new = (
        torch.nn.functional.normalize(
            torch.randn(trials, 1, pairs, key_dim, dtype=torch.float64, generator=generator), dim=-1
        )
        for _ in range(3)
    )
    before = [old] * rewritten
    state = written(
        rule, torch.cat([key] * (rewritten + passes), 2), torch.cat(before + [new] * passes, 2), keep=keep, beta=beta
    )
    held = read(rule, key, state)
    nearest = (held @ torch.cat([new, *before], 2).mT).argmax(-1)
    right = (nearest == torch.arange(pairs)).double().mean().item()
    return right, (held - new).norm(dim=-1).mean().item()
