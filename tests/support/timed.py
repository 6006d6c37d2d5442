"""How much of a processor a page of the book uses, beside what plotly alone uses in the same browser."""

from contextlib import contextmanager

# The key that changes the control in focus, wherever it stands.
KEY = """(({type, value, max, options}) => type === "checkbox" ? "Space"
  : value === (max || String(options?.length - 1)) ? "ArrowLeft" : "ArrowRight")(document.activeElement)"""
# What plotly alone costs, on a page with nothing else: its script, and one chart drawn five times.
ALONE = """async () => {
  const chart = document.body.appendChild(document.createElement("div"));
  for (let last = 0; last < 5; last += 1) {
    await Plotly.react(chart, [{y: [1, 2, last]}, {type: "bar", y: [1, last]}], {width: 700, height: 400});
  }
}"""
QUIET = 0.55  # processor seconds of that on a quiet core of 2024; a page may use 2 s of such a core


@contextmanager
def measured_page(browser):
    """A new page, and a call that gives the processor seconds which the page itself has used so far."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def used():
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    yield page, used
    context.close()


def plotly_alone(browser, pages):
    """Processor seconds of plotly on an empty page, now: what a slow or a busy core is measured by."""
    with measured_page(browser) as (page, used):
        page.goto((pages / "_static" / "vendor" / "plotly.LICENSE").as_uri())
        page.add_script_tag(path=pages / "_static" / "vendor" / "plotly.min.js")
        page.evaluate(ALONE)
        return used()
