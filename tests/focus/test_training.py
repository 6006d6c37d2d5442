"""Lessons for the candidate's projections: what they are made of, that nothing leaks, and what stays frozen."""

import pytest
import torch
from torch.nn import functional

from effattn_core.focus import Added, condense, predict, recall
from effattn_core.focus import training as lessons_of
from effattn_core.focus.training import Condensing, Lesson, Lessons, continuation, reconstruction
from effattn_core.model import LanguageModel, configuration
from effattn_core.train import train

SIZES = dict(chunk=12, local=8, prompt=4)


def model_of():
    torch.manual_seed(0)
    return LanguageModel(configuration("tiny", 20, layers=3, context=40)).eval()


def texts(batch, time, generator):
    return torch.randint(20, (batch, time), generator=generator)


def batches(**changes):
    return Lessons(texts, **{**dict(batch=3, chunk=12, chunks=(1, 2), local=8, scored=4), **changes})


def test_a_continuation_follows_its_memory():
    text = torch.arange(30)[None]
    found = continuation(text, 20, 7, 3)
    assert torch.equal(torch.cat(list(found), 1), text) and [each.shape[1] for each in found] == [20, 7, 3]


def test_a_reconstruction_is_a_span_of_its_memory_from_any_place():
    text, generator = torch.arange(60).view(2, 30), torch.Generator().manual_seed(0)
    starts = set()
    for _ in range(100):
        found = reconstruction(text, 24, 5, 2, generator)
        span = torch.cat([found.local, found.target], 1)
        assert torch.equal(found.memory, text[:, :24])
        assert torch.equal(span, span[:, :1] + torch.arange(7)) and (span[:, -1] <= text[:, 23]).all()
        starts |= set((span[:, 0] % 30).tolist())
    assert starts == set(range(18))


def test_what_is_scored_is_never_in_the_prompt():
    model, text = model_of(), texts(2, 24 + 8 + 4, torch.Generator().manual_seed(1))
    lesson = continuation(text, 24, 8, 4)
    added = Added(model, 0)
    with torch.no_grad():
        added.embedding.add_(1.0)
    other = lesson._replace(target=(lesson.target + 1) % 20)
    found, changed = (lessons_of.logits(model, added, each, chunk=12, prompt=4) for each in (lesson, other))
    assert torch.equal(found[:, 0], changed[:, 0]) and not torch.equal(found[:, 1:], changed[:, 1:])
    candidates = condense(model, added, lesson.memory.unflatten(1, (2, 12)), lesson.local, prompt=4)
    whole = predict(model, candidates, torch.cat([lesson.local, lesson.target], 1))[0][:, 7:-1]
    torch.testing.assert_close(found, whole)
    wanted = functional.cross_entropy(whole.flatten(0, 1), lesson.target.flatten())
    torch.testing.assert_close(lessons_of.loss(model, added, lesson, chunk=12, prompt=4), wanted)


def test_training_moves_what_is_added_and_leaves_the_model_bit_for_bit():
    model = model_of()
    added = Added(model, 0)
    frozen = {name: each.clone() for name, each in model.state_dict().items()}
    before = {name: each.clone() for name, each in added.state_dict().items()}
    student = Condensing(model, added, **SIZES)
    assert {id(each) for each in student.parameters()} == {id(each) for each in added.parameters()}
    history = train(student, batches(), steps=5, learning_rate=1e-2, weight_decay=0.0, progress=False)
    assert history.finished and all(torch.equal(each, frozen[name]) for name, each in model.state_dict().items())
    still = {name for name, each in added.state_dict().items() if torch.equal(each, before[name])}
    # The last layer's candidate is read by key and value alone: nothing comes after its output.
    assert still == {"layers.2.query.weight", "layers.2.output.weight"}


def test_a_lesson_gives_gradients_to_the_copies_and_none_to_the_model():
    model = model_of()
    added = Added(model, 0)
    student = Condensing(model, added, **SIZES)
    student.loss(*next(batches())).backward()
    assert all(each.grad is None for each in model.parameters())
    got = [name for name, each in added.named_parameters() if each.grad is not None and each.grad.abs().sum() > 0]
    assert len(got) == 1 + 4 * 3 - 2


def test_a_run_that_was_cut_goes_on_bit_for_bit(tmp_path):
    def run(*stops):
        model = model_of()
        added = Added(model, 0)
        for steps in stops:
            student = Condensing(model, added, **SIZES)
            path = tmp_path / f"{stops}.pt"
            history = train(student, batches(), steps=steps, warmup=1, checkpoint=path, progress=False)
        return history, added

    (whole, first), (cut, second) = run(6), run(6, 6)
    assert whole.losses == cut.losses
    assert all(torch.equal(old, new) for old, new in zip(first.parameters(), second.parameters(), strict=True))


def test_both_lessons_come_by_turns_or_in_every_step():
    def kinds(made):
        tokens, target = made
        memory = tokens[:, :-8]
        inside = [
            any(torch.equal(torch.cat([text[-8:], aim]), memory[row, at : at + 12]) for at in range(memory.shape[1]))
            for row, (text, aim) in enumerate(zip(tokens, target, strict=True))
        ]
        return ["reconstruction" if each else "continuation" for each in inside]

    turns, both = batches(chunks=(2,)), batches(chunks=(2,), mix="sum")
    found = [set(kinds(next(turns))) for _ in range(12)]
    assert all(len(each) == 1 for each in found) and set.union(*found) == {"continuation", "reconstruction"}
    assert kinds(next(both)) == ["continuation"] * 3 + ["reconstruction"] * 3
    for only in lessons_of.LOSSES:
        assert set(kinds(next(batches(chunks=(2,), losses=(only,))))) == {only}
    lengths = {next(turns)[0].shape[1] for turns in [batches()] for _ in range(20)}
    assert lengths == {12 + 8, 24 + 8}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: batches(losses=("copying",)), "losses must be some of continuation, reconstruction"),
        (lambda: batches(losses=()), "losses must be some of"),
        (lambda: batches(mix="random"), "mix must be one of turns, sum; it is 'random'"),
        (lambda: continuation(torch.zeros(1, 9).long(), 4, 4, 2), r"tokens must be \[batch, 10\]"),
        (lambda: reconstruction(torch.zeros(1, 9).long(), 9, 8, 2), r"a span of 8 \+ 2 tokens does not fit a memory"),
        (lambda: reconstruction(torch.zeros(1, 9).long(), 12, 4, 2), r"tokens must be \[batch, at least 12\]"),
        (
            lambda: lessons_of.logits(
                model_of(), None, Lesson(*(torch.zeros(1, n).long() for n in (13, 8, 1))), chunk=12, prompt=4
            ),
            "the memory must be whole chunks of 12 tokens; it has 13",
        ),
        (
            lambda: lessons_of.loss(
                model_of(), None, Lesson(*(torch.zeros(1, n).long() for n in (12, 8, 0))), chunk=12, prompt=4
            ),
            r"a lesson scores at least one token of a target \[batch, scored\]; its shape is \(1, 0\)",
        ),
        (lambda: continuation(torch.zeros(1, 8).long(), 4, 4, 0), "scored must be a whole number of at least 1"),
        (lambda: continuation(torch.zeros(1, 8).long(), 4, 0, 4), "local must be a whole number of at least 1"),
        (lambda: batches(scored=0), "scored must be a whole number of at least 1; it is 0"),
        (lambda: batches(local=0), "local must be a whole number of at least 1; it is 0"),
        (lambda: batches(chunk=2.5), "chunk must be a whole number of at least 1; it is 2.5"),
        (lambda: recall.texts(1, 7, None), "a text has at least one cell of 8 tokens; 7 were asked"),
    ],
)  # fmt: skip
def test_bad_input_says_what_was_given_and_what_is_wanted(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_question_asks_for_a_fact_that_stands_once_in_the_memory():
    question, answer, fact, end = recall.places()
    lesson, chunk = recall.questions(200, 4, torch.Generator().manual_seed(0))
    key = lesson.local[:, -1] - question
    assert ((key >= 0) & (key < recall.KEYS)).all() and set(chunk.tolist()) == {0, 1, 2, 3}
    told = (lesson.memory >= fact) & ((lesson.memory - fact) // recall.VALUES == key[:, None])
    place = told.int().argmax(1)
    assert (told.sum(1) == 1).all() and torch.equal(place // recall.CHUNK, chunk)
    value = (lesson.memory.gather(1, place[:, None]) - fact) % recall.VALUES
    assert torch.equal(lesson.target, answer + value)
    local = lesson.local[:, :-1]
    assert not (
        (local == question + key[:, None]) | ((local >= fact) & ((local - fact) // recall.VALUES == key[:, None]))
    ).any()
    assert lesson.memory.max() < end


def test_a_text_s_answers_are_the_values_of_its_facts():
    question, answer, fact, _ = recall.places()
    text, key, value, asked, back = recall.described(64, 160, torch.Generator().manual_seed(0))
    cells = text.unflatten(1, (-1, recall.CELL))
    wanted = torch.where(asked, question + key, fact + key * recall.VALUES + value)
    assert ((cells == wanted[..., None]).sum(-1) == 1).all()
    place = (cells == wanted[..., None]).int().argmax(-1, keepdim=True)
    assert torch.equal(cells.gather(2, place + 1)[..., 0][asked], answer + value[asked])
    assert 0.4 < asked[:, 1:].double().mean() < 0.6 and not asked[:, 0].any()
    assert 0 < (back >= recall.NEAR).double().sum() / asked.sum() < 0.08, (
        "most questions ask for what was told a little while ago"
    )
    for row in range(8):
        facts = [at for at in range(20) if not asked[row, at]]
        for at in torch.nonzero(asked[row]).flatten().tolist():
            before = [each for each in facts if each < at]
            assert key[row, before[-1 - back[row, at]]] == key[row, at]
        values = {}
        for name, told in zip(key[row].tolist(), value[row].tolist(), strict=True):
            assert values.setdefault(name, told) == told


def test_a_drill_asks_for_facts_that_it_has_told():
    question, answer, fact, _ = recall.places()
    tokens, targets = recall.drill(32, 96, torch.Generator().manual_seed(0))
    assert tokens.shape == targets.shape == (32, 96)
    told = tokens[:, :32] - fact
    asked, value = tokens[:, 32::2] - question, targets[:, 32::2] - answer
    keys, values = told // recall.VALUES, told % recall.VALUES
    found = (keys[:, :, None] == asked[:, None]).int().argmax(1)
    assert torch.equal(values.gather(1, found), value)
    assert (targets[:, :32] < 0).all() and torch.equal(tokens[:, 33::2], targets[:, 32:-1:2])
