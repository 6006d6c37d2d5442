"""Multi-scale retention against an independent writing of the published module, and as a model that decodes."""

import numpy as np
import pytest
import torch

from effattn_core.model import Configuration, LanguageModel, configuration, generate
from effattn_core.retention.mixer import MultiScaleRetention

SIZES = Configuration(11, width=24, layers=1, heads=3, key_value_heads=3, head_dim=8, value_dim=16, mixer="retention")


def published(weights, hidden, epsilon, normalise):
    """The released module's parallel form, in NumPy, from its description: scores, both normalisers, norm, gate.

    hidden: [time, width]. Written apart from this library: nothing of it is called here.
    """
    time, heads, key_dim = len(hidden), SIZES.heads, SIZES.head_dim
    project = {name: hidden @ weights[name].T for name in ("query", "key", "value", "gate")}
    place = np.arange(time)
    angle = place[:, None] * 10000.0 ** -np.linspace(0, 1, key_dim // 2)

    def rotated(rows):
        turned = (rows[:, 0::2] + 1j * rows[:, 1::2]) * np.exp(1j * angle)
        return np.stack((turned.real, turned.imag), -1).reshape(rows.shape)

    outputs = []
    for head in range(heads):
        keys, values = slice(head * key_dim, (head + 1) * key_dim), slice(head * 16, (head + 1) * 16)
        query, key = rotated(project["query"][:, keys]), rotated(project["key"][:, keys] * key_dim**-0.5)
        decay = 1 - 2.0 ** (-5 - head)
        mask = np.tril(decay ** np.maximum(place[:, None] - place, 0.0))
        if normalise:
            mask = mask / np.sqrt(mask.sum(1, keepdims=True))
        scores = query @ key.T * mask
        if normalise:
            scores = scores / np.clip(np.abs(scores).sum(1, keepdims=True), 1, 5e4)
        mixed = scores @ project["value"][:, values]
        outputs.append(mixed / np.sqrt((mixed**2).mean(1, keepdims=True) + epsilon))
    gate = project["gate"]
    return (np.concatenate(outputs, 1) * gate / (1 + np.exp(-gate))) @ weights["output"].T


def mixer(epsilon=1e-6):
    torch.manual_seed(0)
    made = MultiScaleRetention(SIZES).double()
    made.epsilon = epsilon
    weights = {name.split(".")[0]: weight.detach().numpy() for name, weight in made.named_parameters()}
    return made, weights, torch.randn(1, 70, SIZES.width, dtype=torch.float64)


def test_weights_copied_into_the_published_module_give_the_same_output():
    module, weights, hidden = mixer(0.0)
    ours = module(hidden)[0][0].detach().numpy()
    np.testing.assert_allclose(ours, published(weights, hidden[0].numpy(), 0.0, normalise=False), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, published(weights, hidden[0].numpy(), 0.0, normalise=True), rtol=0, atol=1e-12)


def test_with_an_epsilon_the_published_normalisers_no_longer_cancel():
    module, weights, hidden = mixer(1e-3)
    ours, theirs = module(hidden)[0][0].detach().numpy(), published(weights, hidden[0].numpy(), 1e-3, normalise=True)
    assert np.abs(ours - theirs).max() > 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("cuts", [[30], [1, 2, 65], []])
def test_prefill_and_steps_give_what_the_whole_text_gives(cuts):
    module, _, hidden = mixer()
    whole, last = module(hidden)
    state = module.new_state(1, hidden)
    pieces = []
    for piece in hidden.tensor_split(cuts, dim=1):
        output, state = module(piece, state)
        pieces.append(output)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.memory, last.memory, rtol=0, atol=1e-12)
    output, state = module.prefill(hidden[:, :60])
    for token in range(60, 70):
        output, state = module.step(hidden[:, token : token + 1], state)
    torch.testing.assert_close(output, whole[:, -1:], rtol=0, atol=1e-12)
    assert state.length == 70 and state.nbytes == 3 * 8 * 16 * 8
    with pytest.raises(ValueError, match=r"a step decodes one token; hidden is \(1, 70, 24\)"):
        module.step(hidden, state)


def test_a_retnet_has_the_parameters_of_the_transformer_and_the_cache_changes_no_token():
    models = [LanguageModel(configuration(name, 80)) for name in ("small", "small-retention")]
    counts = [model.parameter_count for model in models]
    assert abs(counts[1] / counts[0] - 1) < 0.01, counts
    prompt = torch.tensor([1, 2, 3])
    assert list(generate(models[1], prompt, 30)) == list(generate(models[1], prompt, 30, use_cache=False))


def test_decoding_reaches_past_the_trained_context_with_a_state_of_one_size():
    model = LanguageModel(configuration("small-retention", 80)).double().eval()
    tokens = torch.randint(80, (1, 300), generator=torch.Generator().manual_seed(0))
    states = model.new_states()
    with torch.no_grad():
        whole, _ = model(tokens)
        for token in range(300):
            step, states = model(tokens[:, token : token + 1], states)
    torch.testing.assert_close(step[:, -1], whole[:, -1], rtol=0, atol=1e-9)
    assert sum(state.nbytes for state in states) == 3 * 3 * 32 * 64 * 8


def test_an_unknown_mixer_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"mixer must be one of \['attention', .*'retention'.*; it is 'convolution'"):
        configuration("small", 80, mixer="convolution")
