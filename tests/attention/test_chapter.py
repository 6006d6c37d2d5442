"""What the attention chapter says in words and draws, against what the library computes."""

import inspect
import math
import re

import pytest
from support.house import ROOT

from effattn_core import bill, costs
from figures.attention import forms as draw
from kernels.attention import backward, backward_query, forward
from kernels.merge import splits_for

CHAPTER = (ROOT / "book" / "1-attention" / "attention.md").read_text(encoding="utf-8")


def test_the_walk_by_hand_is_the_walk():
    """Each number of the worked example, in the order of the table."""
    scores, values = (1.0, 2.0, 0.0), (10.0, 20.0, 30.0)
    states, _ = draw._walk(scores, [[value] for value in values])
    table = CHAPTER[CHAPTER.index(r"\begin{array}{llll}") : CHAPTER.index(r"\end{array}")]
    for (maximum, total, (weighted,), _), score in zip(states[1:], scores, strict=True):
        row = next(line for line in table.splitlines() if line.startswith(f"{score:.0f} & "))
        *_, m, l_, a = (cell.replace("\\\\", "").split()[-1] for cell in row.split("&"))
        assert float(m) == maximum and float(l_) == round(total, 3) and float(a) == round(weighted, 2)
    total, (weighted,) = states[3][1:3]
    assert f"$o = {weighted:.3f} / {total:.4f} = {weighted / total:.2f}$" in CHAPTER
    assert f"{round(weighted, 3) / round(total, 4):.2f}" == f"{weighted / total:.2f}"  # what is typed gives it, too


def test_the_merge_by_hand_is_the_merge():
    first, rest = (10.0, 1.0), ((20 * math.exp(2) + 30) / (math.exp(2) + 1), math.log(math.exp(2) + 1))
    whole = math.log(math.exp(1) + math.exp(rest[1]))
    share = math.exp(1 - whole)
    text = CHAPTER[CHAPTER.index("In the example above") :].split("\n\n")[0]
    assert f"$({first[0]:.0f}, {first[1]:.0f})$" in text and f"$({rest[0]:.2f}, {rest[1]:.3f})$" in text
    for number in (f"= {whole:.3f}$", f"{share:.3f} ", f"{1 - share:.3f} ", rf" \cdot {rest[0]:.2f} "):
        assert number in text, number
    assert f"{share * first[0] + (1 - share) * rest[0]:.2f}$ again" in text


def test_the_backward_kernels_do_seven_products_and_the_forward_two():
    counts = [
        inspect.getsource(getattr(kernel, "fn", kernel)).count("tl.dot(")
        for kernel in (backward.absorb_queries, backward_query.absorb_keys, forward.absorb)
    ]
    assert counts == [4, 3, 2]
    assert "(four products)" in CHAPTER and "\n(three). Seven products" in CHAPTER


def test_operations_of_the_backward_are_those_products():
    """Without a mask every product is of the same size: 7 for 2."""
    sizes = dict(causal=False)
    front = costs.flash_traffic(1, 1, 128, 128, 64, block_query=32, block_key=32, **sizes)
    back = costs.flash_backward_traffic(1, 1, 1, 128, 128, 64, by_key=(32, 32), by_query=(32, 32), **sizes)
    assert back.flops / front.flops == 7 / 2


def test_a_cached_token_of_llama_takes_what_the_text_multiplies():
    model = costs.LLAMA_8B
    assert r"$2 \cdot 32 \cdot 8 \cdot 128 \cdot 2$" in CHAPTER
    assert costs.cache_bytes(model, 1) == 2 * 32 * 8 * 128 * 2 == 128 * 1024


def test_the_scores_of_the_opening_are_those_of_the_bill():
    assert costs.LLAMA_8B.heads * 131072**2 * 2 == bill.lines()["scores"].value == 1 << 40
    assert "{glue:text}`scores` (32 heads · 131,072² scores · 2 bytes)" in CHAPTER
    before, after = (bill.lines(topic)["decode"] for topic in (None, "attention"))
    assert before.weights == after.weights and after.text == before.text / 4


def test_the_naive_form_moves_what_the_text_adds_up():
    time, size, element = 512, 64, 2
    naive = costs.naive_traffic(1, 1, time, time, size, element=element)
    assert naive.loaded + naive.stored == 4 * element * time**2 + 4 * element * time * size
    assert "$4bT^2$ bytes per head, and $4bTD$ for" in CHAPTER


def test_splits_are_two_programs_per_multiprocessor_and_at_most_128():
    assert [splits_for(1 << 20, programs, 64, 132) for programs in (1, 8, 264, 1000)] == [128, 33, 1, 1]
    assert "two per\nmultiprocessor are wanted" in CHAPTER and "split into more than 128" in CHAPTER


@pytest.mark.parametrize("key_heads", [8, 4, 2, 1])
def test_grouped_heads_read_the_head_that_the_library_reads(key_heads):
    figure = draw.grouped(key_heads)
    group = 8 // key_heads
    ends = [line.x[1] for line in figure.data[:8]]
    keys = figure.data[9].x
    assert ends == [keys[query // group] for query in range(8)] and len(keys) == key_heads
    assert figure.data[8].text == tuple(f"q{head}" for head in range(8))  # from 0, as the head that is read is h // G
    assert figure.data[9].text == tuple(f"k{head}<br>v{head}" for head in range(key_heads))
    share, intensity = figure.data[10].x
    assert share == 1 / group and intensity * 8 == 2 * group / costs.BYTES["bfloat16"]
    assert f"{group:g} operation" in draw.grouped_says(key_heads)


def test_key_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="key_heads must divide 8; it is 3"):
        draw.grouped(3)


def test_cells_fit_the_page():
    """At most 25 lines and 72 columns, folded or not."""
    for cell in re.findall(r"```\{code-cell\} ipython3\n(.*?)```", CHAPTER, re.DOTALL):
        code = re.sub(r"^(---\n.*?\n---\n|(:\w+:.*\n)+\n?)", "", cell, flags=re.DOTALL).strip().split("\n")
        if "remove-cell" in cell:
            continue
        assert len(code) <= 25 and max(map(len, code)) <= 72, code[0]
