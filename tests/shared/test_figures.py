"""What a figure promises before any browser sees it: the same bytes everywhere, a budget, one sentence for an error."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest
from support.house import ROOT
from support.stored import data_of, state_of

from effattn_core import attention, costs
from figures import codec, explore, theme
from figures.attention import forms as pictures

EXPLORE = dict(name="demo", caption="Notice `step`.", alt="Bars that grow.")


def bars(step, kind="plain", tall=False):
    return theme.figure(go.Bar(x=[1, 2, 3], y=[step, step / 3, 2 * step if tall else step], name=kind))


def test_every_state_can_be_put_together_again():
    html = explore.explore(bars, step=range(4), kind=["plain", "fancy"], tall=[False, True], **EXPLORE).html
    data = data_of(html)
    for place in np.ndindex(4, 2, 2):
        shown = state_of(data, place)["figure"]["data"][0]
        wanted = codec.plain(bars(place[0], ["plain", "fancy"][place[1]], bool(place[2])))["data"][0]
        assert shown == wanted


def test_what_does_not_change_is_stored_once_and_equal_values_too():
    data = data_of(explore.explore(bars, step=range(4), tall=[False, True], **EXPLORE).html)
    assert [column["path"] for column in data["columns"]] == [["figure", "data", 0, "y"]]
    assert data["base"]["data"][0]["x"] == [1, 2, 3]
    assert len(data["values"]) == 1 + 7  # nothing, and step 0 is the same tall or not


def test_two_processes_write_the_same_bytes():
    printed = []
    for seed, threads in (("1", "1"), ("2", "2")):
        changed = {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        command = [sys.executable, "-m", "support.specimens"]
        done = subprocess.run(command, env=os.environ | changed, capture_output=True, text=True, check=True)
        printed.append(done.stdout.splitlines())
    sizes = {line.split()[0]: int(line.split()[1]) for line in printed[0]}
    assert sizes.pop("table") > 100 and min(sizes.values()) > 2000 and len(sizes) > 10
    assert [line for line, other in zip(*printed, strict=True) if line != other] == []


def test_numbers_keep_five_digits_in_the_smallest_type():
    assert codec.rounded(0.123456789) == 0.12346
    assert codec.rounded(3.0) == 3 and isinstance(codec.rounded(3.0), int)
    assert codec.rounded(float("nan")) is None
    for high, kind in ((100, "i1"), (200, "u1"), (30_000, "i2"), (1_000_000, "i4")):
        stored = codec.compact(np.linspace(0, high, 101).round(), arrays=True)
        assert stored["dtype"] == kind
        assert (codec.decode(stored) == np.linspace(0, high, 101).round()).all()
    gaps = codec.compact([0.5, None] * 16, arrays=True)
    assert gaps["dtype"] == "f4" and np.isnan(codec.decode(gaps)[1])
    square = codec.compact(np.arange(64).reshape(8, 8), arrays=True)
    assert square["shape"] == "8, 8" and codec.decode(square)[7, 7] == 63


def test_a_grid_over_its_budget_says_how_large_it_is_and_what_to_coarsen():
    with pytest.raises(ValueError, match=r"demo takes [\d,]+ bytes \(50 states .*budget of 3,000; give step fewer"):
        explore.explore(bars, step=range(50), budget=3_000, **EXPLORE)
    with pytest.raises(ValueError, match="12,000 states"):
        explore.explore(bars, step=range(6000), tall=[False, True], **EXPLORE)


BAD = [
    (dict(steps=[1, 2]), "the builder takes the parameters step, kind, tall, and missing a required argument: 'step'"),
    (dict(step=[1], colour=[1]), "unexpected keyword argument 'colour'"),
    (dict(step=[1, 2], default=dict(step=3)), "step cannot start at 3; its values are 1, 2"),
    (dict(step=[1, 2], default=dict(size=3)), "no parameter 'size' for default; it has step"),
    (dict(step=[1], words=dict(size=str)), "no parameter 'size' for words"),
    (dict(step=[1], labels=dict(size="bytes")), "no parameter 'size' for labels"),
    (dict(step=[]), "step needs at least one value; its list is empty"),
    (dict(step=3), "step must be a list or range of values; it is 3"),
    (dict(step=[1, 1]), "step has a value twice"),
    (dict(step=[1], kind=["a", "b"], play="kind"), "cannot play 'kind'; its ordered parameters are step"),
    (dict(step=[1], name="Demo 1"), "name must be lower case letters"),
    (dict(step=[1], caption=" "), "needs a caption"),
    (dict(step=[1], alt=""), "needs an alt text"),
]


@pytest.mark.parametrize(("given", "sentence"), BAD)
def test_a_bad_call_gets_one_sentence(given, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        explore.explore(bars, **{**EXPLORE, **given})


def test_a_builder_that_returns_no_figure_is_named():
    with pytest.raises(ValueError, match="demo: the builder must return a plotly figure; it returned int"):
        explore.explore(lambda step: step, step=[1], **EXPLORE)


def test_a_trace_that_the_page_cannot_draw_is_named():
    with pytest.raises(ValueError, match=r"demo: the page's plotly draws bar, .*; it cannot draw scatter3d\."):
        explore.explore(lambda step: theme.figure(go.Scatter3d(x=[step], y=[1], z=[1])), step=[1], **EXPLORE)


def test_data_cannot_end_the_script_and_alt_is_escaped():
    text = "</script><b>1 & 2"
    html = explore.explore(lambda step: bars(step, text), step=[1, 2], name="demo", caption="a < b", alt=text).html
    assert html.count("</script>") == 1 and "&lt;/script&gt;&lt;b&gt;1 &amp; 2" in html and "a &lt; b" in html
    assert data_of(html)["base"]["data"][0]["name"] == text


def test_a_control_is_called_by_its_label_while_addresses_keep_the_parameter_s_name():
    made = explore.explore(
        bars, step=range(3), kind=["a", "b"], labels=dict(step="steps <walked>"), play="step", **EXPLORE
    )
    assert [control.label for control in made.controls] == ["steps <walked>", "kind"]
    assert "steps &lt;walked&gt;</label>" in made.html and "Play steps &lt;walked&gt;" in made.html
    assert 'data-parameter="step"' in made.html


def test_a_page_is_weighed_and_two_figures_of_one_name_are_refused(tmp_path):
    def notebook(*outputs):
        path = tmp_path / "page.ipynb"
        cells = [{"cell_type": "markdown"}, {"outputs": [{"data": {"text/html": [html]}} for html in outputs]}]
        path.write_text(json.dumps({"cells": cells}))
        return path

    html = explore.explore(bars, step=range(3), **EXPLORE).html
    assert explore.page_weight(notebook(html, "<p>text</p>")) == len(html.encode())
    with pytest.raises(ValueError, match="two figures named demo"):
        explore.page_weight(notebook(html, html))
    with pytest.raises(ValueError, match="over the page's 2,000,000; the largest is demo"):
        explore.page_weight(notebook(html + " " * 2_000_000))


def test_importing_figures_does_not_import_plotly():
    code = "import sys, figures, figures.theme, figures.explore; print('plotly' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_a_table_is_plain_html_and_refuses_what_it_cannot_show():
    table = theme.table([dict(name="GQA <1>", bytes=131072, share=0.25, exact=True)], caption="Sizes of `KV`")
    html = table.to_html()
    assert "GQA &lt;1&gt;" in html and "131,072" in html and "0.25" in html and ">yes<" in html
    assert '<th scope="col" class="number">share</th>' in html and "<code>KV</code>" in html
    assert "share" not in theme.table([dict(name="a", share=1)], caption="c", columns=["name"]).to_html()
    with pytest.raises(ValueError, match="at least one row"):
        theme.table([], caption="c")
    with pytest.raises(ValueError, match="no column 'size'; its rows have name"):
        theme.table([dict(name="a")], caption="c", columns=["size"])


def test_a_long_name_of_the_code_may_break_in_a_column_and_a_short_one_need_not():
    cells = [dict(name="`kernels.tile`"), dict(name="Held by `test_a_state_is_as_large_as_before`, 0.5 and a_b_c")]
    html = theme.table(cells, caption="`test_a_state_is_as_large_as_before`").to_html()
    assert "<code>kernels.tile</code>" in html and "0.5 and a_b_c" in html
    assert "<code>test_<wbr>a_<wbr>state_<wbr>is_<wbr>as_<wbr>large_<wbr>as_<wbr>before</code>" in html
    assert "<caption><code>test_a_state_is_as_large_as_before</code></caption>" in html


def test_numbers_are_written_to_be_read():
    numbers = {0.0312: "0.0312", 131072.0: "131,000", 4.5: "4.5", 16.0: "16", 0.0: "0", 1e-7: "1e-07", 99.96: "100"}
    assert {value: theme.significant(value) for value in numbers} == numbers
    assert [theme.tokens(count) for count in (1000, 4096, 131072, 1 << 20)] == ["1,000", "4K", "128K", "1M"]


def test_the_walk_ends_at_the_direct_softmax_and_no_sooner():
    for step in range(7):
        figure = pictures.online_softmax(step)
        output, direct = (list(figure.data[i].y) for i in (4, 5))
        assert np.allclose(output, direct) == (step == 6)
    assert "That is the direct softmax" in pictures.online_softmax_says(6)
    with pytest.raises(ValueError, match=r"step must lie in 0\.\.6; it is 7"):
        pictures.online_softmax(7)


def test_the_schedule_shows_the_kernel_s_blocks_and_the_bytes_of_costs():
    blocks = np.array(pictures.schedule(time=512, block=64).data[0].z)
    assert (np.diag(blocks) == 2).all() and (np.tril(blocks, -1)[np.tril_indices(8, -1)] == 1).all()
    flash = costs.flash_traffic(1, 1, 512, 512, 64, block_query=64, block_key=64, element=2)
    texts = [note.text for note in pictures.schedule(time=512, block=64).layout.annotations]
    assert f"<b>{costs.format_bytes(flash.loaded)}</b>" in texts
    windowed = np.array(pictures.schedule(time=512, block=64, window=128, sinks=4).data[0].z)
    assert (windowed == 0).sum() > (blocks == 0).sum() and (windowed[-1, 0] == 2)
    assert "left out" in pictures.schedule_says(window=64, causal=False)


def test_the_mask_that_is_drawn_is_the_mask_that_attention_uses():
    import torch

    position = torch.arange(6)
    for window in (1, 3, 6):
        for sinks in (0, 2):
            kinds = torch.tensor(pictures.visibility(window, sinks).data[0].z)
            assert torch.equal(kinds > 0, attention.visible(position, position, window=window, sinks=sinks))


def test_the_cache_figure_marks_the_bytes_of_costs():
    figure = pictures.cache(131072, 8, "bfloat16")
    assert figure.data[-1].y[0] == costs.cache_bytes(costs.LLAMA_8B, 131072) == 16 * 2**30
    assert "16 GiB" in figure.layout.annotations[0].text and "16 GiB" in pictures.cache_says()
