"""What the abstract on Universal YOCO says, and how this library measures it. No table of the paper was found."""

from statistics import fmean, variance

from effattn_core.ledger import Claim, Figure, at_least, at_most, beyond, two_errors
from effattn_core.recordings import measured
from effattn_core.universal import costs as costs_universal
from effattn_core.universal.recorded import RUN, flops, loss, losses


def _bytes_kept(name, loops):
    """Measured, of the longest text that the run looked at."""
    rows = measured(RUN, what="kept", name=name)
    longest = max(row["tokens"] for row in rows)
    return next(row["bytes"] for row in rows if row["loops"] == loops and row["tokens"] == longest)


def _growth_of_the_cache():
    return _bytes_kept("YOCO-U", 4) / _bytes_kept("YOCO-U", 1)


def _growth_without_sharing():
    return _bytes_kept("looped Transformer", 4) / _bytes_kept("looped Transformer", 1)


def _prefill_of_twice_the_text():
    sizes = costs_universal.llama_sized(4)
    return costs_universal.prefill_flops(sizes, 2 * 131072) / costs_universal.prefill_flops(sizes, 131072)


def _noise():
    """Two standard errors of the ratio of four loops' mean loss to one loop's: the seeds taken as independent."""
    runs = [list(losses("YOCO-U", loops).values()) for loops in (4, 1)]
    return 2 * sum(variance(each) / len(each) for each in runs) ** 0.5 / fmean(runs[1])


def _noise_paired():
    """Two standard errors of the mean of the ratios that each seed has."""
    four, one = (losses("YOCO-U", loops) for loops in (4, 1))
    ratios = [four[seed] / one[seed] for seed in four]
    return two_errors(ratios)


def _noise_says():
    return f"{_noise():.2f} with seeds taken as independent, as the verdict does, {_noise_paired():.2f} paired by seed"


def _against_one_loop():
    return loss("YOCO-U", 4) / loss("YOCO-U", 1)


def _against_looped():
    """The ratio to the looped Transformer with four loops, over the seeds that both have."""
    seeds = losses("YOCO-U", 4).keys() & losses("looped Transformer", 4).keys()
    return loss("YOCO-U", 4, seeds=seeds) / loss("looped Transformer", 4, seeds=seeds)


def _more_operations(name, loops):
    return f"{flops(name, loops) / flops('YOCO-U', 4):.1f} times the operations of YOCO-U with four loops"


def _against_either_alone():
    return loss("YOCO-U", 4) / min(loss("YOCO-U", 1), loss("looped Transformer", 4))


PAPER, SIZE = "Sun et al. 2026", "the small models of the chapter on letters of Shakespeare, recorded by make runs"

CLAIMS = [
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: a constant global cache",
        statement="Loops in the self-decoder leave what is kept for the text as large as it was.",
        unit="constant",
        measured=Figure(_growth_of_the_cache, "times the bytes of one loop, with four"),
        rule=at_most(1.05),
        conditions="tensors of real states summed after 4,096 letters; what is over 1 are each loop's windows",
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: conventional looping inflates the cache with depth",
        statement="Loops over all layers of a Transformer multiply what it keeps.",
        measured=Figure(_growth_without_sharing, "times the bytes of one loop, with four"),
        rule=at_least(3.9),
        conditions="as above, of the looped Transformer; the abstract names no factor",
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: linear pre-filling",
        statement="Reading twice the text takes twice the operations, whatever the loops.",
        unit="linear",
        formula=Figure(_prefill_of_twice_the_text, "times the operations, 256K against 128K tokens"),
        rule=at_most(2.01),
        conditions="four loops, sizes of Llama 3 8B, gated retention below, which is our choice",
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: recursion enhances representational depth",
        statement="More loops of the same weights model language better.",
        measured=Figure(_against_one_loop, "times the held-out loss of one loop, with four"),
        rule=beyond(_noise, at_most(1.0), neutral=1.0),
        conditions=lambda: f"{SIZE}, two seeds, two standard errors of the ratio {_noise_says()}",
    ),
    Claim(
        topic="universal",
        paper=PAPER,
        where="abstract: the combination beats either alone",
        statement="YOCO with loops is better than YOCO alone and than a looped Transformer.",
        measured=Figure(_against_either_alone, "times the held-out loss of the better of the two"),
        rule=beyond(_noise, at_most(1.0), neutral=1.0),
        conditions=lambda: (
            f"{SIZE}, as many parameters; YOCO alone has one loop, two seeds and {_more_operations('YOCO-U', 1)}, and "
            f"the ratio to it is {_against_one_loop():.2f}, two standard errors as above; the looped Transformer has "
            f"four loops, one seed and {_more_operations('looped Transformer', 4)}, and the ratio to it from that seed "
            f"is {_against_looped():.2f}"
        ),
    ),
]
