"""YOCO-U and the looped Transformer: one loop is the model they come from, and every loop count keeps its promises."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import house
from support.loops import KINDS, LETTERS, made, sizes_of, text

from effattn_core.data import Batches
from effattn_core.model import LanguageModel, build, generate
from effattn_core.states import KeyValueCache, WindowCache, kept_bytes
from effattn_core.train import train
from effattn_core.universal import RandomLoops, UniversalTransformer, UniversalYOCO, loop_changes
from effattn_core.universal import costs as costs_universal
from effattn_core.yoco import YOCO

LOOPS = (1, 2, 3, 4)


def far_apart(ours, theirs):
    return (ours - theirs).abs().max() / theirs.abs().max()


@pytest.mark.parametrize("entering", [False, True])
@pytest.mark.parametrize("kind", ["window", "gated", "Transformer"])
def test_one_loop_is_the_model_without_loops_bit_for_bit(kind, entering):
    """Same seed, same weights, same logits, same gradients: what may enter a loop is zero or begins with the second."""
    torch.manual_seed(3)
    plain = build(sizes_of(kind))
    assert type(plain) is (YOCO if plain.sizes.cross_layers else LanguageModel)
    torch.manual_seed(3)
    kinds = UniversalYOCO if plain.sizes.cross_layers else UniversalTransformer
    looped = kinds(sizes_of(kind, reinject=entering, loop_embedding=entering))
    assert torch.equal(plain(text(30))[0], looped(text(30))[0])
    assert torch.equal(plain.prefill(text(30))[0], looped.prefill(text(30))[0])
    for model in (plain, looped):
        model.loss(text(30), text(30, seed=2)).backward()
    for name, weight in plain.named_parameters():
        assert torch.equal(weight.grad, looped.get_parameter(name).grad), name


@pytest.mark.parametrize("loops", (1, 3))
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3)
@given(length=st.integers(1, 90), chunk=st.integers(1, 100))
def test_leaving_early_gives_what_the_whole_forward_pass_gives(kind, loops, length, chunk):
    """Any prompt length, in one piece and by chunks: the last token's logits to 1e-12."""
    model, tokens = made(kind, loops), text(length)
    with torch.no_grad():
        whole = model(tokens)[0][:, -1:]
        for settings_ in ({}, {"chunk": chunk}):
            assert far_apart(model.prefill(tokens, **settings_)[0], whole) <= 1e-12


@pytest.mark.parametrize("loops", (1, 3))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [1, 33])
def test_decoding_after_a_prefill_gives_the_parallel_form(kind, loops, prompt):
    model, tokens = made(kind, loops), text(40)
    with torch.no_grad():
        logits, states = model.prefill(tokens[:, :prompt])
        steps = [logits]
        for part in tokens[:, prompt:].split(1, 1):
            logits, states = model(part, states)
            steps.append(logits)
        assert far_apart(torch.cat(steps, 1), model(tokens)[0][:, prompt - 1 :]) <= 1e-12


@pytest.mark.parametrize("loops", LOOPS)
def test_loops_are_layers_whose_weights_are_the_same(loops):
    """A YOCO without sharing, deep by as many self-decoder layers, its layers filled with copies: the same function."""
    looped = made("window", loops)
    sizes, blocks = looped.sizes, len(looped.blocks)
    deep = YOCO(dataclasses.replace(sizes, layers=loops * blocks + sizes.cross_layers, loops=1)).double().eval()
    weights = looped.state_dict()
    copied = {
        f"blocks.{loop * blocks + number}.{name}": weight
        for loop in range(loops)
        for number, block in enumerate(looped.blocks)
        for name, weight in block.state_dict().items()
    }
    deep.load_state_dict({name: each for name, each in weights.items() if not name.startswith("blocks.")} | copied)
    assert torch.equal(looped(text(40))[0], deep(text(40))[0])


@pytest.mark.parametrize("loops", [2, 3])
@pytest.mark.parametrize("kind", ["window", "gated", "Transformer"])
def test_the_gradient_of_a_shared_weight_is_the_sum_over_the_loops(kind, loops):
    """Copies of the blocks, one set a loop, get a gradient each; together they make that of the shared weights."""
    looped, tokens, targets = made(kind, loops), text(24), text(24, seed=2)
    looped.loss(tokens, targets).backward()
    apart = [torch.nn.ModuleList(made(kind, loops).blocks) for _ in range(loops)]
    hidden = looped.embedding(tokens).detach()
    for blocks in apart:
        for block in blocks:
            hidden, _ = block(hidden)
    states = [looped.writer(hidden)] if looped.sizes.cross_layers else None
    logits = looped.head(looped.norm(looped.answer(hidden, states)))
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    for name, weight in looped.blocks.named_parameters():
        each = [blocks.get_parameter(name).grad for blocks in apart]
        assert far_apart(sum(each), weight.grad) <= 1e-12, name
        assert far_apart(each[0], weight.grad) > 1e-3, "one loop alone must not explain the gradient"


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_sees_the_future(kind):
    model, tokens = made(kind, 3), text(20)
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % LETTERS
    with torch.no_grad():
        before, after = model(tokens)[0], model(changed)[0]
    assert far_apart(before[:, :12], after[:, :12]) <= 1e-12
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("loops", LOOPS)
def test_loops_widen_what_a_window_reaches(loops):
    """Each layer of each loop reaches window - 1 tokens further back, and no more: seen without the cross-decoder."""
    model, tokens = made("window", loops), text(100, batch=1)
    reach = loops * len(model.blocks) * (model.sizes.window - 1)
    with torch.no_grad():
        last = model.read(model.embedding(tokens), None)[0][0, -1]
        for place, seen in ((99 - reach, True), (98 - reach, False)):
            changed = tokens.clone()
            changed[0, place] = (changed[0, place] + 1) % LETTERS
            assert bool((model.read(model.embedding(changed), None)[0][0, -1] != last).any()) is seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_changes_no_token(kind):
    model, prompt = made(kind, 3), text(7, batch=1)[0]
    texts = [list(generate(model, prompt, 20, use_cache=cached)) for cached in (True, False)]
    assert texts[0] == texts[1] and len(texts[0]) == 20


@pytest.mark.parametrize("loops", LOOPS)
def test_the_shared_cache_is_written_once_and_from_the_last_loop(loops):
    model, tokens, written, seen = made("window", loops), text(30), [], []
    model.writer.register_forward_hook(lambda module, given, made: seen.append(given[0]) or written.append(made))
    _, states = model.prefill(tokens)
    assert written == [states[-1]] and states[-1].length == 30
    assert [type(state) for state in states] == [WindowCache] * (2 * loops) + [KeyValueCache]
    *_, (last, _) = model.unrolled(model.embedding(tokens))
    assert len(seen) == 1 and far_apart(seen[0], last) <= 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_the_cross_decoder_and_every_loop_see_what_they_should_of_a_prompt(kind):
    """The self-decoder sees each token once a loop; the cross-decoder the last token, once."""
    model, below, above = made(kind, 3), [], []
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, made: below.append(given[0].shape[1]))
    for block in getattr(model, "cross_blocks", []):
        block.register_forward_hook(lambda module, given, made: above.append(given[0].shape[1]))
    model.prefill(text(40), chunk=16)
    assert sum(below) == 3 * 40 * len(model.blocks)
    assert above == [1] * model.sizes.cross_layers


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns(kind):
    model = made(kind, 3)
    model.loss(text(24), text(24, seed=2)).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.abs().max() > 0]
    assert not idle


@pytest.mark.parametrize("kind", ["window", "gated"])
def test_the_cache_of_a_yoco_does_not_grow_with_loops_and_a_looped_transformers_does(kind):
    kept = {loops: kept_bytes(made(kind, loops).prefill(text(50))[1]) for loops in LOOPS}
    shared = {loops: kept_bytes(made(kind, loops).prefill(text(50))[1][-1:]) for loops in LOOPS}
    looped = {loops: kept_bytes(made("Transformer", loops).prefill(text(50))[1]) for loops in LOOPS}
    assert len(set(shared.values())) == 1
    own = {loops: kept[loops] - shared[loops] for loops in LOOPS}
    assert all(own[loops] == loops * own[1] and looped[loops] == loops * looped[1] for loops in LOOPS)


def test_states_of_another_number_of_loops_are_refused():
    model = made("window", 3)
    _, states = model.prefill(text(10))
    with pytest.raises(ValueError, match="2 loops of 2 blocks keep 4 states; got 6"):
        model.with_loops(2)(text(1), states)
    with pytest.raises(ValueError, match="loops must be at least 1; it is 0"):
        model.with_loops(0)


def test_other_loops_share_the_weights_and_leave_the_model_alone():
    model, tokens = made("window, all that may enter", 2), text(20)
    before = model(tokens)[0]
    other = model.with_loops(4)
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not torch.equal(other(tokens)[0], before) and torch.equal(model(tokens)[0], before)
    assert torch.equal(other.with_loops(2)(tokens)[0], before)
    assert model.sizes.loops == 2 and len(other.new_states()) == 4 * 2 + 1


@pytest.mark.parametrize("kind", ["window", "Transformer"])
def test_loop_changes_are_those_of_the_stream(kind):
    """A model of r loops ends where one of more loops is after r: so its changes are the first r of the other's."""
    model, tokens = made(kind, 4), text(20)
    stream = [model.embedding(tokens)]
    for loops in LOOPS:
        states = model.with_loops(loops).read(model.embedding(tokens), None)
        stream.append(states[0])
    for number, (change, size) in enumerate(loop_changes(model, tokens), 1):
        before, after = stream[number - 1], stream[number]
        wanted = (after - before).norm(dim=-1) / before.norm(dim=-1), after.norm(dim=-1) / stream[0].norm(dim=-1)
        assert (change, size) == pytest.approx([each.mean().item() for each in wanted], rel=1e-12)


def test_a_self_decoder_that_adds_nothing_changes_nothing():
    model = made("window", 3)
    for name, weight in model.blocks.named_parameters():
        if name.endswith(("output.weight", "down.weight")):
            weight.data.zero_()
    assert loop_changes(model, text(9)) == [(0.0, 1.0)] * 3
    assert torch.equal(model(text(9))[0], model.with_loops(1)(text(9))[0])


def test_reinjection_adds_the_embedding_from_the_second_loop_on():
    model, tokens = made("window", 3, reinject=True), text(9)
    for name, weight in model.blocks.named_parameters():
        if name.endswith(("output.weight", "down.weight")):
            weight.data.zero_()
    first = model.embedding(tokens)
    for number, (hidden, _) in enumerate(model.unrolled(first), 1):
        assert far_apart(hidden, number * first) <= 1e-12


def test_a_loop_embedding_starts_at_zero_and_the_last_serves_further_loops():
    model = build(sizes_of("window", 2, loop_embedding=True))
    assert type(model) is UniversalYOCO and len(model.loop_embedding) == 2
    assert not any(vector.any() for vector in model.loop_embedding)
    model.loop_embedding[1].data.fill_(1.0)
    nothing, four = torch.zeros(1, 1, 32), model.with_loops(4)
    assert [four.enter(loop, nothing, None).any().item() for loop in range(4)] == [False, True, True, True]


def test_random_loops_draws_every_count():
    model = build(sizes_of("window", 2))
    drawing = RandomLoops(model, 4)
    assert {drawing.draw() for _ in range(40)} == {1, 2, 3, 4} and drawing.step == 40
    assert len({tuple(RandomLoops(model, 4, seed).draw() for _ in range(1)) for seed in range(40)}) == 4


def test_a_run_with_random_loops_goes_on_as_it_would_have(tmp_path, monkeypatch):
    """Cut short after its checkpoint and gone on from it, a run ends bit for bit where a whole one does."""
    tokens, path = torch.randint(LETTERS, (400,), generator=torch.Generator().manual_seed(4)), tmp_path / "run.pt"

    def run(checkpoint=None):
        torch.manual_seed(0)
        model = RandomLoops(build(sizes_of("window", 4, context=16)), 4)
        history = train(model, Batches(tokens, 2, 16), steps=6, checkpoint=checkpoint, every=3, progress=False)
        return history.losses

    whole, draw = run(), RandomLoops.draw

    def stops(self):
        if self.step == 4:
            raise KeyboardInterrupt
        return draw(self)

    monkeypatch.setattr(RandomLoops, "draw", stops)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    monkeypatch.setattr(RandomLoops, "draw", draw)
    assert run(path) == whole


def test_configurations_that_do_not_fit_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="loops must be at least 1; it is 0"):
        sizes_of("window", 0)
    with pytest.raises(ValueError, match="use a LanguageModel for none"):
        UniversalYOCO(sizes_of("Transformer"))
    with pytest.raises(ValueError, match="most must be at least 1 loop; it is 0"):
        RandomLoops(made("window"), 0)
    assert type(build(sizes_of("window", 2))) is UniversalYOCO
    assert type(build(sizes_of("Transformer", 2))) is UniversalTransformer


def test_the_run_is_made_whole_by_a_dry_run(monkeypatch, tmp_path):
    """Two steps of some models, fewer letters: every kind of row, and no file but the one that was asked for."""
    driver = house.driver("universal/run")
    monkeypatch.setattr(driver, "HELD_OUT", 257)
    sizes = [driver.sizes_of(key, 80) for key in driver.MODELS if key[0] in ("YOCO-U", "looped Transformer")]
    counts = [costs_universal.parameters(each) for each in sizes]
    assert max(counts) / min(counts) < 1.005, counts
    deep, four = driver.sizes_of(("YOCO without loops", 1), 80), driver.sizes_of(("YOCO-U", 4), 80)
    assert costs_universal.forward_flops(deep, 128) == costs_universal.forward_flops(four, 128)
    models = [("YOCO-U", 2), ("looped Transformer", 2), ("YOCO-U, random loops", 4), ("YOCO without loops", 1)]
    path = tmp_path / "made.json"
    driver.main(seeds=(0,), steps=2, contexts=(32,), models=models, folder=tmp_path, target=path)
    rows = json.loads(path.read_text())["rows"]
    held = [(row["name"], row["asked"]) for row in rows if row["what"] == "held out"]
    assert held[:6] == [("YOCO-U", loops) for loops in driver.ASKED] and ("YOCO without loops", 1) in held
    kept = [row for row in rows if row["what"] == "kept"]
    assert len(kept) == 8 and all(row["bytes"] == row["formula"] for row in kept)
    assert [len(row["changes"]) for row in rows if row["what"] == "changes"] == [8, 8]
