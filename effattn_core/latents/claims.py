"""What the paper on LatentLM says, and how this library measures it.

Its abstract and its released code were read; its tables and figures in notes that transcribe them, not in the paper:
claims that rest on those are marked.
"""

import math
from statistics import fmean

from effattn_core.latents.costs import Pair, saving
from effattn_core.ledger import Claim, Figure, at_least, at_most, beyond, exact, upper_bound, within
from effattn_core.recordings import measured

PAPER, RELEASED = "Sun et al. 2024 (LatentLM)", "microsoft/unilm, LatentLM"
RUN = "latents/training-cpu"
# By our count the one that has the published number of parameters: two thirds of 4 · 1024, not rounded, and six blocks.
LARGE = Pair.released(32, 1024, 4, 6, inner=2730)
THREE_BILLION = Pair.released(32, 2560, 6, 3)
WEIGHT = 1.0  # without guidance, where the paper's comparison of tokenisers is monotone


def _sampled(name, weight, field="distance", steps=20):
    """A field of the drawn digits of one generator, per seed."""
    return [row[field] for row in measured(RUN, what="sampled", name=name, weight=weight, steps=steps, first=999)]


def _codes(weight):
    return [row["distance"] for row in measured(RUN, what="sampled", name="codes", weight=weight)]


def _ratio(arm):
    return fmean(row["ratio"] for row in measured(RUN, what="collapse", arm=arm))


def _kept_spread():
    """σ over the means' deviation, of the σ-VAE over an ordinary one with the weight that image tokenisers take."""
    return _ratio("σ-VAE, β 0.01") / _ratio("VAE, β 1e-06")


def _evaded():
    """The same for one fixed spread and no penalty, over the fixed spread with its penalty."""
    return _ratio("fixed σ, β 0") / _ratio("fixed σ, β 0.01")


def _spread_of(*groups):
    """The widest spread over seeds; endless where there is one seed alone, for then nothing is known of it."""
    return max(max(found) - min(found) if len(found) > 1 else math.inf for found in groups)


def _variance_helps():
    """Fréchet distance of the σ-VAE's digits less that of the VAE's, without guidance."""
    return fmean(_sampled("σ-VAE", WEIGHT)) - fmean(_sampled("VAE", WEIGHT))


def _variance_noise():
    return _spread_of(_sampled("σ-VAE", WEIGHT), _sampled("VAE", WEIGHT))


def _against_codes():
    """Fréchet distance of diffused latents less that of codes, both guided by 1.5."""
    return fmean(_sampled("σ-VAE", 1.5)) - fmean(_codes(1.5))


def _codes_noise():
    return _spread_of(_sampled("σ-VAE", 1.5), _codes(1.5))


def _against_whole():
    """Fréchet distance of latents drawn one by one less that of a diffusion Transformer's, both guided by 1.5."""
    return fmean(_sampled("σ-VAE", 1.5)) - fmean(_sampled("DiT", 1.5))


def _whole_noise():
    return _spread_of(_sampled("σ-VAE", 1.5), _sampled("DiT", 1.5))


def _exploded():
    """Fréchet distance with eps prediction from t = 999 over that with v prediction."""
    return fmean(_sampled("eps", 1.5)) / fmean(_sampled("σ-VAE", 1.5)[:1])


def _captions():
    return fmean(row["read"] for row in measured(RUN, what="stream"))


CLAIMS = [
    Claim(
        topic="latents",
        paper=PAPER,
        where="abstract",
        statement="A σ-VAE keeps the latents' noise from dying out, as it does in an ordinary VAE.",
        measured=Figure(_kept_spread, "times the noise over the latents' deviation"),
        rule=at_least(2.0),
        conditions="5,000 digits, 16 latents of 8 numbers, three seeds; the σ-VAE's β is 0.01, the VAE's 1e-6",
    ),
    Claim(
        topic="latents",
        paper=RELEASED,
        where="modeling_sigma_vae.py: the penalty is mean(μ²)",
        statement="The penalty on the mean is part of it: with a fixed noise alone the means outgrow it.",
        measured=Figure(_evaded, "times the noise over the latents' deviation, without the penalty"),
        rule=at_most(0.5),
        conditions="one spread of 0.75 for all, three seeds",
    ),
    Claim(
        topic="latents",
        paper=PAPER,
        where="figure 6",
        statement="Next-token diffusion draws better from latents of larger variance.",
        measured=Figure(_variance_helps, "Fréchet distance more from the σ-VAE's latents than from the VAE's"),
        rule=beyond(_variance_noise, at_most(0.0)),
        conditions="two layers, width 64, no guidance, three seeds; noise is the widest spread over seeds",
        read=False,
    ),
    Claim(
        topic="latents",
        paper=PAPER,
        where="abstract",
        statement="Diffused latents do better than the codes of vector quantisation.",
        measured=Figure(_against_codes, "Fréchet distance more than with 128 codes"),
        rule=beyond(_codes_noise, at_most(0.0)),
        conditions="two layers, width 64, guidance 1.5, three seeds; the head's weights come on top of the backbone's",
    ),
    Claim(
        topic="latents",
        paper=PAPER,
        where="abstract",
        statement="In image generation it surpasses diffusion Transformers.",
        measured=Figure(_against_whole, "Fréchet distance more than a diffusion Transformer of as many weights"),
        rule=beyond(_whole_noise, at_most(0.0)),
        conditions="equal weights, tokeniser and steps of training, guidance 1.5, 20 steps of 2M, three seeds",
    ),
    Claim(
        topic="latents",
        paper=PAPER,
        where="figure 7",
        statement="It draws 2.47 times as many images per second as a diffusion Transformer of 3.8B parameters.",
        published=2.47,
        unit="times the throughput, batch 128",
        formula=Figure(lambda: saving(THREE_BILLION), "times fewer operations"),
        rule=upper_bound(),
        conditions="20 steps, the released sizes that come nearest, 3.7B by our count; operations of matrices alone",
        read=False,
    ),
    Claim(
        topic="latents",
        paper=PAPER,
        where="table 1",
        statement="The model of the class-conditional images has 479M parameters.",
        published=479.0,
        unit="million parameters",
        formula=Figure(lambda: (LARGE.backbone + LARGE.head) / 1e6, "million, backbone and head"),
        rule=within(1.05),
        conditions="32 layers, width 1024, feed-forward 2730, six head blocks; the released code has 2688 and eight",
        read=False,
    ),
    Claim(
        topic="latents",
        paper=PAPER,
        where="abstract",
        statement="Speech takes ten times fewer decoding steps than VALL-E 2, which has 75 codes per second.",
        published=10.0,
        unit="times fewer passes of the backbone",
        formula=Figure(lambda: 75 / 7.5, "times, at 7.5 latents per second; the head's steps are not counted"),
        rule=exact(),
        conditions="frame rates as published; each latent takes its steps of the head besides",
    ),
    Claim(
        topic="latents",
        paper=RELEASED,
        where="train_hf.py, schedule/ddpm.py: ε prediction is the default, sampling starts at t = 999",
        statement="Sampling by ε prediction may start at the last time.",
        measured=Figure(_exploded, "times the Fréchet distance of v prediction"),
        rule=at_most(2.0),
        conditions="two layers, width 64, 20 steps of 2M, guidance 1.5, one seed",
    ),
    Claim(
        topic="latents",
        paper=PAPER,
        where="abstract",
        statement="One causal model reads and writes words and images in one stream.",
        measured=Figure(_captions, "of held-out digits named rightly, from their latents alone"),
        rule=at_least(0.8),
        conditions="two layers, width 96, prompts “draw a seven”, captions “a seven”, one seed; wanted: 0.8",
    ),
]
