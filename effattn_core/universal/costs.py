"""What loops cost: operations grow with them, what is kept hardly does; and the bill of a YOCO-U of Llama 3 8B's sizes.

All functions take a Configuration of `effattn_core.model`, so that a small model that runs here and a large one that
does not are priced by the same formula. A multiply and an add are two operations. Norms, gates and positions are left
out, as in `effattn_core.costs`.
"""

from dataclasses import replace

from effattn_core import costs
from effattn_core.bill import Stage
from effattn_core.model import Configuration

CHUNK = 256  # tokens that gated retention reads at once, as YOCO's released code has it
LLAMA = costs.LLAMA_8B


def llama_sized(loops=1, context=131072, *, mixer="gated", window=1024, shares=True):
    """The Configuration of a looped model of Llama 3 8B's sizes: a YOCO-U with `mixer` below, or a Transformer.

    shares: False for the looped Transformer, whose 32 layers all run in loops. `window` counts for "attention" only.
    """
    below = dict(mixer=mixer, window=window if mixer == "attention" else None, cross_layers=LLAMA.layers // 2)
    sizes = ("vocabulary", "width", "layers", "heads", "key_value_heads", "head_dim", "feed_forward")
    shape = {name: getattr(LLAMA, name) for name in sizes}
    return Configuration(**shape, context=context, loops=loops, **(below if shares else {}))


def looped_layers(sizes):
    """How many layers are in the loop: those that have a mixer."""
    return sizes.layers - sizes.cross_layers


def looped_matrices(sizes):
    """Weights of the matrices of one layer in the loop: of what mixes its tokens, and the feed-forward."""
    head, inner = sizes.width * sizes.head_dim, 3 * sizes.width * sizes.feed_forward
    if sizes.mixer == "attention":
        return head * (2 * sizes.heads + 2 * sizes.key_value_heads) + inner
    values = sizes.width * sizes.heads * (sizes.value_dim or sizes.head_dim)
    forget = sizes.width * sizes.heads if sizes.mixer == "gated" else 0
    return 2 * head * sizes.heads + 3 * values + forget + inner


def shared_matrices(sizes):
    """Weights of W_key and W_value, which write the shared cache; none without one."""
    return 2 * sizes.width * sizes.key_value_heads * sizes.head_dim if sizes.cross_layers else 0


def cross_matrices(sizes):
    """Weights of the matrices of one layer of the cross-decoder."""
    return 2 * sizes.width * sizes.heads * sizes.head_dim + 3 * sizes.width * sizes.feed_forward


def matrix_parameters(sizes):
    """Weights of all matrices, each counted once, embedding and head left out: loops add none."""
    return (
        looped_layers(sizes) * looped_matrices(sizes)
        + shared_matrices(sizes)
        + sizes.cross_layers * cross_matrices(sizes)
    )


def parameters(sizes):
    """All weights, as the model's `parameter_count` gives them: norms, embedding, head and loop embeddings too."""
    norms = (2 * sizes.layers + 1 + bool(sizes.cross_layers)) * sizes.width
    vectors = sizes.loops * sizes.width if sizes.loop_embedding else 0
    return matrix_parameters(sizes) + norms + vectors + 2 * sizes.vocabulary * sizes.width


def pairs_seen(context, window=None):
    """Query and key pairs of causal attention over `context` tokens, each query seeing at most `window` keys."""
    reach = context if window is None else min(window, context)
    return reach * (reach + 1) // 2 + (context - reach) * reach


def _attending(sizes):
    """Operations of one query and one key in one layer: the score, and the weighted value."""
    return 4 * sizes.heads * sizes.head_dim


def looped_mixing(sizes, context, *, chunk=None):
    """Operations by which one layer, in one loop, mixes `context` tokens.

    Attention: over the pairs of its window. Retention: each token writes and reads a state, and with `chunk` (None: one
    token after another) also sees the tokens of its chunk, the upper triangle not skipped.
    """
    if sizes.mixer == "attention":
        return _attending(sizes) * pairs_seen(context, sizes.window)
    key_dim, value_dim = sizes.head_dim, sizes.value_dim or sizes.head_dim
    inside = 2 * chunk * (key_dim + value_dim) if chunk else 0
    return context * sizes.heads * (inside + 4 * key_dim * value_dim)


def forward_flops(sizes, context, *, chunk=CHUNK):
    """Operations to name the next token after *every* one of `context` tokens, as training does; a third of a step's.

    Loops × (matrices and mixing of the looped layers), then W_key and W_value, cross-decoder and head once
    (eq. universal-flops).
    """
    loop = looped_layers(sizes) * (2 * looped_matrices(sizes) * context + looped_mixing(sizes, context, chunk=chunk))
    above = 2 * cross_matrices(sizes) * context + _attending(sizes) * pairs_seen(context)
    once = 2 * (shared_matrices(sizes) + sizes.vocabulary * sizes.width) * context
    return sizes.loops * loop + once + sizes.cross_layers * above


def prefill_flops(sizes, context, *, chunk=CHUNK):
    """Operations to read a prompt and name one token: the cross-decoder and the head for the last token alone."""
    loop = looped_layers(sizes) * (2 * looped_matrices(sizes) * context + looped_mixing(sizes, context, chunk=chunk))
    last = 2 * cross_matrices(sizes) + _attending(sizes) * context
    written = 2 * shared_matrices(sizes) * context
    return sizes.loops * loop + written + sizes.cross_layers * last + 2 * sizes.vocabulary * sizes.width


def decode_flops(sizes, context):
    """Operations to write one token when `context` tokens, itself among them, can be seen."""
    seen = context if sizes.window is None else min(sizes.window, context)
    mixing = _attending(sizes) * seen if sizes.mixer == "attention" else looped_mixing(sizes, 1)
    loop = looped_layers(sizes) * (2 * looped_matrices(sizes) + mixing)
    above = 2 * cross_matrices(sizes) + _attending(sizes) * context
    once = 2 * (shared_matrices(sizes) + sizes.vocabulary * sizes.width)
    return sizes.loops * loop + once + sizes.cross_layers * above


def kept(sizes, context=None, *, batch=1, element=2, state_element=4):
    """What decoding reserves for `context` tokens (None: the model's context), eq. universal-cache.

    YOCO-U: one cache, whatever the loops, and loops × layers windows or states. Looped Transformer: a cache for each
    layer of each loop, all of which grow with the text.
    """
    context = sizes.context if context is None else context
    row = 2 * batch * sizes.key_value_heads * sizes.head_dim * element
    copies = sizes.loops * looped_layers(sizes)
    growing = row * context if sizes.cross_layers else 0
    if sizes.mixer != "attention":
        value_dim = sizes.value_dim or sizes.head_dim
        return costs.Kept(growing, copies * batch * sizes.heads * sizes.head_dim * value_dim * state_element)
    if sizes.window is None:
        return costs.Kept(growing + copies * row * context, 0)
    return costs.Kept(growing, copies * row * sizes.window)


def decode_bytes(sizes, context, *, element=2, weights_cached=False):
    """Bytes read to write one token: weights, head, and what is kept; the shared cache once in each cross layer.

    A loop reads its weights again, because those of a large model do not stay on the chip from one loop to the next:
    shared weights save memory, not traffic. weights_cached: True if all looped weights fit on the chip.
    """
    passes = 1 if weights_cached else sizes.loops
    weights = passes * looped_layers(sizes) * looped_matrices(sizes) + shared_matrices(sizes)
    weights += sizes.cross_layers * cross_matrices(sizes) + sizes.vocabulary * sizes.width
    found = kept(sizes, context, element=element)
    readers = max(1, sizes.cross_layers)
    return element * weights + readers * found.growing + found.constant


def most_loops(sizes, context, budget, *, element=2, most=64):
    """The largest number of loops up to `most` whose caches fit into `budget` bytes; 0 if not even one does."""
    fits = (
        loops for loops in range(most, 0, -1)
        if kept(replace(sizes, loops=loops), context, element=element).total <= budget
    )  # fmt: skip
    return next(fits, 0)


LOOPS = 4


def _changes(lines, context):
    """The self-decoder of the gated YOCO, LOOPS times: operations, states and traffic grow, weights do not."""
    sizes = llama_sized(LOOPS, context)
    more = LOOPS - 1
    layers = looped_layers(sizes)
    mixing = layers * looped_mixing(sizes, context, chunk=CHUNK)
    matrices = layers * 2 * looped_matrices(sizes) * context
    states = kept(sizes, context).constant * more // LOOPS
    prompt, read = lines["prefill"], lines["decode"]
    return {
        "prefill": replace(
            prompt,
            weights=prompt.weights + more * matrices,
            text=prompt.text + more * mixing,
            explanation=f"half of the layers {LOOPS} times, the other half for one token",
        ),
        "cache": replace(
            lines["cache"],
            text=lines["cache"].text + states,
            explanation="one cache for all, and a state per loop and layer below it",
        ),
        "decode": replace(
            read,
            weights=read.weights + more * 2 * layers * looped_matrices(sizes),
            text=read.text + states,
            explanation="looped weights once per loop, the cache once per layer that reads it",
        ),
    }


STAGE = Stage(
    topic="universal",
    place=(3, 2),
    method="Universal YOCO",
    design=f"a gated YOCO with {LOOPS} loops",
    on="yoco",
    changes=_changes,
    cost="Nothing is saved here: operations and traffic buy depth without more weights.",
)
