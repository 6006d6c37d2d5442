"""Where a frozen model looks a fact up; and the same model above empty layers, in which a candidate may read first.

What a layer's attention reads of a candidate was made in the layers below it. In the first layer that is nothing: the
candidate's key and value there come of its embedding alone and are the same for every chunk.
"""

import torch

from effattn_core.calls import require_count
from effattn_core.focus import recall
from effattn_core.focus.model import Added


@torch.no_grad()
def recalled_without(model, layer, chunks, *, batch=256, seed=1):
    """Share of right answers where the last token, which asks, takes in nothing of one layer's attention.

    The model reads the whole text at once, as in `recall.recalled_dense`. layer None: of the model as it is.
    """
    lesson, _ = recall.questions(batch, chunks, torch.Generator().manual_seed(seed))

    def silent(module, given, output):
        return torch.cat([output[:, :-1], torch.zeros_like(output[:, -1:])], 1)

    hook = None if layer is None else model.blocks[layer].mixer.output.register_forward_hook(silent)
    try:
        found = model(torch.cat([lesson.memory, lesson.local], 1))[0][:, -1].argmax(-1)
    finally:
        if hook is not None:
            hook.remove()
    return (found == lesson.target[:, 0]).double().mean().item()


@torch.no_grad()
def deepened(model, below):
    """`model`, of `recall.model`, above `below` empty layers: the same function, bit for bit, that many layers deeper.

    An empty layer adds nothing to the residual stream: its attention's output and its feed-forward are zero. Its
    queries, keys and values are those of the model's first layer. Frozen. Raises ValueError for below under 0.
    """
    require_count("below", below, 0)
    made = recall.model(layers=len(model.blocks) + below)
    for part in ("embedding", "norm", "head"):
        getattr(made, part).load_state_dict(getattr(model, part).state_dict())
    for number, block in enumerate(made.blocks):
        block.load_state_dict(model.blocks[max(0, number - below)].state_dict())
        if number < below:
            for weight in (block.mixer.output.weight, *block.feed_forward.parameters()):
                weight.zero_()
    return made.eval().requires_grad_(False)


@torch.no_grad()
def added_to(deep, below):
    """An Added of a `deepened` model whose copies have the first layer's output in the empty ones, which have none."""
    added = Added(deep, 0)
    for number in range(below):
        added.layers[number]["output"].weight.copy_(deep.blocks[below].mixer.output.weight)
    return added
