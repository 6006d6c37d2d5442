"""A folder in Hugging Face's layout: config.json, one or several safetensors files, tokenizer.json."""

import functools
import json

from effattn_core.pretrained import families
from effattn_core.pretrained.checkpoint import Checkpoint
from effattn_core.pretrained.vocabulary import from_json

MOST_JSON = 1 << 26  # bytes; tokenizers of 128K words take under 20 MB
NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
    "before_mixer": "input_layernorm",
    "before_feed_forward": "post_attention_layernorm",
    "mixer.query": "self_attn.q_proj",
    "mixer.key": "self_attn.k_proj",
    "mixer.value": "self_attn.v_proj",
    "mixer.output": "self_attn.o_proj",
    "mixer.query_norm": "self_attn.q_norm",
    "mixer.key_norm": "self_attn.k_norm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}


class Folder(Checkpoint):
    """A folder that was looked at; its tensors are sliced from memory-mapped files when a model is made."""

    names, layer, halves = NAMES, "model.layers", True

    def __init__(self, path):
        self.path, self.where = path, path.name

    def sizes(self):
        """The Configuration that its config.json describes."""
        return families.configuration(self._json("config.json"), self.where)

    def shapes(self):
        return {name: each.get_shape() for name, each in self._tensors.items()}

    def weight(self, name):
        return self._tensors[name][:]

    def tokenizer(self):
        """The tokenizer of tokenizer.json."""
        return from_json(self._file("tokenizer.json").read_bytes(), self.where)

    def chat_template(self):
        """The template's text, or None."""
        if (self.path / "chat_template.jinja").is_file():
            return self._file("chat_template.jinja").read_text(encoding="utf-8")
        if not (self.path / "tokenizer_config.json").is_file():
            return None
        return self._json("tokenizer_config.json").get("chat_template")

    def _file(self, name):
        """A file of the folder, by a bare name. Raises ValueError for a path, a missing file, one far too large."""
        if not isinstance(name, str) or "/" in name or "\\" in name or name in ("", ".", ".."):
            raise ValueError(f"{self.where}: a file of the folder must be a bare name; it is {name!r}.")
        file = self.path / name
        if not file.is_file():
            pickles = sorted(each.name for kind in ("*.bin", "*.pt", "*.pth") for each in self.path.glob(kind))
            more = f" {pickles[0]} is a pickle, which can run code, and is not read." if pickles else ""
            raise ValueError(f"{self.where}: {name} is missing.{more}")
        if not name.endswith(".safetensors") and file.stat().st_size > MOST_JSON:
            raise ValueError(f"{self.where}: {name} is over {MOST_JSON:,} bytes.")
        return file

    def _json(self, name):
        """A JSON object. Raises ValueError for anything else."""
        try:
            found = json.loads(self._file(name).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{self.where}: {name} is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise ValueError(f"{self.where}: {name} must be a JSON object; it is a {type(found).__name__}.")
        return found

    @functools.cached_property
    def _tensors(self):
        """name -> a slice that reads its tensor when asked, over one file or those that the index names."""
        if (self.path / "model.safetensors.index.json").is_file():
            index = self._json("model.safetensors.index.json").get("weight_map")
            if not isinstance(index, dict):
                raise ValueError(f"{self.where}: the index of its safetensors has no weight_map.")
            files = sorted({file if isinstance(file, str) else repr(file) for file in index.values()})
        else:
            files = ["model.safetensors"]
        opened, tensors = functools.cache(self._opened), {}
        for file in files:
            for name in opened(file).keys():  # noqa: SIM118  (not a dict)
                if name in tensors:
                    raise ValueError(f"{self.where}: the tensor {name} stands in two files.")
                tensors[name] = opened(file).get_slice(name)
        return tensors

    def _opened(self, name):
        from safetensors import SafetensorError, safe_open

        if not str(name).endswith(".safetensors"):
            raise ValueError(f"{self.where}: weights must be in safetensors files; one is {name!r}.")
        try:
            return safe_open(self._file(name), framework="pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{self.where}: {name} cannot be read: {error}") from None
