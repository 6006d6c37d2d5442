"""What retention costs: operations and bytes of a chunk size, the state that is kept, the bill of a RetNet."""

from dataclasses import dataclass, replace

from effattn_core import costs
from effattn_core.bill import MODEL, Stage


@dataclass(frozen=True)
class ChunkCost:
    """A token of one head by chunks. inner, state: FLOP inside the chunk and for the state; moved: bytes in all."""

    inner: float
    state: float
    moved: float

    def seconds(self, hardware, dtype="bfloat16"):
        """Estimated from published peaks: the longer of computing and moving, which overlap (eq. roofline)."""
        return max((self.inner + self.state) / hardware.peak(dtype), self.moved / hardware.bandwidth)


def chunk_cost(chunk, key_dim=64, value_dim=64, *, element=2, state_element=4):
    """The forward pass by chunks of `chunk` tokens, per token and head (eq. retention-cost).

    Inside: scores and weighted values, 2 · chunk · (key_dim + value_dim), the upper triangle not skipped. State: one
    write and one read of 2 · key_dim · value_dim each. Moved: keys and values twice (once for the states, once for the
    outputs), queries and outputs once, and each chunk's state written and read. Raises ValueError for no chunk.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 token; it is {chunk}.")
    inner = 2 * chunk * (key_dim + value_dim)
    state = 4 * key_dim * value_dim
    tokens = element * (3 * key_dim + 3 * value_dim)
    return ChunkCost(inner, state, tokens + 2 * state_element * key_dim * value_dim / chunk)


CHUNKS = tuple(1 << power for power in range(3, 11))


def best_chunk(hardware, key_dim=64, value_dim=64, *, element=2, chunks=CHUNKS):
    """The chunk size of CHUNKS whose estimated time is least on `hardware`."""
    dtype = "bfloat16" if element == 2 else "float32"
    return min(
        chunks, key=lambda chunk: chunk_cost(chunk, key_dim, value_dim, element=element).seconds(hardware, dtype)
    )


def state_bytes(layers, heads, key_dim, value_dim, *, batch=1, element=4):
    """Bytes of the states that decoding keeps, whatever the context: layers · heads · key_dim · value_dim, float32."""
    return batch * layers * heads * key_dim * value_dim * element


def _walk(time, key_dim, value_dim, chunk, tile, element):
    """A head's states, from chunk to chunk either way: (loaded, stored, flops). tile: (block_key, block_value).

    A tile of the state reads the key's columns once for each tile of the value, and the other way round.
    """
    chunks, matrix = -(-time // chunk), 4 * key_dim * value_dim  # a float32 state
    key_tiles, value_tiles = key_dim // tile[0], value_dim // tile[1]
    tokens = element * time * (key_dim * value_tiles + value_dim * key_tiles)
    loaded = tokens + matrix + 4 * key_tiles * value_tiles
    return loaded, (chunks + 1) * matrix, chunks * 2 * chunk * key_dim * value_dim


def _emit(time, key_dim, value_dim, chunk, tile, element):
    """A head's outputs, or its values' gradients: a tile of value_dim reads queries, keys and its part of a state."""
    chunks, tiles = -(-time // chunk), value_dim // tile[1]
    loaded = element * time * (2 * key_dim * tiles + value_dim) + chunks * (4 * key_dim * value_dim + 4 * tiles)
    flops = chunks * 2 * chunk * (key_dim * value_dim + chunk * (key_dim * tiles + value_dim))
    return loaded, element * time * value_dim, flops


def _give_back(time, key_dim, value_dim, chunk, tile, element):
    """A head's gradients of queries and keys: a tile of key_dim reads values, output gradients and both states."""
    chunks, tiles = -(-time // chunk), key_dim // tile[0]
    loaded = element * time * (2 * value_dim * tiles + 2 * key_dim) + chunks * (8 * key_dim * value_dim + 4 * tiles)
    flops = chunks * 2 * chunk * (2 * key_dim * value_dim + chunk * (value_dim * tiles + 2 * key_dim))
    return loaded, 2 * element * time * key_dim, flops


def _launches(batch, heads, *launches):
    return costs.Traffic(*(batch * heads * sum(each) for each in zip(*launches, strict=True)))


def retention_traffic(batch, heads, time, key_dim, value_dim, *, chunk, states, outputs, element=4):
    """Exactly what the two forward kernels move (eq. retention-traffic); masked-off lanes are not counted.

    states, outputs: (block_key, block_value) of each kernel.
    """
    sizes = time, key_dim, value_dim, chunk
    return _launches(batch, heads, _walk(*sizes, states, element), _emit(*sizes, outputs, element))


def retention_backward_traffic(
    batch, heads, time, key_dim, value_dim, *, chunk, states, grad_value, grad_query_key, element=4
):
    """Exactly what the four backward launches move: states again, their gradients, the values', queries' and keys'.

    states (of both walks), grad_value, grad_query_key: (block_key, block_value) of each kernel.
    """
    sizes = time, key_dim, value_dim, chunk
    walk = _walk(*sizes, states, element)
    emit, give_back = _emit(*sizes, grad_value, element), _give_back(*sizes, grad_query_key, element)
    return _launches(batch, heads, walk, walk, emit, give_back)


def step_traffic(batch, heads, key_dim, value_dim, *, block_value, element=4):
    """What decoding one token moves: each state read and written once, queries and keys once for each of its tiles."""
    tiles = value_dim // block_value
    matrix = 4 * key_dim * value_dim
    loaded = matrix + tiles * (2 * element * key_dim + 4) + element * value_dim
    return costs.Traffic(batch * heads * loaded, batch * heads * (matrix + element * value_dim), 0)


# The heads of a RetNet of Llama 3 8B's width, by the paper's rule: keys of 256, values twice as wide, all parameters as
# many as before (the feed-forward is narrower by what the wider values take).
HEADS, KEY_DIM, VALUE_DIM, CHUNK = 16, 256, 512, 128


def _changes(lines, context):
    """Retention in every layer: 16 heads with keys of 256 and values of 512, float32 states, the prompt by chunks."""
    chunked = chunk_cost(CHUNK, KEY_DIM, VALUE_DIM)
    kept = state_bytes(MODEL.layers, HEADS, KEY_DIM, VALUE_DIM)
    prompt = MODEL.layers * HEADS * (chunked.inner + chunked.state) * context
    return {
        "prefill": replace(
            lines["prefill"],
            text=prompt,
            parts=("matrices", "retention"),
            explanation="every matrix for every token, and chunks with one state between them",
        ),
        "cache": replace(
            lines["cache"],
            text=kept,
            parts=("", "states"),
            explanation="one state per layer and head, however long the text",
        ),
        "decode": replace(
            lines["decode"],
            text=kept,
            parts=("weights", "states"),
            explanation="all weights but the embedding, and the states",
        ),
    }


STAGE = Stage(
    topic="retention",
    place=(2, 1),
    method="Retention",
    design="retention in every layer",
    on="attention",
    changes=_changes,
    cost="The model is trained anew, and the far past fades, at a pace per head that was fixed before training began.",
)
