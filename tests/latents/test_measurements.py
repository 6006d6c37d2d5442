"""What was recorded of latents is whole, and its driver runs dry."""

import json
import re

import pytest
import torch
from support.house import ROOT, driver

from effattn_core.latents import recorded
from effattn_core.latents.claims import CLAIMS
from effattn_core.latents.decoding import draw
from effattn_core.latents.digits import data_of_digits
from effattn_core.latents.quality import label_accuracy
from effattn_core.ledger import MEANING
from effattn_core.recordings import measured

RUN = "latents/training-cpu"


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("latents/run")
    monkeypatch.setattr(run, "SETTINGS", [(1.5, 2, "2m", 999)])
    monkeypatch.setattr(run, "GRID", [(1.5, 2, "ddpm", 999)])
    monkeypatch.setattr(run, "FEW", [(1.0, 2, "ddim", 999)])
    monkeypatch.setattr(run, "CUT", [(1.5, 2, "2m", 995)])
    monkeypatch.setattr(run, "TOKENISERS", {name: run.TOKENISERS[name] for name in ("σ-VAE", "codes")})
    arms = ("VAE, β 1e-06", "unit RMS, σ 0.5")
    dry = dict(seeds=(0,), arms=arms, names=("main", "eps"), count=70, shorten=400, store=tmp_path / "store")
    run.main(tmp_path, **dry)
    rows = json.loads((tmp_path / "training-cpu.json").read_text())["rows"]
    found = {each: [row for row in rows if row["what"] == each] for each in {row["what"] for row in rows}}
    assert set(found) == {"collapse", "classifier", "tokeniser", "generator", "sampled", "places", "afresh", "stream"}
    assert [row["name"] for row in found["generator"]] == ["main", "eps", "codes", "DiT"]
    assert [(row["name"], row["sampler"], row["first"]) for row in found["sampled"]] == [
        ("main", "2m", 999), ("eps", "ddim", 999), ("eps", "2m", 995), ("codes", "softmax", None),
        ("codes", "softmax", None), ("DiT", "ddim", 999), ("main", "ddpm", 999),
        ("no class", "2m", 999),
    ]  # fmt: skip
    *asked, unasked = found["sampled"]
    assert all(0 <= row["accuracy"] <= 1 and row["distance"] > 0 for row in asked)
    assert unasked["accuracy"] is None and unasked["distance"] > 0
    assert [row["arm"] for row in found["collapse"]] == list(arms) and len(found["places"][0]["places"]) == 16
    assert [(row["weight"], len(row["places"])) for row in found["afresh"]] == [(1.5, 16)]
    (talk,) = found["stream"]
    assert talk["examples"][7][0] == "draw a seven" and 0 <= talk["read"] <= 1
    assert recorded.unpacked(found["sampled"][0]["images"]).shape == (20, 28, 28)
    # What is stored is what was trained, in half the precision; a second run makes nothing anew.
    kept = recorded.load(tmp_path / recorded.PATH.name)
    store = torch.load(tmp_path / "store" / "weights-generator-main-0.pt", weights_only=True)["weights"]
    for name, weight in kept.model.state_dict().items():
        assert torch.allclose(weight, store[name].half().float()), name
    assert (tmp_path / recorded.PATH.name).stat().st_size < recorded.LARGEST
    for name in (
        "train_tokeniser",
        "train_latent_model",
        "train_classifier",
        "train_code_model",
        "train_whole_model",
        "draw",
        "redraw",
    ):
        monkeypatch.setattr(run, name, lambda *given, **more: 1 / 0)
    run.main(tmp_path, **dry)
    assert json.loads((tmp_path / "training-cpu.json").read_text())["rows"] == rows


def test_a_checkpoint_that_is_too_large_or_missing_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="none.safetensors is not recorded yet: run book/measurements/latents"):
        recorded.load(tmp_path / "none.safetensors")
    monkeypatch.setattr(recorded, "LARGEST", 10)
    with pytest.raises(ValueError, match="has at most 10 bytes; this one has"):
        recorded.save(recorded.load(), {}, {}, tmp_path / "large.safetensors")


def test_images_come_back_as_they_were_packed():
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    back = recorded.unpacked(recorded.packed(images))
    assert back.dtype == torch.uint8 and (back[:, None] / 127.5 - 1 - images).abs().max() <= 1 / 255 + 1e-6


def test_the_recorded_rows_are_whole():
    run = driver("latents/run")
    seeds = {row["seed"] for row in measured(RUN, what="collapse")}
    assert 0 in seeds
    for arm in run.ARMS:
        assert {row["seed"] for row in measured(RUN, what="collapse", arm=arm)} == seeds, arm
    for name, (_, _, wanted, _) in run.GENERATORS.items():
        assert len(measured(RUN, what="generator", name=name)) == min(wanted, len(seeds)), name
    assert {row["name"] for row in measured(RUN, what="tokeniser")} == set(run.TOKENISERS)
    assert len(measured(RUN, what="stream")) == 1
    for name in (run.CODES, run.WHOLE):
        assert len(measured(RUN, what="generator", name=name)) == len(seeds)
    sizes = {row["name"]: row["parameters"] for row in measured(RUN, what="generator")}
    assert sizes[run.WHOLE] == pytest.approx(sizes["σ-VAE"], rel=0.05)
    (judge,) = measured(RUN, what="classifier")
    assert judge["accuracy"] > 0.95 and judge["distance"] < 0.05 * judge["noise"]


def test_recorded_digits_of_a_class_are_recognised_as_that_class():
    best = max(row["accuracy"] for row in measured(RUN, what="sampled", name="main", sampler="2m"))
    assert best >= 0.9


def test_the_stored_model_draws_what_its_recording_says():
    trained, labels = recorded.load(), torch.arange(60)[:, None] % 10
    latents, _ = draw(
        trained.model, labels, without=torch.full_like(labels, recorded.HIDDEN), weight=1.5, steps=10,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    images = recorded.images_of(trained, latents)
    assert images.shape == (60, 1, 28, 28) and label_accuracy(trained.classifier, images, labels[:, 0]) > 0.8
    digits = data_of_digits()
    assert label_accuracy(trained.classifier, digits.held_images, digits.held_labels) > 0.95


def test_every_claim_has_a_verdict():
    assert all(claim.verdict in MEANING for claim in CLAIMS)


def test_the_page_says_the_settings_of_the_tokenisers_that_were_compared():
    kinds = driver("latents/run").TOKENISERS
    page = re.sub(r'"\s+"', "", (ROOT / "book" / "5-latents" / "latents.md").read_text(encoding="utf-8"))
    said = "σ-VAE of s {spread:g} and β {beta:g}, ".format(**kinds["σ-VAE"])
    said += f"unit RMS of s {kinds['unit RMS']['spread']:g}, VAE of β {kinds['VAE']['beta']:g}; codes of "
    assert f"Tokenizers: {said}{kinds['codes']['codes']}, by a softmax" in page
