"""What the paper on LeanK and its released masks say, and how this library measures it."""

from statistics import fmean, median

import torch

from effattn_core import channels
from effattn_core.attention import Part, merge
from effattn_core.channels import costs as costs_channels
from effattn_core.ledger import Claim, Figure, against, at_least, at_most, exact, within
from effattn_core.recordings import measured

PAPER, RELEASED = "Zhang et al. 2025 (LeanK)", "masks released for Llama 3.1 8B, our count"
TRAINING, SMOLLM2, TWO_STAGES = "channels/training-cpu", "channels/smollm2-cpu", "learned, two stages"
SLOWER = "% of what is kept, in the slower half of the pairs"
RELEASED_SLOWER = round(100 * sum(costs_channels.RELEASED_QUARTERS[2:]) / sum(costs_channels.RELEASED_QUARTERS))
WHOLE, FAR = costs_channels.SINKS + costs_channels.TRAINED_RECENT, 65536  # of an empty head, in training
NOTE = "a small model on letters of Shakespeare, three seeds, recorded by make runs"
LEARNED = "SmolLM2, masks learned on fifteen passages of Shakespeare of 512 tokens; 70 % asked to go"
TRAINED = f"{LEARNED}; judged on three other passages, prompts of 1,024 tokens"


def _largest_difference():
    """Permuted, grouped and gathered against one mask on whole keys, float64, heads of 5, 0, 8 and 3 channels."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, 90, 8, dtype=torch.float64, generator=generator)
    kept = torch.stack([torch.randperm(8, generator=generator) < count for count in (5, 0, 8, 3)])
    region = dict(sinks=4, recent=20)
    wanted = channels.masked(query[:, :, -1:], key, value, kept, **region)
    plan, whole = channels.plan(kept), torch.arange(90)
    far = (whole >= 4) & (whole < 70)
    heads = plan.order.split([len(each) for each in plan.channels] + [1])[:-1]
    keys = [key[:, mine][:, :, far].gather(-1, index[None, :, None].expand(1, -1, 66, -1))
            for mine, index in zip(heads, plan.channels, strict=True)]  # fmt: skip
    values = [value[:, mine][:, :, far] for mine in heads]
    near = [each[:, plan.order][:, :, ~far] for each in (query[:, :, -1:].expand(-1, -1, 90, -1), key, value)]
    ours = channels.decode(near[0][:, :, :1], *near[1:], keys, values, plan.channels)
    return max((a - b[:, plan.order]).abs().max().item() for a, b in zip(ours, wanted, strict=True))


def _mass_of_an_empty_head(far=FAR):
    """In per cent, by attention itself: WHOLE keys with logits of 4, `far` with 0, values that mark the middle."""
    whole = Part(torch.zeros(1, 1), torch.full((1,), 4.0) + torch.tensor(float(WHOLE)).log())
    return 100 * merge([whole, Part(torch.ones(1, 1), torch.tensor([float(far)]).log())]).output.item()


def _kl(rule, share=0.75):
    return fmean(row["kl"] for row in measured(TRAINING, what="text", rule=rule, pruned=share))


def _smollm2(key, rule=TWO_STAGES, share=0.7):
    """Recorded of a rule's mask on SmolLM2, the mean over passages."""
    return fmean(row[key] for row in measured(SMOLLM2, what="text", rule=rule, pruned=share))


def _over_sizes():
    return _smollm2("kl", "sizes of q and k") / _smollm2("kl")


def _over_equal_counts():
    return _kl("learned, equal counts") / _kl(TWO_STAGES)


def _loss_at(rule=TWO_STAGES):
    """Per cent of SmolLM2's loss that a rule's masks add."""
    return 100 * (_smollm2("loss", rule) / _smollm2("loss", "dense", 0.0) - 1)


def _masks(what, share, align, stage=None):
    """The mask of each seed, bool [heads, head_dim], from its recorded importances."""
    return [channels.build_mask(torch.tensor(row["values"]), share, align).flatten(0, -2)
            for row in measured(TRAINING, what=what, stage=stage)]  # fmt: skip


def _slower_half(*masks):
    """Of the channels kept, the share that lies in the slower half of the rotary pairs, over all seeds; in per cent."""
    kept = torch.stack(_masks(*masks)).double()
    return 100 * (kept[..., kept.shape[-1] // 2 :].sum() / kept.sum()).item()


def _slower_half_needle():
    return _slower_half("needle importance", 1 - costs_channels.RELEASED_KEPT, 16)


def _slower_half_text():
    """Of the channels that SmolLM2's learned mask keeps, the share in the slower half of the pairs; in per cent."""
    eighths = measured(SMOLLM2, what="mask", rule=TWO_STAGES, pruned=0.7)[0]["eighths"]
    return 100 * sum(eighths[4:]) / sum(eighths)


def _pairs_agree():
    """Share of the rotary pairs of which both members are kept, or neither."""
    kept = torch.stack(_masks("importance", 0.75, 8, "2 0.75")).unflatten(-1, (-1, 2))
    return 100 * (kept[..., 0] == kept[..., 1]).double().mean().item()


def _speeds():
    """Time of a dense step over that of a thin cache, for every share kept and length of the recording."""
    rows = measured("channels/cpu")
    dense = {row["tokens"]: row["median"] for row in rows if row["method"] == "dense"}
    return [dense[row["tokens"]] / row["median"] for row in rows if row["method"] != "dense"]


def _speed_conditions():
    speeds = _speeds()
    return (
        f"a small model on a CPU, recorded by make bench: of {len(speeds)} cells (shares kept × lengths) "
        f"{sum(speed > 1 for speed in speeds)} are faster, the best {max(speeds):.2f} times; formula: the middle "
        "of the released mask"
    )


CLAIMS = [
    Claim(
        topic="channels",
        paper=PAPER,
        where="released code, deployment",
        statement="Heads permuted and grouped by their counts compute what one mask on whole keys does.",
        measured=Figure(_largest_difference, "largest difference"),
        rule=exact(),
        conditions="one decoded token, four heads, float64; output and log-sum-exp",
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where="abstract: up to, of the K cache",
        statement="Most of the keys' memory goes.",
        published=70,
        unit="% of the keys",
        formula=Figure(lambda: 100 * (1 - costs_channels.RELEASED_KEPT), "% of the key channels"),
        rule=within(2, whole=100),
        conditions=f"{RELEASED}; sinks, recent tokens and what waits for a chunk stay whole",
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where="abstract: 16 to 18 % of the V cache",
        statement="Heads without any channel drop their values too.",
        published=18,
        unit="% of the values, at most",
        formula=Figure(lambda: 100 * costs_channels.RELEASED_EMPTY, "% of the heads are empty"),
        rule=within(2, whole=100),
        conditions=RELEASED,
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where="released code: training keeps the middle's logits at 0, deployment drops them",
        statement=(
            "On a long text a head without channels that still sees its middle with logits of 0 gives most of its "
            "attention to it."
        ),
        formula=Figure(_mass_of_an_empty_head, "% of the mass"),
        rule=at_least(50.0),
        conditions=lambda: (
            f"{WHOLE:,} tokens read whole, as in the released training; their logits of 4 are our choice; {FAR:,} with "
            f"logits of 0, and with 8,192 it is {_mass_of_an_empty_head(8192):.0f} %"
        ),
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where=RELEASED,
        statement="In the search for a needle slow rotary pairs survive and fast ones die.",
        published=RELEASED_SLOWER,
        unit=SLOWER,
        measured=Figure(_slower_half_needle, SLOWER),
        rule=within(2, neutral=50),
        conditions=(
            "one layer of random keys, 384 tokens, three seeds, recorded by make runs; 69 % asked to go, "
            "as the release has"
        ),
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where=RELEASED,
        statement="In a language model slow rotary pairs survive and fast ones die.",
        published=RELEASED_SLOWER,
        unit=SLOWER,
        measured=Figure(_slower_half_text, SLOWER),
        rule=within(2, neutral=50),
        conditions=f"{LEARNED}; a small model of texts of 128 letters keeps pairs of middling speed",
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where=RELEASED,
        statement="The two channels of a rotary pair mostly live or die together.",
        published=85.6,
        unit="% of the pairs",
        measured=Figure(_pairs_agree, "% of the pairs"),
        rule=within(2, neutral=62.5, whole=100),
        conditions=f"{NOTE}; 75 % asked to go, where pairs drawn at random would agree in 62 %",
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where="ablation, second-hand",
        read=False,
        statement="A learned mask is better than one from the sizes of queries and keys.",
        published=7.51,
        unit="points better",
        measured=Figure(_over_sizes, "times the KL to the dense model"),
        rule=at_least(1.0),
        conditions=f"{TRAINED}; our rule of sizes is static, the paper's dynamic",
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where="ablation, second-hand",
        read=False,
        statement="A budget of its own for each head is better than the same for all.",
        published=41.3,
        unit="points better",
        measured=Figure(_over_equal_counts, "times the KL to the dense model"),
        rule=at_least(1.0),
        conditions=f"{NOTE}; 75 % asked to go, the same importances; rounding leaves the first a few channels more",
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where="loss of points at 70 %, second-hand",
        read=False,
        statement="Quality hardly falls.",
        published=0.3,
        unit="% fewer points",
        measured=Figure(_loss_at, "% more loss"),
        rule=against(lambda: _loss_at("random"), at_most(1.0)),
        conditions=lambda: f"{TRAINED}; a mask drawn at random adds {_loss_at('random'):.1f} %",
    ),
    Claim(
        topic="channels",
        paper=PAPER,
        where="abstract: speed of attention, a kernel on a GPU",
        statement="A decoded token is faster.",
        published=1.3,
        unit="times faster",
        formula=Figure(
            lambda: 1 / costs_channels.relative_bytes(costs_channels.RELEASED_KEPT, costs_channels.RELEASED_EMPTY),
            "times fewer bytes",
        ),
        measured=Figure(
            lambda: median(_speeds()), "times the speed of a whole cache, median of all cells; under 1 is slower"
        ),
        rule=at_least(1.0),
        conditions=_speed_conditions,
    ),
]
