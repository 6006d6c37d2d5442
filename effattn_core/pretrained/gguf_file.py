"""A GGUF file, llama.cpp's format: sizes, tokens and quantised weights in one. The `gguf` package reads it."""

import functools
import struct

import torch

from effattn_core.pretrained.checkpoint import MOST, Checkpoint, configured, number_of, size_of
from effattn_core.pretrained.vocabulary import from_pieces

MAGIC, VERSIONS = b"GGUF", (2, 3)
FACTORS = "rope_freqs.weight"  # what rotary speeds are divided by, and no parameter
# Its name -> whether queries and keys are stored as this book turns them. llama's are, which llama.cpp permutes itself.
INTERLEAVED = {"llama": True, "qwen2": False, "qwen3": False}
NAMES = {
    "embedding.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "head.weight": "output.weight",
    "before_mixer": "attn_norm",
    "before_feed_forward": "ffn_norm",
    "mixer.query": "attn_q",
    "mixer.key": "attn_k",
    "mixer.value": "attn_v",
    "mixer.output": "attn_output",
    "mixer.query_norm": "attn_q_norm",
    "mixer.key_norm": "attn_k_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
}
SIZES = {
    "block_count": "layers",
    "embedding_length": "width",
    "feed_forward_length": "feed_forward",
    "context_length": "context",
    "attention.head_count": "heads",
}


class GGUF(Checkpoint):
    """A GGUF file that was opened, memory-mapped; its weights are dequantised one by one when a model is made."""

    names, layer = NAMES, "blk"

    def __init__(self, path):
        self.path, self.where = path, path.name
        require_header(path)

    @functools.cached_property
    def reader(self):
        from gguf import GGUFReader

        try:
            return GGUFReader(self.path)
        except Exception as error:  # a damaged file makes the reader stumble anywhere
            raise ValueError(f"{self.where} is damaged: {type(error).__name__}: {str(error)[:120]}") from None

    def field(self, name, default=None):
        """A field's value, or the default. Raises ValueError for one that cannot be read."""
        field = self.reader.get_field(name)
        try:
            return default if field is None else field.contents()
        except Exception as error:
            raise ValueError(f"{self.where}: the field {name} is damaged: {type(error).__name__}.") from None

    def sizes(self):
        """The Configuration that its fields describe."""
        kind = self.field("general.architecture")
        if kind not in INTERLEAVED:
            known = ", ".join(INTERLEAVED)
            raise ValueError(f"{self.where}: general.architecture must be one of {known}; it is {kind!r}.")
        fields = {name: self.field(f"{kind}.{name}") for name in (
            *SIZES, "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.freq_base",
            "rope.dimension_count", "rope.scaling.type", "attention.layer_norm_rms_epsilon", "expert_count",
            "attention.sliding_window",
        )}  # fmt: skip
        sizes = {ours: size_of(fields, theirs, self.where) for theirs, ours in SIZES.items()}
        kv = fields["attention.head_count_kv"]
        head_dim = fields["attention.key_length"] or sizes["width"] // sizes["heads"]
        only = {"rope.dimension_count": head_dim, "attention.value_length": head_dim, "expert_count": 0,
                "rope.scaling.type": "none", "attention.sliding_window": 0}  # fmt: skip
        for name, wanted in only.items():
            if (fields[name] or wanted) != wanted:
                raise ValueError(f"{self.where}: {kind}.{name} must be {wanted} here; it is {fields[name]!r}.")
        base = number_of({"freq_base": fields["rope.freq_base"] or 10000.0}, "freq_base", self.where)
        shapes = self.shapes()
        return configured(
            self.where,
            **sizes,
            vocabulary=shapes.get("token_embd.weight", (0,))[0],
            key_value_heads=sizes["heads"] if kv is None else size_of(fields, "attention.head_count_kv", self.where),
            head_dim=size_of({"key_length": head_dim}, "key_length", self.where),
            rotary_base=base,
            rotary_speeds=self.speeds(base, head_dim),
            epsilon=number_of(fields, "attention.layer_norm_rms_epsilon", self.where),
            tied="output.weight" not in shapes,
            biases="blk.0.attn_q.bias" in shapes,
            head_norms="blk.0.attn_q_norm.weight" in shapes,
        )

    def speeds(self, base, head_dim):
        """Rotary speeds where the file divides them by FACTORS (Llama 3.1's scaling), else None."""
        if FACTORS not in self.tensors:
            return None
        factors = self.weight(FACTORS).tolist()
        if len(factors) != head_dim // 2 or not all(factor > 0 for factor in factors):
            raise ValueError(f"{self.where}: {FACTORS} must be {head_dim // 2} positive numbers.")
        return tuple(base ** (-2 * pair / head_dim) / factor for pair, factor in enumerate(factors))

    @functools.cached_property
    def tensors(self):
        return {each.name: each for each in self.reader.tensors}

    @property
    def halves(self):
        return not INTERLEAVED[self.field("general.architecture")]

    def shapes(self):
        return {name: _shape(each) for name, each in self.tensors.items() if name != FACTORS}

    def weight(self, name):
        """A tensor, dequantised to float32."""
        import gguf

        found = self.tensors[name]
        try:
            numbers = gguf.dequantize(found.data, found.tensor_type)
        except Exception as error:
            raise ValueError(f"{self.where}: {name} cannot be dequantised: {str(error)[:120]}") from None
        return torch.from_numpy(numbers.copy()).float().reshape(_shape(found))

    def tokenizer(self):
        """The byte-level BPE tokenizer of the file's own lists."""
        kind = self.field("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ValueError(f"{self.where}: tokenizer.ggml.model must be gpt2 (byte-level BPE); it is {kind!r}.")
        lists = [self.field(f"tokenizer.ggml.{name}") for name in ("tokens", "merges", "token_type")]
        if not all(isinstance(each, list) for each in lists):
            raise ValueError(f"{self.where}: the tokenizer's tokens, merges or token types are missing.")
        return from_pieces(*lists, self.field("tokenizer.ggml.pre"), self.where)

    def chat_template(self):
        """The template's text, or None."""
        return self.field("tokenizer.chat_template")


def _shape(tensor):
    """A tensor's shape as PyTorch writes it; the file lists the fastest dimension first."""
    return tuple(int(size) for size in reversed(tensor.shape))


def require_header(path):
    """Raise ValueError unless the file begins as a GGUF file whose counts its length allows."""
    with open(path, "rb") as file:
        head = file.read(24)
    if head[:4] != MAGIC:
        pickled = head[:2] == b"\x80\x02" or head[:4] == b"PK\x03\x04"
        more = "; it looks like a pickle, which can run code and is not read" if pickled else ""
        raise ValueError(
            f"{path.name} is no GGUF file: it must begin with {MAGIC!r}, and begins with {head[:4]!r}{more}."
        )
    if len(head) < 24:
        raise ValueError(f"{path.name} is cut short: a GGUF header takes 24 bytes; it has {len(head)}.")
    version, tensors, fields = struct.unpack("<IQQ", head[4:])
    if version not in VERSIONS:
        raise ValueError(f"{path.name} must be GGUF version 2 or 3, little-endian; it says {version}.")
    size = path.stat().st_size
    if 24 * (tensors + fields) > size or max(tensors, fields) > MOST:  # an entry takes 24 bytes at least
        raise ValueError(
            f"{path.name} names {tensors:,} tensors and {fields:,} fields, more than its {size:,} bytes hold."
        )
