"""Exercises: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
from support.house import assert_named, notebooks

from effattn_core import topic_modules
from effattn_core.attention import visible
from effattn_core.exercises import EXERCISES, grade


def unsolved(*arguments):
    raise NotImplementedError


def merge_two(output_a, lse_a, output_b, lse_b):
    lse = torch.logaddexp(lse_a, lse_b)
    return (lse_a - lse).exp()[..., None] * output_a + (lse_b - lse).exp()[..., None] * output_b, lse


def window_mask(time, window, sinks):
    return visible(torch.arange(time), torch.arange(time), window=window, sinks=sinks)


def naive_merge(output_a, lse_a, output_b, lse_b):
    total = lse_a.exp() + lse_b.exp()
    return (lse_a.exp()[..., None] * output_a + lse_b.exp()[..., None] * output_b) / total[..., None], total.log()


SOLVED = {
    "attention.merge_two": merge_two,
    "attention.window_mask": window_mask,
    "attention.cache_bytes": lambda layers, heads, dim, context, element: 2 * layers * heads * dim * context * element,
    "primer.scale_add": lambda left, right, scale: scale * left + right,
    "primer.row_softmax": lambda scores: scores.softmax(-1),
    "primer.blocked_matmul": torch.matmul,
}
MISTAKES = [
    ("attention.merge_two", naive_merge, "exp overflows"),
    ("attention.merge_two", lambda a, la, b, lb: ((a + b) / 2, la), "Each part counts the same"),
    ("attention.merge_two", lambda a, la, b, lb: (a, la + lb), "The log-sum-exps are added"),
    ("attention.window_mask", lambda t, w, s: torch.ones(t, t), "Row 0 sees token 1: the mask is not causal"),
    ("attention.window_mask", lambda t, w, s: window_mask(t, w + 1, s), "the window counts the query itself"),
    ("attention.window_mask", lambda t, w, s: window_mask(t, w, 0), "a sink is seen from everywhere"),
    ("attention.cache_bytes", lambda *sizes: torch.tensor(sizes).prod().item(), "keys and values are both kept"),
    ("primer.scale_add", lambda left, right, scale: left, "should be"),
    ("primer.row_softmax", lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True), "subtract the row's"),
    ("primer.blocked_matmul", lambda left, right: left[:, :32] @ right[:32], "add up"),
    ("attention.cache_bytes", lambda: 0, "It raised TypeError"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name, capsys):
    assert not grade(name, unsolved).passed and "not written yet" in capsys.readouterr().out
    assert grade(name, SOLVED[name]).passed and "passed" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_every_exercise_has_a_stub_and_a_graded_solution_in_a_chapter():
    text = "".join(path.with_suffix(".md").read_text() for path in notebooks())
    topic_modules("checks")
    for name in EXERCISES:
        assert f'verdict = grade("{name}"' in text and f'assert grade("{name}"' in text, name


def test_an_unknown_exercise_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="there is no exercise 'attention.nothing'"):
        grade("attention.nothing", unsolved)
