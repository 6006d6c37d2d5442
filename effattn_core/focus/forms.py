"""One layer's candidates: the definition, a loop over chunks, and the form that takes all chunks at once.

Who sees whom, at which position, is in `layout`; how many scores that takes, beside dense attention, in
`scores_chunked` and `scores_dense`.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from effattn_core import calls
from effattn_core.positions import rotate


class Projections(NamedTuple):
    """A layer's weights, as `torch.nn.Linear` keeps them: [out, in], without biases.

    query: [heads · head_dim, width]; key, value: [key_heads · head_dim, width]; output: [width, heads · head_dim].
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor


class Condensed(NamedTuple):
    """What one layer makes of each chunk's candidate.

    output: [chunks, width], what is added to its residual stream. key, value: [chunks, key_heads, head_dim], what the
    decoder will read of the chunk; the key is not turned, for it gets another position there.
    """

    output: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor


def oracle(text, candidate, frozen, own, *, head_dim, base=10000.0):
    """Each chunk's candidate in one layer, chunk by chunk (eq. focus-candidate). Returns a Condensed.

    text: [chunks, time, width], what the layer reads of a chunk and of the prompt after it; candidate: [chunks, width].
    frozen, own: Projections, of the text and of the candidate. Positions are 0 … time - 1, the candidate's is time.
    base: of the rotary positions. (FocusLLM, section 3; `beacon_*_proj` in the released code.)
    """
    made = []
    for before, last in zip(text, candidate, strict=True):
        key, value = (torch.cat([before @ old.mT, last[None] @ new.mT]).unflatten(-1, (-1, head_dim)).transpose(0, 1)
                      for old, new in zip(frozen[1:3], own[1:3], strict=True))  # fmt: skip
        query = (own.query @ last).view(-1, 1, head_dim)
        group, time = len(query) // len(key), len(before)
        turned = rotate(key[None], 0, base)[0].repeat_interleave(group, 0)
        scores = rotate(query[None], time, base)[0] @ turned.mT * head_dim**-0.5
        mixed = scores.softmax(-1) @ value.repeat_interleave(group, 0)
        made.append(Condensed(own.output @ mixed.flatten(), key[:, -1], value[:, -1]))
    return Condensed(*map(torch.stack, zip(*made, strict=True)))


def condensed(text, candidate, frozen, own, *, head_dim, base=10000.0, implementation=None):
    """Each chunk's candidate in one layer, all chunks at once: what `oracle` says, in the arguments' dtype.

    implementation: "oracle" (the definition in float64), "torch", or None for that. Returns a Condensed.
    Raises ValueError for shapes or dtypes that do not fit, no chunk, and "triton", for there is no kernel here.
    """
    _check(text, candidate, frozen, own, head_dim, implementation)
    if implementation == "oracle":
        weights = (Projections(*(weight.double() for weight in each)) for each in (frozen, own))
        exact = oracle(text.double(), candidate.double(), *weights, head_dim=head_dim, base=base)
        return Condensed(*(each.to(text.dtype) for each in exact))

    def heads(states, weight):
        return linear(states, weight).unflatten(-1, (-1, head_dim)).transpose(1, 2)

    last = candidate[:, None]
    query, key, value = (heads(last, weight) for weight in own[:3])
    keys = rotate(torch.cat([heads(text, frozen.key), key], 2), 0, base)
    values = torch.cat([heads(text, frozen.value), value], 2)
    query = rotate(query, text.shape[1], base)
    grouped = query.shape[1] != key.shape[1]
    mixed = scaled_dot_product_attention(query, keys, values, enable_gqa=grouped)
    return Condensed(linear(mixed.transpose(1, 2).flatten(1), own.output), key[:, :, 0], value[:, :, 0])


def _check(text, candidate, frozen, own, head_dim, implementation):
    """Raise ValueError, in a sentence, unless the arguments of `condensed` fit each other."""
    calls.require_implementation(implementation)
    if implementation == "triton":
        raise ValueError("candidates have no kernel of their own; implementation must be 'oracle', 'torch' or None.")
    calls.require_count("head_dim", head_dim)
    calls.require_rank("chunks, time, width", text=text)
    calls.require_rank("chunks, width", candidate=candidate)
    for name, each in (("frozen", frozen), ("own", own)):
        calls.require_alike(text=text, **{f"{name}.{part}": weight for part, weight in each._asdict().items()})
    calls.require_alike(text=text, candidate=candidate)
    if not len(text) or candidate.shape != (len(text), text.shape[2]):
        raise ValueError(
            "each chunk has one candidate, [chunks, width], and there is at least one chunk; "
            f"got text {tuple(text.shape)}, candidate {tuple(candidate.shape)}."
        )
    shapes = [tuple(weight.shape) for weight in frozen]
    if shapes != [tuple(weight.shape) for weight in own]:
        raise ValueError(f"own must have the shapes of frozen, {shapes}; got {[tuple(each.shape) for each in own]}.")
    if head_dim % 2 or any(shape[0] % head_dim for shape in shapes[:3]) or shapes[0][0] % max(1, shapes[1][0]):
        raise ValueError(f"head_dim must be even and divide heads that key heads divide; got {head_dim}, {shapes}.")


def cut(time, chunk, local):
    """(chunks, local tokens) of a text of `time` tokens: whole chunks, before at least the last `local` tokens.

    Tokens that fill no chunk are local too, up to chunk - 1 more of them; a text with no whole chunk is all local.
    Raises ValueError for a chunk or local context under 1, and sizes that are no whole numbers.
    """
    for name, size, least in (("context", time, 0), ("chunk", chunk, 1), ("local", local, 1)):
        calls.require_count(name, size, least)
    chunks = max(0, (time - local) // chunk)
    return chunks, time - chunks * chunk


class Layout(NamedTuple):
    """Who sees whom in one step, all passes laid side by side.

    group: of each token that reads or is read, the name of its pass: the number of a chunk, or "local".
    kind: "chunk", "prompt", "candidate" (in its chunk's pass), "read" (a candidate's key as the local pass reads it),
    or "local". position: int64, where rotary positions turn it, from 0 in every pass. seen: bool [tokens, tokens], rows
    read columns; the rows of kind "read" are empty, for those keys come ready.
    """

    group: list
    kind: list
    position: torch.Tensor
    seen: torch.Tensor


def layout(chunks, chunk, prompt, local):
    """The Layout of `chunks` chunks of `chunk` tokens with `prompt` tokens after each, and `local` tokens.

    Raises ValueError for a size that is no whole number, or is under 1 (chunks and prompt may be 0), and for a prompt
    longer than the local context, which it is the end of.
    """
    _check_counts(chunks, chunk, prompt, local)
    one = ["chunk"] * chunk + ["prompt"] * prompt + ["candidate"]
    last = ["read"] * chunks + ["local"] * local
    group = [number for number in range(chunks) for _ in one] + ["local"] * len(last)
    position = torch.cat([torch.arange(len(one)).repeat(chunks), torch.arange(len(last))])
    seen = torch.zeros(len(group), len(group), dtype=torch.bool)
    for number in range(chunks):
        place = slice(number * len(one), (number + 1) * len(one))
        seen[place, place] = torch.ones(len(one), len(one), dtype=torch.bool).tril()
    place = slice(len(group) - len(last), len(group))
    seen[place, place] = torch.ones(len(last), len(last), dtype=torch.bool).tril()
    seen[place.start : place.start + chunks] = False
    return Layout(group, one * chunks + last, position, seen)


def scores_chunked(chunks, chunk, prompt, local):
    """Scores of one head and layer in one step (eq. focus-scores): those of every chunk's pass, and of the local one.

    A pass of t tokens has t · (t + 1) / 2; each local token reads the candidates too. Errors as of `layout`.
    """
    _check_counts(chunks, chunk, prompt, local)
    time = chunk + prompt + 1
    return chunks * (time * (time + 1) // 2) + local * chunks + local * (local + 1) // 2


def scores_dense(context):
    """Scores of one head and layer of causal attention over `context` tokens: context · (context + 1) / 2."""
    calls.require_count("context", context, 0)
    return context * (context + 1) // 2


def _check_counts(chunks, chunk, prompt, local):
    calls.require_count("chunks", chunks, 0)
    calls.require_count("chunk", chunk)
    calls.require_count("prompt", prompt, 0)
    calls.require_count("local", local)
    if prompt > local:
        raise ValueError(f"the prompt is the end of the local context, {local} tokens; it cannot have {prompt}.")
