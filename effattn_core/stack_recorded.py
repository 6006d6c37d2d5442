"""The recorded training, keeping and decoding of the named stacks, as the capstone reads it."""

from statistics import fmean

from effattn_core.benchmarks import MOST_SPREAD
from effattn_core.ledger import two_errors
from effattn_core.recordings import measured

RUN, PLAIN, BEST = "stacks/training-cpu", "Plain Transformer", "Best"


def names():
    """The stacks that were recorded, in their order."""
    return list(dict.fromkeys(row["name"] for row in measured(RUN, what="text")))


def lengths():
    """Tokens that were kept when one more was decoded."""
    return sorted({row["tokens"] for row in measured(RUN, what="kept")})


def losses(name):
    """{seed: held-out loss in nats per letter}."""
    return {row["seed"]: row["loss"] for row in measured(RUN, what="text", name=name)}


def trained(name, field):
    """A field of the trained models of a stack, the mean over seeds: parameters, met, optimizer_bytes, steps, loss."""
    return fmean(row[field] for row in measured(RUN, what="text", name=name))


def kept(name, tokens):
    """Bytes that a stack's states kept of so many tokens."""
    (row,) = measured(RUN, what="kept", name=name, tokens=tokens)
    return row["bytes"]


def time_ratio(name, tokens):
    """The time of a decoded token over the plain Transformer's, taken by turns; None where either spreads too far."""
    rows = [measured(RUN, what="decode", name=each, tokens=tokens)[0] for each in (name, PLAIN)]
    wide = (row["upper_quartile"] - row["lower_quartile"] > MOST_SPREAD * row["median"] for row in rows)
    return None if any(wide) else rows[0]["ratio"]


def ratios(name):
    """Tokens -> `time_ratio`, where there is one."""
    found = {tokens: time_ratio(name, tokens) for tokens in lengths()}
    return {tokens: ratio for tokens, ratio in found.items() if ratio is not None}


def beside(name, other=PLAIN):
    """(mean, noise) of the loss less another stack's, paired by seed; noise: two standard errors."""
    ours, theirs = losses(name), losses(other)
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return fmean(differences), two_errors(differences)


def judged(name, other=PLAIN):
    """What the seeds say of a stack's loss beside another's: less, more, or open."""
    mean, noise = beside(name, other)
    return "open" if abs(mean) <= noise else "less" if mean < 0 else "more"


def verdict(name=BEST):
    """Sentences on a stack against the plain Transformer: loss, bytes kept, time of a token, bytes of the optimizer."""
    mean, noise = beside(name)
    said = {"open": "which the seeds do not tell from none", "less": "so it is less", "more": "so it is more"}
    first, last = lengths()[0], lengths()[-1]
    shares = [kept(name, tokens) / kept(PLAIN, tokens) for tokens in (first, last)]
    times = ratios(name)
    ends = sorted({min(times), max(times)}) if times else []
    spoken = "; ".join(f"{times[tokens]:.2f} times at {tokens:,} tokens" for tokens in ends) or "too scattered to say"
    states = trained(name, "optimizer_bytes") / trained(PLAIN, "optimizer_bytes")
    return (
        f"Its loss differs by {mean:+.3f} ± {noise:.3f} nats per letter, {said[judged(name)]}. It keeps "
        f"{shares[0]:.0%} of the bytes at {first:,} tokens and {shares[1]:.0%} at {last:,}. A decoded token takes, of "
        f"the plain Transformer's time, {spoken}. Its optimizer's states are {states:.0%} as many bytes."
    )


def least(name=BEST):
    """A sentence: which stack has the least loss, and how far a stack is from it."""
    first = min(names(), key=lambda each: trained(each, "loss"))
    if first == name:
        return "No recorded stack has less loss."
    mean, noise = beside(name, first)
    said = {"open": "the seeds do not tell the two apart", "more": "it is behind by more than the seeds scatter"}
    told = said.get(judged(name, first), "")
    return f"The least loss of all has the stack {first}: ours is {mean:+.3f} ± {noise:.3f} from it, and {told}."
