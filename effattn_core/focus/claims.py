"""What the paper on condensed chunks says, and how this library measures it."""

from statistics import fmean, stdev

import torch

from effattn_core import costs, focus
from effattn_core.focus import costs as priced
from effattn_core.focus import recall
from effattn_core.ledger import Claim, Figure, against, at_least, beyond, exact, within
from effattn_core.model import Configuration, LanguageModel
from effattn_core.recordings import measured

PAPER = "FocusLLM, arXiv 2408.11745"
RECALL, SMOLLM2 = "focus/recall-cpu", "focus/smollm2-cpu"
LONG = 400 * 1024
TRAINED, FOREIGN = "trained candidates", "candidates of another text"
FAR = 4  # chunks of the small model's memory that the claims are judged on, and of SmolLM2's
ABLATION = {"both": 99.32, "continuation": 1.69, "reconstruction": 91.19}  # passkeys found, per cent
SMALL = f"facts in a small frozen model's {FAR} chunks, three seeds, a few hundred steps; answers are scored"


def _model(layers=3):
    """A small model in float64 whose attention is uneven, and projections that have moved away from its own."""
    torch.manual_seed(0)
    sizes = dict(width=32, layers=layers, heads=4, key_value_heads=2, head_dim=8, feed_forward=48, context=40)
    model = LanguageModel(Configuration(20, **sizes)).double().eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(6 if weight.ndim == 2 else 1)
    return model, focus.Added(model, 0)


@torch.no_grad()
def _from_an_end_token():
    """Largest difference of a candidate's value, at the start of training, from an appended end token's."""
    model, added = _model()
    chunks, local = torch.arange(24).view(1, 2, 12) % 20, torch.arange(9)[None] % 7
    found = focus.condense(model, added, chunks, local, prompt=4)
    line = torch.cat([chunks[0, 1], local[0, -4:], torch.tensor([0])])[None]
    states = model.read(model.embedding(line), model.new_states())[1]
    return max(
        (state.value[0, :, -1] - value[0, :, 1]).abs().max().item()
        for state, value in zip(states, found.values, strict=True)
    )


@torch.no_grad()
def _from_another_chunk():
    """Largest difference of the first candidate where the second chunk is another."""
    model, added = _model()
    for weight in added.parameters():
        weight.add_(0.1)
    chunks, local = torch.arange(24).view(1, 2, 12) % 20, torch.arange(9)[None] % 7
    other = torch.cat([chunks[:, :1], (chunks[:, 1:] + 3) % 20], 1)
    one, two = (focus.condense(model, added, each, local, prompt=4) for each in (chunks, other))
    pairs = zip((*one.keys, *one.values), (*two.keys, *two.values), strict=True)
    return max((a[:, :, 0] - b[:, :, 0]).abs().max().item() for a, b in pairs)


def found_of(kind, chunks=FAR):
    """Per cent of the facts that were recalled after lessons of a kind: a number per seed."""
    return [100 * row["recall"] for row in measured(RECALL, what="recall", losses=kind, chunks=chunks)]


def _over(kind, other):
    return fmean(found_of(kind)) - fmean(found_of(other))


def _noise(*kinds):
    """Twice the standard error of a difference of two kinds' means over seeds, in points."""
    return 2 * sum(stdev(found_of(kind)) ** 2 / len(found_of(kind)) for kind in kinds) ** 0.5


def smollm2(what, name, key, chunks=FAR):
    """Recorded of SmolLM2: the mean of `key` over passages or depths."""
    return fmean(row[key] for row in measured(SMOLLM2, what=what, name=name, chunks=chunks))


def gain(name, chunks=FAR):
    """Nats per token that a method takes off the loss of the local tokens alone."""
    return smollm2("perplexity", "local only", "loss", chunks) - smollm2("perplexity", name, "loss", chunks)


def _on_smollm2():
    training = measured(SMOLLM2, what="training")[0]
    steps = training["every"] * len(training["losses"])
    scored = steps * training["lessons"] * training["scored"]
    return f"SmolLM2 135M with {scored:,} scored tokens of training in {steps} steps; {FAR} chunks of 256 tokens"


CLAIMS = [
    Claim(
        topic="focus",
        paper=PAPER,
        where="released code, initialisation",
        statement="Before training a candidate is an end token appended to its chunk.",
        measured=Figure(_from_an_end_token, "largest difference"),
        rule=exact(),
        conditions="a small model in float64, values of all layers",
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="section 3",
        statement="Chunks are condensed independently of each other, so in parallel.",
        measured=Figure(_from_another_chunk, "largest difference of a candidate when another chunk changes"),
        rule=exact(0.0),
        conditions="a small model in float64, keys and values of all layers",
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="section 3, of LLaMA-2-7B",
        statement="What is added to the frozen model is small.",
        published=2.0,
        unit="billion parameters, about",
        formula=Figure(lambda: priced.added_parameters(priced.LLAMA2_7B) / 1e9, "billion parameters"),
        rule=within(2),
        conditions=lambda: (
            "four projections per layer; "
            f"{100 * priced.added_parameters(priced.LLAMA2_7B) / priced.LLAMA2_7B.parameters:.0f} % of the model"
        ),
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="section 1",
        statement="A text of 400K tokens is read through as many tokens as a short window holds.",
        published=200,
        unit="candidates",
        formula=Figure(lambda: priced.chunks_of(LONG), "candidates"),
        rule=within(2),
        conditions="chunks of 2,048 tokens, 2,048 local ones",
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="appendix A",
        statement="With chunks in parallel, what must be computed in a row no longer grows as the square of the text.",
        formula=Figure(
            lambda: costs.prefill_flops(priced.LLAMA2_7B, LONG) / priced.chain_flops(priced.LLAMA2_7B, LONG),
            "times fewer operations in the longest chain",
        ),
        rule=at_least(1.0),
        conditions=lambda: (
            "LLaMA 2 7B at 400K tokens, a machine per chunk; all operations together are "
            f"{costs.prefill_flops(priced.LLAMA2_7B, LONG) / priced.prefill_flops(priced.LLAMA2_7B, LONG):.1f} "
            "times fewer"
        ),
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="ablation of the losses, passkeys",
        statement="Both losses together teach candidates to recall, continuation alone does not.",
        published=ABLATION["both"] - ABLATION["continuation"],
        unit="points more passkeys with both losses",
        measured=Figure(lambda: _over("both", "continuation"), "points more facts with both losses"),
        rule=beyond(lambda: _noise("both", "continuation"), at_least(0.0)),
        conditions=SMALL,
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="ablation of the losses, passkeys",
        statement="Reconstruction alone teaches most of it.",
        published=ABLATION["reconstruction"],
        unit="% of the passkeys",
        measured=Figure(lambda: fmean(found_of("reconstruction")), f"% of the facts, chance is {100 / recall.VALUES}"),
        rule=beyond(lambda: _noise("reconstruction", "untrained"), within(2), neutral=100 / recall.VALUES),
        conditions=SMALL,
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="table of ∞-Bench, Vicuna-7B",
        statement="A number hidden in a text far longer than the window is found.",
        published=95.76,
        unit="% of the passkeys",
        measured=Figure(lambda: 100 * smollm2("numbers", TRAINED, "right"), "% of the digits"),
        rule=within(2),
        conditions=lambda: f"{_on_smollm2()}; the whole text gives {100 * smollm2('numbers', 'dense', 'right'):.0f} %",
    ),
    Claim(
        topic="focus",
        paper=PAPER,
        where="table of perplexities, PG19: 9.21 at 4K tokens, 9.17 at 32K",
        statement="Text beyond the window lowers the loss of what follows, if little.",
        published=0.004,
        unit="nats per token",
        measured=Figure(lambda: gain(TRAINED), "nats per token off the loss of the local text alone"),
        rule=against(lambda: gain(FOREIGN), at_least(0.0)),
        conditions=lambda: (
            f"{_on_smollm2()}, plays; the whole text takes off {gain('dense'):.2f}, another text's candidates "
            f"{gain(FOREIGN):.2f}"
        ),
    ),
]
