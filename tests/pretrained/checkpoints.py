"""Small checkpoints to read, and to damage: a folder in Hugging Face's layout, a GGUF file."""

import dataclasses
import json

import torch
from safetensors.torch import save_file

from effattn_core.model import Configuration, LanguageModel
from effattn_core.pretrained.folder import Folder
from effattn_core.pretrained.gguf_file import GGUF

SIZES = Configuration(
    29, width=32, layers=2, heads=4, key_value_heads=2, head_dim=8, feed_forward=64, context=64, epsilon=1e-5,
    rotary_base=10000.0,
)  # fmt: skip
CONFIG = dict(
    model_type="llama", vocab_size=29, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, intermediate_size=64, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
)  # fmt: skip
WORDS = dict(version="1.0", model=dict(type="WordLevel", vocab={"a": 0, "b": 1}, unk_token="a"))


def model(seed=0, sizes=SIZES):
    """A LanguageModel with weights large enough that each matters."""
    torch.manual_seed(seed)
    made = LanguageModel(sizes).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made


def pairs_to_halves(weight, heads):
    """A projection's rows in the order of Hugging Face's rotary halves, written down index by index."""
    rows = weight.shape[0] // heads
    order = [head * rows + 2 * pair + half for head in range(heads) for half in (0, 1) for pair in range(rows // 2)]
    return weight[order]


def write_folder(path, made=None, **changes):
    """A folder with `made`'s weights. changes: of its config.json."""
    path.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, weight in (made or model()).state_dict().items():
        heads = {"query": 4, "key": 2}.get(name.split(".")[-2])
        tensors[Folder.their_name(name)] = pairs_to_halves(weight, heads) if heads else weight.clone()
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (path / "tokenizer.json").write_text(json.dumps(WORDS))
    return path


def write_gguf(path, made=None, *, architecture="llama", kind="F32", factors=None, **changes):
    """A GGUF file with `made`'s weights in a quantised kind. changes: of its fields, None to leave one out."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    fields = {
        "block_count": 2, "embedding_length": 32, "feed_forward_length": 64, "context_length": 64,
        "attention.head_count": 4, "attention.head_count_kv": 2, "rope.dimension_count": 8,
    }  # fmt: skip
    fields |= changes
    for name, value in fields.items():
        if value is not None:
            writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.rope.freq_base", 10000.0)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    pieces = [*"abcdefghijklmnopqrstuvwxyz", "ab", "abc", "<|end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([1] * 28 + [3])
    writer.add_token_merges(["a b", "ab c"])
    for name, weight in (made or model()).state_dict().items():
        heads = {"query": 4, "key": 2}.get(name.split(".")[-2])
        if architecture != "llama" and heads:
            weight = pairs_to_halves(weight, heads)
        asked = getattr(gguf.GGMLQuantizationType, kind if weight.ndim == 2 else "F32")
        writer.add_tensor(GGUF.their_name(name), gguf.quantize(weight.numpy(), asked), raw_dtype=asked)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", torch.tensor(factors).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_reader(path, context=4096):
    """A folder whose model reads any text, one token per byte: what a recorded run is tried on."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = model(sizes=dataclasses.replace(SIZES, vocabulary=256, context=context))
    write_folder(path, made, vocab_size=256, max_position_embeddings=context)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path / "tokenizer.json"))
    return path
