"""What was recorded of speculation is whole and lies where it must anywhere, and its drivers run dry."""

import copy
import json

import pytest
import torch
from scipy.stats import chi2
from support import house
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from effattn_core import data, pretrained
from effattn_core.ledger import UNSEEN, Numbers
from effattn_core.model import build, configuration
from effattn_core.recordings import measured
from effattn_core.speculation import claims, expected_tokens_of
from effattn_core.speculation import training as speculation_training

LETTERS = "\n abcdefghijklmnopqrstuvwxyz.,-:"
TEXT = "the king said to the queen, and the queen said to the king: we are here.\n" * 400


def small(source, **settings):
    """A tiny model of letters, in place of SmolLM2."""
    tokenizer = Tokenizer(models.WordLevel({letter: n for n, letter in enumerate(LETTERS)}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    torch.manual_seed(0)
    return build(configuration("tiny", len(LETTERS), context=1024)).eval(), tokenizer


@pytest.fixture
def drivers(monkeypatch):
    """(run.py, bench.py) as the commands find them, on a tiny model and short texts."""
    timed = house.driver("speculation/bench")
    monkeypatch.setattr(timed.pretrained, "load", small)
    monkeypatch.setattr(timed.pretrained, "conversation", lambda source, messages: messages[0]["content"].lower())
    monkeypatch.setattr(timed.run, "shakespeare", lambda: TEXT)
    texts = {"plays": TEXT[:9000], "manual": TEXT[:8000], "programs": TEXT[:7000]}
    monkeypatch.setattr(speculation_training, "texts", lambda: texts)
    monkeypatch.setattr(data, "shakespeare", lambda: TEXT)
    monkeypatch.setattr(timed.run, "LESSON", 20)
    monkeypatch.setattr(timed, "PATIENCE", 0.0)
    return timed.run, timed


SMALL = dict(passages=2, length=48, context=24, steps=3, kept=(6, 20), new=9)


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(drivers, tmp_path, monkeypatch):
    run, timed = drivers
    run.main(told=12, count=1, folder=tmp_path, target=tmp_path / "run.json", **SMALL)
    rows = json.loads((tmp_path / "run.json").read_text())["rows"]
    assert {row["what"] for row in rows} == {"coverage", "training", "agreement", "length", "tree"}
    assert {row["kept"] for row in rows if row["what"] == "length"} == {6, 20, len(LETTERS)}
    drafters = {row["drafter"] for row in rows if row["what"] == "length"}
    assert drafters == {"trained head, chain", "trained head, tree", "lookup", "first third"}

    for name in ("counted", "length_rows", "agreement_rows", "tree_rows"):
        monkeypatch.setattr(run, name, house.never)
    monkeypatch.setattr(speculation_training, "hidden_states", house.never)
    run.main(told=12, count=1, folder=tmp_path, target=tmp_path / "again.json", **SMALL)
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows

    timed.main(best=20, repeats=3, folder=tmp_path, target=tmp_path / "bench.json", **SMALL)
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert {row["what"] for row in rows} == {"speed"}
    assert {row["text"] for row in rows if row["what"] == "speed"} == {"plays", "answer", "list again", "program"}
    for row in rows:
        assert 0 < row["lower_quartile"] <= row["median"] <= row["upper_quartile"]


def test_a_dry_run_times_the_parts_of_a_cycle(monkeypatch, tmp_path):
    parts = house.driver("speculation/bench_parts")
    monkeypatch.setattr(parts.pretrained, "load", small)
    parts.main(rows=(1, 3), context=16, kept=(6, 20), repeats=3, target=tmp_path / "parts.json")
    rows = json.loads((tmp_path / "parts.json").read_text())["rows"]
    found = {(row["products"], row["rows"]) for row in rows if row["what"] == "pass"}
    assert found == {(name, count) for name in ("usual", "few rows") for count in (1, 3)}
    assert [row["kept"] for row in rows if row["what"] == "step"] == [None, 6, 20, len(LETTERS)]
    monkeypatch.setattr(parts, "quick", spoiled)
    with pytest.raises(AssertionError, match="not close"):
        parts.main(rows=(1,), context=16, kept=(6,), repeats=3, target=tmp_path / "parts.json")


def test_a_dry_run_counts_the_kinds_of_words_that_came_and_goes_on_where_it_stopped(monkeypatch, tmp_path):
    laws = house.driver("speculation/run_smollm2")
    monkeypatch.setattr(pretrained, "load", small)
    monkeypatch.setattr(laws, "LAYERS", 1)
    monkeypatch.setattr(laws, "PROMPT", "the king said to the queen")
    arguments = dict(draws=6, kept=12, folder=tmp_path)
    laws.main(target=tmp_path / "laws.json", **arguments)
    rows = json.loads((tmp_path / "laws.json").read_text())["rows"]
    assert len({row["way"] for row in rows}) == 7 and {row["place"] for row in rows} == {1, 2, 3}
    for row in rows:
        assert sum(row["found"]) == 6 and sum(row["expected"]) == pytest.approx(6, abs=1e-2)
    monkeypatch.setattr(laws, "law_rows", house.never)
    laws.main(target=tmp_path / "again.json", **arguments)
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows


def test_a_word_s_kind_is_where_it_ends_in_the_law_and_whether_it_is_kept():
    laws = house.driver("speculation/run_smollm2")
    law = torch.tensor([0.05, 0.4, 0.3, 0.2, 0.05])
    assert laws.kinds(law, torch.tensor([1, 4])).tolist() == [6, 1, 2, 4, 7]


def test_words_drawn_with_drafts_on_smollm2_keep_its_law_and_unverified_ones_do_not():
    rows = measured("speculation/smollm2-cpu", what="law")
    assert {row["place"] for row in rows} == {1, 2, 3} and {row["draws"] for row in rows} == {
        house.driver("speculation/run_smollm2").DRAWS
    }
    verified = [row for row in rows if row["way"] != "first layers, not verified"]
    assert len({row["way"] for row in verified}) == 6
    for row in verified:
        found, free = claims.chi_square(row)
        assert free >= 3 and chi2.sf(found, free) > 1e-3, (row["way"], row["place"])
    whole = [sum(parts) for parts in zip(*(claims.chi_square(row) for row in verified), strict=True)]
    assert chi2.sf(*whole) > 1e-3
    alone = [sum(parts) for parts in zip(*(claims.chi_square(row) for row in rows if row not in verified), strict=True)]
    assert chi2.sf(*alone) < 1e-6, "a control that ought to fail"


def spoiled(model):
    """A copy of a model with other products."""
    made = copy.deepcopy(model)
    for weight in made.parameters():
        weight.requires_grad_(False).mul_(1.5)
    return made


def test_words_that_differ_from_plain_decoding_are_never_timed(drivers, tmp_path, monkeypatch):
    run, timed = drivers
    honest = timed.generate

    def misled(*given, **settings):
        made = honest(*given, **settings)
        made.tokens[1] = (made.tokens[1] + 1) % 4
        return made

    monkeypatch.setattr(timed, "generate", misled)
    with pytest.raises(AssertionError, match="differs from plain decoding's: it is not timed"):
        timed.main(best=20, folder=tmp_path, target=tmp_path / "bench.json", **SMALL)


TRAINING, SPEED, PARTS = "speculation/training-cpu", "speculation/cpu", "speculation/parts-cpu"
WORDS = 49152


def test_the_recorded_drafter_is_whole_and_its_lengths_are_what_its_cycles_took():
    (lesson,) = measured(TRAINING, what="training")
    assert lesson["parameters"] == 4_203_648 and lesson["curve"][-1] < lesson["curve"][0] / 2
    kept = {row["kept"] for row in measured(TRAINING, what="agreement")}
    assert kept == {128, 512, 1024, 2048, 4096, 8192, 16384, 32768, WORDS}
    for row in measured(TRAINING, what="agreement"):
        assert row["drawn first"] <= row["inside"] + 1e-4  # no more is taken than the target has among the kept words
    for row in measured(TRAINING, what="length"):
        assert row["per_cycle"] == pytest.approx(1 + row["accepted"] / row["cycles"], abs=1e-3)
        # No test of a formula: of what was counted at each depth the products sum up to what was counted in all.
        assert row["formula"] == pytest.approx(expected_tokens_of(row["rates"]), abs=1e-3)
        assert row["formula"] == pytest.approx(row["per_cycle"], abs=1e-3)
    for row in measured(TRAINING, what="tree"):
        above = [-1, *row["path"]]
        assert [row["parents"][node] for node in row["path"]] == above[:-1] and len(row["words"]) <= 12


def test_the_formula_is_judged_by_cycles_that_its_rate_was_not_taken_from(monkeypatch):
    """Words per cycle on plays, foretold from the share of first drafts taken on another stretch of them."""
    foretold = claims.foretold()
    assert [row["kept"] for row in foretold] == [128, 4096, WORDS]
    for row in foretold:
        assert abs(row["formula"] - row["found"]) < 3 * row["chance"]
    off = claims.formula_off()

    def spoiled(name, **wanted):
        return [row | {"per_cycle": 2 * row["per_cycle"], "accepted": 2 * row["accepted"], "rates": [0.9] * 4}
                if row["what"] == "length" else row for row in measured(name, **wanted)]  # fmt: skip

    monkeypatch.setattr(claims, "measured", spoiled)
    assert [row["formula"] for row in claims.foretold()] == [row["formula"] for row in foretold]
    assert abs(claims.formula_off() - off) > 20


def test_the_recorded_speeds_are_of_exact_words_and_reach_the_goal_where_text_repeats():
    rows = measured(SPEED, what="speed")
    for row in rows:
        assert row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
        drawn = row["temperature"] > 0  # and then no words can be those of plain decoding
        assert row["same"] == (None if drawn else row["words"] + 1), (row["text"], row["way"])
    best = {text: max(row["speed_up"] for row in rows if row["text"] == text) for text in ("plays", "list again")}
    assert best["plays"] > 1.5 and best["list again"] > 1.5
    assert min(row["speed_up"] for row in rows) < 1  # and it does not pay everywhere
    passes = {row["rows"]: row["median"] for row in measured(PARTS, what="pass", products="few rows")}
    assert passes[1] < passes[8] < 8 * passes[1] / 2


def test_the_page_says_over_which_words_the_recorded_drafter_was_taught():
    page = (house.ROOT / "book/4-sparse/speculation.md").read_text().replace("\n", " ")
    words = f"{house.driver('speculation/run').LESSON:,}"
    assert f"the {words} most frequent words alone" in page
    conditions = [claim.conditions() for claim in claims.CLAIMS if callable(claim.conditions)]
    assert any(f"by a law over {words} words" in each for each in conditions)


def test_a_vocabulary_is_called_the_fastest_only_beyond_the_spread():
    fast = claims.as_fast()
    assert 128 in fast and WORDS not in fast  # the cut is faster than all words, but no size of it than the others
    numbers = Numbers(25.5, claims.modelled_best(), claims.best_share())
    assert claims.inside(numbers) == UNSEEN
