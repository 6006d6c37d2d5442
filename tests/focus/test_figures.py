"""The figures of focused chunks: their numbers are the library's, and every state is legible."""

import math
from functools import partial

import pytest
from support.legible import check_legible, check_states, notes

from effattn_core import costs
from effattn_core.focus import costs as priced
from effattn_core.focus import layout, scores_chunked, scores_dense
from effattn_core.recordings import measured
from figures import explore, theme
from figures import focus as draw

SEEN = dict(chunks=draw.CHUNKS, row=list(draw.ROWS))
PRICES = dict(what=list(draw.COUNTED), chunk=draw.SIZES)
SIZES = dict(prompt=priced.PROMPT, local=priced.LOCAL)


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(draw.seen, draw.seen_says, 300, **SEEN)
    check_states(draw.costs_of, draw.costs_says, 300, **PRICES)


def test_the_figures_stay_in_their_budgets():
    made = [explore.explore(draw.seen, name="seen", caption="c", alt=draw.seen_says, **SEEN),
            explore.explore(draw.costs_of, name="costs", caption="c", alt=draw.costs_says, **PRICES)]  # fmt: skip
    sizes = [len(each.html.encode()) for each in made]
    print([f"{size / 1000:.0f} KB" for size in sizes])
    assert max(sizes) < 150_000, sizes


@pytest.mark.parametrize("chunks", draw.CHUNKS)
@pytest.mark.parametrize("row", draw.ROWS)
def test_the_mask_that_is_drawn_is_the_layouts(chunks, row):
    figure, found = draw.seen(chunks, row), layout(chunks, draw.CHUNK, draw.PROMPT, draw.LOCAL)
    readers = [place for place, kind in enumerate(found.kind) if kind != "read"]
    drawn = [[cell is not None for cell in cells] for cells in figure.data[0].z]
    assert drawn == found.seen[readers].tolist()
    assert sum(map(sum, drawn)) == scores_chunked(chunks, draw.CHUNK, draw.PROMPT, draw.LOCAL)
    full = [
        place for place, cells in enumerate(figure.data[0].z) if max(filter(None, cells), default=0) >= len(draw.KEYS)
    ]
    assert [found.kind[readers[place]] for place in full] == [draw.ROWS[row]]
    marked = sorted(place for trace in figure.data[1:] for place in trace.x if place is not None)
    assert marked == found.seen[readers[full[0]]].nonzero()[:, 0].tolist()
    assert all(trace.y[0] == full[0] for trace in figure.data[1:])
    assert str(scores_dense(chunks * draw.CHUNK + draw.LOCAL)) in notes(figure)[0]


def test_the_drawing_says_the_positions_of_both_ends_of_every_pass():
    found = layout(3, draw.CHUNK, draw.PROMPT, draw.LOCAL)
    axis = draw.seen(3).layout.xaxis
    assert list(axis.ticktext) == [str(int(found.position[place])) for place in axis.tickvals]
    assert list(axis.ticktext) == ["0", "6"] * 4


@pytest.mark.parametrize("what", draw.COUNTED)
@pytest.mark.parametrize("chunk", draw.SIZES)
def test_the_prices_that_are_drawn_are_the_formulas(what, chunk):
    dense, windowed, chunked = draw.costs_of(what, chunk).data
    counted, last = draw.COUNTED[what], draw.CONTEXTS[-1]
    assert dense.y[-1] == counted.dense(priced.LLAMA2_7B, last)
    assert chunked.y[-1] == counted.chunked(priced.LLAMA2_7B, last, chunk=chunk, **SIZES)
    assert windowed.y[0] == dense.y[0] and windowed.y[-1] < dense.y[-1]
    assert theme.tokens(last) == "400K" and counted.words(chunked.y[-1]) in draw.costs_says(what, chunk)


def test_a_window_costs_the_scores_that_its_tokens_see():
    model, context, window = priced.LLAMA2_7B, 700, 64
    pairs = sum(min(window, place + 1) for place in range(context))
    apart = costs.attention_flops(model, context) - 4 * model.layers * model.heads * model.head_dim * pairs
    assert draw._windowed_flops(model, context, window) == costs.prefill_flops(model, context) - apart


def test_the_captions_words_about_the_prices_hold():
    prompt, read = (draw._curves(what, 2048) for what in ("operations of the prompt", "read per written token"))
    beyond = [place for place, context in enumerate(draw.CONTEXTS) if context > priced.WINDOW]
    assert all(read[2][place] > read[0][place] for place in beyond)
    slope = math.log(prompt[2][-1] / prompt[2][2]) / math.log(draw.CONTEXTS[-1] / draw.CONTEXTS[2])
    assert slope == pytest.approx(1, abs=0.05)
    ends = [draw._curves("operations of the prompt", chunk)[2][-1] for chunk in draw.SIZES]
    print("operations at 400K by chunk:", ends)
    assert ends == sorted(ends, reverse=True)


ROWS = [dict(name=name, chunks=chunks, seed=seed, recall=(1 + place) * 0.1 + 0.01 * seed * chunks)
        for place, name in enumerate(("trained", "copied")) for chunks in (1, 4) for seed in (0, 1, 2)]  # fmt: skip


def test_what_was_found_are_means_between_the_least_and_the_most():
    tables = {"facts": (ROWS, "recall", "facts recalled"), "loss": ([{**ROWS[0], "gain": 0.5}], "gain", "nats")}
    figure = draw.found(tables, "facts")
    check_legible(figure)
    assert [trace.name for trace in figure.data] == ["trained", "copied"]
    assert list(figure.data[0].x) == [1, 4] and list(figure.data[0].y) == pytest.approx([0.11, 0.14])
    assert list(figure.data[0].error_y.array) == pytest.approx([0.01, 0.04])
    assert figure.layout.yaxis.tickformat == ".0%" and draw.found(tables, "loss").layout.yaxis.tickformat is None
    assert draw.found_says(tables, "facts").startswith("Facts recalled, by chunks: trained 0.14 at 4; copied 0.24")
    with pytest.raises(ValueError, match="found needs rows with a name"):
        draw.found({"none": ([], "recall", "facts")}, "none")


def test_the_digits_of_a_number_are_counted_by_depth():
    for row in draw.number_rows():
        here = measured(draw.REAL, what="numbers", name=row["name"], chunks=row["chunks"], depth=row["depth"])
        tokens = sum(each["tokens"] for each in here)
        assert row["right"] == pytest.approx(sum(each["right"] * each["tokens"] for each in here) / tokens)


def test_a_gain_is_over_the_local_text_alone_on_the_same_tokens():
    for row in draw.gain_rows("perplexity"):
        (alone,) = measured(
            draw.REAL, what="perplexity", name="local only", passage=row["passage"], chunks=row["chunks"]
        )
        assert row["gain"] == alone["loss"] - row["loss"] and row["name"] != "local only"
    means = {name: values[-1][1] for name, values in draw._grouped(draw.gain_rows("perplexity"), "gain").items()}
    assert means["untrained candidates"] < 0 < min(means["trained candidates"], means["candidates of another text"])


def test_every_recorded_task_is_legible_and_says_something_of_its_own():
    tables = draw.recorded()
    check_states(partial(draw.found, tables), partial(draw.found_says, tables), 500, task=list(tables))
