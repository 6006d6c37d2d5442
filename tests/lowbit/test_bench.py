"""Times of the optimizers: the driver runs dry, refuses a wrong step, and what it recorded is whole."""

import json

import pytest
import torch
from support.house import MEASUREMENTS, driver

RECORDED = MEASUREMENTS / "lowbit" / "cpu.json"
DRY = dict(sets={"vectors": [(130,), (3, 50)]}, names=("AdamW, foreach", "SOLO 4/2", "SOLO 2/2"), repeats=3)


def test_a_dry_run_times_optimizers_that_make_the_same_first_step(tmp_path):
    bench = driver("lowbit/bench")
    bench.main(tmp_path, **DRY)
    rows = json.loads(next(tmp_path.glob("*.json")).read_text())["rows"]
    assert [row["name"] for row in rows] == list(DRY["names"])
    # Codes of 130 and of 150 elements, to whole bytes, and three numbers for each of two blocks.
    assert [row["states"] * 280 for row in rows] == pytest.approx(
        [8 * 280, 65 + 33 + 24 + 75 + 38 + 24, 2 * 33 + 2 * 38 + 48]
    )
    assert all(row["parameters"] == 280 and row["moved"] == 12 + 2 * row["states"] for row in rows)


def test_an_optimizer_whose_first_step_is_another_s_is_not_timed():
    bench = driver("lowbit/bench")
    made, _ = bench.makers()
    made = {bench.BASE: made[bench.BASE], "SGD": lambda weights: torch.optim.SGD(weights, lr=1e-3)}
    with pytest.raises(AssertionError, match="SGD: its first step is not AdamW's"):
        bench.step_rows("vectors", [(4,)], made, repeats=3)


@pytest.mark.skipif(not RECORDED.exists(), reason="lowbit/cpu.json is not recorded yet")
def test_the_recorded_times_are_whole():
    content = json.loads(RECORDED.read_text())
    assert "dirty" not in content["provenance"]["commit"]
    assert set(content["provenance"]["absent"]) <= set(driver("lowbit/bench").PEERS)
    rows = content["rows"]
    assert {row["what"] for row in rows} == {"layers", "vectors"}
    for what in ("layers", "vectors"):
        by_name = {row["name"]: row for row in rows if row["what"] == what}
        assert by_name["AdamW, foreach"]["ratio"] == 1 and by_name["AdamW, foreach"]["states"] == 8
        assert by_name["SOLO 4/2"]["states"] < by_name["8-bit AdamW"]["states"] < 2.1
