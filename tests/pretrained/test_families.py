"""Checkpoints of every family, made at random by `transformers`, give its logits here, and its text with a cache."""

import json

import pytest
import torch
import transformers
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from effattn_core import pretrained
from effattn_core.model import generate
from effattn_core.pretrained.families import llama3_speed

COMMON = dict(
    vocab_size=97, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
    intermediate_size=80, max_position_embeddings=128, initializer_range=0.3,
    pad_token_id=None, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)  # fmt: skip
FAMILIES = {
    "llama": LlamaConfig(**COMMON, rms_norm_eps=1e-5),
    "llama, a head per query": LlamaConfig(**{**COMMON, "num_key_value_heads": 6}, rms_norm_eps=1e-3),
    "llama 3.1": LlamaConfig(**COMMON, rope_parameters=LLAMA3),
    "llama, longer positions": LlamaConfig(
        **COMMON, rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=4.0)
    ),
    "smollm2": LlamaConfig(**COMMON, tie_word_embeddings=True, rope_theta=100000.0),
    "qwen2": Qwen2Config(**COMMON, tie_word_embeddings=True, rope_theta=1e6),
    "qwen3": Qwen3Config(**COMMON, head_dim=16, rope_theta=1e6),
    "mistral": MistralConfig(**COMMON, sliding_window=7),
}


@pytest.fixture(scope="module", params=FAMILIES)
def theirs(request, tmp_path_factory):
    """(their model in float64, the folder that it was saved to), in one file or in several."""
    torch.manual_seed(sum(map(ord, request.param)))
    model = transformers.AutoModelForCausalLM.from_config(FAMILIES[request.param], attn_implementation="eager")
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):  # which start as ones and zeros: a mistake there would not be seen
            torch.nn.init.normal_(weight, mean=1.0, std=0.3)
    path = tmp_path_factory.mktemp("checkpoint") / "model"
    model.save_pretrained(path, max_shard_size="40KB" if "llama" in request.param else "1GB")
    tokenizer = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return model.double().eval(), path


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (1, 65)])
def test_logits_are_those_of_transformers(theirs, shape):
    model, path = theirs
    ours, _ = pretrained.load(path, device="cpu")
    tokens = torch.randint(97, shape)
    with torch.no_grad():
        wanted, found = model(tokens).logits, ours(tokens)[0].double()
    error = ((found - wanted).abs().max() / wanted.abs().max()).item()
    print(f"{path.parent.name}: relative error {error:.1e}")
    assert error < 1e-4


def test_decoding_with_a_cache_says_what_transformers_says(theirs):
    model, path = theirs
    ours, _ = pretrained.load(path, dtype=torch.float64, device="cpu", context=60)
    prompt = torch.randint(97, (11,))
    wanted = model.generate(prompt[None], max_new_tokens=20, do_sample=False)[0, 11:].tolist()
    assert list(generate(ours, prompt, 20)) == wanted
    assert list(generate(ours, prompt, 20, use_cache=False)) == wanted


def test_precision_and_context_are_the_caller_s(theirs):
    _, path = theirs
    ours, _ = pretrained.load(path, dtype=torch.float16, device="cpu", context=33)
    assert {weight.dtype for weight in ours.parameters()} == {torch.float16} and ours.sizes.context == 33
    assert not ours.training and not any(weight.requires_grad for weight in ours.parameters())
    with pytest.raises(ValueError, match=r"model was trained on 128 tokens; a context of 129 is more\."):
        pretrained.load(path, context=129)


def test_llama_3_s_scaling_keeps_fast_pairs_and_slows_the_slow_ones():
    fast, slow = 2 * torch.pi / 100, 2 * torch.pi / 20000  # radians per token: 82 and 0.4 turns in 8192 tokens
    assert llama3_speed(fast, 8.0, 1.0, 4.0, 8192) == fast
    assert llama3_speed(slow, 8.0, 1.0, 4.0, 8192) == slow / 8
