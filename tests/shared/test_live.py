"""An explorable in JupyterLab: one state is drawn at once, and each move shows what a fresh figure would."""

import copy

import plotly.graph_objects as go
import pytest
from support.house import notebooks
from support.stored import explorables, sizes_of, state_of

from figures import explore, live, theme

EXPLORE = dict(name="demo", caption="Notice `step`.", alt="Bars that grow.")


def bars(step, kind="plain", tall=False):
    return theme.figure(go.Bar(x=[1, 2, 3], y=[step, step / 3, 2 * step if tall else step], name=kind))


@pytest.mark.parametrize("static", [True, False])
def test_in_a_real_kernel_the_environment_decides_whether_widgets_are_stored(monkeypatch, static):
    import nbclient
    import nbformat

    monkeypatch.setenv("EFFATTN_STATIC", "1" if static else "0")
    code = (
        "from figures.attention import forms as attention\nfrom figures.explore import explore\n"
        "explore(attention.visibility, name='mask', caption='c', alt='The mask.', window=[1, 2])"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    widget = {"application/vnd.jupyter.widget-view+json"}
    assert set(output["data"]) == {"text/html", "text/plain"} | (set() if static else widget)
    assert output["data"]["text/plain"] == "<figure mask>"


def test_a_live_figure_draws_one_state_before_it_is_shown_and_one_more_to_show_it(monkeypatch):
    monkeypatch.setattr(explore, "is_live", lambda: True)
    drawn = []

    def build(step, kind):
        drawn.append((step, kind))
        return bars(step)

    made = explore.explore(build, step=range(1000), kind=["a", "b"], play="step", default=dict(step=7), **EXPLORE)
    assert drawn == [(7, "a")]
    bundle = made._repr_mimebundle_()
    assert drawn == [(7, "a")] * 2
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} == set(bundle)
    assert "make notebooks" in bundle["text/html"] and "<code>step</code>" in bundle["text/html"]
    with pytest.raises(ValueError, match=r"demo takes [\d,]+ bytes \(2,000 states"):
        made.budget = 1_000
        _ = made.html


def test_a_live_figure_that_is_none_is_named_by_the_call(monkeypatch):
    monkeypatch.setattr(explore, "is_live", lambda: True)
    with pytest.raises(ValueError, match="demo: the builder must return a plotly figure; it returned int"):
        explore.explore(lambda step: step, step=[1], **EXPLORE)


@pytest.mark.parametrize("in_place", [True, False])
def test_live_controls_draw_again_and_reset(monkeypatch, in_place):
    from figures import live

    monkeypatch.setattr(live, "can_draw_in_place", lambda: in_place)
    drawn = []

    def build(step, tall):
        drawn.append((step, tall))
        return bars(step, tall=tall)

    texts = dict(name="demo", caption="c", alt=lambda step, tall: f"step {step}")
    box = live.widget(explore.explore(build, **texts, play="step", step=range(3), tall=[False, True]))
    fields, chart, says, _ = box.children
    slider, switch, play, reset = fields.children
    slider.value, switch.value = 2, True
    assert drawn[-1] == (2, True) and says.value == "step 2"
    if in_place:
        assert list(chart.children[0].data[0].y) == [2, 2 / 3, 4]
    reset.click()
    assert drawn[-1] == (0, False)
    play.value = 1
    assert drawn[-1] == (1, False)


class Browser:
    """What plotly's browser side holds of a FigureWidget: it starts as the widget does and hears the same messages."""

    def __init__(self, widget):
        self.layout, self.data = copy.deepcopy(widget._widget_layout), copy.deepcopy(widget._widget_data)
        for name in ("relayout", "restyle", "update", "addTraces", "deleteTraces", "moveTraces", "animate"):
            widget.observe(self.hear, f"_py2js_{name}")

    def hear(self, change):
        message = change["new"]
        if message is None:
            return
        assert change["name"] in ("_py2js_relayout", "_py2js_update", "_py2js_addTraces", "_py2js_deleteTraces"), change
        for key, value in (message.get("relayout_data") or message.get("layout_data") or {}).items():
            assert "." not in key and "[" not in key, key
            if value is None or value == []:  # an empty list of shapes is none
                self.layout.pop(key, None)
            else:
                self.layout[key] = copy.deepcopy(value)
        for place in sorted(message.get("delete_inds", []), reverse=True):
            del self.data[place]
        self.data += [{**each} for each in copy.deepcopy(message.get("trace_data", []))]
        assert not message.get("style_data")


def without_uids(traces):
    return [{key: value for key, value in trace.items() if key != "uid"} for trace in traces]


STORED = [
    pytest.param(data, id=f"{path.stem}-{name}")
    for path in notebooks()
    for name, data in explorables(path)
    if sizes_of(data)
]


@pytest.mark.parametrize("data", STORED)
def test_after_any_move_the_browser_holds_what_a_fresh_figure_would_be(monkeypatch, data):
    monkeypatch.setattr(explore, "is_live", lambda: True)
    monkeypatch.setattr(live, "can_draw_in_place", lambda: True)
    names = [parameter["name"] for parameter in data["states"]]
    sizes = dict(zip(names, sizes_of(data), strict=True))

    def build(**places):
        return go.Figure(state_of(data, [places[name] for name in names])["figure"])

    start = {parameter["name"]: parameter["start"] for parameter in data["states"]}
    made = explore.explore(build, **EXPLORE, default=start, **{name: range(size) for name, size in sizes.items()})
    box = live.widget(made)
    fields, chart, *_ = box.children
    controls, shown = dict(zip(names, fields.children, strict=False)), chart.children[0]
    browser = Browser(shown)
    for name, size in sizes.items():
        for place in {0, size // 2, size - 1, start[name]}:
            controls[name].value = place
            if chart.children[0] is not shown:
                shown = chart.children[0]
                browser = Browser(shown)
            fresh = go.FigureWidget(made.figure(**{each: control.value for each, control in controls.items()}))
            fresh.layout.autosize = True
            assert browser.layout == fresh.to_plotly_json()["layout"]
            assert without_uids(browser.data) == without_uids(fresh.to_plotly_json()["data"])
