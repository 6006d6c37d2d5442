"""From sizes and named tensors to a LanguageModel: what all kinds of checkpoint share. Checks come before weights."""

import dataclasses
import math

import torch

from effattn_core.model import Configuration, LanguageModel
from effattn_core.pretrained.vocabulary import rendered

MOST = 1 << 24  # a size above this is a damaged file


class Checkpoint:
    """A trained model that was opened, its weights not yet read. A kind of file gives what follows.

    where: its name in sentences. names: our parameter, or the middle of its name, -> theirs; layer: what their names
    of a layer's tensors begin with. halves: whether a head's dimension i turns with i + head_dim / 2.
    sizes(): the Configuration. shapes(): tensor -> shape. weight(name): a tensor.
    tokenizer(), chat_template(): the latter may be None.
    """

    where: str
    names: dict
    layer: str
    halves: bool

    def load(self, *, dtype=None, device=None, context=None):
        """(model, tokenizer), arguments as of `pretrained.load`."""
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        return self.model(dtype, device, context), self.tokenizer()

    def model(self, dtype, device, context):
        """A LanguageModel in eval mode whose parameters are read one after another, in `dtype` on `device`."""
        sizes = self._shortened(context)
        self._require_tensors(sizes)
        with torch.device("meta"):
            model = LanguageModel(sizes)
        weights = {name: self._read(name, sizes).to(device, dtype) for name, _ in model.named_parameters()}
        if sizes.tied:
            weights["head.weight"] = weights["embedding.weight"]
        model.load_state_dict(weights, assign=True)
        if sizes.tied:
            model.head.weight = model.embedding.weight
        return model.eval().requires_grad_(False)

    def conversation(self, messages, reply):
        """The chat template around messages, as of `pretrained.conversation`."""
        return rendered(self.chat_template(), messages, reply)

    @classmethod
    def their_name(cls, ours):
        """A parameter of LanguageModel by its name in such a file."""
        if ours in cls.names:
            return cls.names[ours]
        _, number, name = ours.split(".", 2)
        part, kind = name.rsplit(".", 1)
        return f"{cls.layer}.{number}.{cls.names[part]}.{kind}"

    def _read(self, ours, sizes):
        """A parameter, the rows of queries and keys in the order of this book's rotary pairs."""
        weight, part = self.weight(self.their_name(ours)), ours.split(".")[-2]
        heads = {"query": sizes.heads, "key": sizes.key_value_heads, "query_norm": 1, "key_norm": 1}.get(part)
        return halves_to_pairs(weight, heads) if self.halves and heads else weight

    def _shortened(self, context):
        """Sizes with a context of the caller's. Raises ValueError for more than the model was trained on."""
        sizes = self.sizes()
        if context is not None and context > sizes.context:
            raise ValueError(f"{self.where} was trained on {sizes.context:,} tokens; a context of {context:,} is more.")
        return dataclasses.replace(sizes, context=context or sizes.context)

    def _require_tensors(self, sizes):
        """Raise ValueError unless the file holds exactly the tensors of a model of these sizes.

        It holds of any sizes, however absurd, without allocating them.
        """
        shapes = self.shapes()
        if sizes.layers > len(shapes):
            raise ValueError(f"{self.where}: {sizes.layers:,} layers are named, but it holds {len(shapes):,} tensors.")
        with torch.device("meta"):
            wanted = {self.their_name(name): list(each.shape) for name, each in LanguageModel(sizes).named_parameters()}
        for name, shape in wanted.items():
            if name not in shapes:
                raise ValueError(f"{self.where}: the tensor {name} is missing.")
            if list(shapes[name]) != shape:
                raise ValueError(f"{self.where}: {name} must be {shape}, as the sizes say; it is {list(shapes[name])}.")
        unknown = sorted(set(shapes) - set(wanted))
        if unknown:
            raise ValueError(f"{self.where}: the tensor {unknown[0]} has no place in this book's model.")


def halves_to_pairs(weight, heads):
    """Rows of a projection whose heads turn dimension i with i + head_dim / 2, in the order of this book's pairs.

    weight: [heads · head_dim, …]. Row i of a head becomes its row 2i, and row i + head_dim / 2 its row 2i + 1.
    """
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def configured(where, **sizes):
    """The Configuration of sizes. Raises ValueError, with the file's name, for sizes that make no model."""
    try:
        return Configuration(**sizes)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def size_of(fields, name, where):
    """A field that must be a whole number from 1 to MOST. Raises ValueError for another."""
    size = fields[name]
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MOST:
        raise ValueError(f"{where}: {name} must be a whole number from 1 to {MOST:,}; it is {str(size)[:40]}.")
    return size


def number_of(fields, name, where, default=None):
    """A field that must be a positive number. Raises ValueError for another."""
    number = fields.get(name, default)
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number < math.inf:
        raise ValueError(f"{where}: {name} must be a positive number; it is {str(number)[:40]}.")
    return float(number)
