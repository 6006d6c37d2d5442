"""What the recurrence kernels move between memory and chip, and multiply: exact counts, from their tiles."""

from effattn_core.bill import MODEL, Stage
from effattn_core.costs import Traffic, cache_bytes
from effattn_core.retention.costs import HEADS, KEY_DIM, VALUE_DIM, state_bytes


def _sum(parts):
    """Launches one after the other: their bytes and operations add."""
    parts = list(parts)
    return Traffic(*(sum(getattr(part, name) for part in parts) for name in ("loaded", "stored", "flops")))


def _states(batch, heads, time, key_dim, value_dim, *, vector, chunk, tile, element, gate_element):
    """Stage one: each tile of a head's state walks all tokens; the state before each chunk and the last are stored."""
    chunks, key_tiles, value_tiles = -(-time // chunk), key_dim // tile[0], value_dim // tile[1]
    tokens = element * (key_dim * value_tiles + value_dim * key_tiles)
    gates = gate_element * value_tiles * (key_dim if vector else key_tiles)
    state = 4 * key_dim * value_dim
    flops = 2 * chunks * chunk * key_dim * value_dim
    loaded = time * (tokens + gates) + state
    return Traffic(batch * heads * loaded, batch * heads * (chunks + 1) * state, batch * heads * flops)


def _outputs(batch, heads, time, key_dim, value_dim, *, vector, chunk, tile, element, gate_element):
    """Stage two: each chunk, once for each tile of value dimensions, reads its tokens and the state before it."""
    chunks, value_tiles = -(-time // chunk), value_dim // tile[1]
    tokens = element * (2 * key_dim * value_tiles + value_dim)
    gates = gate_element * value_tiles * (key_dim if vector else 1)
    levels = chunk.bit_length() - 1 if vector else 1  # a chunk halved again and again multiplies its scores each time
    scores = 2 * chunk * chunk * (levels * key_dim * value_tiles + value_dim)
    flops = chunks * (scores + 2 * chunk * key_dim * value_dim)
    loaded = time * (tokens + gates) + chunks * 4 * key_dim * value_dim
    return Traffic(batch * heads * loaded, batch * heads * time * element * value_dim, batch * heads * flops)


def _gradients(batch, heads, time, key_dim, value_dim, *, vector, chunk, tile, element, gate_element):
    """The last stage backwards: each chunk reads its tokens, the state before it and the gradient of that after it."""
    chunks, key_tiles = -(-time // chunk), key_dim // tile[0]
    passes = 2 * key_tiles if vector else 1 + key_tiles  # over values and output gradients
    tokens = element * (2 * key_dim + 2 * value_dim * passes)
    gates = gate_element * (key_dim if vector else 1)
    levels = chunk.bit_length() - 1 if vector else 1
    pairs = 2 * chunk * chunk * (value_dim * (key_tiles if vector else 1) + 2 * levels * key_dim)
    flops = chunks * (pairs + 4 * chunk * key_dim * value_dim)
    loaded = time * (tokens + gates) + chunks * 8 * key_dim * value_dim
    stored = time * (element * 2 * key_dim + gates)
    return Traffic(batch * heads * loaded, batch * heads * stored, batch * heads * flops)


def gated_traffic(
    batch, heads, time, key_dim, value_dim, *, vector, chunk, states, outputs, gradients=None, element=4, gate_element=4
):
    """Exactly what the gated recurrence kernels move (eq. gated-traffic); masked-off lanes are not counted.

    vector: one gate per key dimension rather than per head. chunk: tokens; states, outputs, gradients: the (key, value)
    tile of each kernel, as `kernels.recurrences.choose` gives them. element, gate_element: bytes of inputs and gates.
    With `gradients` the backward pass is counted instead of the forward: states again, their gradients, those of the
    values, and the rest. Products are counted as the hardware multiplies them, padding included.
    """
    sizes = (batch, heads, time, key_dim, value_dim)
    shared = dict(vector=vector, chunk=chunk, element=element, gate_element=gate_element)
    walk, emit = _states(*sizes, tile=states, **shared), _outputs(*sizes, tile=outputs, **shared)
    if gradients is None:
        return _sum([walk, emit])
    return _sum([walk, walk, emit, _gradients(*sizes, tile=gradients, **shared)])


def delta_traffic(batch, heads, time, key_dim, value_dim, *, block_value, element=4, gate_element=4, beta_element=4):
    """Exactly what the kernel of the delta rules moves over `time` tokens (eq. delta-traffic).

    Each state is read and written once; queries, keys, gates and betas once for each of its tiles of columns.
    element, gate_element, beta_element: bytes of a number. It forms no matrix product: `flops` is 0, its operations
    are those of `delta_flops`.
    """
    tiles, matrix = value_dim // block_value, 4 * key_dim * value_dim
    token = tiles * (2 * element * key_dim + gate_element + beta_element) + element * value_dim
    return Traffic(batch * heads * (matrix + time * token), batch * heads * (matrix + time * element * value_dim), 0)


def delta_flops(key_dim, value_dim):
    """Operations per token and head of a (gated) delta rule's step: fade, read by the key, write, read by the query."""
    return key_dim * value_dim * (1 + 2 + 2 + 2)


def hybrid_kept(context, every=4):
    """(bytes of keys and values, bytes of states) that the bill's model keeps after `context` tokens.

    Every `every`-th layer attends, with the key heads that the model has, in bfloat16; None: no layer does. The others
    have a state per head, of retention's sizes, in float32, however long the text.
    """
    attending = MODEL.layers // every if every else 0
    states = state_bytes(MODEL.layers - attending, HEADS, KEY_DIM, VALUE_DIM)
    return cache_bytes(MODEL, context) * attending // MODEL.layers, states


def beyond_scalar(chunk, key_dim, value_dim):
    """Operations per token and head beyond a scalar gate's by chunks: (a vector gate's, a delta rule's).

    The vector gate multiplies queries and keys at each further level. The delta rule multiplies keys with keys, solves
    its triangular system for U and W, and multiplies W with the state before the chunk (eq. delta-wy).
    """
    vector = 2 * (chunk.bit_length() - 2) * chunk * key_dim
    return vector, 2 * chunk * key_dim + chunk * (key_dim + value_dim) + 2 * key_dim * value_dim


STAGE = Stage(
    topic="recurrences",
    place=(2, 2),
    method="Gates and the delta rule",
    design="a gate or a delta rule in every layer",
    on="retention",
    changes=lambda lines, context: {},
    cost="Gates add a small matrix or two per layer. A vector gate's levels or a delta rule's triangular solves add "
    "less than 2 % to the operations of the prompt. The bill leaves both out.",
)
