"""The driver that times latents runs dry, counts what is multiplied, and times no form that is wrong."""

import json

import pytest
from support.house import driver

from effattn_core.latents import costs

DRY = dict(heads=((5, 16, 32),), latents=(3,), batches=(1, 2), steps=2, repeats=3)


def test_a_dry_bench_times_a_step_a_draw_with_and_without_a_cache_and_all_latents_at_once(tmp_path):
    bench = driver("latents/bench")
    bench.main(tmp_path, **DRY)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert all(0 < row["lower_quartile"] <= row["median"] <= row["upper_quartile"] for row in rows)
    steps = [row for row in rows if row["what"] == "step"]
    assert {row["pass"] for row in steps} == {"forward", "forward and backward"}
    assert {row["name"] for row in steps} >= {bench.EAGER, bench.OURS}
    drawn = {(row["name"], row["batch"]): row for row in rows if row["what"] == "draw"}
    assert set(drawn) == {(name, batch) for name in (bench.CACHE, bench.WITHOUT, bench.WHOLE) for batch in (1, 2)}
    for (_, batch), row in drawn.items():
        assert row["ratio"] == row["median"] / drawn[bench.CACHE, batch]["median"]
        assert row["per_latent"] == row["median"] / (3 * batch)
    assert drawn[bench.WHOLE, 1]["parameters"] == pytest.approx(drawn[bench.CACHE, 1]["parameters"], rel=0.01)
    shares = {}
    for row in rows:
        if row["what"] == "part":
            shares.setdefault(row["batch"], {})[row["name"]] = row["share"]
    assert all(set(each) == {"head", "backbone", "between"} for each in shares.values())
    assert all(sum(each.values()) == pytest.approx(1) for each in shares.values())


def test_the_counted_operations_are_those_of_the_formula_and_without_a_cache_the_past_is_read_again():
    """The prompt's word and the last latent are read besides; so is a score of each latent with those before it."""
    bench = driver("latents/bench")
    latents, steps = 5, 3
    one, whole = bench.models(latents)
    made = bench.candidates_of(one, whole, 1, steps)
    counted = {name: bench.operations(each, steps) for name, each in made.items()}
    matrices = {name: sum(w.numel() for w in part.parameters() if w.ndim == 2) for name, part in (
        ("backbone", one.backbone.blocks), ("head", one.head), ("condition", one.condition), ("input", one.input),
    )}  # fmt: skip
    sizes = one.sizes.backbone
    score = 2 * 2 * sizes.layers * sizes.heads * sizes.head_dim  # operations per pair of tokens, values and all
    head = costs.image_flops(costs.Pair(matrices["condition"], matrices["head"]), latents, steps)
    read = 2 * ((latents + 1) * matrices["backbone"] + latents * matrices["input"])
    assert counted[bench.CACHE] >= head + read
    assert counted[bench.CACHE] - head - read <= score * (latents + 1) * one.sizes.backbone.context
    again = sum(range(1, latents + 1))  # tokens: the word, and so many latents before each
    read = 2 * (again * matrices["backbone"] + (again - 1) * matrices["input"])
    assert head + read <= counted[bench.WITHOUT] <= head + read + score * latents * (latents + 1) ** 2


def test_a_form_that_is_wrong_is_not_timed(tmp_path, monkeypatch):
    bench = driver("latents/bench")
    right = bench.head_step
    monkeypatch.setattr(bench, "head_step", lambda *given: 1.001 * right(*given))
    with pytest.raises(AssertionError, match="this book: result 0 is off by 0.001"):
        bench.main(tmp_path, **DRY)
    monkeypatch.setattr(bench, "head_step", lambda hidden, *rest: right(hidden.detach() + 0 * hidden, *rest))
    with pytest.raises(AssertionError, match="this book: result 1 is off by"):
        bench.main(tmp_path, **DRY)
    monkeypatch.setattr(bench, "head_step", right)
    drawn = bench.draw

    def forgets(model, words, *, use_cache, **more):
        found, states = drawn(model, words, use_cache=use_cache, **more)
        return (found if use_cache else found.roll(1, 1)), states

    monkeypatch.setattr(bench, "draw", forgets)
    with pytest.raises(AssertionError, match="latents, no cache: other latents than with the cache"):
        bench.main(tmp_path, **DRY)
    assert not list(tmp_path.iterdir())
