"""From sizes and named tensors to a LanguageModel, checked before a byte of a weight is read."""

import torch

from effattn_core.model import LanguageModel


def halves_to_pairs(weight, heads):
    """Rows of a projection whose heads turn dimension i with i + head_dim / 2, in the order of this book's pairs.

    weight: [heads · head_dim, …]. Row 2i of a head becomes its row i, and 2i + 1 its row i + head_dim / 2.
    """
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def require_tensors(sizes, names, shapes, where):
    """Raise ValueError unless `shapes`, name -> shape in the file, are exactly the tensors that `names` asks for.

    names: our parameter -> the file's tensor. It holds of any sizes, however absurd, without allocating them.
    """
    if sizes.layers > len(shapes):
        raise ValueError(f"{where}: {sizes.layers:,} layers are named, but it holds {len(shapes):,} tensors.")
    with torch.device("meta"):
        wanted = {name: tuple(each.shape) for name, each in LanguageModel(sizes).named_parameters()}
    asked = {names(name): shape for name, shape in wanted.items()}
    for name, shape in asked.items():
        if name not in shapes:
            raise ValueError(f"{where}: the tensor {name} is missing.")
        if tuple(shapes[name]) != shape:
            raise ValueError(f"{where}: {name} must be {list(shape)}, as the sizes say; it is {list(shapes[name])}.")
    unknown = sorted(set(shapes) - set(asked))
    if unknown:
        raise ValueError(f"{where}: the tensor {unknown[0]} has no place in this book's model.")


def assembled(sizes, read, dtype, device):
    """A LanguageModel in eval mode whose parameters are read(name), one after another, in `dtype` on `device`."""
    with torch.device("meta"):
        model = LanguageModel(sizes)
    weights = {name: read(name).to(device=device, dtype=dtype) for name, _ in model.named_parameters()}
    if sizes.tied:
        weights["head.weight"] = weights["embedding.weight"]
    model.load_state_dict(weights, assign=True)
    if sizes.tied:
        model.head.weight = model.embedding.weight
    return model.eval().requires_grad_(False)
