"""What YOCO costs: bytes kept and read, operations of a prompt, and the bill; beside Transformers of the same sizes.

Four architectures of one size are compared. "Transformer" keeps a key and a value for every query head, "grouped" for
its key-value heads; the two YOCOs keep one grouped cache for all layers, and in half of the layers a window or a state.
"""

from dataclasses import replace

from effattn_core import costs
from effattn_core.bill import MODEL, Stage

ARCHITECTURES = ("Transformer", "grouped", "YOCO, window", "YOCO, gated")
WINDOW = 1024  # tokens of the self-decoder's window: our choice, the released code takes any

# YOCO-3B as released, and larger models by the sizes of LLaMA with eight key-value heads: our choice.
YOCO_3B = costs.Model(
    name="3B", layers=26, width=3072, heads=24, key_value_heads=8, head_dim=128, feed_forward=8192, vocabulary=100288,
    source="the released configuration and tokenizer (microsoft/unilm, YOCO)",
)  # fmt: skip


def _llama(name, layers, heads, feed_forward):
    return costs.Model(
        name=name, layers=layers, width=128 * heads, heads=heads, key_value_heads=8, head_dim=128,
        feed_forward=feed_forward, vocabulary=32000, source="LLaMA, table 2 (arXiv 2302.13971), with 8 key-value heads",
    )  # fmt: skip


SIZES = {
    model.name: model
    for model in (
        YOCO_3B,
        _llama("7B", 32, 32, 11008),
        _llama("13B", 40, 40, 13824),
        _llama("33B", 60, 52, 17920),
        _llama("65B", 80, 64, 22016),
    )
}


def check(architecture):
    """Raise ValueError unless `architecture` is one of ARCHITECTURES."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}; it is {architecture!r}.")


def model_of(sizes):
    """The costs.Model of a Configuration of `effattn_core.model`, whose real tensors can be summed and compared."""
    shared = ("layers", "width", "heads", "key_value_heads", "head_dim", "feed_forward", "vocabulary")
    return costs.Model(name=sizes.mixer, **{name: getattr(sizes, name) for name in shared}, source="this book")


def kept(model, context, architecture, *, batch=1, element=2, window=WINDOW, window_heads=None, state_element=4):
    """What decoding keeps after `context` tokens, all sequences of the batch (eq. yoco-cache).

    A cache is 2 · key_value_heads · head_dim · context numbers: one for each layer of a Transformer, one in all of a
    YOCO. Of its self-decoder each layer keeps the last `window` keys and values of window_heads heads (None: as many as
    the queries, as released), or a state of heads · head_dim² numbers of state_element bytes.
    """
    check(architecture)
    heads = model.heads if architecture == "Transformer" else model.key_value_heads
    row = 2 * batch * model.head_dim * element
    if architecture in ("Transformer", "grouped"):
        return costs.Kept(model.layers * row * heads * context, 0)
    layers = model.layers // 2
    if architecture == "YOCO, window":
        return costs.Kept(row * heads * context, layers * row * (window_heads or model.heads) * window)
    return costs.Kept(row * heads * context, layers * batch * model.heads * model.head_dim**2 * state_element)


def layer_kept(model, context, architecture, layer, **settings):
    """(what a layer keeps, bytes): "cache", "window", "state" or "nothing"; the shared cache counts as layer layers/2.

    layer: counted from 0. Raises ValueError for one that the model has not.
    """
    check(architecture)
    if not 0 <= layer < model.layers:
        raise ValueError(f"layer must lie in 0..{model.layers - 1}; it is {layer}.")
    whole = kept(model, context, architecture, **settings)
    if architecture in ("Transformer", "grouped"):
        return "cache", whole.growing // model.layers
    first = model.layers // 2
    if layer < first:
        return ("window" if architecture == "YOCO, window" else "state"), whole.constant // first
    return ("shared cache", whole.growing) if layer == first else ("nothing", 0)


def layer_matrices(model, architecture, *, cross=False):
    """Weights of the matrices of one layer: projections of what mixes its tokens, and the feed-forward.

    cross: a layer of the cross-decoder, with W_query and W_output alone. A window's layer has keys and values for every
    head, and gated retention a gate for its output and one number per head to forget by, as released.
    """
    check(architecture)
    head, feed_forward = model.width * model.head_dim, 3 * model.width * model.feed_forward
    if cross:
        return 2 * head * model.heads + feed_forward
    if architecture == "grouped":
        return head * (2 * model.heads + 2 * model.key_value_heads) + feed_forward
    if architecture == "YOCO, gated":
        return 5 * head * model.heads + model.width * model.heads + feed_forward
    return 4 * head * model.heads + feed_forward


def _writer_matrices(model):
    """W_key and W_value of the one shared cache."""
    return 2 * model.width * model.key_value_heads * model.head_dim


def matrix_parameters(model, architecture):
    """Weights that a decoded token is multiplied with, the output head left out."""
    check(architecture)
    if not architecture.startswith("YOCO"):
        return model.layers * layer_matrices(model, architecture)
    first = model.layers // 2
    cross = (model.layers - first) * layer_matrices(model, architecture, cross=True)
    return first * layer_matrices(model, architecture) + _writer_matrices(model) + cross


def parameters(model, architecture):
    """All weights: matrices, norms (one more before the shared cache), and separate input and output embeddings."""
    norms = (2 * model.layers + 1 + architecture.startswith("YOCO")) * model.width
    return matrix_parameters(model, architecture) + norms + 2 * model.vocabulary * model.width


def prefill_parts(model, context, architecture, *, window=WINDOW, chunk=256):
    """Operations to read a prompt by part: {"matrices", "mixing", "cross-decoder"} (eq. yoco-prefill).

    A YOCO needs its self-decoder for all tokens, W_key and W_value once, and the cross-decoder for the last token only:
    its matrices, and one query per layer over all keys. mixing: attention over pairs, or chunks and states.
    """
    check(architecture)
    if not architecture.startswith("YOCO"):
        matrices = 2 * matrix_parameters(model, architecture) * context
        return {"matrices": matrices, "mixing": costs.attention_flops(model, context), "cross-decoder": 0}
    first = model.layers // 2
    if architecture == "YOCO, window":
        reach = min(window, context)
        pairs = reach * (reach + 1) // 2 + (context - reach) * reach
        mixing = 4 * model.heads * model.head_dim * pairs
    else:  # inside a chunk 2 · chunk · 2 head_dim per token and head, the state 4 · head_dim²: as in retention-cost
        mixing = context * model.heads * (4 * chunk * model.head_dim + 4 * model.head_dim**2)
    matrices = first * layer_matrices(model, architecture) + _writer_matrices(model)
    last = 2 * layer_matrices(model, architecture, cross=True) + 4 * model.heads * model.head_dim * context
    return {
        "matrices": 2 * matrices * context, "mixing": first * mixing, "cross-decoder": (model.layers - first) * last,
    }  # fmt: skip


def prefill_flops(model, context, architecture, *, batch=1, **settings):
    """Operations to read a prompt of `context` tokens and name the next: all of `prefill_parts`, and the head once."""
    return batch * (sum(prefill_parts(model, context, architecture, **settings).values())
                    + 2 * model.vocabulary * model.width)  # fmt: skip


def decode_bytes(model, context, architecture, *, batch=1, element=2, **settings):
    """Bytes read to write one token for each of the batch: weights and head once, and what is kept.

    The shared cache is read in *every* layer of the cross-decoder, because each has a query of its own: YOCO keeps one
    cache of L, and reads half of what L caches would be.
    """
    weights = 2 * matrix_parameters(model, architecture) + costs.head_bytes(model)
    found = kept(model, context, architecture, batch=batch, element=element, **settings)
    readers = model.layers - model.layers // 2 if architecture.startswith("YOCO") else 1
    return weights + readers * found.growing + found.constant


def memory(model, context, architecture, *, batch=1, **settings):
    """Bytes of serving, activations left out: weights with both embeddings in two bytes each, and what is kept."""
    weights = 2 * (matrix_parameters(model, architecture) + 2 * model.vocabulary * model.width)
    return weights + kept(model, context, architecture, batch=batch, **settings).total


def seconds(model, context, architecture, hardware, **settings):
    """Least time of a prefill that the published peak allows: an estimate, as if nothing but operations took time."""
    return prefill_flops(model, context, architecture, **settings) / hardware.flops["bfloat16"]


def sent_bytes(sizes, ranks, context, *, batch=1, element=4):
    """Bytes that each rank receives for one forward pass when a text is cut among `ranks` (eq. yoco-parallel).

    sizes: a Configuration of `effattn_core.model` with cross_layers. Of each layer of the self-decoder the others'
    states and decays, or their last window - 1 keys and values; of the shared cache the others' keys and values, once.
    element: bytes of a number of a key or value; states and decays are exchanged in float32 at least.
    """
    share = context // ranks
    first = sizes.layers - sizes.cross_layers
    if sizes.mixer == "attention":
        layer = element * 2 * sizes.key_value_heads * sizes.head_dim * (sizes.window - 1)
    else:
        layer = max(element, 4) * sizes.heads * (sizes.head_dim * (sizes.value_dim or sizes.head_dim) + 1)
    cache = element * 2 * sizes.key_value_heads * sizes.head_dim * share
    return (ranks - 1) * batch * (first * layer + cache)


def _changes(lines, context):
    """A YOCO of the same sizes: half of the layers read all tokens, the other half the last one and the one cache."""
    model, architecture = MODEL, "YOCO, gated"
    parts, found = prefill_parts(model, context, architecture), kept(model, context, architecture)
    weights = matrix_parameters(model, architecture)
    upper = (model.layers - model.layers // 2) * layer_matrices(model, architecture, cross=True)
    once = 2 * upper + 2 * model.vocabulary * model.width  # of the last token: the upper half's matrices, and the head
    matrices = parts["matrices"] + once
    read = decode_bytes(model, context, architecture)
    small = 2 * weights + costs.head_bytes(model)
    return {
        "prefill": replace(
            lines["prefill"],
            weights=matrices,
            text=prefill_flops(model, context, architecture) - matrices,
            parts=("matrices", "mixing"),
            explanation="half of the layers for every token, the other half for the last",
        ),
        "weights": replace(lines["weights"], weights=2 * parameters(model, architecture)),
        "cache": replace(
            lines["cache"], text=found.total, explanation="one cache for all layers, and small states below it"
        ),
        "decode": replace(
            lines["decode"],
            weights=small,
            text=read - small,
            explanation="all weights, and the one cache once per layer that reads it",
        ),
        "optimizer": replace(lines["optimizer"], weights=8 * parameters(model, architecture)),
    }


STAGE = Stage(
    topic="yoco",
    place=(3, 1),
    method="YOCO",
    design="a gated YOCO",
    on="attention",
    changes=_changes,
    cost="The model is trained anew; only half of its layers look back over the whole text; and at these sizes it has "
    "more weights, since gated retention does not group its heads.",
)
