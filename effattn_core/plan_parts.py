"""The parts of a plan's price: weights, caches, work and bytes sent of one device (`effattn_core.plans`).

The slice of a model that one device of a tensor-parallel group holds is itself a model, with fewer heads and a narrower
feed-forward, and so the formulas of `costs` and of the chapters price it. All numbers are of one device.
"""

from dataclasses import replace

from effattn_core import costs
from effattn_core.retention.costs import chunk_cost, state_bytes
from effattn_core.routing.costs import layer_flops, layer_parameters, touched
from effattn_core.universal.costs import pairs_seen
from effattn_core.yoco import costs as yoco

MIXERS = ("softmax", "window", "retention", "yoco", "sparse")
YOCO = "YOCO, gated"
CHUNK = 256  # tokens of a chunk of retention, as yoco.costs.prefill_parts has it
STATE = 4  # bytes of a number of a state, and of a partial result that is sent


# ---- collectives: bytes that each of `count` devices sends ---------------------------------------------------------


def all_reduce(size, count):
    """2 · (count - 1) / count · size: a ring adds, then passes on (nccl-tests, doc/PERFORMANCE.md, AllReduce)."""
    return 2 * (count - 1) / count * size


def all_gather(size, count):
    """(count - 1) / count · size, where `size` is what all have afterwards (the same page, AllGather)."""
    return (count - 1) / count * size


def all_to_all(size, count):
    """(count - 1) / count · size, where `size` is what one device has for all, itself too (the same page, AlltoAll)."""
    return (count - 1) / count * size


# ---- what a device holds -------------------------------------------------------------------------------------------


def texts(plan):
    """Texts of one device: data- and expert-parallel devices have texts of their own."""
    return plan.batch // (plan.data * plan.expert)


def part(plan):
    """The slice of one tensor-parallel device as a costs.Model. Key heads that cannot be split further are repeated."""
    model, tensor = plan.model, plan.tensor
    return replace(
        model, heads=model.heads // tensor, key_value_heads=max(1, model.key_value_heads // tensor),
        feed_forward=model.feed_forward // tensor, vocabulary=costs.cdiv(model.vocabulary, tensor),
    )  # fmt: skip


def parameters(plan):
    """All weights of one device: those of its slice, and of the experts its share, with a whole router."""
    held = part(plan)
    if plan.mixer == "yoco":
        return yoco.parameters(held, YOCO) - held.tied * held.vocabulary * held.width
    if plan.experts == 1:
        return held.parameters
    dense = held.parameters - 3 * held.layers * held.width * held.feed_forward
    return dense + held.layers * _layer_of_experts(plan, plan.experts // plan.expert)


def _layer_of_experts(plan, count):
    """Weights of `count` experts of a layer and of the whole router."""
    width, inner = plan.model.width, plan.inner // plan.tensor
    return layer_parameters(width, inner, count) + width * (plan.experts - count)


def kept(plan):
    """costs.Kept of the whole text: what grows is then split by the sequence degree.

    A window and a state take the model's own projections: a window its key heads, a state a matrix per query head.
    """
    held, batch = part(plan), texts(plan)
    if plan.mixer == "yoco":
        return yoco.kept(held, plan.context, YOCO, batch=batch, element=costs.element_bytes(plan.cache))
    if plan.mixer == "retention":
        return costs.Kept(0, state_bytes(held.layers, held.heads, held.head_dim, held.head_dim, batch=batch))
    if plan.mixer == "window":
        reach = min(plan.window, plan.context)
        return costs.Kept(0, costs.cache_bytes(held, reach, batch=batch, dtype=plan.cache))
    return costs.Kept(costs.cache_bytes(held, plan.context, batch=batch, dtype=plan.cache), 0)


# ---- operations and bytes moved ------------------------------------------------------------------------------------


def token_flops(plan):
    """Operations of the matrices for one token, the head left out; with experts, of the top_k that it takes."""
    held = part(plan)
    if plan.mixer == "yoco":
        return 2 * yoco.matrix_parameters(held, YOCO)
    if plan.experts == 1:
        return 2 * held.matrix_parameters
    dense = 2 * (held.matrix_parameters - 3 * held.layers * held.width * held.feed_forward)
    return dense + held.layers * layer_flops(held.width, plan.inner // plan.tensor, plan.experts, plan.top_k)


def weights_read(plan, tokens):
    """Bytes of weights read once for `tokens` tokens of an expert-parallel group, which touch some of the experts."""
    held = part(plan)
    matrices = yoco.matrix_parameters(held, YOCO) if plan.mixer == "yoco" else held.matrix_parameters
    if plan.experts > 1:
        used = touched(tokens, plan.experts, plan.top_k) / plan.expert
        dense = matrices - 3 * held.layers * held.width * held.feed_forward
        matrices = dense + held.layers * _layer_of_experts(plan, used)
    return matrices * costs.element_bytes(plan.weights) + costs.head_bytes(held, plan.weights)


def prompt_work(plan):
    """(operations, bytes moved) of a prompt: tokens are split over the sequence's devices, the head is the last's.

    Moved are the weights once and the cache once; activations are left out.
    """
    held, batch = part(plan), texts(plan)
    head = 2 * batch * held.vocabulary * held.width
    if plan.mixer == "yoco":
        body = yoco.prefill_flops(held, plan.context, YOCO, batch=batch) - head
    else:
        body = batch * (token_flops(plan) * plan.context + _prompt_mixing(plan, held))
    found, tokens = kept(plan), plan.batch // plan.data * (plan.context // plan.sequence)
    moved = weights_read(plan, tokens) + found.growing / plan.sequence + found.constant
    return body / plan.sequence + head, moved


def _prompt_mixing(plan, held):
    """Operations that mix the tokens of one text, in all layers."""
    if plan.mixer == "window":
        return 4 * held.layers * held.heads * held.head_dim * pairs_seen(plan.context, plan.window)
    if plan.mixer == "retention":
        cost = chunk_cost(CHUNK, held.head_dim, held.head_dim)
        return held.layers * held.heads * plan.context * (cost.inner + cost.state)
    return costs.attention_flops(held, plan.context)


def decode_work(plan):
    """(operations, bytes moved) of one token of every text: each sequence device has all weights and its own keys."""
    held, batch, found = part(plan), texts(plan), kept(plan)
    matrices = token_flops(plan) + 2 * held.vocabulary * held.width
    shared = found.growing / plan.sequence
    if plan.mixer == "yoco":  # each layer of the cross-decoder reads the one cache with queries of its own
        shared *= held.layers - held.layers // 2
    if plan.mixer == "sparse":
        shared *= plan.share
    moved = weights_read(plan, plan.batch // plan.data) + shared + found.constant
    return batch * (matrices + _decode_mixing(plan, held)), moved


def _decode_mixing(plan, held):
    """Operations of one token's queries: two products per key seen, or a state written and read."""
    per_key, per_state = 4 * held.heads * held.head_dim, 4 * held.heads * held.head_dim**2
    keys = (plan.context + 1) / plan.sequence
    if plan.mixer == "yoco":
        first = held.layers // 2
        return first * per_state + (held.layers - first) * per_key * keys
    if plan.mixer == "retention":
        return held.layers * per_state
    if plan.mixer == "window":
        return held.layers * per_key * min(plan.window, plan.context + 1)
    return held.layers * per_key * keys * (plan.share if plan.mixer == "sparse" else 1)


# ---- bytes sent ----------------------------------------------------------------------------------------------------


def prompt_sent(plan):
    """(bytes that a device sends, collectives) for a prompt."""
    tokens = texts(plan) * (plan.context // plan.sequence)
    last = texts(plan) if plan.mixer == "yoco" else tokens  # tokens in the layers of the cross-decoder
    tensor, expert = _tensor_sent(plan, tokens, last), _expert_sent(plan, tokens)
    return _sum(tensor, expert, _sequence_sent_once(plan))


def decode_sent(plan):
    """(bytes that a device sends, collectives) for one token of every text."""
    tokens = texts(plan)
    return _sum(_tensor_sent(plan, tokens, tokens), _expert_sent(plan, tokens), _sequence_sent_each(plan))


def _sum(*parts):
    return sum(sent for sent, _ in parts), sum(calls for _, calls in parts)


def _tensor_sent(plan, tokens, last):
    """Two all-reduces per layer, after attention and after the feed-forward (gpt-fast, tp.py), and for the vocabulary
    one of the embeddings and an all-gather of the logits. tokens: in the first half of the layers; last: in the second.
    """
    if plan.tensor == 1:
        return 0, 0
    layers, row = plan.model.layers, plan.model.width * costs.element_bytes(plan.products)
    reduced = (2 * (layers // 2) + 1) * tokens + 2 * (layers - layers // 2) * last
    logits = texts(plan) * part(plan).vocabulary * plan.tensor * costs.element_bytes(plan.products)
    return all_reduce(reduced * row, plan.tensor) + all_gather(logits, plan.tensor), 2 * layers + 2


def _expert_sent(plan, tokens):
    """Rows go to their experts and come back: two all-to-alls per layer, of top_k rows per token, routed evenly."""
    if plan.expert == 1:
        return 0, 0
    rows = tokens * plan.top_k * plan.model.width * costs.element_bytes(plan.products)
    return 2 * plan.model.layers * all_to_all(rows, plan.expert), 2 * plan.model.layers


def _sequence_sent_once(plan):
    """What the devices of one text pass on while they read it (as `yoco.costs.sent_bytes` for a YOCO).

    Attention: all keys and values, gathered. Window: the last window - 1 of those before. Retention: states, whose size
    no text changes (LASP-2, abstract: one all-gather of states). YOCO: states and decays, and the one cache.
    """
    if plan.sequence == 1:
        return 0, 0
    held, found, others = part(plan), kept(plan), plan.sequence - 1
    if plan.mixer == "window":
        reach = min(plan.window - 1, plan.context - plan.context // plan.sequence)
        return costs.cache_bytes(held, reach, batch=texts(plan), dtype=plan.cache), held.layers
    if plan.mixer == "yoco":
        decays = STATE * texts(plan) * (held.layers // 2) * held.heads
        return others * (found.constant + decays) + all_gather(found.growing, plan.sequence), held.layers // 2 + 1
    return others * found.constant + all_gather(found.growing, plan.sequence), held.layers


def _sequence_sent_each(plan):
    """Decoding joins what each device attended to: an output and a log-sum-exp per head, in each attending layer."""
    held = part(plan)
    layers = {"window": 0, "retention": 0, "yoco": held.layers - held.layers // 2}.get(plan.mixer, held.layers)
    if plan.sequence == 1 or layers == 0:
        return 0, 0
    partial = STATE * texts(plan) * held.heads * (held.head_dim + 1)
    return layers * all_gather(partial * plan.sequence, plan.sequence), layers
