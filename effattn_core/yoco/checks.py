"""The hidden cases of the YOCO chapter's exercises."""

import functools

import torch

from effattn_core.exercises import exercise
from effattn_core.model import build, configuration
from effattn_core.yoco import costs as costs_yoco


class _Watched:
    """A cross-decoder that notes how many tokens it was given."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, hidden, states):
        self.seen.append(hidden.shape[1])
        return self.model.answer(hidden, states)


@exercise("yoco.prefill", level="code")
def prefill(function):
    for size, time in (("small-yoco", 40), ("small-yoco-gated", 7), ("small-yoco", 1)):
        torch.manual_seed(time)
        model = build(configuration(size, 20)).double().eval()
        hidden = model.embedding(torch.randint(20, (2, time)))
        cross = _Watched(model)
        with torch.no_grad():
            got = function(functools.partial(model.read, states=None), cross, hidden)
            whole = model.answer(*model.read(hidden, None))
        if not isinstance(got, torch.Tensor) or got.shape != whole[:, -1:].shape:
            given = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
            return f"Return what the cross-decoder makes of the last token, {tuple(whole[:, -1:].shape)}; got {given}."
        if not torch.allclose(got, whole[:, -1:], rtol=1e-10, atol=1e-12):
            first = model.answer(hidden[:, -1:], model.read(hidden, None)[1])
            if torch.allclose(got, first):
                return "The cross-decoder got the embedding of the last token, not what the self-decoder made of it."
            return f"For {time} tokens the answer is off by {(got - whole[:, -1:]).abs().max():.2g}."
        if sum(cross.seen) != 1:
            return f"Right, but not early: the cross-decoder was given {sum(cross.seen)} tokens of {time}; 1 is enough."
    return None


@exercise("yoco.cache", level="code")
def cache(function):
    for name in ("3B", "65B"):
        model = costs_yoco.SIZES[name]
        for context in (4096, 1 << 20):
            for architecture in ("grouped", "YOCO, window"):
                wanted = costs_yoco.kept(model, context, architecture).total
                got = function(model, context, architecture)
                if got == wanted:
                    continue
                what = f"{architecture!r} with {model.layers} layers at {context:,} tokens"
                if got == wanted / 2:
                    return f"{what}: half of it. Keys and values are two, and a number has two bytes."
                if architecture == "YOCO, window" and got == costs_yoco.kept(model, context, architecture).growing:
                    return f"{what}: the shared cache is right; the windows of the self-decoder are missing."
                if architecture == "YOCO, window" and got == costs_yoco.kept(model, context, "grouped").total:
                    return f"{what}: that is a cache for every layer; a YOCO keeps one."
                return f"{what}: {got:,} is not {wanted:,} bytes."
    return None


@exercise("yoco.ranks", level="code")
def ranks(function):
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 4):
        states = torch.randn(count, 2, 3, 3, dtype=torch.float64, generator=generator)
        log_decays = -torch.rand(count, 2, dtype=torch.float64, generator=generator)
        wanted, before = [], torch.zeros(2, 3, 3, dtype=torch.float64)
        for state, log_decay in zip(states, log_decays, strict=True):
            wanted.append(before)
            before = log_decay.exp()[:, None, None] * before + state
        wanted = torch.stack(wanted)
        got = torch.as_tensor(function(states, log_decays))
        if got.shape != wanted.shape:
            return f"{count} ranks enter with {count} states, {tuple(wanted.shape)}; got {tuple(got.shape)}."
        if got[0].abs().max() > 0:
            return "The first rank enters with nothing: its state is zero."
        if torch.allclose(got, wanted):
            continue
        if torch.allclose(got[1:], states[:-1].cumsum(0)):
            return "Nothing fades: a share of the text fades all that came before it by its own total decay."
        if count > 1 and torch.allclose(got[1], log_decays[0].exp()[:, None, None] * states[0]):
            return "A rank's own decay fades what came before it, not the state that it makes itself."
        return f"With {count} ranks the states are off by {(got - wanted).abs().max():.2g}."
    return None
