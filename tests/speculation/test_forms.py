"""Drafts and trees: who sees whom, which path wins, what is refused, and what the words of a small law mean."""

import pytest
import torch
from support.drafts import path_of

from effattn_core.speculation import (
    END,
    ROOT,
    Dice,
    Draft,
    Fixed,
    Grown,
    Subset,
    chain,
    chain_of,
    counts,
    depths,
    draw_children,
    expected_tokens,
    expected_tokens_of,
    grow,
    law_of,
    most_frequent,
    packed,
    residual,
    tree_mask,
    verify,
    verify_greedy,
    without,
)

PARENTS = torch.tensor([-1, -1, 0, 0, 1, 4, 4, 2])


def random_parents(nodes, seed):
    dice = torch.Generator().manual_seed(seed)
    return torch.tensor([int(torch.randint(-1, node, (), generator=dice)) if node else ROOT for node in range(nodes)],
                        dtype=torch.int64)  # fmt: skip


def recursive(parents, row, column):
    """Whether a row sees a column, by walking up: row 0 is the root."""
    return row == column or (row > 0 and recursive(parents, int(parents[row - 1]) + 1, column))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nodes", [0, 1, 7, 63])
def test_masks_by_bits_and_by_matrix_are_who_is_reached_by_walking_up(nodes, seed):
    parents = random_parents(nodes, seed)
    mask, bits = tree_mask(parents), packed(parents)
    wanted = torch.tensor([[recursive(parents, row, col) for col in range(nodes + 1)] for row in range(nodes + 1)])
    assert torch.equal(mask, wanted)
    assert torch.equal((bits[:, None] >> torch.arange(nodes + 1) & 1).bool(), wanted)
    assert torch.equal(depths(parents) + 1, wanted[1:].sum(-1))
    for node in range(nodes):
        assert [0, *(each + 1 for each in path_of(parents, node))] == wanted[node + 1].nonzero().flatten().tolist()


def test_the_64th_bit_is_the_sign_and_a_65th_row_is_refused():
    bits = packed(torch.arange(63) - 1)
    assert bits[-1] == -1 and bits[-2] == 2**63 - 1 and bits[0] == 1
    with pytest.raises(ValueError, match="at most 64 rows; the root and drafts are 65"):
        packed(torch.arange(64) - 1)


@pytest.mark.parametrize("seed", range(20))
def test_the_path_that_wins_is_the_longest_that_the_target_agrees_with(seed):
    dice = torch.Generator().manual_seed(seed)
    parents = random_parents(12, seed)
    tokens, best = torch.empty(12, dtype=torch.int64), torch.randint(3, (13,), generator=dice).tolist()
    for node in range(12):  # siblings differ, as a drafter's do
        tokens[node] = int((parents[:node] == parents[node]).sum())
    path, last = verify_greedy(Draft(tokens, parents), best)

    def agrees(nodes):
        return all(int(tokens[node]) == best[int(parents[node]) + 1] for node in nodes)

    paths = [[], *(path_of(parents, node) for node in range(12))]
    assert path == max(filter(agrees, paths), key=len)
    assert last == best[path[-1] + 1 if path else 0]


def test_a_small_law_is_spread_over_its_own_words_and_sums_to_one():
    counted = counts(torch.tensor([[5, 5, 5, 1], [1, 0, 7, 7]]), 9)
    assert counted.tolist() == [1, 2, 0, 0, 0, 3, 0, 2, 0]
    subset = most_frequent(counted, 4)
    assert subset.ids.tolist() == [1, END, 5, 7]  # the end is kept, though it never stood in the text
    assert subset.coverage(counted) == 7 / 8
    logits = torch.tensor([0.0, 1.0, 2.0, 0.5])
    law = subset.law(logits, 0.5)
    torch.testing.assert_close(law[subset.ids], (2 * logits).softmax(-1))
    assert law.sum() == pytest.approx(1) and law[[0, 3, 4, 6, 8]].eq(0).all()
    assert most_frequent(torch.ones(6), 3, always=()).ids.tolist() == [0, 1, 2]  # of equals the lower
    assert most_frequent(counted, 9).ids.tolist() == list(range(9))


def law_after(path):
    """A law over seven words that depends on the path, float64."""
    seed = sum((n + 2) * 31**n * (word + 1) for n, word in enumerate(path))
    return (2 * torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).softmax(-1)


def reader():
    """A `step` for `grow`: it remembers the path of all that it has read."""
    paths = []

    def step(tokens, parents):
        if tokens is None:
            return law_after(()).log()[None]
        for token, parent in zip(tokens.tolist(), parents.tolist(), strict=True):
            paths.append((*(paths[parent] if parent != ROOT else ()), token))
        return torch.stack([law_after(path).log() for path in paths[len(paths) - len(tokens) :]])

    return step


def words_of(draft, node):
    return tuple(draft.tokens[path_of(draft.parents, node)].tolist())


def probability(path):
    found = 1.0
    for depth in range(len(path)):
        found *= law_after(path[:depth])[path[depth]].item()
    return found


def test_a_grown_tree_holds_the_likeliest_paths_and_no_orphans():
    draft = grow(reader(), Grown(depth=3, width=7, nodes=20))  # width 7: no path is lost on the way
    paths = [words_of(draft, node) for node in range(len(draft))]
    assert len(set(paths)) == len(draft) == 20
    for node, path in enumerate(paths):
        assert draft.scores[node].exp().item() == pytest.approx(probability(path))
    firsts = [(a,) for a in range(7)] + [(a, b) for a in range(7) for b in range(7)]
    every = sorted(map(probability, firsts), reverse=True)  # depths 1 and 2; at width 7 seven of depth 3 are candidates
    assert min(map(probability, paths)) >= every[20] - 1e-12
    narrow = grow(reader(), Grown(depth=4, width=2, nodes=6))
    assert len(narrow) == 6 and int(depths(narrow.parents).max()) <= 4
    floor = grow(reader(), Grown(depth=4, width=4, nodes=40, floor=0.05))
    assert 0 < len(floor) < 40 and floor.scores.exp().min() >= 0.05
    mapped = grow(reader_of_ids(), Grown(depth=2, width=3, nodes=5), ids=torch.arange(7) * 10 + 4)
    assert set(mapped.tokens.tolist()) <= set(range(4, 70, 10))


def reader_of_ids():
    step = reader()
    return lambda tokens, parents: step(None if tokens is None else (tokens - 4) // 10, parents)


def test_a_fixed_tree_has_its_shape_and_its_laws():
    likely = grow(reader(), Fixed((3, 2)))
    assert likely.parents.tolist() == [-1, -1, -1, 0, 0, 1, 1, 2, 2] and likely.laws is None
    assert likely.tokens[:3].tolist() == law_after(()).topk(3).indices.tolist()
    ids = torch.tensor([1, 2, 3, 5, 8, 13, 21])
    step = reader()
    drawn = grow(lambda t, p: step(None if t is None else torch.searchsorted(ids, t), p), Fixed((2, 2)),
                 temperature=1.0, dice=Dice(torch.Generator().manual_seed(0)), ids=ids, vocabulary=30)  # fmt: skip
    assert drawn.laws.shape == (6, 30) and set(drawn.tokens.tolist()) <= set(ids.tolist())
    torch.testing.assert_close(drawn.laws[0][ids], law_after(()))
    torch.testing.assert_close(drawn.laws.sum(-1), torch.ones(6, dtype=torch.float64))
    for node in range(2):  # siblings differ, and share the law of their parent
        below = drawn.children(node)
        assert len(set(drawn.tokens[below].tolist())) == 2 and torch.equal(*drawn.laws[below])
    assert chain_of(3).widths == (1, 1, 1)


def test_laws_at_temperature_0_and_what_is_left_of_a_law():
    logits = torch.tensor([1.0, 3.0, 2.0])
    assert law_of(logits, 0.0).tolist() == [0, 1, 0]
    torch.testing.assert_close(law_of(logits, 0.5), (2 * logits).softmax(-1))
    assert without(torch.tensor([0.5, 0.25, 0.25]), 0).tolist() == [0, 0.5, 0.5]
    assert draw_children(torch.tensor([0.0, 1.0]), 2, Dice()) == [1]
    same = torch.tensor([0.25, 0.75])
    assert torch.equal(residual(same, same), same)  # nothing was refused: nothing of it is asked for
    assert expected_tokens_of([0.5, 0.5]) == expected_tokens(0.5, 2) == 1.75


TWO = torch.tensor([1, 2])


def law_of_nan(rows, words=3):
    laws = torch.full((rows, words), 1 / words)
    laws[-1, 0] = float("nan")
    return laws


@pytest.mark.parametrize("heat", [0.0, 1.0])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_law_are_refused_and_a_ban_is_not(bad, heat):
    with pytest.raises(ValueError, match=f"the largest logit must be finite; that of row 1 is {bad}"):
        law_of(torch.tensor([[0.0, 1.0], [bad, 1.0]]), heat)
    with pytest.raises(ValueError, match=f"that of row 0 is {bad}"):
        law_of(torch.tensor([bad, 1.0]), heat)
    assert law_of(torch.tensor([1.0, -float("inf")]), heat).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: law_of(torch.ones(3), -1.0), "temperature must be a finite number of at least 0.*it is -1.0"),
        (lambda: law_of(torch.ones(3), float("nan")), "temperature must be a finite number .* it is nan"),
        (lambda: verify(chain(TWO), law_of_nan(3), Dice()), "laws must be finite; that of row 2 is not"),
        (lambda: verify(chain(TWO), torch.ones(2, 3) / 3, Dice()), r"laws must be \[3, vocabulary\].*\[2, 3\]"),
        (lambda: verify(chain(TWO), torch.ones(3, 2) / 2, Dice()), "word 2 of the draft is none of the laws' 2"),
        (lambda: verify(chain(TWO, torch.ones(2, 4) / 4), torch.ones(3, 3) / 3, Dice()), r"laws must be \[3, 4\]"),
        (lambda: chain(TWO, law_of_nan(2)), "laws must be finite; that of row 1 is not"),
        (lambda: chain(TWO, torch.ones(1, 3)), r"laws must be \[2, vocabulary\].*\[1, 3\]"),
        (lambda: chain(TWO, torch.ones(2, 3, dtype=torch.int64)), "of floats; they are torch.int64"),
        (lambda: chain(TWO, torch.ones(2, 2)), "word 2 of the draft is none of the laws' 2"),
        (lambda: chain(torch.tensor([-1])), "tokens must be 0 or more; one is -1"),
        (lambda: Draft(TWO, torch.tensor([-1, 0]), None, torch.ones(3)), r"scores must be \[2\].*\[3\]"),
        (lambda: counts(torch.tensor([30]), 10), "tokens must lie in 0..9; they go from 30 to 30"),
        (lambda: counts(torch.tensor([3, -1]), 10), "tokens must lie in 0..9; they go from -1 to 3"),
        (lambda: counts(torch.tensor([3]), 0), "vocabulary must be a whole number of at least 1; it is 0"),
        (lambda: most_frequent(torch.ones(2), 1), "words that are always kept must lie in 0..1; 2 is given"),
        (lambda: Draft(torch.tensor([1, 2]), torch.tensor([1, -1])), "node 0 has 1"),
        (lambda: Draft(torch.tensor([1.0]), torch.tensor([-1])), "tokens must be int64"),
        (lambda: chain(torch.zeros(2, 2, dtype=torch.int64)), "tokens must be int64"),
        (lambda: without(torch.tensor([0.0, 1.0]), 1), "word 1 is all that the law holds"),
        (lambda: chain_of(0), "length must be a whole number of at least 1; it is 0"),
        (lambda: chain_of(1.5), "length must be a whole number of at least 1; it is 1.5"),
        (lambda: Fixed(()), r"widths must be a tuple of at least one whole number; they are \(\)"),
        (lambda: Fixed(3), "widths must be a tuple of at least one whole number; they are 3"),
        (lambda: Fixed((2, 0)), "a width must be a whole number of at least 1; it is 0"),
        (lambda: Fixed((9, 9)), "a tree has at most 63 drafts; this shape has 90"),
        (lambda: chain_of(64), "a tree has at most 63 drafts; this shape has 64"),
        (lambda: Grown(depth=0), "depth must be a whole number of at least 1; it is 0"),
        (lambda: Grown(width=-1), "width must be a whole number of at least 1; it is -1"),
        (lambda: Grown(nodes=0), "nodes must be a whole number of at least 1; it is 0"),
        (lambda: Grown(nodes=64), "a tree has at most 63 drafts; this shape has 64"),
        (lambda: Grown(depth=9, width=8), "a tree has at most 63 drafts; this shape has 64 on the way"),
        (lambda: Grown(floor=float("nan")), "floor must be a probability, 0 to 1; it is nan"),
        (lambda: Grown(floor=2), "floor must be a probability, 0 to 1; it is 2"),
        (lambda: expected_tokens(1.2, 3), "rate is a probability, 0 to 1; it is 1.2"),
        (lambda: Subset(torch.tensor([3, 1]), 5), "each once and in order"),
        (lambda: Subset(torch.tensor([1, 5]), 5), "must lie in 0..4; they go from 1 to 5"),
        (lambda: most_frequent(torch.ones(5), 6), "kept must lie in 1..5; it is 6"),
        (lambda: most_frequent(torch.ones(5), 1, always=(1, 2)), "kept must lie in 2..5; it is 1"),
    ],
)
def test_bad_input_says_what_was_given_and_what_is_wanted(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
