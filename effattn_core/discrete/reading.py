"""Reading a rule net of one layer in words: its rules, how many rows each is true of, and what each votes for."""

from dataclasses import dataclass, replace

import torch

from effattn_core.discrete.activations import hard_conjunction


@dataclass(frozen=True)
class Rule:
    """kind: "and" or "or"; picks: numbers of its literals; votes: what it adds to each logit where it is true.

    support: the share of training rows of which it is true.
    """

    kind: str
    picks: tuple
    votes: tuple
    support: float

    def words(self, literals):
        """The rule in a line; of several thresholds of one feature only the one that decides."""
        kept = _decisive([literals[each] for each in self.picks], self.kind)
        return (" & " if self.kind == "and" else " | ").join(each.words for each in kept) or f"empty {self.kind}"


def _decisive(literals, kind):
    """AND keeps the highest "above" and the lowest "not above" of a feature; OR the reverse."""
    best = {}
    for each in literals:
        if each.op == "=":
            best[each] = each
            continue
        highest = (each.op == ">") == (kind == "and")
        place = each.feature, each.op
        if place not in best or (each.bound > best[place].bound) == highest:
            best[place] = each
    return list(best.values())


def truth(rules, inputs):
    """Truth 0 or 1 of each rule, [rows, rules]."""
    found = []
    for rule in rules:
        picked = inputs[:, list(rule.picks)]
        found.append(picked.amin(1) if rule.kind == "and" else picked.amax(1))
    return torch.stack(found, 1) if found else inputs.new_zeros(len(inputs), 0)


@torch.no_grad()
def read(net, inputs, *, cut=0.5):
    """(rules, bias) of a net of one layer, which give its logits on `inputs`, the training rows, exactly.

    A node that is true of no row is dropped; one true of all adds its votes to the bias and is dropped too; nodes of
    one kind with the same literals become one rule. Rules with the largest votes come first. cut: the weight above
    which a literal is a rule's. Raises ValueError for a net of more layers.
    """
    if len(net.levels) != 1:
        raise ValueError(f"rules are read in words from a net of one layer; this one has {len(net.levels)}.")
    heat = net.log_temperature.exp().double()
    votes, bias = net.votes.weight.double().T / heat, net.votes.bias.double() / heat
    found = {}
    for kind, weight, own in zip(("and", "or"), net.levels[0].halves(), votes.split(net.levels[0].nodes), strict=True):
        picked = (weight > cut).to(inputs.dtype)
        true = hard_conjunction(inputs, picked) if kind == "and" else 1 - hard_conjunction(1 - inputs, picked)
        for node, share in enumerate(true.double().mean(0).tolist()):
            if share == 1:
                bias = bias + own[node]
            elif share > 0:
                picks = tuple(picked[:, node].nonzero().flatten().tolist())
                rule = found.get((kind, picks), Rule(kind, picks, (0.0,) * len(bias), share))
                added = tuple(old + new for old, new in zip(rule.votes, own[node].tolist(), strict=True))
                found[kind, picks] = replace(rule, votes=added)
    return sorted(found.values(), key=lambda rule: min(rule.votes) - max(rule.votes)), bias


def logits(rules, bias, inputs):
    """What the rules say of `inputs`: the bias and the votes of those that are true, float64 [rows, classes]."""
    votes = torch.tensor([rule.votes for rule in rules], dtype=torch.float64).view(len(rules), len(bias))
    return bias + truth(rules, inputs).double() @ votes


def literals_per_rule(rules):
    """The mean number of literals of a rule, 0 where there is none."""
    return sum(len(rule.picks) for rule in rules) / max(len(rules), 1)
