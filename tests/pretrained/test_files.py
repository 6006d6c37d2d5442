"""Folders and GGUF files: what is right is read exactly; what is damaged or hostile is a sentence, never code run."""

import json
import pickle
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from effattn_core import pretrained

from . import checkpoints

TOKENS = torch.arange(24).reshape(2, 12)


def logits(model):
    with torch.no_grad():
        return model(TOKENS)[0]


def test_a_folder_gives_back_the_very_weights(tmp_path):
    made = checkpoints.model()
    model, tokenizer = pretrained.load(checkpoints.write_folder(tmp_path / "m", made), device="cpu")
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), made.parameters(), strict=True))
    assert torch.equal(logits(model), logits(made)) and tokenizer.encode("b").ids == [1]


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_gguf_file_gives_back_the_very_weights(tmp_path, architecture):
    made = checkpoints.model()
    path = checkpoints.write_gguf(tmp_path / "m.gguf", made, architecture=architecture)
    model, tokenizer = pretrained.load(path, device="cpu")
    assert torch.equal(logits(model), logits(made))
    assert tokenizer.encode("abcab<|end|>").ids == [27, 26, 28]


def test_quantised_weights_are_within_half_a_step_of_their_block(tmp_path):
    made = checkpoints.model()
    model, _ = pretrained.load(checkpoints.write_gguf(tmp_path / "m.gguf", made, kind="Q8_0"), device="cpu")
    for name, weight in made.state_dict().items():
        found, blocks = model.state_dict()[name], weight.reshape(-1, 32)
        bound = (
            0 if weight.ndim == 1 else (blocks.abs().amax(1, keepdim=True) / 127).half().float() * (0.5 + 127 / 2048)
        )  # the step is of sixteen bits
        assert ((found.reshape(-1, 32) - blocks).abs() <= bound).all(), name


def test_rotary_factors_of_a_gguf_file_divide_the_speeds(tmp_path):
    path = checkpoints.write_gguf(tmp_path / "m.gguf", factors=[1.0, 1.0, 2.0, 8.0])
    speeds = pretrained.load(path, device="cpu")[0].sizes.rotary_speeds
    assert speeds == pytest.approx((1.0, 0.1, 0.005, 0.000125))


def damaged(path, change):
    """A folder after `change(its path)`."""
    change(checkpoints.write_folder(path))
    return path


def edit(name, **changes):
    """What edits a JSON file of a folder."""
    return lambda path: (path / name).write_text(json.dumps({**json.loads((path / name).read_text()), **changes}))


def tensors(change):
    """What edits the tensors of a folder."""

    def edit(path):
        found = load_file(path / "model.safetensors")
        change(found)
        save_file(found, path / "model.safetensors")

    return edit


def shorten(path):
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])


def long_header(path):
    file = path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 62) + file.read_bytes()[8:])


class Runs:
    """A pickle that would leave a mark where it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


def pickled(path):
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(str(path / "RAN"))))


def outside(path):
    (path.parent / "secret.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"lm_head.weight": "../secret.safetensors"}})
    )


FOLDERS = {
    "a family": (edit("config.json", model_type="mamba"), "model_type must be one of llama, mistral, qwen2, qwen3"),
    "a field": (edit("config.json", attention_sink_size=4), "the field attention_sink_size is not known"),
    "an activation": (edit("config.json", hidden_act="gelu"), "hidden_act must be 'silu' in this book's model"),
    "a rotation": (edit("config.json", rope_scaling=dict(rope_type="yarn", factor=2.0)), "rope_type must be default"),
    "a rotary setting": (
        edit("config.json", rope_scaling=dict(type="linear", mscale=2)),
        "setting mscale is not known",
    ),
    "absurd layers": (edit("config.json", num_hidden_layers=10**7), "10,000,000 layers are named, but it holds 21"),
    "absurd width": (edit("config.json", hidden_size=1 << 60), "hidden_size must be a whole number from 1 to 16,777"),
    "a negative size": (edit("config.json", vocab_size=-1), "vocab_size must be a whole number"),
    "a text for a size": (edit("config.json", vocab_size="29"), "vocab_size must be a whole number"),
    "nan": (lambda p: edit("config.json", rms_norm_eps=float("nan"))(p), "rms_norm_eps must be a positive number"),
    "no JSON": (lambda path: (path / "config.json").write_text("{'a': 1}"), "config.json is not JSON"),
    "deep JSON": (lambda path: (path / "config.json").write_text("[" * 10**5), "config.json is not JSON"),
    "no object": (lambda path: (path / "config.json").write_text("[]"), "config.json must be a JSON object"),
    "no config": (lambda path: (path / "config.json").unlink(), "config.json is missing"),
    "too little": (shorten, "model.safetensors cannot be read"),
    "a header without end": (long_header, "model.safetensors cannot be read"),
    "a tensor too few": (tensors(lambda found: found.pop("lm_head.weight")), "tensor lm_head.weight is missing"),
    "a tensor too many": (tensors(lambda f: f.update(x=torch.ones(1))), "the tensor x has no place"),
    "another shape": (edit("config.json", vocab_size=30), r"model.embed_tokens.weight must be \[30, 32\]"),
    "a pickle": (pickled, "pytorch_model.bin is a pickle, which can run code, and is not read"),
    "a path": (outside, "must be a bare name; it is '../secret.safetensors'"),
    "no tokenizer": (lambda path: (path / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "half a tokenizer": (lambda path: (path / "tokenizer.json").write_text("{}"), "tokenizer.json cannot be read"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_bad_folder_is_a_sentence(tmp_path, what):
    change, sentence = FOLDERS[what]
    with pytest.raises(ValueError, match=sentence) as raised:
        pretrained.load(damaged(tmp_path / "model", change), device="cpu")
    assert "\n" not in str(raised.value).rstrip() and str(tmp_path) not in str(raised.value)
    assert not (tmp_path / "model" / "RAN").exists()


def bytes_of(change):
    """What rewrites a GGUF file's bytes."""

    def rewrite(path):
        path.write_bytes(change(path.read_bytes()))
        return path

    return lambda path: rewrite(checkpoints.write_gguf(path))


def replaced(old, new):
    return bytes_of(lambda found: found.replace(old, new))


def made(**changes):
    return lambda path: checkpoints.write_gguf(path, **changes)


def text(path):
    path.write_text("not a model")
    return path


def pickle_file(path):
    path.write_bytes(pickle.dumps(Runs(str(path.parent / "RAN")), protocol=2))
    return path


GGUF = {
    "no GGUF": (text, "is no GGUF file"),
    "a pickle": (pickle_file, "looks like a pickle, which can run code and is not read"),
    "a header only": (bytes_of(lambda found: found[:20]), "is cut short"),
    "a version": (bytes_of(lambda found: found[:4] + struct.pack("<I", 9) + found[8:]), "must be GGUF version 2 or 3"),
    "absurd counts": (
        bytes_of(lambda f: f[:8] + struct.pack("<QQ", 1 << 60, 3) + f[24:]),
        "more than its .* bytes hold",
    ),
    "half of it": (bytes_of(lambda found: found[: len(found) // 2]), "damaged|cannot be dequantised"),
    "half its fields": (bytes_of(lambda found: found[:900]), "damaged"),
    "an absurd text": (bytes_of(lambda f: f[:24] + struct.pack("<Q", 1 << 62) + f[32:]), "damaged"),
    "an architecture": (made(architecture="gemma3"), "general.architecture must be one of llama, qwen2, qwen3"),
    "absurd layers": (made(block_count=10**7), "10,000,000 layers are named"),
    "experts": (made(expert_count=8), "llama.expert_count must be 0 here; it is 8"),
    "another width": (
        made(**{"embedding_length": 64, "attention.head_count": 8}),
        r"token_embd.weight must be \[29, 64\]",
    ),
    "no layers": (made(block_count=None), "block_count must be a whole number"),
    "factors": (made(factors=[1.0, 2.0]), "rope_freqs.weight must be 4 positive numbers"),
    "a vocabulary": (replaced(b"gpt2", b"bert"), "tokenizer.ggml.model must be gpt2"),
    "a cut of words": (replaced(b"smollm", b"gemma9"), "tokenizer.ggml.pre must be smollm, llama-bpe or qwen2"),
    "a merge": (replaced(b"ab c", b"ab z"), "the merge 'ab z' makes no token"),
}


@pytest.mark.parametrize("what", GGUF)
def test_a_bad_gguf_file_is_a_sentence(tmp_path, what):
    make, sentence = GGUF[what]
    with pytest.raises(ValueError, match=sentence) as raised:
        pretrained.load(make(tmp_path / "model.gguf"), device="cpu")
    assert "\n" not in str(raised.value) and str(tmp_path) not in str(raised.value)
    assert not (tmp_path / "RAN").exists()


def test_a_source_that_is_not_there_names_the_three_kinds(tmp_path):
    with pytest.raises(ValueError, match='source must be "smollm2", a GGUF file or a folder'):
        pretrained.load(tmp_path / "nothing")


@pytest.mark.parametrize("given", [dict(dtype=torch.int8), dict(dtype="float32"), dict(context=0), dict(context=2.5)])
def test_settings_of_another_kind_are_a_sentence(given):
    with pytest.raises(ValueError, match="must be a"):
        pretrained.load("smollm2", **given)


def test_a_template_runs_nothing_outside_its_sandbox(tmp_path):
    path = checkpoints.write_folder(tmp_path / "model")
    hostile = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (path / "tokenizer_config.json").write_text(json.dumps(dict(chat_template=hostile)))
    with pytest.raises(ValueError, match="the chat template cannot be filled in: access to attribute"):
        pretrained.conversation(path, [])
    (path / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    with pytest.raises(ValueError, match="the chat template refuses these messages: no system role"):
        pretrained.conversation(path, [])
    with pytest.raises(ValueError, match="this model has no chat template"):
        pretrained.conversation(checkpoints.write_gguf(tmp_path / "m.gguf"), [])
