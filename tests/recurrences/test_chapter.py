"""The recurrences chapter: mixers that decode, the recall task, the bare memory, its figures and its recorded run."""

import json
import re

import pytest
import torch
from support import house
from support.house import ROOT

from effattn_core import bill
from effattn_core.data import IGNORED, Batches
from effattn_core.ledger import ledger
from effattn_core.model import LanguageModel, configuration, generate
from effattn_core.recurrences import RULES, agreement, oracle
from effattn_core.recurrences.claims import on_page
from effattn_core.recurrences.costs import beyond_scalar
from effattn_core.recurrences.mixer import RecurrentMixer
from effattn_core.recurrences.recall import (
    RecallBatches,
    memory_recall,
    read,
    recall_accuracy,
    recall_configuration,
    recall_model,
    recall_sequences,
    written,
)
from effattn_core.retention import costs as costs_retention
from effattn_core.train import train
from figures.explore import explore
from figures.recurrences import chunks
from figures.recurrences import map as atlas
from figures.recurrences import rules as draw

DRAWN = ("linear", "retention", "gated", "gla", "delta", "gated_delta")


@pytest.mark.parametrize("rule", RULES)
def test_decoding_gives_what_the_whole_text_gives(rule):
    torch.manual_seed(0)
    model = LanguageModel(recall_configuration(rule, 20)).double().eval()
    with torch.no_grad():
        for weight in model.parameters():  # gates away from where they start, so that a forgotten one shows
            weight += 0.1 * torch.randn_like(weight)
        tokens = torch.randint(20, (2, 41))
        whole, _ = model(tokens)
        states, pieces = model.new_states(2), []
        for piece in tokens.split([7, 1, 1, 20, 12], dim=1):
            logits, states = model(piece, states)
            pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-12)
    columns = 17 if rule == "linear" else 16
    assert sum(state.nbytes for state in states) == 2 * 2 * 2 * 16 * columns * 8


@pytest.mark.parametrize("rule", RULES)
def test_a_mixer_hands_the_rule_the_gates_that_its_weights_say(rule):
    torch.manual_seed(0)
    sizes = recall_configuration(rule, 20)
    module, hidden = RecurrentMixer(sizes).double(), torch.randn(1, 9, sizes.width, dtype=torch.float64)
    query, key, value = (
        (hidden @ each.weight.T).view(1, 9, 2, 16).transpose(1, 2) for each in (module.query, module.key, module.value)
    )
    key, settings = module.gates(hidden, key)
    if RULES[rule].erases:
        torch.testing.assert_close(key.norm(dim=-1), torch.ones(1, 2, 9, dtype=torch.float64))
    mixed, _ = oracle(query, key, value, rule=rule, scale=0.25, **settings)
    mixed = mixed / (mixed.square().mean(-1, keepdim=True) + module.epsilon).sqrt()
    gate = hidden @ module.gate.weight.T
    wanted = (gate * gate.sigmoid() * mixed.transpose(1, 2).flatten(2)) @ module.output.weight.T
    torch.testing.assert_close(module(hidden)[0], wanted, rtol=0, atol=1e-12)


def test_all_rules_and_softmax_attention_have_as_many_parameters():
    counts = {rule: LanguageModel(recall_configuration(rule, 80)).parameter_count for rule in [*RULES, None]}
    print(counts)
    middle = sorted(counts.values())[len(counts) // 2]
    assert all(abs(count / middle - 1) < 0.03 for count in counts.values())


def test_a_rule_is_chosen_by_configuration_and_the_cache_changes_no_token():
    model = LanguageModel(configuration("small", 30, mixer="recurrent", rule="delta"))
    prompt = torch.tensor([1, 2, 3])
    assert list(generate(model, prompt, 12)) == list(generate(model, prompt, 12, use_cache=False))
    with pytest.raises(ValueError, match="rule must be one of linear, .*; it is None"):
        LanguageModel(configuration("small", 30, mixer="recurrent"))


def test_recall_sequences_ask_for_the_last_value_of_shown_keys_only():
    generator = torch.Generator().manual_seed(0)
    tokens, targets = recall_sequences(9, 20, generator, keys=12, values=7, queries=6, rewritten=4)
    assert tokens.shape == targets.shape == (20, 9 + 4 + 6)
    assert (targets[:, :13] == IGNORED).all() and (targets[:, 13:] != IGNORED).all()
    for line, answers in zip(tokens.tolist(), targets.tolist(), strict=True):
        memory = {}
        for token in line[:13]:
            key, value = divmod(token, 8)
            assert value and (memory.get(key) != value), "a value is shown, and a rewritten one differs"
            memory[key] = value
        assert len(memory) == 9
        asked = [divmod(token, 8) for token in line[13:]]
        assert all(mark == 0 for _, mark in asked) and len({key for key, _ in asked}) == 6
        assert [memory[key] - 1 for key, _ in asked] == answers[13:]
        assert {divmod(token, 8)[0] for token in line[:4]} <= {key for key, _ in asked}, "rewritten keys come first"
    again, _ = recall_sequences(9, 20, torch.Generator().manual_seed(0), keys=12, values=7, queries=6, rewritten=4)
    assert torch.equal(tokens, again)
    orders = {tuple(divmod(token, 8)[0] for token in line[13:]) == tuple(divmod(token, 8)[0] for token in line[:6])
              for line in tokens.tolist()}  # fmt: skip
    assert False in orders, "queries do not come in the order of the pairs"
    with pytest.raises(ValueError, match=r"pairs must lie in 1\.\.12, the number of keys; it is 13"):
        recall_sequences(13, 1, generator, keys=12)
    with pytest.raises(ValueError, match=r"rewritten must lie in 0\.\.3, the number of pairs; it is 4"):
        recall_sequences(3, 1, generator, rewritten=4)


def test_batches_of_recall_can_be_gone_on_from():
    batches = RecallBatches([(4, 0), (3, 2)], 5, seed=3)
    next(batches)
    state = batches.generator.get_state()
    wanted = [next(batches)[0] for _ in range(4)]
    batches.generator.set_state(state)
    assert all(torch.equal(a, b) for a, b in zip(wanted, [next(batches)[0] for _ in range(4)], strict=True))


def test_a_small_model_learns_to_overwrite_and_chance_is_far():
    torch.manual_seed(0)
    model = recall_model("delta", keys=8, values=8)
    assert recall_accuracy(model, 4, rewritten=4, keys=8, values=8) < 0.3
    train(model, RecallBatches([(4, 4)], 32, keys=8, values=8), steps=60, learning_rate=1e-2, progress=False)
    assert recall_accuracy(model, 4, rewritten=4, keys=8, values=8) > 0.7


def test_with_right_angles_and_beta_one_the_delta_rule_replaces_and_a_sum_adds():
    generator = torch.Generator().manual_seed(0)
    key = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator)).Q[None, None]
    old, new = torch.randn(2, 1, 1, 6, 3, dtype=torch.float64, generator=generator)
    twice = torch.cat([key, key], 2), torch.cat([old, new], 2)
    torch.testing.assert_close(read("delta", key, written("delta", *twice)), new, rtol=0, atol=1e-13)
    torch.testing.assert_close(read("gated", key, written("gated", *twice)), old + new, rtol=0, atol=1e-13)
    half = read("delta", key, written("delta", *twice, beta=0.5))
    torch.testing.assert_close(half, old / 4 + new / 2, rtol=0, atol=1e-13)


def test_shown_often_the_delta_rule_holds_as_many_pairs_as_dimensions_and_a_sum_gains_nothing():
    errors = [memory_recall("delta", 8, 16, passes=passes)[1] for passes in (1, 2, 8)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1
    assert memory_recall("gated", 8, 16)[0] == memory_recall("gated", 8, 16, passes=8)[0]
    assert memory_recall("delta", 32, 16, passes=8)[0] < memory_recall("delta", 16, 16, passes=8)[0]
    with pytest.raises(ValueError, match="at least 1; got 0 and 1"):
        memory_recall("delta", 0, 16)


@pytest.mark.parametrize("rule", DRAWN)
@pytest.mark.parametrize("keys", draw.KEYS)
def test_the_memory_says_what_a_loop_by_hand_reads(rule, keys):
    keep, beta = 0.5, 1.0
    rows, state, seen = draw._keys(keys), torch.zeros(4, 1, dtype=torch.float64), set()
    weights = torch.zeros(4, dtype=torch.float64)
    raised = rows + 1  # elu + 1 of a positive number
    for name, value in draw.PROGRAM:
        key = (raised if rule == "linear" else rows)["ABCD".index(name)][None]
        if rule == "retention" or (rule in ("gated", "gated_delta") and name in seen):
            state = keep * state
        if rule == "gla" and name in seen:
            state = (1 - (1 - keep) * key.T**2) * state
        held = key @ state if "delta" in rule else 0
        state, weights = state + beta * key.T * (value - held), weights + key[0]
        seen.add(name)
    wanted = (raised @ state)[:, 0] / (raised @ weights) if rule == "linear" else (rows @ state)[:, 0]
    held, last = draw.remembered(rule, 5, keep, beta, keys)
    torch.testing.assert_close(torch.tensor(held, dtype=torch.float64), wanted, rtol=0, atol=1e-12)
    assert last == [4.0, 2.0, 3.0, 2.0]
    panel = next((at for at, (_, each, own) in enumerate(draw.PANELS) if each == rule and own is None), None)
    if panel is not None:
        error = (wanted - torch.tensor(last)).abs().mean().item()
        assert f"mean error {draw._number(0.0 if error < 1e-12 else error)}" in draw.memory_says(5, keep, beta, keys)
        assert list(draw.memory(5, keep, beta, keys).data[2 * panel].y) == held


def exact(**settings):
    """The panels of the memory that read back every key as it was last written."""
    panels = draw._panels(5, **dict(beta=1.0, keys=draw.KEYS[0], keep=0.5) | settings)
    return {name for name, held, wanted in panels if held == wanted}


def test_the_memory_shows_what_its_caption_says():
    by_name = {name: held for name, held, _ in draw._panels(5, 0.5, 1.0, draw.KEYS[0])}
    assert by_name["sum"] == [5, 2, 3, 2]
    assert all(each == pytest.approx(2.4, abs=0.03) for each in by_name["linear attention, φ"])
    assert exact(keep=0.5) == {"delta rule"} and exact(keep=0.0) == {"delta rule", "gate per dimension"}
    assert exact(keep=0.5, keys="leaning") == set() and exact(keep=0.5, beta=0.5) == set()
    with pytest.raises(ValueError, match=r"step must lie in 0\.\.5; it is 6"):
        draw.memory(step=6)
    with pytest.raises(ValueError, match="keys must be one of"):
        draw.memory(keys="parallel")


def test_every_pair_of_a_chunk_parts_at_one_halving_and_the_first_serves_a_square():
    cells = chunks.levels(8).data[0].z
    assert [row[: column + 1] for column, row in enumerate(map(list, cells))][4] == [1, 1, 1, 1, 0]
    assert sum(cell == 1 for row in cells for cell in row) == 16 and chunks._level(63, 62, 64) == 6
    assert "12 at halving" not in chunks.levels_says(8) and "16 at halving 1, 8 at halving 2, 4" in chunks.levels_says(
        8
    )


def test_factors_that_meet_in_the_middle_are_at_most_one_and_multiply_to_the_fade():
    for share in chunks.SHARES:
        found = {name: dict(zip(*row, strict=True)) for name, row in chunks.powers(share).items()}
        late, early = found["query, from the middle"], found["key, to the middle"]
        assert max(late.values()) < 0 and max(early.values()) == 0 and len(late) == len(early) == chunks.SIZE // 2
        for n, m in ((32, 31), (63, 0), (40, 8)):
            wanted = (n - m) * torch.tensor(share).double().log10().item()
            assert late[n] + early[m] == pytest.approx(wanted)
            assert found["query, from the start"][n] + found["key, from the start"][m] == pytest.approx(wanted)
    largest = torch.finfo(torch.float32).max
    assert pytest.approx(largest) == 10**chunks.LARGEST
    assert "it still fits into float32" in chunks.split_says(0.5)
    assert "from token 39 on it is infinite in float32" in chunks.split_says(0.1)
    assert "between 10 to the −32 and 1" in chunks.split_says(0.1), "the query of the last token passes 32 gates"
    assert "between 10 to the −9.63 and 1" in chunks.split_says(0.5)
    assert torch.tensor(10.0).pow(38).isfinite() and not torch.tensor(10.0).pow(39).isfinite()


def test_all_forms_that_the_table_shows_are_equal_and_a_spoiled_one_is_refused(monkeypatch):
    rows = agreement.equal_forms(("gated",))
    assert [row["rule"] for row in rows] == ["Gated retention"]
    assert set(rows[0]) == {"rule", "chunks of 1", "chunks of 16", "chunks of 64", "state carried",
                            "kernel, of its budget"}  # fmt: skip
    whole = agreement.recurrence
    monkeypatch.setattr(agreement, "recurrence", lambda *given, **settings: [
        each * (1 + 1e-9 * ("chunk_size" in settings)) for each in whole(*given, **settings)])  # fmt: skip
    with pytest.raises(AssertionError, match="gated, chunks of 1: "):
        agreement.equal_forms(("gated",))


def test_the_gates_are_products_of_sigmoids_to_the_sixteenth():
    weights, shares = draw.left(-64, 2)
    each = [torch.tensor(-64.0 if token in ",:" else 2.0).double().sigmoid() ** (1 / 16) for token in draw.SENTENCE]
    assert weights[0] == pytest.approx(torch.stack(each[1:]).prod().item(), rel=1e-9)
    assert weights[-1] == pytest.approx(1) and shares[2] == pytest.approx(each[2].item())
    assert "keeps 0.0183 of the past, a word's 0.992" in draw.gates_says()
    assert list(draw.gates().data[0].y) == list(weights)


def test_the_capacity_is_what_the_memory_recalls():
    rows = draw.loaded("delta", 8, True, 2)
    assert rows[3] == (8, *memory_recall("delta", 8, 8, rewritten=True, passes=2))
    assert f"delta {draw.loaded('delta', 8, False, 1)[1][1]:.0%}" in draw.capacity_says(8)
    assert [trace.name for trace in draw.capacity(8).data] == [label for label, _, _ in draw.STORES]
    assert draw.loaded("sum", 16, False, 1)[3][1] > draw.loaded("delta", 16, False, 1)[3][1]
    assert draw.loaded("sum", 16, True, 1)[3][1] < draw.loaded("delta", 16, True, 1)[3][1]


def test_the_map_holds_each_paper_once_and_the_chapter_cites_what_has_a_key():
    numbers = [entry.arxiv for entry in atlas.ENTRIES]
    assert len(set(numbers)) == len(numbers) and all(re.fullmatch(r"\d{4}\.\d{5}", each) for each in numbers)
    assert {entry.kind for entry in atlas.ENTRIES} == set(atlas.KINDS)
    text = "".join(path.read_text() for path in (ROOT / "book" / "2-retention").glob("*.md"))
    cited = set(re.split("[,`]", ",".join(re.findall(r"\{cite:[pt]\}`([^`]+)`", text))))
    assert {entry.key for entry in atlas.ENTRIES if entry.key} <= cited
    bibliography = (ROOT / "book" / "references.bib").read_text()
    for entry in atlas.ENTRIES:
        line = next((line for line in bibliography.splitlines() if f"{{{entry.key}," in line and entry.key), "")
        assert not line or f"eprint={{{entry.arxiv}}}" in line, entry
    assert atlas.field_map_says("linear", 2019).startswith("No linear paper")
    assert "DeltaNet (2406.06484)" in atlas.field_map_says("linear")
    assert sum(len(trace.x) for trace in atlas.field_map(until=2021).data) == len(atlas.chosen("all", 2021))
    for family in atlas.FAMILIES:
        rows = [row for trace in atlas.field_map(family).data for row in trace.y]
        assert sorted(rows) == list(range(len(atlas.chosen(family))))  # no two names on one line
    assert all("text" in trace.mode for trace in atlas.field_map().data)
    with pytest.raises(ValueError, match="family must be one of"):
        atlas.field_map("dense")


def test_the_table_of_rules_is_made_from_the_rules_and_set_as_mathematics():
    html = draw.rules_table("The rules").to_html()
    for rule in RULES.values():
        assert rule.title in html and f"\\({rule.transition}\\)" in html.replace("&amp;", "&")
    assert html.count('class="math') == 3 * len(RULES) and "formula" not in html


def test_figures_keep_to_their_budget():
    made = explore(
        draw.gates, name="gates", caption="a b", alt=draw.gates_says, at_separators=[-64, 2], elsewhere=[0, 2]
    )
    assert len(made.html) < 100_000


def test_every_claim_but_the_one_that_the_chapter_speaks_of_agrees():
    rows = ledger("recurrences")
    assert [row["verdict"] == "not reproduced" for row in rows] == [False] * (len(rows) - 1) + [True]
    shown = [on_page(rows, page) for page in ("gates", "delta")]
    assert sorted(row["statement"] for page in shown for row in page) == sorted(row["statement"] for row in rows)
    assert [row["verdict"] for row in shown[0]] == ["same direction", "same direction", "exact"]


@pytest.fixture
def driver(monkeypatch):
    """The driver as the command finds it, in its own folder."""
    return house.driver("recurrences/run")


def test_a_recorded_run_goes_on_from_the_runs_that_are_done(driver, tmp_path, monkeypatch, capsys):
    module = driver
    monkeypatch.setattr(module, "CASES", ((4, 0),))
    monkeypatch.setattr(module, "reproducible", lambda *a, **k: None)
    monkeypatch.setattr(module, "shakespeare", lambda: "to be or not to be " * 2000)
    settings = dict(seeds=(0,), names=("delta", "softmax"), recall_steps=2, text_steps=1, folder=tmp_path / "runs")
    module.main(**settings, target=tmp_path / "first.json")
    first = json.loads((tmp_path / "first.json").read_text())
    assert "delta, seed 0" in capsys.readouterr().out
    module.main(**settings, target=tmp_path / "second.json")
    assert "seed 0" not in capsys.readouterr().out
    assert json.loads((tmp_path / "second.json").read_text())["rows"] == first["rows"]
    assert {(row["what"], row["name"]) for row in first["rows"]} == {
        (what, name) for what in ("recall", "text") for name in ("delta", "softmax")
    }
    assert first["provenance"]["command"] == "make runs"


def test_the_recorded_run_holds_every_rule_seed_and_case(driver):
    module = driver
    rows = json.loads((ROOT / "book" / "measurements" / "recurrences/training-cpu.json").read_text())["rows"]
    for seed in module.SEEDS:
        for name in module.NAMES:
            mine = [row for row in rows if (row["name"], row["seed"]) == (name, seed)]
            assert [(row["pairs"], row["rewritten"]) for row in mine if row["what"] == "recall"] == list(module.CASES)
            assert [row["steps"] for row in mine] == [module.RECALL_STEPS] * len(module.CASES) + [module.TEXT_STEPS]
            assert all(0 <= row.get("accuracy", 0) <= 1 and 1 < row.get("loss", 2) < 4 for row in mine)


def test_windows_of_text_still_fit_the_context_of_these_models():
    sizes = recall_configuration("delta", 20)
    inputs, _ = next(Batches(torch.arange(400) % 20, 2, sizes.context))
    assert LanguageModel(sizes)(inputs)[0].shape == (2, 128, 20)


def test_what_the_bill_leaves_out_is_less_than_two_percent_of_the_prompt():
    assert beyond_scalar(4, 8, 16) == (2 * 4 * 8, 2 * 4 * 8 + 4 * 24 + 2 * 8 * 16)
    sizes = costs_retention.CHUNK, costs_retention.KEY_DIM, costs_retention.VALUE_DIM
    tokens = bill.CONTEXT * bill.MODEL.layers * costs_retention.HEADS
    for more in beyond_scalar(*sizes):
        assert 0.01 < more * tokens / bill.lines("recurrences")["prefill"].value < 0.02
    assert "less than 2 % to the operations of the prompt" in bill.stage("recurrences").cost
