"""One layer's candidates: the form against the float64 oracle, chunks apart, who sees whom, and what is refused."""

import pytest
import torch

from effattn_core.focus import Projections, condensed, layout, oracle, scores_chunked, scores_dense
from effattn_core.positions import rotate

SHAPES = [(3, 13, 4, 2, 8), (1, 1, 2, 2, 4), (2, 64, 6, 3, 16), (4, 7, 3, 1, 6)]  # chunks, time, heads, key heads, size


def drawn(chunks, time, heads, key_heads, head_dim, seed=0):
    """(text, candidate, frozen, own) in float64."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    width = 12
    frozen, own = (
        Projections(
            *(random(count * head_dim, width) / width**0.5 for count in (heads, key_heads, key_heads)),
            random(width, heads * head_dim) / width**0.5,
        )
        for _ in range(2)
    )
    return random(chunks, time, width), random(chunks, width), frozen, own


def cast(drawn, dtype):
    return [Projections(*(e.to(dtype) for e in each)) if isinstance(each, tuple) else each.to(dtype) for each in drawn]


def lost_by(form, shape, dtype, part, seeds=8):
    """Root mean square distance of a form in `dtype` from the float64 definition of the same numbers.

    Over several draws: the largest of a few entries' errors is a matter of luck.
    """
    apart = []
    for seed in range(seeds):
        given = cast(drawn(*shape, seed=seed), dtype)
        truth = getattr(oracle(*cast(given, torch.float64), head_dim=shape[-1]), part)
        found = getattr(form(*given, head_dim=shape[-1]), part)
        assert found.dtype == dtype and found.shape == truth.shape
        apart.append((found.double() - truth).flatten())
    return torch.cat(apart).square().mean().sqrt().item()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_form_loses_at_most_twice_what_the_definition_loses_in_that_dtype(shape, dtype):
    # In float64 the definition is the truth itself: it is allowed what it loses in float32, in float64's units.
    plainly = torch.float32 if dtype == torch.float64 else dtype
    units = torch.finfo(dtype).eps / torch.finfo(plainly).eps
    for part in ("output", "key", "value"):
        lost, budget = lost_by(condensed, shape, dtype, part), 2 * units * lost_by(oracle, shape, plainly, part)
        print(f"{part}: error {lost:.2e}, budget {budget:.2e}")
        assert lost <= budget, part


def test_the_oracle_is_the_definition_computed_by_hand_of_two_tokens():
    """Width 2, one head of 2, all weights the identity but the candidate's value, which is doubled."""
    eye = torch.eye(2, dtype=torch.float64)
    frozen = Projections(eye, eye, eye, eye)
    own = frozen._replace(value=2 * eye)
    text, candidate = torch.tensor([[[1.0, 0.0]]]).double(), torch.tensor([[0.0, 1.0]]).double()
    found = oracle(text, candidate, frozen, own, head_dim=2)
    # At position 1 the query (0, 1) turns by 1 radian to (-sin 1, cos 1); the text's key stands at 0 and does not turn.
    scores = torch.tensor([-torch.sin(torch.tensor(1.0)).item(), 1.0], dtype=torch.float64) / 2**0.5
    weight = scores.softmax(0)
    torch.testing.assert_close(found.output[0], torch.stack([weight[0], 2 * weight[1]]), atol=1e-7, rtol=0)
    assert torch.equal(found.key[0, 0], candidate[0]) and torch.equal(found.value[0, 0], 2 * candidate[0])


@pytest.mark.parametrize("form", [oracle, condensed])
def test_a_chunk_s_candidate_does_not_depend_on_another_chunk(form):
    text, candidate, frozen, own = drawn(3, 9, 4, 2, 8)
    changed = text.clone()
    changed[1] = 7.0
    before, after = (form(each, candidate, frozen, own, head_dim=8) for each in (text, changed))
    for part in ("output", "key", "value"):
        old, new = getattr(before, part), getattr(after, part)
        assert torch.equal(old[[0, 2]], new[[0, 2]])
    assert not torch.equal(before.output[1], after.output[1])


def test_a_candidate_reads_the_text_by_frozen_keys_and_itself_by_its_own():
    text, candidate, frozen, own = drawn(2, 5, 2, 1, 4)
    found = condensed(text, candidate, frozen, own, head_dim=4)
    torch.testing.assert_close(found.key[:, 0], candidate @ own.key.mT)
    torch.testing.assert_close(found.value[:, 0], candidate @ own.value.mT)
    for part, changes in (("query", True), ("key", True), ("value", True), ("output", True)):
        other = condensed(text, candidate, frozen, own._replace(**{part: getattr(frozen, part)}), head_dim=4)
        assert torch.equal(other.output, found.output) is not changes, part
    for part, changes in (("query", False), ("key", True), ("value", True), ("output", False)):
        other = condensed(text, candidate, frozen._replace(**{part: getattr(own, part)}), own, head_dim=4)
        assert torch.equal(other.output, found.output) is not changes, part


def test_a_key_is_given_before_it_turns_so_that_it_may_stand_elsewhere():
    text, candidate, frozen, own = drawn(1, 6, 2, 2, 4)
    key = condensed(text, candidate, frozen, own, head_dim=4).key[:, :, None]
    assert not torch.allclose(rotate(key, 6, 1e4), rotate(key, 0, 1e4))
    assert torch.equal(rotate(key, 0, 1e4), key), "position 0 does not turn"


def test_the_layout_says_who_sees_whom_and_restarts_positions():
    found = layout(2, 3, 1, 2)
    assert found.kind == ["chunk"] * 3 + ["prompt", "candidate"] + ["chunk"] * 3 + ["prompt", "candidate"] + [
        "read", "read", "local", "local"
    ]  # fmt: skip
    assert found.position.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3]
    seen = found.seen
    assert seen[4].tolist() == [True] * 5 + [False] * 9, "a candidate sees its chunk, its prompt and itself"
    assert not seen[:5, 5:].any() and not seen[5:10, :5].any() and not seen[5:10, 10:].any()
    assert not seen[10:12].any(), "keys of candidates come ready"
    assert seen[12].tolist() == [False] * 10 + [True] * 3 + [False]
    assert seen[13].tolist() == [False] * 10 + [True] * 4
    none = layout(0, 3, 0, 2)
    assert none.kind == ["local"] * 2 and torch.equal(none.seen, torch.ones(2, 2).tril().bool())


@pytest.mark.parametrize("sizes", [(2, 3, 1, 2), (0, 4, 0, 5), (3, 8, 2, 4), (1, 1, 0, 1), (5, 7, 3, 3)])
def test_scores_are_the_entries_of_the_layout(sizes):
    assert scores_chunked(*sizes) == layout(*sizes).seen.sum()
    assert scores_dense(sizes[1]) == torch.ones(sizes[1], sizes[1]).tril().sum()


def refused(**changes):
    text, candidate, frozen, own = drawn(2, 5, 4, 2, 4)
    given = dict(text=text, candidate=candidate, frozen=frozen, own=own, head_dim=4) | changes
    tensors = [given.pop(name) for name in ("text", "candidate", "frozen", "own")]
    return condensed(*tensors, **given)


TEXT, CANDIDATE, FROZEN, OWN = drawn(2, 5, 4, 2, 4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(text=TEXT[0]), r"text must be \[chunks, time, width\]; its shape is \(5, 12\)\."),
        (dict(candidate=CANDIDATE[:1]), r"each chunk has one candidate.*got text \(2, 5, 12\), candidate \(1, 12\)\."),
        (dict(text=TEXT[:0], candidate=CANDIDATE[:0]), "there is at least one chunk"),
        (dict(candidate=CANDIDATE.float()), "must share a floating dtype"),
        (dict(own=OWN._replace(key=OWN.key[:4])), "own must have the shapes of frozen"),
        (dict(head_dim=3), "head_dim must be even and divide heads"),
        (dict(head_dim=0), "head_dim must be a whole number of at least 1; it is 0"),
        (dict(implementation="triton"), "candidates have no kernel of their own"),
        (dict(implementation="fast"), "implementation must be 'oracle'"),
    ],
)
def test_bad_input_says_what_was_given_and_what_is_wanted(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        refused(**changes)


def test_the_oracle_by_name_answers_in_the_dtype_of_the_text():
    given = cast(drawn(2, 5, 4, 2, 4), torch.float32)
    found = condensed(*given, head_dim=4, implementation="oracle")
    assert found.output.dtype == torch.float32
    wanted = oracle(*cast(given, torch.float64), head_dim=4)
    torch.testing.assert_close(found.output, wanted.output.float())


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ((-1, 4, 0, 4), "chunks must be a whole number of at least 0; it is -1"),
        ((1, 0, 0, 4), "chunk must be a whole number of at least 1; it is 0"),
        ((1, 4, 5, 4), "the prompt is the end of the local context, 4 tokens; it cannot have 5"),
        ((1, 4, 0, 0), "local must be a whole number of at least 1; it is 0"),
    ],
)
def test_sizes_that_make_no_step_are_refused(sizes, sentence):
    for count in (layout, scores_chunked):
        with pytest.raises(ValueError, match=sentence):
            count(*sizes)
