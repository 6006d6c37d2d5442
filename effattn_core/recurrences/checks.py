"""The hidden cases of the recurrences chapter's exercises."""

import math

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, in_float32, kernel_exercise
from effattn_core.recurrences import delta_checks, recurrence
from kernels import runtime

__all__ = ["delta_checks"]


@exercise("recurrences.fading", level="code")
def fading(function):
    for time, strength in ((1, 0.1), (5, 0.1), (64, 0.5), (200, 20.0)):
        generator = torch.Generator().manual_seed(time)
        log_gate = -strength * torch.rand(time, dtype=torch.float64, generator=generator)
        own = torch.eye(time, dtype=torch.float64)[None, None]
        ones = torch.ones(1, 1, time, 1, dtype=torch.float64)
        wanted, _ = recurrence(ones, ones, own, rule="gated", log_gate=log_gate[None, None], scale=1.0)
        wanted, got = wanted[0, 0], function(log_gate)
        if got.shape != wanted.shape:
            return f"{time} gates give a matrix of {time} by {time}; got the shape {tuple(got.shape)}."
        if not got.isfinite().all():
            return (
                f"With {time} gates of about {-strength / 2:g} the result holds inf or nan: subtract the running sums "
                "first, hide the future, and only then take the exponential."
            )
        if time > 1 and got.triu(1).abs().max() > 0:
            return "A token sees the future: entries above the diagonal must be 0."
        if torch.allclose(got, wanted):
            continue
        if not torch.allclose(got.diagonal(), wanted.diagonal()):
            return "A token's own gate fades the past, not the token itself: the diagonal must be 1."
        return f"With {time} gates of about {-strength / 2:g} an entry is off by {(got - wanted).abs().max():.2g}."
    return None


# ---- by hand ----


@exercise("recurrences.shut", level="pencil")
def shut(answer):
    wanted = math.log(0.01) * 16  # the sigmoid of a number this far below zero is its exponential
    return compare_number(
        answer,
        wanted,
        [
            (math.log(0.01 / 0.99), "That is a gate without the root: of 0.01 take the sixteenth power first."),
            (-wanted, "A gate closes far below zero: the sign."),
            (math.log(0.01) / 16, "The root divides the logarithm of the gate by 16; to undo it, multiply."),
            (math.log10(0.01) * 16, "The logarithm is the natural one."),
        ],
    )


@exercise("recurrences.levels_cost", level="pencil")
def levels_cost(answer):
    wanted = (math.log2(64) * 128 + 128) / (128 + 128)
    return compare_number(
        answer,
        wanted,
        [
            (6, "Only the scores are multiplied anew at each halving; the product with the values is one in both."),
            (4, "A chunk of 64 is halved six times; the diagonal needs no product of matrices."),
            (64, "The number of halvings is the logarithm of the chunk, base 2."),
        ],
    )


# ---- functions ----


def _close(found, wanted):
    return torch.allclose(found.double().cpu(), wanted.double(), rtol=1e-4, atol=1e-4)


def _shape(what, found, wanted):
    if not torch.is_tensor(found) or found.shape != wanted.shape:
        given = tuple(found.shape) if torch.is_tensor(found) else type(found).__name__
        return f"The {what} must have the shape {tuple(wanted.shape)}; it is {given}."
    return None


def _pair(given):
    """What a function returned, if it is an output and a state. ValueError otherwise, in a sentence."""
    if not isinstance(given, tuple) or len(given) != 2:
        raise ValueError("return two tensors, the output and the new state.")
    return given


def _token(seed, key_dim, value_dim):
    """query, key, value, log gate and bonus of one token, and the state before it; float64."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(key_dim,), (key_dim,), (value_dim,), (key_dim,), (key_dim,), (key_dim, value_dim)]
    query, key, value, log_gate, bonus, state = (
        torch.randn(size, dtype=torch.float64, generator=generator) for size in sizes
    )
    return query, key, value, -log_gate.abs(), bonus, state


@exercise("recurrences.rwkv_step", level="code")
def rwkv_step(function):
    for key_dim, value_dim in ((4, 4), (8, 3)):
        query, key, value, log_gate, bonus, state = _token(key_dim, key_dim, value_dim)
        one = [each[None, None, None] for each in (query, key, value)]
        settings = dict(log_gate=log_gate[None, None, None], bonus=bonus[None], state=state[None, None])
        wanted, last = (each[0, 0] for each in recurrence(*one, rule="rwkv6", scale=1.0, **settings))
        output, after = _pair(function(query, key, value, log_gate, bonus, state.clone()))
        wrong = _shape("output", output, wanted[0]) or _shape("state", after, last)
        if wrong:
            return wrong
        keep, write = log_gate.exp()[:, None], torch.outer(key, value)
        mistakes = [
            (query @ state, "The token does not see itself: its own write counts, with the weight u."),
            (query @ (state + write), "u is forgotten: the token's own write is weighted by it, per key dimension."),
            (query @ (keep * state + write), "The gate acts before the read: RWKV-6 reads the state before its gate."),
            (
                query @ (keep * state + bonus[:, None] * write),
                "The gate acts before the read: RWKV-6 reads the state as the last token left it.",
            ),
        ]
        if not _close(output, wanted[0]):
            said = (sentence for each, sentence in mistakes if _close(output, each))
            return next(said, f"The output is off by {(output - wanted[0]).abs().max():.2g}.")
        if _close(after, last):
            continue
        if _close(after, keep * (state + write)):
            return "The output is right. In the state the token fades by its own gate: fade first, then write."
        if _close(after, keep * state + bonus[:, None] * write):
            return "The output is right. The state gets the whole write: u is for the read alone."
        return f"The output is right, the state is off by {(after - last).abs().max():.2g}."
    return None


@exercise("recurrences.gate_gradient", level="code")
def gate_gradient(function):
    for time in (1, 6, 33):
        generator = torch.Generator().manual_seed(time)
        query, key, value, toward = torch.randn(4, 1, 1, time, 4, dtype=torch.float64, generator=generator)
        d_state = torch.randn(1, 1, 4, 4, dtype=torch.float64, generator=generator)
        log_gate = -torch.rand(1, 1, time, dtype=torch.float64, generator=generator)
        leaves = [each.requires_grad_() for each in (query, key, log_gate)]
        output, state = recurrence(query, key, value, rule="gated", log_gate=log_gate, implementation="oracle")
        loss = (output * toward).sum() + (state * d_state).sum()
        d_query, d_key, wanted = (each[0, 0] for each in torch.autograd.grad(loss, leaves))
        query, key, state, d_state = (each.detach()[0, 0] for each in (query, key, state, d_state))
        found = function(query, key, d_query, d_key, state, d_state)
        if wrong := _shape("gradient", found, wanted):
            return wrong
        if _close(found, wanted):
            continue
        each, passing = (query * d_query - key * d_key).sum(-1), (state * d_state).sum()
        later = each.flip(0).cumsum(0).flip(0)
        mistakes = [
            (later, "The last state is forgotten: each gate fades what it hands on, so ⟨S, dS⟩ is added to all."),
            (each.cumsum(0) + passing, "The sum runs the wrong way: a gate is part of every G from its token on."),
            (each + passing, "That is dG, with the last state's part: a gate is part of every later G as well."),
            (later - each + passing, "A gate is part of its own token's G too: the sum starts at s = t."),
        ]
        said = (sentence for each, sentence in mistakes if _close(found, each))
        return next(said, f"With {time} tokens it is off by {(found - wanted).abs().max():.2g}.")
    return None


# ---- kernels ----


@kernel_exercise("recurrences.fading_kernel")
def fading_kernel():
    def case(time, strength, **says):
        log_gate = -strength * torch.rand(time, generator=torch.Generator().manual_seed(time))
        total = log_gate.double().cumsum(0)
        apart = total[:, None] - total[None, :]
        fade = apart.tril().exp().tril()
        future = "a token sees the future: entries above the diagonal must be 0."
        base = "tl.exp2 is 2 to a power: either tl.exp, or gates times the logarithm of e, base 2."
        mistakes = [
            ((-apart.abs()).exp(), future),
            (apart.exp(), future),
            (fade.mT, future),
            ((math.log(2) * apart).tril().exp().tril(), base),
        ]
        return Case(
            f"{time} gates of about {-strength / 2:g}",
            (log_gate.to(runtime.device()),),
            in_float32(fade)[0],
            mistakes=[(*in_float32(wrong), sentence) for wrong, sentence in mistakes],
            hint="is it e to the sum of the gates after m, up to n?",
            **says,
        )

    # Gates of about -0.5 make no infinity yet: there what is not finite was not written.
    infinite = "there are inf or nan: is infinity multiplied by 0?"
    return [case(16, 0.1), case(32, 1.0), case(64, 20.0, nan=infinite)]


@kernel_exercise("recurrences.step_kernel")
def step_kernel():
    def case(key_dim, value_dim):
        token = (each.float().double() for each in _token(key_dim + value_dim, key_dim, value_dim))
        query, key, value, log_gate, _, state = token
        keep, write = log_gate.exp()[:, None], torch.outer(key, value)
        last = keep * state + write
        mistakes = [((None, keep * (state + write)), "the token fades by its own gate: fade first, then write.")]
        if key_dim == value_dim:
            columns = "the gates belong to the rows of the state, the key dimensions: log_gate[:, None]."
            mistakes.append(((None, keep.mT * state + write), columns))
        mistakes += [
            ((query @ state, last), "the output reads the old state: a token sees itself."),
            ((None, last), "the state is right and the output is not."),
        ]
        return Case(
            f"keys of {key_dim} and values of {value_dim}",
            in_float32(query, key, value, log_gate, state),
            in_float32(query @ last, last),
            mistakes=[(in_float32(*wrong), sentence) for wrong, sentence in mistakes],
            names=("output", "state"),
            hint="of the state: fade each row, then add kᵀv.",
            kept="the state that was given has changed: write the new one into a tensor of its own.",
        )

    return [case(*sizes) for sizes in ((16, 16), (32, 16), (16, 64))]
