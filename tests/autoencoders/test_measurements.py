"""What was recorded of autoencoders is whole, and its driver runs dry."""

import json

import pytest
from support.house import driver

from effattn_core.autoencoders import plane, recorded
from effattn_core.latents.digits import Digits, data_of_digits


@pytest.fixture
def few():
    found = data_of_digits()
    return Digits(found.images[:200], found.labels[:200], found.held_images[:100], found.held_labels[:100])


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch, few):
    run = driver("autoencoders/run")
    dry = dict(
        seeds=(0,), names=("GAE",), more=("unit RMS, σ 0.05",), objectives=("unit RMS, target × 1",), count=80,
        shorten=250, digits=few, store=tmp_path / "store",
    )  # fmt: skip
    given, train_flow = [], run.train_flow
    monkeypatch.setattr(run, "train_flow", lambda model, latents, *rest, **more: (
        given.append(latents), train_flow(model, latents, *rest, **more))[1])  # fmt: skip
    run.main(tmp_path, **dry)
    assert all((each.flatten(0, 1).std(0) - 1).abs().max() < 1e-4 for each in given) and given
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    of = {what: [row for row in rows if row["what"] == what] for what in {row["what"] for row in rows}}
    assert {row["trained"] for row in of["teacher"]} == {True, False}
    (flat,) = of["plane"]
    assert len(flat["points"]) == len(flat["labels"]) == 100
    assert len(recorded.unpacked(flat["around"])) == plane.ANGLES
    assert all(abs((x**2 + y**2) / 20_000 - 1) < 0.05 for x, y in flat["points"])
    gae, tight = of["tokeniser"]
    assert gae["parameters"] == tight["parameters"] and gae["weight"] in run.WEIGHTS and tight["spread"] == 0.05
    assert gae["noise"]["0"] == gae["error"] and list(gae["noise"]) == [f"{each:g}" for each in run.NOISES]
    (noisy,) = of["noisy"]
    assert len(recorded.unpacked(noisy["images"])) == 6 * len(run.NOISES)
    (generator,) = of["generator"]
    assert generator["distance"][-1][0] == generator["steps"] and len(recorded.unpacked(generator["images"])) == 20
    assert len(of["sampler"]) == len(run.WALKS)
    for name in ("judge_rows", "plane_rows", "tokeniser_rows", "noisy_rows", "generator_rows", "sampler_rows"):
        monkeypatch.setattr(run, name, lambda *given: 1 / 0)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows


@pytest.mark.parametrize(("bare", "wanted"), [(0.04, 0.1), (0.1, 1.0), (0.01, 0.01)])
def test_the_weight_is_the_largest_that_leaves_the_error_within_half_again(bare, wanted, few, monkeypatch):
    run = driver("autoencoders/run")
    found = dict(zip(run.WEIGHTS, (0.041, 0.05, 0.059, 0.08, 0.13), strict=True))
    errors = {"unit RMS": bare} | {f"GAE, weight {weight:g}": error for weight, error in found.items()}
    shared = run.Bench(few, None, 1, 1)
    monkeypatch.setattr(shared, "tokeniser", lambda name, seed: (name, None))
    monkeypatch.setattr(run, "noisy_error", lambda name, images: errors[name])
    assert shared.settings("GAE")[1] == shared.settings("KL-VAE, target")[1] == wanted
    assert shared.settings("unit RMS")[1] == 0.0 and shared.settings("GAE, weight 0.3")[1] == 0.3
