"""The bill of a Stack (see `effattn_core.stacks`): the chapters' own lines, one after the other, at Llama 3 8B's sizes.

A stack that is one chapter's design has that chapter's lines. What no chapter prices is put together from the same
formulas: half of the layers of one design and half of another, or layers gone through several times.
"""

from dataclasses import dataclass, replace

from effattn_core import bill as chapters
from effattn_core import choices, costs
from effattn_core.attention.choice import WINDOW
from effattn_core.latents.costs import BILLED, TOKENS, Pair, image_flops
from effattn_core.lowbit.costs import design
from effattn_core.recordings import measured
from effattn_core.rectified.costs import ACTIVE, BLOCK_SIZE, PERIOD, share
from effattn_core.retention.costs import HEADS, KEY_DIM, VALUE_DIM
from effattn_core.routing.costs import EXPERTS, INNER, TOP_K, touched
from effattn_core.universal.costs import LOOPS, pairs_seen
from effattn_core.yoco.costs import layer_matrices

MODEL, CONTEXT = chapters.MODEL, chapters.CONTEXT
DESIGNS = {"AdamW 8-bit": "8-bit AdamW", "SOLO 4/2": "SOLO 4/2", "SOLO 2/2": "SOLO 2/2"}
UPPER = MODEL.layers // 2  # layers that read YOCO's one cache
HEAD = MODEL.vocabulary * MODEL.width  # weights of the output head
ROW = 4 * MODEL.heads * MODEL.head_dim  # operations of one query and one key, all heads of a layer
# A RetNet's projections are wider than grouped attention's: its feed-forward gives this share of itself for them.
DENSE = 3 * MODEL.width * MODEL.feed_forward
WIDER = MODEL.width * HEADS * (2 * KEY_DIM + 3 * VALUE_DIM) - (layer_matrices(MODEL, "grouped") - DENSE)
NARROWER = WIDER / DENSE


@dataclass(frozen=True)
class Base:
    """What mixes the tokens, priced. lines: key -> Line.

    own: bytes of the growing caches that one layer reads each; shared: of the one cache that UPPER layers read.
    prompt, token: how often a layer runs, in the mean of all layers, per token of a prompt and per decoded token.
    recurrent: of all layers the share with a RetNet's wide projections, and so with a narrower feed-forward.
    """

    lines: dict
    own: float = 0
    shared: float = 0
    prompt: float = 1
    token: float = 1
    recurrent: float = 0


def _windowed(context):
    """Grouped heads, every layer with a window: what `attention.choice` prices, without its sinks."""
    lines = chapters.lines("attention", context)
    kept = costs.cache_bytes(MODEL, min(context, WINDOW))
    return lines | {
        "prefill": replace(lines["prefill"], text=ROW * MODEL.layers * pairs_seen(context, WINDOW),
                           explanation="every matrix for every token, and attention within the window"),
        "cache": replace(lines["cache"], text=kept, parts=("", "windows"), explanation=f"the last {WINDOW:,} tokens"),
        "decode": replace(lines["decode"], text=kept, parts=("weights", "windows"),
                          explanation="all weights but the embedding, and the windows"),
    }  # fmt: skip


def _mixing(stack, context):
    """The Base of a mixer, in all layers or beside attention in every fourth."""
    cache = costs.cache_bytes(MODEL, context)
    if stack.hybrid == "one in four":
        hybrid = choices.named("Hybrid, one layer of four attends")
        return Base(hybrid.lines(context), own=cache / 4, recurrent=0.75)
    if stack.mixer == "window":
        return Base(_windowed(context))
    if stack.mixer == "attention":
        return Base(chapters.lines("attention", context), own=cache)
    topic = "retention" if stack.mixer == "retention" else "recurrences"
    return Base(chapters.lines(topic, context), recurrent=1)


def _looped(base):
    """All layers gone through LOOPS times: what is computed, read and kept per layer grows, the weights do not."""
    lines = base.lines
    prompt, read = lines["prefill"], lines["decode"]
    made = lines | {
        "prefill": replace(prompt, weights=LOOPS * (prompt.weights - 2 * HEAD) + 2 * HEAD, text=LOOPS * prompt.text,
                           explanation=f"all layers {LOOPS} times"),
        "cache": replace(lines["cache"], text=LOOPS * lines["cache"].text,
                         explanation=f"{lines['cache'].explanation}, for each of {LOOPS} loops"),
        "decode": replace(read, weights=LOOPS * (read.weights - 2 * HEAD) + 2 * HEAD, text=LOOPS * read.text,
                          explanation="looped weights once per loop, and what each loop keeps"),
    }  # fmt: skip
    return replace(base, lines=made, own=LOOPS * base.own, prompt=LOOPS, token=LOOPS)


def _yoco(base, stack, context):
    """The lower half of the layers as in `base`, with its weights; the upper half reads one cache. In loops or not."""
    loops = LOOPS if stack.sharing == "yoco loops" else 1
    cache = costs.cache_bytes(MODEL, context) // MODEL.layers
    runs = dict(shared=cache, prompt=loops / 2, token=(loops + 1) / 2)
    if stack.mixer == "gated":
        return Base(chapters.lines("universal" if loops > 1 else "yoco", context), **runs)
    lines, prompt, read = base.lines, base.lines["prefill"], base.lines["decode"]
    lower, upper = (UPPER * layer_matrices(MODEL, "grouped", cross=cross) for cross in (False, True))
    writer = 2 * MODEL.width * MODEL.key_value_heads * MODEL.head_dim
    weights = lower + writer + upper + 2 * HEAD + (2 * MODEL.layers + 2) * MODEL.width
    below = loops * lines["cache"].text / 2
    made = lines | {
        "prefill": replace(prompt, weights=2 * ((loops * lower + writer) * context + upper + HEAD),
                           text=loops * prompt.text / 2 + ROW * UPPER * context, parts=("matrices", "mixing"),
                           explanation="the lower half of the layers for every token, the upper half for the last"),
        "weights": replace(lines["weights"], weights=2 * weights),
        "cache": replace(lines["cache"], text=cache + below, parts=("", "cache and what lies below"),
                         explanation="one cache for all upper layers, and what the lower ones keep"),
        "decode": replace(read, weights=2 * (loops * lower + writer + upper + HEAD), text=UPPER * cache + below,
                          explanation="all weights, and the one cache once per layer that reads it"),
        "optimizer": replace(lines["optimizer"], weights=8 * weights),
    }  # fmt: skip
    return Base(made, own=loops * base.own / 2, recurrent=base.recurrent / 2, **runs)


def _base(stack, context):
    base = _mixing(stack, context)
    if stack.sharing.startswith("yoco"):
        return _yoco(base, stack, context)
    return _looped(base) if stack.sharing == "loops" else base


def _with_experts(base, lines, context):
    """The chapter's experts in every layer; where a layer runs more or less often, or is narrower, so are they."""
    found, narrower = chapters.stage("routing"), 1 - base.recurrent * NARROWER
    before = lines | found.brings(lines, context)
    after, router = found.changes(before, context), MODEL.layers * MODEL.width * EXPERTS
    made = dict(before)
    for key, line in after.items():
        added = line.weights - before[key].weights
        if key == "experts":
            made[key] = replace(line, weights=line.weights * base.prompt * narrower)
            continue
        own = {"weights": 2 * router, "optimizer": 8 * router}.get(key, added)
        runs = {"prefill": base.prompt, "decode": base.token}.get(key, 1)
        explanation = line.explanation if base.prompt == 1 else before[key].explanation
        new = before[key].weights + runs * (own + (added - own) * narrower)
        made[key] = replace(line, weights=new, explanation=explanation)
    return made


def _with_reading(stack, base, lines, context):
    """What is read of the caches that grow; a shared cache has nothing to rectify: the layers below it are exact."""
    if stack.reading in ("channels", "index"):
        topic = "channels" if stack.reading == "channels" else "indexing"
        return lines | chapters.stage(topic).changes(lines, context)
    if stack.reading == "whole":
        return lines
    own, exact = share(BLOCK_SIZE, ACTIVE, PERIOD), share(BLOCK_SIZE, ACTIVE, 0)
    told, cache, read = chapters.lines("rectified", context), lines["cache"], lines["decode"]
    whole = base.own + UPPER * base.shared
    kept = cache.text + own.descriptors * (base.own + base.shared)
    text = read.text - whole + own.total * base.own + exact.total * UPPER * base.shared
    if read.text == base.own:
        kept, text = base.own * (1 + own.descriptors), own.total * base.own
        return lines | {"cache": replace(told["cache"], text=kept), "decode": replace(told["decode"],
                        weights=read.weights, text=text)}  # fmt: skip
    return lines | {
        "cache": replace(cache, text=kept, explanation=f"{cache.explanation}; two bounds per block of the cache"),
        "decode": replace(read, text=text, explanation="all weights, all bounds, the chosen blocks, and all states"),
    }


def _with_images(stack, base, lines, context):
    """The backbone once per latent, each of which attends to the text as a word would, and the head at every step."""
    found = chapters.stage("latents")
    before = lines | found.brings(lines, context)
    after = before | found.changes(before, context)
    text = _base(stack, context + TOKENS).lines["prefill"].text - base.lines["prefill"].text
    if base.shared:
        pairs = costs.attention_flops(MODEL, context + TOKENS) - costs.attention_flops(MODEL, context)
        text += pairs * UPPER / MODEL.layers - ROW * UPPER * TOKENS
    backbone = base.lines["decode"].weights / 2 - HEAD
    drawn = image_flops(Pair(backbone, BILLED.head))
    return after | {"image": replace(after["image"], weights=drawn, text=text)}


def _with_drafts(stack, lines, context):
    """A pass shared by the words of a cycle, as published of FR-Spec, as recorded of a lookup; its experts are read."""
    row = measured("speculation/cpu", what="speed", way="lookup", text="plays", temperature=0.0)[0]
    if stack.feed_forward == "experts":
        read = touched(1 + row["drafted_per_cycle"], EXPERTS, TOP_K) if stack.drafting == "lookup" else EXPERTS
        more = 2 * MODEL.layers * 3 * MODEL.width * INNER * (read - TOP_K)
        lines = lines | {"decode": replace(lines["decode"], weights=lines["decode"].weights + more)}
    if stack.drafting == "frequent words":
        return lines | chapters.stage("speculation").changes(lines, context)
    words = row["per_cycle"]
    told = f"one pass, shared by the {words:g} words of a cycle, as recorded of SmolLM2 on the plays"
    return lines | {
        key: replace(lines[key], weights=lines[key].weights / words, text=lines[key].text / words, explanation=told)
        for key in ("decode", "head")
    }


def bill(stack, context=CONTEXT):
    """The lines of a stack (key -> `effattn_core.bill.Line`) after `context` tokens, at the sizes of the bill.

    Experts are as many operations per token as the dense layer, so more weights; an image's latents attend to the whole
    text, whatever a word reads. Raises ValueError for a context of no token.
    """
    if context < 1:
        raise ValueError(f"context must be at least 1 token; it is {context}.")
    base = _base(stack, context)
    lines = base.lines
    if stack.feed_forward == "experts":
        lines = _with_experts(base, lines, context)
    lines = _with_reading(stack, base, lines, context)
    if stack.stream == "text and images":
        lines = _with_images(stack, base, lines, context)
    if stack.drafting != "none":
        lines = _with_drafts(stack, lines, context)
    if stack.optimizer in DESIGNS:
        line = lines["optimizer"]
        low = design(DESIGNS[stack.optimizer]).bytes_per_parameter / design("AdamW, float32").bytes_per_parameter
        told = chapters.lines("lowbit", context)["optimizer"].explanation
        if stack.optimizer != "SOLO 4/2":
            told = f"two moments per weight as {stack.optimizer} keeps them, and a few numbers per block"
        lines = lines | {"optimizer": replace(line, weights=line.weights * low, explanation=told)}
    return lines
