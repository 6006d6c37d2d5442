"""The tables of YOCO's recordings: means are over seeds, ratios are of the models and lengths that they name."""

import pytest

from figures.yoco import told


def test_needles_are_means_over_depths_and_seeds():
    cases = [(name, tokens, seed) for name in "AB" for tokens in (8, 1024) for seed in (0, 2)]
    rows = [dict(name=name, parameters=9, tokens=tokens, depth=depth, found={"A": 0.5, "B": 0.1}[name] + 0.1 * seed)
            for name, tokens, seed in cases for depth in (0, 1)]  # fmt: skip
    assert told.needles(rows, [8, 1024])[0] == {
        "model": "A", "parameters": 9, "8 tokens": "60%", "1,024 tokens": "60%"}  # fmt: skip
    assert told.share(rows, "B", 8) == pytest.approx(0.2)


def test_losses_show_the_smallest_and_largest_of_the_seeds_by_place():
    held = [dict(name="A", parameters=5, start=start, stop=stop, seed=seed, loss=2 + start / 1000 + seed / 10)
            for start, stop in told.SPANS for seed in (0, 1)]  # fmt: skip
    (row,) = told.losses(held, ["A"])
    assert row["letters 0 to 256"] == "2.05 (2.00–2.10)" and row["parameters"] == 5
    assert told.loss(held, "A", 2048) == pytest.approx(4.098)


def test_times_are_divided_as_the_columns_say():
    timed = [dict(name=name, tokens=tokens, median=each * tokens, bytes=tokens)
             for name, each in (("Transformer", 6.0), ("RetNet", 2.0)) for tokens in (1024, 4096)]  # fmt: skip
    assert told.faster(timed) == [{"letters": 1024, "against RetNet": 3.0}, {"letters": 4096, "against RetNet": 3.0}]
    first, second = told.decoding(timed)
    assert first == {"model": "Transformer", "kept at 4K": "4 KiB", "time at 4K over 1K": 4.0}
    assert second["model"] == "RetNet"
