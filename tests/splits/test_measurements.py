"""What was recorded of split data and moved knowledge is whole, and the driver runs dry and goes on."""

import json

from support.house import driver, never

from effattn_core.ledger import FAILED, SAME, UNSEEN
from effattn_core.recordings import measured
from effattn_core.splits.claims import comparison as compared
from effattn_core.splits.claims.institutions import CLAIMS
from effattn_core.splits.papers import comparison as compared_papers
from effattn_core.splits.papers.institutions import PAPERS

RUN = "splits/training-cpu"
DRY = dict(
    seeds=(0,), rounds=2, epochs=1, fewer=2, arms=("each alone", "FedAvg, equal", "Scaffold"), teachers=(0,),
    training=1, steps=3, pixel_steps=3, count=20, adapting=1, grid=((5.0, 1.0),),
)  # fmt: skip


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("splits/run")
    run.main(tmp_path, store=tmp_path / "store", **DRY)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert {row["what"] for row in rows} == {"split", "federated", "teacher", "student", "adapted"}
    assert [row["rounds"] for row in rows if row["what"] == "federated"] == [2, 2, 1, 2, 1]
    for name in ("federated_rows", "transfer_rows"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, store=tmp_path / "store", **DRY)
    assert json.loads(path.read_text())["rows"] == rows


def test_the_recorded_rows_are_whole():
    run = driver("splits/run")
    for arm in run.FEDERATED:
        found = {(row["rounds"], row["seed"]) for row in measured(RUN, what="federated", arm=arm)}
        assert found == {(rounds, seed) for rounds in ((40, 10) if arm in run.FEW else (40,)) for seed in range(8)}
    made = measured(RUN, what="student", arm="generator")
    assert {(row["balance"], row["matching"]) for row in made} == {(b, m) for b in run.BALANCES for m in run.MATCHINGS}
    assert all(row["said"] == 1 for row in measured(RUN, what="student", arm="pixels"))
    for classes in ("all", "0 to 4"):
        rows = measured(RUN, what="adapted", classes=classes)
        assert {row["arm"] for row in rows} >= set(run.ADAPTED) and {row["seed"] for row in rows} == {0, 1, 2}


def test_the_released_scaffold_is_recorded_as_equal_fedavg_but_for_rounding():
    for seed in range(8):
        plain, released = (
            measured(RUN, what="federated", arm=arm, seed=seed, rounds=40)[0]
            for arm in ("FedAvg, equal", "Scaffold, as released")
        )
        assert abs(plain["macro"] - released["macro"]) < 0.005


def test_every_claim_and_every_paper_has_its_figures():
    assert [claim.verdict for claim in CLAIMS[:3]] == ["exact"] * 3
    assert CLAIMS[-1].verdict == "not reproduced"  # half of the classes
    assert all("±" in paper.measured() and len(paper.mechanism) < 110 for paper in PAPERS)


def test_the_recorded_rows_of_linking_and_comparing_are_whole():
    run, wanted = driver("splits/run_comparison"), "splits/comparison-cpu"
    linked = {(row["seed"], row["arm"]) for row in measured(wanted, what="linking")}
    arms = ("untrained", "bi-encoder", "name apart", "name apart, untrained")
    assert linked == {(seed, arm) for seed in run.SEEDS for arm in arms}
    again = {(row["seed"], row["encoder"], row["arm"]) for row in measured(wanted, what="reranked")}
    pairs = [(one, arm) for one in ("bi-encoder", "name apart") for arm in ("own top 16", "random negatives")]
    assert again == {(seed, *pair) for seed in run.SEEDS for pair in pairs}
    tables = [row for row in measured(wanted, what="system") if "brier" in row]
    assert len(tables) == len({(row["seed"], row["system"]) for row in tables}) == 6 * len(run.SPLITS)
    read = {row["system"] for row in measured(wanted, what="system") if "brier" not in row}
    assert read == {"zero-shot", "zero-shot, cut by training", "few-shot"}  # of one split alone
    assert {len(row["right"]) for row in measured(wanted, what="system")} == {61}
    assert len(measured(wanted, what="leak")) == 2 * len(run.LEAKS)


def test_claims_of_linking_and_comparing_keep_their_verdicts():
    assert [claim.verdict for claim in compared.CLAIMS] == [FAILED, SAME, UNSEEN, UNSEEN, UNSEEN]
    zero, majority = (compared.accuracies(name)[0] for name in ("zero-shot", "majority"))
    assert zero == majority and measured(compared.RUN, what="model", arm="zero-shot")[0]["first"] == [1.0, 1.0]
    assert all("±" in paper.measured() and len(paper.mechanism) < 110 for paper in compared_papers.PAPERS)
