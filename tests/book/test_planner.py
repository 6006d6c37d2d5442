"""The planner's script says what Python says, and its form works with a keyboard, on a phone and in both themes."""

import dataclasses
import functools
import random
import re
import shutil

import pytest
from support.accessible import violations
from support.house import ROOT

from effattn_core import costs, plans
from effattn_core.devices import DEVICES, own_device
from figures import planner
from figures.plans import plan_of, starts

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SCRIPT = ROOT / "book" / "_static" / "planner.js"
RULES = 2 * (len(plans.WHOLE) + len(plans.SIZES)) + 5 + 4 + 11  # on whole numbers, other values, device, split
NAN, INFINITE = float("nan"), float("inf")
START = plan_of(131072)
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Planner</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="explore.css">
<link rel="stylesheet" href="planner.css"><script src="planner.js" defer></script>
<script src="planner-form.js" defer></script>
<style>*, *::before {{ box-sizing: border-box }} body {{ margin: 1rem; font-family: sans-serif;
background: var(--explorable-paper); color: var(--explorable-ink) }}</style></head>
<body><main><h1>Planner</h1>{}</main></body></html>"""
ASK = """(all) => all.map((plan) => {
  const refused = planner.refusal(plan);
  return refused === null ? planner.report(plan) : refused;
})"""


def drawn(chooser):
    """A plan from chance: about half of them can be made."""
    pick = chooser.choice
    heads, group = pick((1, 2, 3, 6, 8, 9, 32, 64)), pick((1, 1, 2, 3))
    model = pick([*plans.MODELS.values(), costs.Model(
        name="free", layers=pick((1, 2, 3, 24, 81)), width=pick((64, 100, 4096)), heads=heads * group,
        key_value_heads=heads, head_dim=pick((16, 64, 128)), feed_forward=pick((90, 96, 28672)),
        vocabulary=pick((257, 32000, 128256)), source="chance", tied=pick((False, True)),
    )])  # fmt: skip
    own = own_device(*(chooser.uniform(1e6, 1e15) for _ in range(4)))
    return plans.Plan(
        model=model, device=pick([*DEVICES.values(), own]), context=pick((1, 2, 6, 100, 4096, 131072, 1 << 20)),
        batch=pick((1, 2, 6, 8, 48, 64)), mixer=pick(plans.MIXERS), weights=pick(list(costs.BYTES)),
        cache=pick(list(costs.BYTES)), data=pick((1, 1, 2, 3)), tensor=pick((1, 1, 2, 3, 8, 16)),
        sequence=pick((1, 1, 2, 4, 8)), expert=pick((1, 1, 2, 4)), **pick((
            dict(), dict(), dict(experts=8, top_k=2), dict(experts=4, top_k=1), dict(experts=2, top_k=2),
            dict(experts=2, top_k=4), dict(experts=8, top_k=4))),
        window=pick((1, 7, 1024, 1 << 21)), share=chooser.choice((1.0, 0.125, chooser.uniform(0.001, 1))),
        latency=pick((0.0, 5e-6)),
    )  # fmt: skip


@functools.cache
def plans_and_refusals():
    chooser, made, refused = random.Random(0), [], []
    while len(made) < 1000:
        plan = drawn(chooser)
        (refused if plans.refusal(plan) else made).append(plan)
    return made, refused


def wrong_sizes():
    """One plan for each rule on single values."""
    plan = plans.Plan(costs.LLAMA_8B, DEVICES["H100 SXM"], 4096)
    huge = (plans.LARGEST + 2, 10**30, 1e300)
    wrong = (0, -3, 1.5, -1e-7, 2.5e-5, 123456789.5, NAN, INFINITE, -INFINITE)
    changes = [{name: value} for name in plans.WHOLE for value in wrong + huge]
    changes += [dict(mixer="soft"), dict(weights="float7"), dict(cache="none")]
    changes += [dict(latency=value) for value in (-0.25, -1e-7, NAN, INFINITE)]
    changes += [dict(share=value) for value in (0.0, -0.5, 1.0000001, 2.5, NAN)]
    sizes = [{name: value} for name in plans.SIZES for value in (0, NAN, *huge)] + [dict(key_value_heads=3)]
    changes += [dict(model=dataclasses.replace(plan.model, **size)) for size in sizes]
    peaks = [
        {name: value} for name in ("bandwidth", "flops", "memory", "link") for value in (0.0, -2e-5, NAN, INFINITE)
    ]
    changes += [dict(device=own_device(**peak)) for peak in peaks]
    return [dataclasses.replace(plan, **change) for change in changes]


@pytest.fixture
def asked(browser):
    page = browser.new_page(offline=True)
    page.add_script_tag(path=SCRIPT)
    yield lambda found: page.evaluate(ASK, [plans.settings(plan) for plan in found])
    page.close()


def flat(found, before=""):
    for name, value in found.items():
        yield from flat(value, f"{before}{name}.") if isinstance(value, dict) else [(before + name, value)]


def test_a_thousand_plans_cost_the_same_in_the_page_and_in_python(asked):
    made, _ = plans_and_refusals()
    assert {plan.mixer for plan in made} == set(plans.MIXERS)
    assert any(plan.experts > 1 and plan.expert > 1 and plan.tensor > 1 for plan in made)
    for plan, found in zip(made, asked(made), strict=True):
        assert dict(flat(found)) == pytest.approx(dict(flat(plans.report(plan))), rel=1e-9, abs=0), plan


def test_a_plan_that_python_refuses_is_refused_in_the_same_words(asked):
    refused = plans_and_refusals()[1] + wrong_sizes()
    said = [plans.refusal(plan) for plan in refused]
    assert len({re.sub(r"\d+", "", sentence.partition(";")[0]) for sentence in said}) == RULES
    assert any("it is 1e+30." in sentence for sentence in said) and any(
        "it is 2.5e-05." in sentence for sentence in said
    )
    assert asked(refused) == said


# ---- the form ------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser, tmp_path):
    """The form on a page of its own, offline; afterwards nothing may have been said on the console."""
    for name in ("planner.js", "planner-form.js", "planner.css", "explore.css"):
        shutil.copy(ROOT / "book" / "_static" / name, tmp_path)
    (tmp_path / "index.html").write_text(PAGE.format(planner.form(START).to_html()), encoding="utf-8")
    page, wrong = browser.new_page(offline=True), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((tmp_path / "index.html").as_uri())
    yield page
    page.close()
    assert wrong == []


def control(page, path):
    return page.locator(f'[data-path="{path}"]')


def says(page):
    return page.inner_text(".planner-says")


def test_the_form_opens_with_the_plan_that_it_was_given(opened):
    found = plans.report(START)
    assert says(opened).startswith("8 devices, each with ") and "it fits" in says(opened)
    assert costs.format_bytes(found["memory"]["total"]) in says(opened)
    assert f"a token {1000 * found['decode']['seconds']:.3g} ms" in says(opened)
    assert opened.locator(".planner-result tbody").count() == 3


def test_the_form_is_used_by_keyboard_and_says_why_a_plan_is_refused(opened):
    control(opened, "context").focus()
    for _ in range(2):  # on, past the number of texts, to what mixes them
        opened.keyboard.press("Tab")
    opened.keyboard.press("ArrowDown")
    assert control(opened, "mixer").input_value() == "window"
    window = plans.report(dataclasses.replace(START, mixer="window"))
    assert costs.format_bytes(window["memory"]["total"]) in says(opened)
    control(opened, "tensor").fill("3")
    assert says(opened) == "No such plan: the tensor degree must divide heads (64); it is 3."
    assert opened.locator(".planner-result table").count() == 0
    control(opened, "tensor").fill("1")
    assert "it does not fit" in says(opened)
    control(opened, "batch").fill("")
    assert says(opened) == "No such plan: batch must be a whole number of at least 1; it is not a number."
    marked = '[aria-invalid="true"]'
    assert [each.get_attribute("data-path") for each in opened.locator(marked).all()] == ["batch"]
    control(opened, "batch").fill("8")
    assert opened.locator(marked).count() == 0


@pytest.mark.parametrize("name", starts())
def test_a_plan_to_start_from_fits_and_fills_every_control(opened, name):
    plan = starts()[name]
    found = plans.report(plan)
    control(opened, "mixer").select_option("window")  # changed: the plan is the reader's own
    assert control(opened, "start").input_value() == "your own"
    control(opened, "start").select_option(name)
    who = "One device with" if plan.devices == 1 else f"{plan.devices} devices, each with"
    assert says(opened).startswith(f"{who} {costs.format_bytes(found['memory']['total'])} of ")
    assert ": it fits. " in says(opened) and f"({found['tokens_per_second']:.3g} tokens" in says(opened).replace(
        ",", ""
    )
    assert control(opened, "device").input_value() == plan.device.name
    assert float(control(opened, "model.layers").input_value()) == plan.model.layers


def test_a_preset_fills_its_sizes_and_a_changed_size_is_the_readers_own(opened):
    control(opened, "model").select_option("SmolLM2 135M")
    assert control(opened, "model.layers").input_value() == "30" and control(opened, "model.tied").is_checked()
    assert "heads (9); it is 8" in says(opened)
    control(opened, "tensor").fill("3")
    control(opened, "device").select_option("A100 80GB SXM")
    assert control(opened, "device.bandwidth").input_value() == "2039"
    opened.locator("summary").nth(1).click()
    control(opened, "device.bandwidth").fill("1000")
    assert control(opened, "device").input_value() == "your own"
    changed = DEVICES["A100 80GB SXM"]
    changed = dataclasses.replace(changed, hardware=dataclasses.replace(changed.hardware, bandwidth=1e12))
    found = plans.report(dataclasses.replace(START, model=costs.SMOLLM2, tensor=3, device=changed))
    assert f"{1000 * found['decode']['seconds']:.3g} ms" in says(opened)


def test_the_form_is_accessible_in_both_themes_and_fits_a_phone(opened):
    opened.locator("summary").first.click()
    opened.locator("summary").last.click()
    for theme in ("light", "dark"):
        opened.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        assert violations(opened, severe=False) == []
    opened.set_viewport_size({"width": 390, "height": 900})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_form_for_what_it_does_not_offer_is_refused():
    with pytest.raises(ValueError, match="the form offers the models .*; the plan has small on H100 SXM"):
        planner.form(dataclasses.replace(START, model=dataclasses.replace(START.model, name="small")))
    with pytest.raises(ValueError, match="the tensor degree must divide heads"):
        planner.form(dataclasses.replace(START, tensor=3))
