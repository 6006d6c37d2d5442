"""The oracle of YOCO: all layers over all tokens, in float64, with nothing kept and nothing left out."""

import copy

import torch

from effattn_core.attention import oracle as attend
from effattn_core.positions import even_speeds, turn


@torch.no_grad()
def oracle(model, tokens):
    """Logits of a YOCO by its definition (eq. yoco-layers): every other way to read a text answers to it.

    model: a YOCO, left as it is; its weights are widened to float64.   tokens: [batch, time] int64.
    Returns [batch, time, vocabulary]. The self-decoder's mixers are the model's own: their chapters have their oracles.
    """
    model = copy.deepcopy(model).double()
    writer, sizes = model.writer, model.sizes
    hidden = model.embedding(tokens)
    for block in model.blocks:
        hidden, _ = block(hidden)

    def heads(rows):  # [batch, time, heads · head_dim] to [batch, heads, time, head_dim]
        return rows.unflatten(-1, (-1, sizes.head_dim)).transpose(1, 2)

    speed = even_speeds(sizes.head_dim, sizes.rotary_base, hidden)
    key = turn(heads(writer.key(writer.norm(hidden))), 0, speed)
    value = heads(writer.value(writer.norm(hidden)))
    for block in model.cross_blocks:
        query = turn(heads(block.mixer.query(block.before_mixer(hidden))), 0, speed)
        mixed = attend(query, key, value, scale=sizes.head_dim**-0.5).output
        hidden = hidden + block.mixer.output(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + block.feed_forward(block.before_feed_forward(hidden))
    return model.head(model.norm(hidden))
