"""Times of a step of the optimizers beside torch.optim.AdamW, in one process, over the weights of a real layer.

python book/measurements/lowbit/bench.py      writes cpu.json or gpu-NAME.json beside this file

Weights are those of decoder layers of SmolLM2, and many vectors by themselves, gradients are random and stay. Before
anything is timed each optimizer's first step must be AdamW's. On a GPU SOLO's steps are the fused kernel's. Peers,
torchao and bitsandbytes, are timed where they are installed; `absent` of the provenance names those that are not.
"""

import importlib.metadata
import importlib.util
import shutil
from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.costs import SMOLLM2
from effattn_core.lowbit import AdamW8bit, SOLOAdamW, state_bytes
from effattn_core.lowbit.traffic import bytes_per_parameter
from kernels import bench, runtime

BASE = "AdamW, foreach"
SETTINGS = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
LAYERS, VECTORS, REPEATS = 1, 256, 9
PEERS = ("torchao", "bitsandbytes")


def layer_shapes(layers):
    """Shapes of the weights of decoder layers: projections, feed-forward, norms."""
    width, inner = SMOLLM2.width, SMOLLM2.feed_forward
    query, key = SMOLLM2.heads * SMOLLM2.head_dim, SMOLLM2.key_value_heads * SMOLLM2.head_dim
    matrices = [(query, width), (key, width), (key, width), (width, query)]
    return layers * [*matrices, (inner, width), (inner, width), (width, inner), (width,), (width,)]


def peers():
    """(name -> maker of the peers that are installed, names of those that are not)."""
    makers, absent = {}, []
    if importlib.util.find_spec("torchao"):
        from torchao import optim

        version = importlib.metadata.version("torchao")
        makers |= {f"torchao {version}, {bits} bits": getattr(optim, f"AdamW{bits}bit") for bits in (8, 4)}
    else:
        absent.append("torchao")
    if importlib.util.find_spec("bitsandbytes"):
        from bitsandbytes import optim

        makers[f"bitsandbytes {importlib.metadata.version('bitsandbytes')}, 8 bits"] = optim.AdamW8bit
    else:
        absent.append("bitsandbytes")
    return makers, absent


def makers():
    """name -> function from parameters to an optimizer, the baseline first; and the peers that are absent."""
    found = {
        BASE: partial(torch.optim.AdamW, foreach=True),
        "AdamW, fused": partial(torch.optim.AdamW, fused=True),
        "8-bit AdamW": AdamW8bit,
        "SOLO 4/2": SOLOAdamW,
        "SOLO 2/2": partial(SOLOAdamW, bits=(2, 2)),
    }
    if runtime.mode != "gpu":
        found["SOLO 4/2, foreach"] = partial(SOLOAdamW, foreach=True)
        if shutil.which("g++"):
            found["SOLO 4/2, compiled"] = partial(SOLOAdamW, compiled=True)
    theirs, absent = peers()
    return {name: partial(make, **SETTINGS) for name, make in (found | theirs).items()}, absent


def weights_of(shapes, device):
    """Parameters with gradients, the same each time."""
    generator = torch.Generator().manual_seed(0)
    weights = []
    for shape in shapes:
        weight = torch.nn.Parameter(0.02 * torch.randn(shape, generator=generator).to(device))
        weight.grad = 1e-3 * torch.randn(shape, generator=generator).to(device)
        weights.append(weight)
    return weights


def step_rows(what, shapes, made, repeats=REPEATS, device="cpu"):
    """Rows of one set of weights: seconds of a step, bytes of states and bytes that one pass must move, per parameter.

    Raises AssertionError where an optimizer's first step is not that of torch.optim.AdamW.
    """
    count = sum(torch.Size(shape).numel() for shape in shapes)
    wanted, optimizers = weights_of(shapes, device), {}
    torch.optim.AdamW(wanted, **SETTINGS).step()
    for name, make in made.items():
        weights = weights_of(shapes, device)
        optimizers[name] = make(weights)
        optimizers[name].step()
        for weight, right in zip(weights, wanted, strict=True):
            assert torch.allclose(weight, right, rtol=1e-5, atol=1e-6), f"{name}: its first step is not AdamW's"
    steps = {name: each.step for name, each in optimizers.items()}
    timings = bench.compare(steps, checked=True, repeats=repeats, device=device)
    return [
        row | {"states": state, "moved": bytes_per_parameter(state)}
        for row in bench.rows_of({"what": what, "tensors": len(shapes), "parameters": count}, timings)
        for state in [state_bytes(optimizers[row["name"]]) / count]
    ]


def main(folder=None, sets=None, names=None, repeats=REPEATS):
    """sets: what -> shapes, by default of LAYERS layers and VECTORS vectors; names: of optimizers, by default all."""
    reproducible(0)
    kind, device = ("gpu", "cuda") if runtime.mode == "gpu" else ("cpu", "cpu")
    path = bench.recording_path(folder or Path(__file__).parent, kind)
    made, absent = makers()
    made = {name: make for name, make in made.items() if name in (names or made)}
    source = bench.provenance("make bench") | {"absent": absent}
    rows = bench.stored(path, source["commit"])
    for what, shapes in (sets or {"layers": layer_shapes(LAYERS), "vectors": VECTORS * [(SMOLLM2.width,)]}).items():
        if not any(row["what"] == what for row in rows):
            rows += step_rows(what, shapes, made, repeats, device)
            bench.write_measurement(path, source, rows)


if __name__ == "__main__":
    main()
