"""Drafters and decoding: caches put right, drafters of another vocabulary refused, SmolLM2 with an exact law."""

import pytest
import torch
from support.drafts import path_of
from tokenizers import Tokenizer, models

from effattn_core import model as whole
from effattn_core import pretrained
from effattn_core.model import build, configuration
from effattn_core.speculation import (
    Dice,
    Draft,
    Eagle,
    Extrapolator,
    FewRows,
    Fixed,
    Grown,
    Head,
    Lookup,
    ModelDrafter,
    chain,
    chain_of,
    decoding,
    draw_children,
    early_exit,
    few_rows,
    generate,
    law_of,
    most_frequent,
    plain,
    quick,
    read_tree,
    require_one_tokenizer,
    tree_states,
    verify,
)
from effattn_core.speculation import training as speculation_training
from effattn_core.train import train

WORDS = 23
SHAPES = [chain_of(4), Fixed((3, 2, 1)), Grown(4, 3, 9)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = build(configuration("tiny", WORDS, layers=3, context=64)).eval().requires_grad_(False)
    for weight in made.parameters():
        weight.data *= 4
    return made


PROMPT = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])


def drafters(model, shape):
    subset = most_frequent(torch.arange(WORDS), 9, always=(2,))
    for kept in (None, subset):
        yield ModelDrafter(model, shape, subset=kept)
        yield early_exit(model, 2, shape, subset=kept)
        yield Eagle(model, Extrapolator(model.sizes).requires_grad_(False), shape, subset=kept)
    yield Lookup(WORDS)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_greedy_words_are_those_of_plain_decoding_up_to_the_end_of_the_context(model, shape):
    wanted = list(whole.generate(model, PROMPT, 56))
    assert plain(model, PROMPT, 56).tokens == wanted
    for drafter in drafters(model, shape):
        made = generate(model, PROMPT, 56, drafter)
        assert made.tokens == wanted, type(drafter).__name__
        assert sum(made.accepted) + made.cycles == 55 and made.per_cycle == pytest.approx(55 / made.cycles)


def test_the_target_itself_as_drafter_is_always_taken(model):
    made = generate(model, PROMPT, 41, ModelDrafter(model, chain_of(4)))
    assert made.accepted == [4] * 8
    drawn = generate(model, PROMPT, 41, ModelDrafter(model, chain_of(4)), temperature=1.0)
    assert drawn.accepted == [4] * 8  # p / q is 1: nothing is refused


@pytest.mark.parametrize("shape", [Fixed((30, 1)), Grown(8, 9, 63), chain_of(63)], ids=["wide", "grown", "long"])
def test_the_largest_trees_fit_the_caches_up_to_the_end_of_the_context(model, shape):
    """The wide one asks for thirty words of 23: all of them are drafted."""
    prompt, count = PROMPT.repeat(6), 16
    wanted = list(whole.generate(model, prompt, count))
    for drafter in drafters(model, shape):
        assert generate(model, prompt, count, drafter).tokens == wanted, type(drafter).__name__


@pytest.mark.parametrize("temperature", [0.02, 0.3])
def test_a_sharp_drafter_proposes_fewer_words_and_says_on(model, temperature):
    for drafter in drafters(model, Fixed((3, 2))):
        dice = torch.Generator().manual_seed(0)
        made = generate(model, PROMPT, 40, drafter, temperature=temperature, generator=dice)
        assert len(made.tokens) >= 40 and max(made.drafted) <= 9
        if temperature == 0.02:
            assert min(made.drafted[:-2]) < 9, type(drafter).__name__


@pytest.mark.parametrize("parents", [[-1, 0, 1], [-1, -1, 0, 1, 3, 3], [-1] * 5], ids=str)
def test_a_tree_in_one_pass_gives_each_node_the_logits_of_its_own_text(model, parents):
    draft = Draft(torch.arange(len(parents)) + 7, torch.tensor(parents))
    states = tree_states(model)
    model.read(model.embedding(PROMPT[None, :-1]), states)
    logits, _ = read_tree(model, states, int(PROMPT[-1]), draft)
    for node in range(-1, len(parents)):
        path = path_of(parents, node)
        text = torch.cat([PROMPT, draft.tokens[path]])
        torch.testing.assert_close(logits[node + 1], model(text[None])[0][0, -1], atol=2e-4, rtol=1e-4)
        kept = [0, *(each + 1 for each in path)]
    # The cache of the path that won is the cache of its text.
    fresh = tree_states(model)
    model.read(model.embedding(text[None]), fresh)
    for state, other in zip(states, fresh, strict=True):
        state.keep(len(PROMPT) - 1, kept)
        torch.testing.assert_close(state.key, other.key, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(state.value, other.value, atol=2e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="rows must rise"):
        states[0].keep(len(PROMPT), [3, 1])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_drafter_guesses_in_a_tree_what_it_guesses_in_a_text(model, shape):
    """The scores of every node, by the drafter's own tree pass, against reading each path as a text."""
    drafter = ModelDrafter(model, shape)
    drafter.begin(model, None)
    draft = drafter.propose(PROMPT, 8, 0.0, None)
    for node in range(len(draft)):
        path = path_of(draft.parents, node)
        text = torch.cat([PROMPT, draft.tokens[path]])
        law = model(text[None])[0][0].log_softmax(-1)
        score = sum(law[len(PROMPT) - 1 + n, int(token)] for n, token in enumerate(draft.tokens[path]))
        assert draft.scores[node].item() == pytest.approx(score.item(), abs=1e-3)
    assert drafter.states[0].length == len(PROMPT) - 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_trained_head_guesses_in_a_tree_what_it_guesses_word_by_word(model, shape):
    """Scores of every node against its path read as a text, without a cache, each guess from the guess before it."""
    torch.manual_seed(2)
    drafter = Eagle(model, Extrapolator(model.sizes).requires_grad_(False), shape)
    hidden = speculation_training.hidden_states(model, PROMPT[None])[0].float()
    drafter.begin(model, None)
    for part in (slice(0, 5), slice(5, None)):  # settled in two cycles
        drafter.accept(PROMPT[1:][part], hidden[:-1][part])
    draft = drafter.propose(PROMPT, 8, 0.0, None)
    for node in range(len(draft)):
        before, score, words = hidden[:-1], 0.0, PROMPT[1:]
        for token in draft.tokens[path_of(draft.parents, node)]:
            guess = model.norm(drafter.extrapolator(model.embedding(words)[None], before[None])[0, -1])
            score += model.head(guess).log_softmax(-1)[token].item()
            words, before = torch.cat([words, token[None]]), torch.cat([before, guess[None]])
        assert draft.scores[node].item() == pytest.approx(score, abs=1e-3)


def test_lookup_takes_the_longest_match_and_the_latest_of_equals():
    drafter = Lookup(100, length=3, longest=2)

    def after(words, room=9):
        return drafter.propose(torch.tensor(words), room, 0.0, None).tokens.tolist()

    assert after([1, 2, 50, 51, 52, 2, 60, 1, 2]) == [50, 51, 52]  # two words agree there, one elsewhere
    assert after([2, 50, 9, 2, 60, 61, 2]) == [60, 61, 2]
    assert after([1, 2, 50, 51, 52, 1, 2], room=1) == [50]
    assert after([1, 2, 3]) == [] and after([4]) == []
    assert after([5, 5, 5]) == [5]


def test_few_rows_are_multiplied_as_many_are(model):
    fast = quick(model)
    assert all(a is b for a, b in zip(fast.parameters(), model.parameters(), strict=True))
    assert type(fast.head) is FewRows and type(model.head) is not FewRows
    for time in (1, 2, 16, 17):
        tokens = torch.arange(time)[None]
        torch.testing.assert_close(fast(tokens)[0], model(tokens)[0], atol=2e-4, rtol=1e-4)
    layer = FewRows(8, 6, bias=False)
    hidden = torch.randn(2, 1, 8)
    torch.testing.assert_close(few_rows(hidden[:1], layer.weight, large=0), hidden[:1] @ layer.weight.T)
    torch.testing.assert_close(layer(hidden), hidden @ layer.weight.T)
    for fewer in (hidden[:1], hidden[0, 0]):
        torch.testing.assert_close(layer(fewer), fewer @ layer.weight.T)


def test_an_extrapolator_learns_and_leaves_the_target_as_it_was(model):
    before = [weight.clone() for weight in model.parameters()]
    tokens = torch.randint(WORDS, (6, 40), generator=torch.Generator().manual_seed(0))
    hidden = speculation_training.hidden_states(model, tokens)
    assert hidden.dtype == torch.float16
    torch.testing.assert_close(model.head(hidden.float()), model(tokens)[0], atol=0.05, rtol=0.01)
    lesson = speculation_training.Lesson(model, speculation_training.new_extrapolator(model), torch.arange(WORDS))
    start = speculation_training.agreement(lesson, tokens, hidden)
    windows = speculation_training.Windows(tokens, hidden, 4, 24)
    train(lesson, windows, steps=80, learning_rate=3e-3, progress=False)
    end = speculation_training.agreement(lesson, tokens, hidden)
    assert end["drawn first"] > start["drawn first"] + 0.1 and 0 <= end["greedy second"] <= 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(name.startswith("_fixed") or "head" in name for name in lesson.state_dict())
    subset = most_frequent(torch.arange(WORDS), 9, always=(2,))
    cut = speculation_training.agreement(lesson, tokens, hidden, subset)
    assert cut["drawn first"] < end["drawn first"]
    with pytest.raises(ValueError, match="a window of 41 words needs passages as long; they have 40"):
        speculation_training.Windows(tokens, hidden, 4, 41)


def test_a_lesson_is_least_where_the_hidden_states_are_the_target_s(model, monkeypatch):
    tokens = torch.randint(WORDS, (3, 12), generator=torch.Generator().manual_seed(0))
    hidden = speculation_training.hidden_states(model, tokens).float()
    lesson = speculation_training.Lesson(model, Extrapolator(model.sizes), torch.arange(WORDS))
    monkeypatch.setattr(lesson, "guesses", lambda tokens, hidden: [hidden[:, 1:]] * 2)
    law = (hidden[:, 1:] @ model.head.weight.T).softmax(-1)
    entropy = -(law * law.clamp_min(1e-30).log()).sum(-1).mean()
    assert lesson.loss(tokens, hidden).item() == pytest.approx(1.5 * entropy.item(), rel=0.03)  # bfloat16


def test_a_drafter_of_other_words_is_refused_in_a_sentence(model):
    other = build(configuration("tiny", 30))
    with pytest.raises(ValueError, match="a drafter must have the target's 23 words; ModelDrafter has 30"):
        generate(model, PROMPT, 4, ModelDrafter(other))
    with pytest.raises(ValueError, match="a drafter must have the target's 23 words; Lookup has 24"):
        generate(model, PROMPT, 4, Lookup(24))
    with pytest.raises(ValueError, match="the subset is of 30 words, the head has 23"):
        Head(model.head.weight, most_frequent(torch.ones(30), 5))
    ours, theirs, short = (Tokenizer(models.WordLevel(words, unk_token="a")) for words in (
        {"a": 0, "b": 1, "c": 2}, {"a": 0, "c": 1, "b": 2}, {"a": 0}))  # fmt: skip
    require_one_tokenizer(ours, ours)
    with pytest.raises(ValueError, match="in which 'b' is word 1; its own has 2"):
        require_one_tokenizer(ours, theirs)
    with pytest.raises(ValueError, match="tokenizer of 3 words; its own has 1"):
        require_one_tokenizer(ours, short)
    assert ModelDrafter(other, tokenizers=(ours, ours)).vocabulary == 30
    with pytest.raises(ValueError, match="in which 'b' is word 1; its own has 2"):
        ModelDrafter(other, tokenizers=(ours, theirs))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_target_or_a_drafter_of_nan_is_refused_in_a_sentence(model, temperature):
    broken = build(configuration("tiny", WORDS, layers=3, context=64)).eval().requires_grad_(False)
    broken.head.weight.data[3] = float("nan")
    for call in (
        lambda: plain(broken, PROMPT, 4, temperature=temperature),
        lambda: generate(broken, PROMPT, 4, Lookup(WORDS), temperature=temperature),
        lambda: generate(model, PROMPT, 4, ModelDrafter(broken), temperature=temperature),
    ):
        with pytest.raises(ValueError, match="the largest logit must be finite; that of row 0 is nan"):
            call()


def test_a_target_that_breaks_in_the_middle_of_a_text_is_refused(model, monkeypatch):
    """The prompt's logits are fine, the tree's are not."""

    def broken(*given):
        logits, hidden = read_tree(*given)
        return logits.index_fill(0, torch.tensor([len(logits) - 1]), float("nan")), hidden

    monkeypatch.setattr(decoding, "read_tree", broken)
    with pytest.raises(ValueError, match="the largest logit must be finite; that of row"):
        generate(model, PROMPT, 4, Lookup(WORDS))


def told(model, prompt, count, **settings):
    """Decoding with the drafter that is quickest to make."""
    return generate(model, prompt, count, Lookup(WORDS), **settings)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda model: told(model, PROMPT, 57), "do not fit a context of 64"),
        (lambda model: told(model, PROMPT, 0), "count must be a whole number .*; it is 0"),
        (lambda model: told(model, PROMPT, -1), "count must be a whole number .*; it is -1"),
        (lambda model: plain(model, PROMPT, 0), "count must be a whole number .*; it is 0"),
        (lambda model: plain(model, PROMPT, 2.5), "count must be a whole number .*; it is 2.5"),
        (lambda model: plain(model, PROMPT[:0], 4), r"prompt must be int64 \[time\] .* it is torch.int64 \[0\]"),
        (lambda model: plain(model, PROMPT[None], 4), r"prompt must be int64 \[time\] .* it is torch.int64 \[1, 8\]"),
        (lambda model: told(model, PROMPT.float(), 4), r"prompt must be int64 .* it is torch.float32"),
        (lambda model: told(model, PROMPT[:0], 4), r"prompt must be int64 .* it is torch.int64 \[0\]"),
        (lambda model: told(model, PROMPT + 20, 4), "prompt must be words 0..22; it goes from 21 to 29"),
        (lambda model: told(model, PROMPT, 4, temperature=-1), "temperature must be .*; it is -1"),
        (lambda model: plain(model, PROMPT, 4, temperature=float("nan")), "temperature must be .*; it is nan"),
        (lambda model: early_exit(model, 3), "layers must lie in 1..2; it is 3"),
        (lambda model: Lookup(9, longest=1, shortest=2), "shortest must lie in 1..longest"),
        (lambda model: tree_states(build(configuration("tiny", 9, window=8))), "sees everything; this one is not"),
    ],
)
def test_bad_input_says_what_was_given_and_what_is_wanted(model, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(model)


@pytest.fixture(scope="module")
def smollm2():
    model, tokenizer = pretrained.load("smollm2", context=256)
    return quick(model.requires_grad_(False)), tokenizer


DRAWS = 500
TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer. To be, or not"


def test_smollm2_says_greedily_what_it_says_without_drafts(smollm2):
    model, tokenizer = smollm2
    prompt = torch.tensor(tokenizer.encode(TEXT).ids)
    wanted = plain(model, prompt, 12).tokens
    subset = most_frequent(torch.bincount(prompt, minlength=model.sizes.vocabulary), 2048)
    for drafter in (Lookup(model.sizes.vocabulary), early_exit(model, 12, Grown(3, 3, 7), subset=subset)):
        made = generate(model, prompt, 12, drafter)
        assert made.tokens == wanted and made.cycles < 11, type(drafter).__name__


@pytest.mark.parametrize("kind", ["chain", "tree"])
def test_smollm2_s_next_words_pass_a_chi_square_whatever_is_drafted(smollm2, kind):
    """Draws of `verify` with the laws of SmolLM2 and of its own first layers, cut to 2,048 words."""
    model, tokenizer = smollm2
    prompt = torch.tensor(tokenizer.encode("The king said to the").ids)
    with torch.inference_mode():
        target = law_of(model(prompt[None])[0][0, -1], 1.0)
        short = early_exit(model, 20).model
        subset = most_frequent(target, 2048)
        hidden = short.norm(short.read(short.embedding(prompt[None]), None)[0])[0, -1]
        proposal = subset.law(Head(model.head.weight, subset)(hidden))
    dice, drawn = Dice(torch.Generator().manual_seed(1)), []
    for _ in range(DRAWS):
        if kind == "tree":
            draft = Draft(torch.tensor(draw_children(proposal, 3, dice)), torch.full((3,), -1), proposal.expand(3, -1))
        else:
            draft = chain(torch.tensor([dice.draw(proposal)]), proposal[None])
        path, last = verify(draft, target.expand(len(draft) + 1, -1), dice)
        drawn.append(int(draft.tokens[path[0]]) if path else last)
    assert chi_square(torch.tensor(drawn), target) < 32  # about 10 degrees of freedom: exceeded once in 2,000
    assert chi_square(torch.multinomial(proposal, DRAWS, replacement=True), target) > 100


def chi_square(drawn, law, least=10):
    """Of the words that are expected `least` times or more, and all others as one."""
    expected = len(drawn) * law.double()
    common = expected >= least
    found = torch.bincount(drawn, minlength=len(law)).double()
    pairs = [torch.cat([each[common], each[~common].sum()[None]]) for each in (found, expected)]
    return ((pairs[0] - pairs[1]) ** 2 / pairs[1]).sum().item()
