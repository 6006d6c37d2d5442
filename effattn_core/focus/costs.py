"""What condensed chunks cost: operations and bytes beside a dense model, which reads the same text as one."""

from dataclasses import replace

from effattn_core import costs
from effattn_core.bill import MODEL, Stage
from effattn_core.focus.forms import cut, scores_chunked

LLAMA2_7B = costs.Model(
    name="LLaMA 2 7B", layers=32, width=4096, heads=32, key_value_heads=32, head_dim=128, feed_forward=11008,
    vocabulary=32000, source="Llama 2 (arXiv 2307.09288), and its released configuration",
)  # fmt: skip
WINDOW, CHUNK, PROMPT, LOCAL = 4096, 2048, 512, 2048  # trained tokens of LLaMA 2; the paper's sizes


def chunks_of(context, chunk=CHUNK, local=LOCAL):
    """Whole chunks before the local text, as `split` cuts them; none where the local text is all there is."""
    return cut(context, chunk, local)[0]


def _sizes(context, chunk, prompt, local):
    """(chunks, tokens of a chunk's pass, prompt, local tokens), the latter with what fills no chunk."""
    count, local = cut(context, chunk, local)
    local = max(1, local)
    prompt = min(prompt, local)
    return count, chunk + prompt + 1, prompt, local


def added_parameters(model):
    """Weights that are trained: four projections per layer, and the candidate's embedding."""
    return model.layers * model.width * model.head_dim * (2 * model.heads + 2 * model.key_value_heads) + model.width


def _flops(model, rows, scores):
    """(of the matrices and the head, of the scores and weighted values)."""
    matrices = 2 * model.matrix_parameters * rows + 2 * model.vocabulary * model.width
    return matrices, 4 * model.layers * model.heads * model.head_dim * scores


def _prefill(model, context, chunk, prompt, local):
    count, time, prompt, local = _sizes(context, chunk, prompt, local)
    return _flops(model, count * time + local, scores_chunked(count, chunk, prompt, local))


def prefill_flops(model, context, *, chunk=CHUNK, prompt=PROMPT, local=LOCAL):
    """Operations to read a text in chunks: every pass's rows through the matrices, their scores, the head once."""
    return sum(_prefill(model, context, chunk, prompt, local))


def chain_flops(model, context, *, chunk=CHUNK, prompt=PROMPT, local=LOCAL):
    """Operations that must wait for each other, with a machine per chunk: one chunk's pass, then the local one."""
    count, time, prompt, local = _sizes(context, chunk, prompt, local)
    alone = min(1, count)
    scores = alone * time * (time + 1) // 2 + local * count + local * (local + 1) // 2
    return sum(_flops(model, alone * time + local, scores))


def kept_bytes(model, context, *, chunk=CHUNK, prompt=PROMPT, local=LOCAL, dtype="bfloat16"):
    """Bytes of keys and values kept between two written tokens: chunks, their prompts, candidates, the local text."""
    count, time, _, local = _sizes(context, chunk, prompt, local)
    return costs.cache_bytes(model, count * time + local, dtype=dtype)


def decode_rows(context, *, chunk=CHUNK, local=LOCAL):
    """Rows through the weights per written token, candidates made anew: the token and the candidate in every chunk, and
    the local text, whose hidden states depend on the candidates."""
    count, _, _, local = _sizes(context, chunk, 0, local)
    return 2 * count + local


def decode_flops(model, context, *, chunk=CHUNK, prompt=PROMPT, local=LOCAL):
    """Operations per written token, candidates made anew: `decode_rows` through the matrices, and their scores."""
    count, time, prompt, local = _sizes(context, chunk, prompt, local)
    # In each chunk the token sees time - 1 keys, the last of them its own, and the candidate those and itself.
    scores = count * (2 * time - 1) + local * count + local * (local + 1) // 2
    return sum(_flops(model, 2 * count + local, scores))


def decode_bytes(model, context, *, chunk=CHUNK, prompt=PROMPT, local=LOCAL, dtype="bfloat16"):
    """Bytes read per written token: all matrices and the head once, the candidate's projections, what is kept."""
    own = int(added_parameters(model) * costs.element_bytes(dtype))
    kept = kept_bytes(model, context, chunk=chunk, prompt=prompt, local=local, dtype=dtype)
    return costs.decode_bytes(model, 0, dtype=dtype, weights=dtype) + own + kept


def _changes(lines, context):
    """Chunks condensed by a model of the bill's sizes, candidates made anew with every token."""
    matrices, attention = _prefill(MODEL, context, CHUNK, PROMPT, LOCAL)
    kept, own = kept_bytes(MODEL, context), int(added_parameters(MODEL) * costs.element_bytes("bfloat16"))
    return {
        "prefill": replace(
            lines["prefill"],
            weights=matrices,
            text=attention,
            explanation="every matrix for every token, prompts and candidates too; attention within chunks alone",
        ),
        "weights": replace(
            lines["weights"],
            weights=lines["weights"].weights + own,
            explanation="all weights, and the candidates' own projections",
        ),
        "cache": replace(lines["cache"], text=kept, explanation="keys and values of chunks, their prompts, local text"),
        "decode": replace(
            lines["decode"],
            weights=lines["decode"].weights + own,
            text=kept,
            explanation="all weights but the embedding, the added projections, and what is kept of every chunk",
        ),
    }


STAGE = Stage(
    topic="focus",
    place=(4, 5),
    method="FocusLLM",
    design="grouped heads, the text condensed in chunks",
    on="attention",
    changes=_changes,
    cost="Projections have to be trained, prompts are read once per chunk, and each written token passes through every "
    "chunk and the local text again.",
)
