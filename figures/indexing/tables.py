"""Tables of the chapter on one shared index: forms held against each other, and what recorded runs add to a loss."""

import torch

from effattn_core.attention import attention_part
from effattn_core.indexing import costs as prices
from effattn_core.indexing import gather_rows, mask_of, oracle, row_attention, select_rows
from effattn_core.indexing.model import IndexedYOCO
from effattn_core.model import configuration
from effattn_core.recordings import measured
from figures import theme
from figures.indexing.forms import RUN, text_rows
from kernels import runtime

EXACT = 1e-12  # of sums in float64 that are taken in another order


def _given():
    """One query of twelve heads over 90 tokens of two key heads, and lists of all of them and of twenty: float64."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    every = torch.stack([torch.randperm(90, generator=generator) for _ in range(2)])
    few = torch.stack([torch.randperm(90, generator=generator)[:20] for _ in range(2)])
    return drawn(2, 12, 1, 32), drawn(2, 2, 90, 32), drawn(2, 2, 90, 32), every, few


def _decoded():
    """(logits of a last token by a list and a gather, by the whole text under a mask), of a small model in float64."""
    torch.manual_seed(0)
    model = IndexedYOCO(configuration("small-yoco", 80, context=128), top_k=16).double().eval()
    tokens = torch.randint(80, (2, 100))
    with torch.no_grad():
        _, states = model.prefill(tokens[:, :99])
        step = model(tokens[:, 99:], states)[0]
    return step, model(tokens)[0][:, 99:].detach()


def _pairs():
    """fact -> (one way, another), in float64."""
    query, key, value, every, few = _given()
    hidden = ~mask_of(few[:, None], 90)[:, None]
    scores = (32**-0.5 * query @ key.repeat_interleave(6, 1).mT).masked_fill(hidden, float("-inf"))
    dense, chosen = attention_part(query, key, value).output, row_attention(query, key, value, few).output
    longer = torch.cat([every, torch.full((2, 9), -1)], 1)
    near = gather_rows(key, value, few)
    return {
        "all rows listed: dense attention": (row_attention(query, key, value, every).output, dense),
        "rows gathered once: a mask over all": (
            row_attention(query, *near, few, gathered_already=True).output,
            scores.softmax(-1) @ value.repeat_interleave(6, 1),
        ),
        "another order of the list": (row_attention(query, key, value, few.flip(-1)).output, chosen),
        "a list with empty places": (row_attention(query, key, value, longer).output, dense),
        "decoding by list: training under a mask": _decoded(),
    }  # fmt: skip


def _in_low_precision(dtype):
    """(form, error, budget) of attention over listed rows: twice what plain PyTorch loses, or four roundings."""
    query, key, value, _, few = _given()
    given, few = [each[:1].to(dtype) for each in (query, key, value)], few[:1]
    wide = [each.double() for each in given]
    truth = oracle(*wide, few, scale=32**-0.5).output
    plain = (oracle(*given, few, scale=32**-0.5).output.double() - truth).abs().max().item()
    budget = max(2 * plain, 4 * torch.finfo(dtype).eps)
    for form in ("torch", "triton") if runtime.mode == "interpreter" else ("torch",):
        found = row_attention(*given, few, implementation=form).output.double()
        yield form, (found - truth).abs().max().item(), budget


def equivalences():
    """A table's rows: every pair of forms that must agree, its largest error, and what it may be."""
    rows = [
        {"what must agree": fact, "in": "float64", "error": (one - other).abs().max().item(), "allowed": EXACT}
        for fact, (one, other) in _pairs().items()
    ]
    for dtype in (torch.float32, torch.float16):
        rows += [
            {"what must agree": f"{form}: the oracle", "in": str(dtype)[6:], "error": error, "allowed": budget}
            for form, error, budget in _in_low_precision(dtype)
        ]
    for row in rows:
        row["inside"] = row["error"] <= row["allowed"]
        row |= {name: f"{row[name]:.0e}" for name in ("error", "allowed")}
    return rows


def same_rows():
    """Whether the kernel, which never stores a score, lists what PyTorch lists."""
    if runtime.mode != "interpreter":
        return True
    generator = torch.Generator().manual_seed(1)
    query, key, weight = (
        torch.randn(shape, generator=generator) for shape in ((1, 4, 1, 16), (1, 1, 90, 16), (1, 4, 1))
    )
    return torch.equal(
        *(select_rows(query, key, weight, top_k=12, implementation=each)[0] for each in ("torch", "triton"))
    )


def counted():
    """[(what, bytes counted, bytes by eq. clsa-bytes)] of a small step in four layers; where compiled, by formula."""
    step = prices.step(192, 4, 2, 32, top_k=24, element=4, index_dim=16, index_element=4, scale_bytes=0, gathered=True)
    once, layers = step.rows // 5, 4 * step.rows // 5
    wanted = {"routing keys, once": step.index, "rows, gathered once": once, "rows, in four layers": layers}
    if runtime.mode != "interpreter":
        return [(what, each, each) for what, each in wanted.items()]
    from kernels.indexing import launch_attention, launch_gather, launch_select
    from kernels.trace import trace

    generator = torch.Generator().manual_seed(2)
    ask, index, weight, query, key, value = (
        torch.randn(shape, generator=generator)
        for shape in ((1, 4, 1, 16), (1, 1, 192, 16), (1, 4, 1), (1, 8, 1, 32), (1, 2, 192, 32), (1, 2, 192, 32))
    )
    with trace(index=index) as scoring:
        rows, _ = launch_select(ask, index, weight, 24, 1)
    with trace(key=key, value=value) as copying:
        near = launch_gather(key, value, rows)
    with trace(key=near[0], value=near[1]) as reading:
        for _ in range(4):
            launch_attention(query, *near, rows, True, 32**-0.5)
    found = (scoring.loaded["index"], *(each.loaded["key"] + each.loaded["value"] for each in (copying, reading)))
    return [(what, seen, each) for (what, each), seen in zip(wanted.items(), found, strict=True)]


# Name in the recorded rows: a column's heading.
ADDED = {"shared oracle": "mean attention", "trained shared": "taught", "newest": "newest", "random": "random"}


def added():
    """stage -> letters read -> what reading less adds to a trained YOCO's held-out loss, by who chose the letters."""
    found = {}
    for stage in ("indexer alone", "joint"):
        (whole,) = measured(RUN, what="text", stage=stage, top_k=None)
        found[stage] = {
            row["top_k"]: {name: row["loss"][name] - whole["loss"]["dense"] for name in ADDED}
            for row in text_rows(stage)
        }
    return found


def added_rows():
    """`added` as a table's rows."""
    return [
        {"stage": {"indexer alone": "indexer alone", "joint": "both"}[stage], "letters": count}
        | {ADDED[name]: cost for name, cost in costs.items()}
        for stage, by in added().items()
        for count, costs in by.items()
    ]


def timed():
    """way -> tokens -> time of a token over dense reading's, recorded on a CPU; the parts of one index after it."""
    names = {"an index a layer": "one index per layer"}
    found = {}
    for row in measured("indexing/cpu", what="time of a token"):
        found.setdefault(names.get(row["name"], row["name"]), {})[row["tokens"]] = row["ratio"]
    return found


def timed_rows():
    """`timed` as a table's rows."""
    return [
        {"way": way} | {f"{theme.tokens(tokens)} tokens": ratio for tokens, ratio in by.items()}
        for way, by in timed().items()
    ]
