"""The launches of a layer of experts, the peer's and ours, for `kernels.inspect`: forward, backward, a decode batch.

The peer is `parallel_linear` of scattermoe (github.com/shawntan/scattermoe). SCATTERMOE of the environment names a
folder that holds a checkout of it. Called on a CPU under a driver that only compiles, its kernels are specialised as
its own launcher would specialise them. Both layers are SwiGLU experts, two per token, with the same loads; each is
handed its tensors in its own layout.
"""

import json
import os
import sys

import torch
from torch.nn import functional

PACKAGE, PLACE = "scattermoe", "SCATTERMOE"
EXPERTS, CHOICES = 8, 2
TOKENS = {"forward": 4096, "backward": 4096, "decode": 16}  # that a part's launches serve


def sizes_of(head_dim):
    """(width, inner) of the layer for the size that `kernels.inspect` asks for."""
    return 16 * head_dim, 8 * head_dim


def layer(dtype, head_dim, device):
    """The matrices gate, up: [experts, width, inner] and down: [experts, inner, width], leaves."""
    width, inner = sizes_of(head_dim)
    shapes = (width, inner), (width, inner), (inner, width)
    return [torch.zeros(EXPERTS, *shape, dtype=dtype, device=device, requires_grad=True) for shape in shapes]


def experts_of(tokens, device):
    """int64 [tokens, choices]: every expert as often as any other."""
    return torch.arange(tokens * CHOICES, device=device).view(tokens, CHOICES) % EXPERTS


def parts(run, dtype, head_dim, device):
    """Call run(hidden, gates, expert) forward and backward, then on a decode batch; yields the word of what follows."""
    for word, backward in (("forward", True), ("decode", False)):
        yield word
        tokens = TOKENS[word]
        hidden = torch.zeros(tokens, sizes_of(head_dim)[0], dtype=dtype, device=device, requires_grad=backward)
        gates = torch.ones(tokens, CHOICES, dtype=dtype, device=device, requires_grad=backward)
        with torch.set_grad_enabled(backward):
            output = run(hidden, gates, experts_of(tokens, device))
        if backward:
            yield "backward"
            output.backward(torch.zeros_like(output))


def our_launches(dtype=torch.bfloat16, head_dim=64, device="cpu"):
    """The layer through the operators of `kernels.routing`."""
    from kernels.routing import operators

    gate, up, down = layer(dtype, head_dim, device)

    def run(hidden, gates, expert):
        plan = operators.planned(expert, EXPERTS, dtype)
        inner = functional.silu(operators.grouped_product(hidden, gate, *plan, True))
        inner = inner * operators.grouped_product(hidden, up, *plan, True)
        made = operators.grouped_product(inner, down, *plan, False)
        return operators.combine_rows(made, gates, plan.place, plan.order, plan.offsets)

    yield from parts(run, dtype, head_dim, device)


def example_launches(dtype=torch.bfloat16, head_dim=64, device="cpu"):
    """The same layer through the peer's."""
    parallel_linear = peer()
    gate, up, down = layer(dtype, head_dim, device)

    def run(hidden, gates, expert):
        sorted_expert, order = expert.flatten().sort(stable=True)
        ends = torch.bincount(sorted_expert, minlength=EXPERTS).cumsum(0)
        common = sorted_expert, order, ends
        inner = functional.silu(parallel_linear(hidden, gate, CHOICES, *common, grouped_out=True))
        inner = inner * parallel_linear(hidden, up, CHOICES, *common, grouped_out=True)
        return parallel_linear(inner, down, 1, *common, gates=gates, grouped_in=True)

    yield from parts(run, dtype, head_dim, device)


def checkout():
    """The folder that SCATTERMOE names, or None. Raises FileNotFoundError where no such package lies in it."""
    place = os.environ.get(PLACE)
    if place and not os.path.isfile(os.path.join(place, PACKAGE, "parallel_experts.py")):
        raise FileNotFoundError(f"{PLACE} names {place}, in which there is no {PACKAGE}/parallel_experts.py.")
    return place or None


def peer():
    """`parallel_linear` of the checkout. One of its kernels' constants is a type, which a report writes as a word."""
    json.JSONEncoder.default = lambda self, value: str(value)
    sys.path.insert(0, checkout())
    from scattermoe.parallel_experts import parallel_linear

    return parallel_linear
