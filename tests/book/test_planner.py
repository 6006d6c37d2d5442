"""The planner's script says what Python says, and its form works with a keyboard, on a phone and in both themes."""

import dataclasses
import functools
import random

import pytest
from support.house import ROOT

from effattn_core import costs, plans

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SCRIPT = ROOT / "book" / "_static" / "planner.js"
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
        key_value_heads=heads, head_dim=pick((16, 64, 128)), feed_forward=pick((96, 1536, 28672)),
        vocabulary=pick((257, 32000, 128256)), source="chance", tied=pick((False, True)),
    )])  # fmt: skip
    own = plans.own_device(*(chooser.uniform(1e6, 1e15) for _ in range(4)))
    return plans.Plan(
        model=model, device=pick([*plans.DEVICES.values(), own]), context=pick((1, 2, 6, 100, 4096, 131072, 1 << 20)),
        batch=pick((1, 2, 6, 8, 48, 64)), mixer=pick(plans.MIXERS), weights=pick(list(costs.BYTES)),
        cache=pick(list(costs.BYTES)), data=pick((1, 1, 2, 3)), tensor=pick((1, 1, 2, 3, 8, 16)),
        sequence=pick((1, 1, 2, 4, 8)), expert=pick((1, 1, 2, 4)), **pick((
            dict(), dict(), dict(experts=8, top_k=2), dict(experts=4, top_k=1), dict(experts=2, top_k=2),
            dict(experts=2, top_k=4))),
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
    plan = plans.Plan(costs.LLAMA_8B, plans.DEVICES["H100 SXM"], 4096)
    changes = [{name: value} for name in plans.WHOLE for value in (0, -3, 1.5)]
    changes += [dict(mixer="soft"), dict(weights="float7"), dict(cache="none"), dict(latency=-0.25)]
    changes += [dict(share=value) for value in (0.0, -0.5, 1.0000001, 2.5)]
    changes += [dict(model=dataclasses.replace(plan.model, **{name: 0})) for name in plans.SIZES]
    changes += [dict(device=plans.own_device(**{name: 0.0})) for name in ("bandwidth", "flops", "memory", "link")]
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
    assert len({sentence.partition(";")[0] for sentence in said}) > 40
    assert asked(refused) == said
