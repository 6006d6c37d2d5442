"""A few figures of each topic, as they are stored: run as a program it prints a line for each, name, size and hash.

Two processes must print the same, whatever their hash seed and their threads: a stored page may not depend on either.
"""

import functools
import hashlib
from pathlib import Path

from effattn_core import served
from effattn_core.benchmarks import Recording
from figures import (
    autoencoders,
    benchmarks,
    bill,
    choices,
    coattention,
    discrete,
    focus,
    front,
    graphs,
    lowbit,
    machine,
    measured,
    plans,
    routing,
    signals,
    stack_bill,
    stack_recorded,
    theme,
    token,
)
from figures.attention import forms as attention
from figures.channels import forms as channels
from figures.explore import explore, show
from figures.indexing import forms as indexing
from figures.latents import forms as latents
from figures.recurrences import chunks, delta
from figures.retention import forms, numerics
from figures.speculation import forms as speculation
from figures.splits import comparison, institutions, linking, samples
from figures.yoco import model as yoco

IMPORTANCE = channels.frozen([[[0.1 * head + 0.01 * place for place in range(16)] for head in range(4)]])
TIMES = {"PyTorch SDPA": 2.0, "this book": 4.0, "tiled": 1.5, "naive, scores stored": 9.0}
PAIRS = Recording(
    Path("attention/cpu.json"),
    {"device": "CPU, 2 threads"},
    [
        {"what": "forward", "tokens": 64, "name": name, "median": time, "lower_quartile": time, "upper_quartile": time,
         "repeats": 9}
        for name, time in TIMES.items()
    ],
).pairs  # fmt: skip
SPECIMENS = {
    "benchmarks-ratios": (
        functools.partial(benchmarks.ratios, PAIRS),
        functools.partial(benchmarks.ratios_says, PAIRS),
        dict(topic=[benchmarks.ALL, "attention"]),
    ),
    "attention-online-softmax": (attention.online_softmax, attention.online_softmax_says, dict(step=range(7))),
    "machine-roofline": (machine.roofline, machine.roofline_says, dict(tokens=machine.TOKENS[::4])),
    "token-rotary": (token.rotary, token.rotary_says, dict(query=[0, 7], key=[4], pair=token.PAIRS)),
    "bill-conversation": (bill.conversation, bill.conversation_says, dict(context=bill.CONTEXTS)),
    "plans-over-context": (plans.over_context, plans.over_context_says, dict(tensor=[1, 8], batch=[1, 64])),
    "plans-reached": (functools.partial(plans.reached, served.ROWS[::3]), plans.reached_says(served.ROWS[::3]), {}),
    "recurrences-plane": (delta.plane, delta.plane_says, dict(step=range(5), leaning=[0.0, 0.6])),
    "recurrences-kept": (delta.kept, delta.kept_says, dict(context=delta.CONTEXTS)),
    "recurrences-split": (chunks.split, chunks.split_says, dict(share=chunks.SHARES)),
    "retention-mask": (forms.mask, forms.mask_says, dict(decay=forms.DECAYS[:3])),
    "retention-memory": (forms.memory, forms.memory_says, dict(head=[0, 7], read=[36])),
    "retention-chunk-diagram": (forms.chunk_diagram, forms.chunk_diagram_says, dict(chunk=[1, 6])),
    "retention-chunk-split": (forms.chunk_split, forms.chunk_split_says, dict(chunk=[8, 64])),
    "retention-rounded-decays": (numerics.rounded_decays, numerics.rounded_decays_says, dict(dtype=numerics.DTYPES)),
    "retention-factors": (numerics.factors, numerics.factors_says, dict(head=[0, 7])),
    "retention-state-size": (numerics.state_size, numerics.state_size_says, dict(scaled=[False, True])),
    "indexing-picks": (indexing.picks, indexing.picks_says, dict(agreement=[0.0, 0.75], shared=[True])),
    "yoco-layers": (yoco.layers, yoco.layers_says, dict(context=yoco.CONTEXTS[::4])),
    "channels-layout": (functools.partial(channels.layout, IMPORTANCE), "c", dict(pruned=channels.SHARES[::4])),
    "channels-survivors": (functools.partial(channels.survivors, {"needle": (IMPORTANCE,)}), "c", dict(pruned=[0.3])),
    "channels-rounding": (functools.partial(channels.rounding, IMPORTANCE), "c", dict(pruned=channels.SHARES[::4])),
    "focus-seen": (focus.seen, focus.seen_says, dict(chunks=focus.CHUNKS, row=list(focus.ROWS))),
    "routing-prices": (routing.prices, routing.prices_says, dict(rounds=routing.ROUNDS[:3])),
    "routing-reads": (routing.reads, routing.reads_says, dict(changed=routing.CHANGED)),
    "routing-padding": (routing.padding, routing.padding_says, dict(factor=routing.FACTORS)),
    "latents-collapse": (latents.collapse, latents.collapse_says, dict(beta=latents.BETAS, kind=list(latents.KINDS))),
    "latents-samplers": (latents.samplers, latents.samplers_says, dict(steps=[5, 20], sampler=["ddim", "2m"])),
    "latents-amplified": (latents.amplified, latents.amplified_says, dict(first=[999, 995], prediction=["eps", "v"])),
    "graphs-spreading": (graphs.spreading, graphs.spreading_says, dict(hops=graphs.HOPS[:3])),
    "graphs-spectrum": (graphs.spectrum, graphs.spectrum_says, dict(beta=graphs.BETAS[::2], layers=[1, 2])),
    "splits-contours": (institutions.contours, institutions.contours_says, dict(steps=[1, 10], control=[False, True])),
    "splits-reached": (institutions.reached, institutions.reached_says, dict(measure=list(institutions.MEASURES))),
    "splits-samples": (
        samples.samples,
        samples.samples_says,
        dict(balance=list(samples.BALANCES), matching=[1.0]),
    ),
    "splits-adaptation": (samples.adaptation, samples.adaptation_says, dict(target=list(samples.TARGETS))),
    "splits-ceiling": (linking.ceiling, linking.ceiling_says, dict(encoder=linking.ENCODERS, k=[1, 16])),
    "splits-winner": (comparison.wrong_winner, comparison.wrong_winner_says, dict(cases=[20, 61], gap=comparison.GAPS)),
    "coattention-bound": (coattention.bound, coattention.bound_says, dict(norm=coattention.NORMS[:2])),
    "coattention-noisy": (coattention.noisy, coattention.noisy_says, dict(noise=coattention.NOISES)),
    "coattention-columns": (
        coattention.columns,
        coattention.columns_says,
        dict(form=["sum", "norm"], causal=[True, False]),
    ),
    "coattention-aspects": (
        coattention.aspects,
        coattention.aspects_says,
        dict(shown=coattention.SHOWN[:2], graph=[True, False]),
    ),
    "discrete-vanishing": (discrete.vanishing, discrete.vanishing_says, dict(inputs=[8, 256])),
    "discrete-cutting": (discrete.cutting, discrete.cutting_says, dict(cut=[0.3, 0.5])),
    "discrete-edited": (discrete.edited, discrete.edited_says, dict(rule=[1], dropped=["none", "first"])),
    "discrete-scores": (discrete.scores, discrete.scores_says, dict(dataset=["tic-tac-toe", "digits"])),
    "discrete-settling": (discrete.settling, discrete.settling_says, dict(coupling=[1.0, 2.0], damping=[0.0, 0.5])),
    "discrete-turning": (discrete.turning, discrete.turning_says, dict(missing=[0.4, 0.7])),
    "discrete-smoothing": (discrete.smoothing, discrete.smoothing_says, dict(sigma=discrete.SIGMAS[::4])),
    "channels-empty-head": (channels.empty_head, channels.empty_head_says, dict(far=channels.FAR)),
    "autoencoders-escape": (
        autoencoders.escape,
        autoencoders.escape_says,
        dict(scale=autoencoders.SCALES, spread=[0.2]),
    ),
    "autoencoders-walks": (
        autoencoders.walks,
        autoencoders.walks_says,
        dict(sampler=list(autoencoders.WALKS), steps=autoencoders.WALK_STEPS[:2]),
    ),
    "lowbit-swamping": (lowbit.swamping, lowbit.swamping_says, dict(beta=lowbit.BETAS[:3])),
    "lowbit-variance": (lowbit.variance, lowbit.variance_says, dict(beta=lowbit.CHOSEN)),
    "lowbit-memory": (lowbit.memory, lowbit.memory_says, dict(precision=list(lowbit.PRECISIONS))),
    "speculation-law": (
        speculation.law,
        speculation.law_says,
        dict(kept=[2, 3, 6], drafter=list(speculation.DRAFTERS)),
    ),
    "speculation-lengths": (speculation.lengths, speculation.lengths_says, dict(rate=[0.8], price=speculation.PRICES)),
    "signals-asking": (signals.asking, signals.asking_says, dict(question=["with", "more"], drama=signals.PLAYS[:2])),
    "signals-filters": (signals.filters, signals.filters_says, dict(round=signals.ROUNDS)),
    "signals-claim": (signals.claim, signals.claim_says, dict(claim=[1, 6], verdict=list(signals.VERDICTS))),
    "signals-labels": (signals.labels, signals.labels_says, dict(text=[1, 4], behind=list(signals.WORDS))),
    "signals-arrows": (signals.arrows, signals.arrows_says, dict(flipped=list(signals.FLIPPED))),
    "signals-drift": (signals.drift, signals.drift_says, dict(slots=[1, 3], draw=[4])),
    "signals-reads": (signals.reads, signals.reads_says, dict(size=signals.SIZES, move=list(signals.MOVES))),
    "signals-styled": (signals.styled, signals.styled_says, dict(how=list(signals.ARMS), quote=[1])),
    "coattention-ballot": (coattention.ballot, coattention.ballot_says, dict(agree=coattention.AGREE[::2])),
    "coattention-alignment": (
        coattention.alignment,
        coattention.alignment_says,
        dict(width=coattention.SPANS[1:2], null=[False, True]),
    ),
    "coattention-parsers": (coattention.parsers, coattention.parsers_says, dict(depth=coattention.DEPTHS)),
    "coattention-digits": (
        coattention.digits,
        coattention.digits_says,
        dict(triples=list(coattention.TRIPLES[:2]), seed=coattention.SEEDS[:1]),
    ),
    "coattention-decays": (coattention.decays, coattention.decays_says, dict(hops=coattention.WALKS)),
    "capstone-bill": (stack_bill.preset, stack_bill.preset_says, dict(stack=["Plain Transformer", "Experts", "Best"])),
    "capstone-trade": (stack_recorded.trade, stack_recorded.trade_says, dict(tokens=[256, 131072])),
    "capstone-times": (stack_recorded.times, stack_recorded.times_says, dict(stack=["RetNet", "Best"])),
    "which-fits": (choices.fits, choices.fits_says, dict(context=choices.CONTEXTS)),
    "coattention-ending": (coattention.ending, coattention.ending_says, dict(slope=coattention.SLOPES[1:3])),
}


def pages():
    """name -> HTML of every specimen."""
    for name, (build, says, grid) in SPECIMENS.items():
        yield name, explore(build, name=name, caption="c", alt=says, **grid).html
    yield "front", front.picture().to_html()
    yield "losses", show(measured.losses({"a": [1.0, 2.0]}), name="losses", caption="c", alt="c").html
    yield "table", theme.table([{"x": 1, "y": 0.5}], caption="t").to_html()


if __name__ == "__main__":
    for name, html in pages():
        print(name, len(html), hashlib.sha256(html.encode("utf-8")).hexdigest())
