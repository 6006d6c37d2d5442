"""The live form of an explorable, in JupyterLab or Colab: ipywidgets that call the builder on every change."""

import html
import importlib.util
import sys

from figures import theme


def widget(explorable):
    """An ipywidgets box with a control for each parameter, the figure, what it says, and its caption."""
    import ipywidgets

    controls = {control.name: _control(control) for control in explorable.controls}
    chart = ipywidgets.Box(layout=ipywidgets.Layout(width="100%"))
    says, caption = ipywidgets.HTML(), ipywidgets.HTML(f"<em>{theme.inline(explorable.caption)}</em>")
    draw = _draw_widget if can_draw_in_place() else _draw_output

    def answer(change=None):
        values = {name: control.value for name, control in controls.items()}
        draw(chart, explorable.figure(**values))
        says.value = html.escape(str(explorable.says(**values)))

    for control in controls.values():
        control.observe(answer, "value")
    answer()
    row = ipywidgets.Layout(flex_flow="row wrap")
    fields = ipywidgets.Box([*controls.values(), *_buttons(explorable, controls)], layout=row)
    return ipywidgets.VBox([fields, chart, says, caption])


def can_draw_in_place():
    """Whether plotly's FigureWidget can be used: it needs anywidget, and Colab does not show it unasked."""
    return importlib.util.find_spec("anywidget") is not None and "google.colab" not in sys.modules


def _control(control):
    import ipywidgets

    options = list(zip(control.words, control.values, strict=True))
    shared = dict(value=control.values[control.start], description=control.label)
    shared["style"] = dict(description_width="initial")
    if control.kind == "switch":
        return ipywidgets.Checkbox(indent=False, **shared)
    kind = ipywidgets.SelectionSlider if control.kind == "range" else ipywidgets.Dropdown
    return kind(options=options, **shared)


def _buttons(explorable, controls):
    """Reset, and Play where a parameter can be played. Play counts places in the list; the slider follows it."""
    import ipywidgets

    reset = ipywidgets.Button(description="Reset", layout=ipywidgets.Layout(width="auto"))

    def restart(button):
        for control in explorable.controls:
            controls[control.name].value = control.values[control.start]

    reset.on_click(restart)
    if explorable.play is None:
        return [reset]
    control = next(control for control in explorable.controls if control.name == explorable.play)
    play = ipywidgets.Play(value=control.start, min=0, max=len(control.values) - 1, interval=900)

    def advance(change):
        controls[control.name].value = control.values[change["new"]]

    play.observe(advance, "value")
    return [play, reset]


def _draw_widget(chart, figure):
    """Change the figure that is there if it has the same traces, else put a new one in its place."""
    import plotly.graph_objects as go

    figure.layout.autosize = True
    shown = chart.children[0] if chart.children else None
    if shown is None or [trace.type for trace in shown.data] != [trace.type for trace in figure.data]:
        chart.children = [go.FigureWidget(figure)]
        return
    parts = figure.to_plotly_json()
    # The browser keeps whatever part of the layout it is not told to remove: lines, notes, a second axis.
    with shown.batch_update():
        for key in shown.to_plotly_json()["layout"]:
            if key not in parts["layout"]:
                shown.layout[key] = None
    shown.update(data=parts["data"], layout=parts["layout"], overwrite=True)


def _draw_output(chart, figure):
    import ipywidgets
    from IPython.display import display

    if not chart.children:
        chart.children = [ipywidgets.Output(layout=ipywidgets.Layout(width="100%"))]
    with chart.children[0]:
        chart.children[0].clear_output(wait=True)
        display(figure)
