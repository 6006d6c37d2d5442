"""Candidates in a model: independent of each other, what they are at the start, in its window, and decoded with."""

import re

import pytest
import torch

from effattn_core import focus
from effattn_core.focus.model import ahead
from effattn_core.model import LanguageModel, build, configuration

END, SIZES = 0, dict(layers=3, context=40)


def model_of(seed=0, **changes):
    """A small frozen model in float64 whose weights are large enough for attention to be uneven."""
    torch.manual_seed(seed)
    made = LanguageModel(configuration("tiny", 20, **{**SIZES, **changes})).double().eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(6 if weight.ndim == 2 else 1)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def learned(model):
    """Projections that have moved away from the copies."""
    added, generator = focus.Added(model, END), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in added.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, dtype=weight.dtype, generator=generator))
    return added.requires_grad_(False)


def tokens(*shape, seed=5):
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(seed))


def test_changing_chunk_2_leaves_candidate_1_unchanged_bit_for_bit(model, learned):
    chunks, local = tokens(1, 3, 12), tokens(1, 9)
    changed = chunks.clone()
    changed[:, 1] = tokens(1, 12, seed=6)
    before, after = (focus.condense(model, learned, each, local, prompt=4) for each in (chunks, changed))
    for old, new in zip((*before.keys, *before.values), (*after.keys, *after.values), strict=True):
        assert torch.equal(old[:, :, [0, 2]], new[:, :, [0, 2]])
    assert not torch.equal(before.keys[-1][:, :, 1], after.keys[-1][:, :, 1])


def test_with_copied_weights_a_candidate_is_an_appended_end_token(model):
    chunks, local = tokens(2, 2, 12), tokens(2, 9)
    found = focus.condense(model, focus.Added(model, END), chunks, local, prompt=4)
    for text in range(2):
        for chunk in range(2):
            line = torch.cat([chunks[text, chunk], local[text, -4:], torch.tensor([END])])[None]
            states = model.read(model.embedding(line), model.new_states())[1]
            for state, key, value in zip(states, ahead(model, found), found.values, strict=True):
                torch.testing.assert_close(state.value[0, :, -1], value[text, :, chunk])
                # The decoder turns a candidate to its number; the model has turned the end token to 16.
                assert not torch.allclose(state.key[0, :, -1], key.key[text, :, chunk])
            unturned = model.blocks[0].mixer.key(model.blocks[0].before_mixer(model.embedding(line)))[0, -1]
            assert torch.allclose(found.keys[0][text, :, chunk].flatten(), unturned)


def test_chunks_in_parallel_are_chunks_one_after_another(model, learned):
    chunks, local = tokens(2, 3, 12), tokens(2, 9)
    found = focus.condense(model, learned, chunks, local, prompt=4)
    for number in range(3):
        alone = focus.condense(model, learned, chunks[:, number : number + 1], local, prompt=4)
        for together, one in zip((*found.keys, *found.values), (*alone.keys, *alone.values), strict=True):
            torch.testing.assert_close(together[:, :, number : number + 1], one)


def test_every_layer_s_candidate_is_that_of_the_layer_s_oracle(model, learned):
    chunks, local = tokens(1, 3, 12), tokens(1, 9)
    found = focus.condense(model, learned, chunks, local, prompt=4)
    text = torch.cat([chunks[0], local[0, -4:].expand(3, -1)], 1)
    hidden, candidate = model.embedding(text), learned.embedding.expand(3, -1)
    for number, (block, own) in enumerate(zip(model.blocks, learned.layers, strict=True)):
        weights = (
            focus.Projections(*(getattr(block.mixer, part).weight for part in ("query", "key", "value", "output"))),
            focus.Projections(*(own[part].weight for part in ("query", "key", "value", "output"))),
        )
        made = focus.oracle(
            block.before_mixer(hidden), block.before_mixer(candidate), *weights, head_dim=model.sizes.head_dim
        )
        torch.testing.assert_close(found.keys[number][0].transpose(0, 1), made.key)
        torch.testing.assert_close(found.values[number][0].transpose(0, 1), made.value)
        candidate = candidate + made.output
        candidate = candidate + block.feed_forward(block.before_feed_forward(candidate))
        hidden, _ = block(hidden)


class Positions:
    """A mixer's `turned`, which writes down every position that it is asked for."""

    def __init__(self, mixer, seen):
        self.turned_by, self.seen = mixer.turned, seen

    def __call__(self, query, key, first):
        self.seen.append((first, first + key.shape[2] - 1))
        return self.turned_by(query, key, first)


def test_positions_restart_in_every_pass_and_never_exceed_the_window(learned):
    model, seen = model_of(), []
    for block in model.blocks:
        block.mixer.turned = Positions(block.mixer, seen)
    chunks, local = tokens(1, 6, 20), tokens(1, 14)
    assert len(list(focus.decode(model, learned, chunks, local, 8, prompt=6))) == 8
    assert {first for first, _ in seen} >= {0, 6, 26}, "chunks and candidates' keys from 0, local from 6, candidate 26"
    assert max(last for _, last in seen) == 20 + 6 + 7 and 6 * 20 + 14 > model.sizes.context


def test_local_tokens_read_all_candidates_and_no_token_of_a_chunk(model, learned):
    chunks, local = tokens(1, 3, 12), tokens(1, 9)
    found = focus.condense(model, learned, chunks, local, prompt=4)
    plain = focus.predict(model, found, local)[0]
    for number in range(3):
        moved = focus.Candidates(found.keys, tuple(each.clone() for each in found.values))
        for value in moved.values:
            value[:, :, number] += 1
        assert (focus.predict(model, moved, local)[0] != plain).any(-1).all()
    with_none, _ = focus.predict(model, None, local)
    torch.testing.assert_close(with_none, model(local)[0])


def test_the_decoder_s_pass_is_attention_over_candidates_and_tokens_in_two_parts_too(model, learned):
    chunks, local = tokens(2, 3, 12), tokens(2, 9)
    found = focus.condense(model, learned, chunks, local, prompt=4)
    whole, states = focus.predict(model, found, local)
    first, states = focus.predict(model, found, local[:, :5])
    second, states = focus.predict(model, None, local[:, 5:], states)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert states[0].length == 12 and states[0].nbytes == 2 * states[0].key.nbytes
    torch.testing.assert_close(focus.predict(model, found, local, last=2)[0], whole[:, -2:])


def test_a_state_of_candidates_can_be_reordered_and_cropped(model, learned):
    chunks, local = tokens(2, 3, 12), tokens(2, 9)
    found = focus.condense(model, learned, chunks, local, prompt=4)
    _, states = focus.predict(model, found, local[:, :5])
    back = [state.crop(6).reorder(torch.tensor([1, 1])) for state in states]
    again, _ = focus.predict(model, None, local[[1, 1], 3:], back)
    torch.testing.assert_close(again[0], focus.predict(model, found, local)[0][1, 3:])
    with pytest.raises(ValueError, match=r"can be cropped to 0\.\.8; 9 was asked"):
        states[0].crop(9)


def greedy(model, added, chunks, local, count, prompt):
    """Decoding as defined: everything anew for every token, the prompt longer by each."""
    told, prompt = [], prompt
    for step in range(count):
        candidates = focus.condense(model, added, chunks, local, prompt=prompt + step)
        token = focus.predict(model, candidates, local)[0][:, -1].argmax(-1, keepdim=True)
        told.append(token.item())
        local = torch.cat([local, token], 1)
    return told


def test_decoding_refreshes_its_candidates_with_every_token(model, learned):
    chunks, local = tokens(1, 3, 12), tokens(1, 9)
    wanted = greedy(model, learned, chunks, local, 7, 4)
    assert list(focus.decode(model, learned, chunks, local, 7, prompt=4)) == wanted
    assert list(focus.decode(model, learned, chunks, local, 0, prompt=4)) == []


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_gives_nan_decodes_nothing(learned, temperature):
    model = model_of()
    model.head.weight[3] = float("nan")
    with pytest.raises(ValueError, match="largest logit must be finite; that of row 0 is nan"):
        list(focus.decode(model, learned, tokens(1, 3, 12), tokens(1, 9), 5, prompt=4, temperature=temperature))


@pytest.mark.parametrize("every", [2, 3, None])
def test_decoding_by_blocks_keeps_candidates_in_between(model, learned, every):
    chunks, local = tokens(1, 3, 12), tokens(1, 9)
    told, text, candidates = [], local, None
    for step in range(7):
        if step == 0 or (every and step % every == 0):
            candidates = focus.condense(model, learned, chunks, text, prompt=4 + step)
        token = focus.predict(model, candidates, text)[0][:, -1].argmax(-1, keepdim=True)
        told.append(token.item())
        text = torch.cat([text, token], 1)
    assert list(focus.decode(model, learned, chunks, local, 7, prompt=4, every=every)) == told


def test_one_memory_serves_several_local_contexts(model, learned):
    chunks, local = tokens(1, 3, 12), tokens(4, 9)
    states = focus.read_chunks(model, chunks, local[:1, :0])
    found = focus.refresh(model, learned, focus.prompted(model, states, local[:, -4:]), 4)
    wanted = focus.condense(model, learned, chunks.expand(4, -1, -1), local, prompt=4)
    for ours, theirs in zip((*found.keys, *found.values), (*wanted.keys, *wanted.values), strict=True):
        torch.testing.assert_close(ours, theirs)
    bare = focus.refresh(model, learned, focus.prompted(model, states, local[:1, :0]))
    torch.testing.assert_close(bare.keys[-1], focus.condense(model, learned, chunks, local[:1], prompt=0).keys[-1])
    assert states[0].length == 12, "the memory itself is left as it was"


def test_a_text_is_cut_into_whole_chunks_and_the_rest_stays_local():
    text = torch.arange(50)[None]
    found = focus.split(text, 12, 10)
    assert found.chunks.shape == (1, 3, 12) and torch.equal(found.chunks.flatten(1), text[:, :36])
    assert torch.equal(found.local, text[:, 36:])
    assert focus.split(text, 20, 10).local.shape[1] == 10
    with pytest.raises(ValueError, match="a text needs one chunk of 41 tokens before 10 local ones; it has 50 tokens"):
        focus.split(text, 41, 10)


@pytest.mark.parametrize("changes", [dict(head_norms=True, biases=True), dict(rotary_speeds=(1.0, 0.5) * 4)])
def test_models_with_norms_biases_and_listed_speeds_are_condensed_too(changes):
    model = model_of(**changes)
    chunks, local = tokens(1, 2, 12), tokens(1, 9)
    found = focus.condense(model, focus.Added(model, END), chunks, local, prompt=4)
    line = torch.cat([chunks[0, 1], local[0, -4:], torch.tensor([END])])[None]
    states = model.read(model.embedding(line), model.new_states())[1]
    torch.testing.assert_close(states[-1].value[0, :, -1], found.values[-1][0, :, 1])
    # A candidate at its end token's own position has the key that the model keeps.
    shifted = focus.Candidates(
        tuple(key[:, :, 1:].expand(-1, -1, 17, -1) for key in found.keys),
        tuple(value[:, :, 1:].expand(-1, -1, 17, -1) for value in found.values),
    )
    for state, kept in zip(states, ahead(model, shifted), strict=True):
        torch.testing.assert_close(state.key[:, :, -1], kept.key[:, :, -1])


def test_what_is_added_is_what_the_paper_counts(model):
    sizes, added = model.sizes, focus.Added(model, END)
    per_layer = 2 * sizes.width * sizes.head_dim * (sizes.heads + sizes.key_value_heads)
    assert sum(each.numel() for each in added.parameters()) == sizes.layers * per_layer + sizes.width
    assert torch.equal(added.embedding, model.embedding.weight[END]) and added.embedding.requires_grad
    assert not any(each.requires_grad for each in model.parameters())


CHUNKS, LOCAL = tokens(1, 3, 12), tokens(1, 9)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda model, added: focus.Added(model, 20), "end must be one of the model's 20 tokens; it is 20"),
        (lambda model, added: focus.Added(model, -1), "end must be a whole number of at least 0; it is -1"),
        (
            lambda model, added: focus.Added(build(configuration("small-yoco", 20)), 0),
            "need a model whose layers all attend to the whole text; this one has .* window 32, 2 cross layers",
        ),
        (
            lambda model, added: focus.condense(model, added, tokens(1, 2, 36), LOCAL, prompt=4),
            "a chunk, its prompt and the candidate take 41 positions; the model was trained on 40",
        ),
        (
            lambda model, added: focus.condense(model, added, CHUNKS[0], LOCAL, prompt=4),
            r"chunks must be \[batch, count, chunk\].*got \(3, 12\) and \(1, 4\)",
        ),
        (lambda model, added: focus.condense(model, added, CHUNKS[:, :0], LOCAL, prompt=4), "at least one token"),
        (lambda model, added: focus.condense(model, added, CHUNKS[:0], LOCAL[:0], prompt=4), "at least one token"),
        (lambda model, added: focus.condense(model, added, CHUNKS, LOCAL, prompt=-1), "prompt must be a whole number"),
        (
            lambda model, added: focus.predict(model, None, tokens(1, 41)),
            "candidates and local tokens take 41 positions; the model was trained on 40",
        ),
        *(
            (
                lambda model, added, last=last: focus.predict(model, None, LOCAL, last=last),
                f"last must be a whole number of at least 1; it is {last}",
            )
            for last in (0, -2, 2.0)
        ),
        (lambda model, added: focus.predict(model, None, LOCAL, last=12), "last is 12; there are 9 local tokens: ask"),
        (lambda model, added: focus.predict(model, None, LOCAL[0]), r"local must be \[batch, time\]; its shape is"),
        (
            lambda model, added: focus.condense(model, added, CHUNKS, LOCAL[0], prompt=4),
            r"local must be \[batch, time\]; its shape is \(9,\)",
        ),
        (
            lambda model, added: focus.predict(
                model, focus.condense(model, added, CHUNKS, LOCAL, prompt=4), tokens(2, 9)
            ),
            "candidates of 1 texts do not fit a batch of 2",
        ),
        (
            lambda model, added: list(focus.decode(model, added, CHUNKS, LOCAL, 30, prompt=4)),
            "candidates and local tokens take 41 positions",
        ),
        (lambda model, added: list(focus.decode(model, added, CHUNKS, LOCAL, 3, prompt=4, every=0)), "every must be"),
        *(
            (
                lambda model, added, prompt=prompt: list(focus.decode(model, added, CHUNKS, LOCAL, 3, prompt=prompt)),
                f"prompt must be a whole number of at least 0; it is {prompt}",
            )
            for prompt in (-3, 2.5, None)
        ),
        *(
            (
                lambda model, added, chunks=chunks, local=local: list(
                    focus.decode(model, added, chunks, local, 3, prompt=4)
                ),
                "decode takes one text, .*, and local .* with at least one token; got " + re.escape(shapes),
            )
            for chunks, local, shapes in (
                (CHUNKS, LOCAL[:, :0], "(1, 3, 12) and (1, 0)"),
                (CHUNKS, LOCAL[0], "(1, 3, 12) and (9,)"),
                (CHUNKS[0], LOCAL, "(3, 12) and (1, 9)"),
                (CHUNKS.expand(2, -1, -1), LOCAL.expand(2, -1), "(2, 3, 12) and (2, 9)"),
            )
        ),
        (
            lambda model, added: focus.prompted(
                model, focus.read_chunks(model, CHUNKS, LOCAL[:, :0]), tokens(1, 28)
            ),
            "a chunk, its prompt and the candidate take 41 positions",
        ),
    ],
)  # fmt: skip
def test_bad_input_says_what_was_given_and_what_is_wanted(model, learned, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(model, learned)


@pytest.mark.parametrize(
    "changes", [dict(layers=2), dict(width=32), dict(head_dim=32), dict(key_value_heads=4)], ids=str
)
def test_what_was_made_of_another_model_is_refused(model, learned, changes):
    other = model_of(**changes)
    foreign, states = focus.Added(other, END), focus.read_chunks(other, CHUNKS, LOCAL[:, -4:])
    made = focus.refresh(other, foreign, states)
    with pytest.raises(
        ValueError, match="added fits a model of [23] layers with projections .*: make an Added of this"
    ):
        focus.condense(model, foreign, CHUNKS, LOCAL, prompt=4)
    if changes != dict(width=32):  # candidates have heads, and no width
        with pytest.raises(
            ValueError, match="candidates are of [23] layers with . key heads of .*: condense with this"
        ):
            focus.predict(model, made, LOCAL)
        for call in (focus.prompted, lambda model, states, prompt: focus.refresh(model, learned, states)):
            with pytest.raises(ValueError, match="states are of [23] layers with . key heads of .*: read with this"):
                call(model, states, LOCAL[:, :2])
    if "layers" in changes:
        with pytest.raises(ValueError, match="there is a state of each of 3 layers; got 2"):
            focus.predict(model, None, LOCAL, ahead(other, made))


def test_states_know_how_many_texts_they_are_of(model, learned):
    chunks, local = tokens(2, 3, 12), tokens(2, 9)
    two, wanted = focus.read_chunks(model, chunks, local), focus.condense(model, learned, chunks, local, prompt=9)
    for batch in (None, 2):
        found = focus.refresh(model, learned, two, batch)
        assert all(map(torch.equal, (*found.keys, *found.values), (*wanted.keys, *wanted.values)))
    with pytest.raises(ValueError, match="the states are of 2 texts of 3 chunks; batch is 1"):
        focus.refresh(model, learned, two, 1)
    with pytest.raises(ValueError, match="the states are of 1 texts of 3 chunks; batch is 2"):
        focus.refresh(model, learned, focus.read_chunks(model, CHUNKS, LOCAL), 2)
    with pytest.raises(ValueError, match="prompted takes the states of one text; these are of 2"):
        focus.prompted(model, two, local)
    with pytest.raises(ValueError, match=r"prompt must be \[batch, time\]; its shape is \(9,\)"):
        focus.prompted(model, focus.read_chunks(model, CHUNKS, LOCAL[:, :0]), LOCAL[0])
    with pytest.raises(ValueError, match="states must be those that read_chunks or prompted made"):
        focus.refresh(model, learned, model.new_states())
    with pytest.raises(ValueError, match="cannot be reordered"):
        two[0].reorder(torch.tensor([0, 1]))
