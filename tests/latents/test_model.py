"""One model of words and latents: a step with states is the whole pass, the past alone counts, and it learns."""

import pytest
import torch

from effattn_core.data import IGNORED
from effattn_core.latents import captions
from effattn_core.latents.codes import CodeModel, draw_codes, train_code_model
from effattn_core.latents.decoding import draw, redraw, write
from effattn_core.latents.model import (
    LatentModel,
    Stream,
    hidden_words,
    latent_sizes,
    stacked,
    stream,
    train_latent_model,
)
from effattn_core.latents.schedule import normal
from effattn_core.latents.tokenisers import Tokeniser
from effattn_core.latents.training import Average, batches, fit
from effattn_core.latents.whole import WholeModel, draw_whole, train_whole_model
from effattn_core.model import MIXERS
from kernels import runtime
from kernels.latents import operators

TINY = dict(width=16, layers=2, heads=2, latent=4, places=6, context=32)


def model_of(mixer="attention", vocabulary=11, spread=0.1, **more):
    """Weights drawn wide enough that every part says something, in float64."""
    torch.manual_seed(0)
    settings = {**TINY, **more}
    made = LatentModel(latent_sizes(vocabulary, mixer=mixer, **settings)).double()
    for weight in made.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=spread)
    return made


def given(batch=3):
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(10, (batch, 1), generator=generator)
    return label, torch.randn(batch, 6, 4, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("mixer", [each for each in MIXERS if each != "recurrent"])
def test_a_step_with_states_is_the_whole_pass_for_every_mixer(mixer):
    model, (label, latents) = model_of(mixer), given()
    after = torch.randint(10, (3, 4))
    whole, _ = model(stream(label, latents, after))
    hidden, states = model.read_words(label, model.new_states(3))
    steps = [hidden]
    for place in range(6):
        hidden, states = model.read_latent(latents[:, place], place, states)
        steps.append(hidden)
    for each in after.split(1, 1):
        hidden, states = model.read_words(each, states)
        steps.append(hidden)
    assert (torch.cat(steps, 1) - whole).abs().max() < 1e-10
    single = model.float()
    whole, _ = single(stream(label, latents.float()))
    states, hidden = single.new_states(3), None
    hidden, states = single.read_words(label, states)
    for place in range(6):
        hidden, states = single.read_latent(latents[:, place].float(), place, states)
    assert (hidden - whole[:, -1:]).abs().max() < 1e-5


def test_drawing_with_and_without_a_cache_gives_the_same_latents():
    model, (label, _) = model_of(), given()
    drawn = [
        draw(
            model, label, without=torch.full_like(label, 10), weight=1.5, steps=4, use_cache=use_cache,
            generator=torch.Generator().manual_seed(2),
        )[0]
        for use_cache in (True, False)
    ]  # fmt: skip
    assert drawn[0].shape == (3, 6, 4) and (drawn[0] - drawn[1]).abs().max() < 1e-8


def test_the_future_changes_nothing_past():
    model, (label, latents) = model_of(), given()
    moved = latents.clone()
    moved[:, 3:] += 1.0
    before, after = model(stream(label, latents))[0], model(stream(label, moved))[0]
    assert torch.equal(before[:, :4], after[:, :4]) and (before[:, 4:] != after[:, 4:]).any()


def test_guidance_of_weight_one_is_the_conditional_draw_and_doubles_no_rows():
    model, (label, _) = model_of(), given()
    seen, read = [], model.backbone.read
    model.backbone.read = lambda hidden, states: (seen.append(len(hidden)), read(hidden, states))[1]
    plain, _ = draw(model, label, steps=3, generator=torch.Generator().manual_seed(0))
    assert set(seen) == {3}
    seen.clear()
    almost, _ = draw(
        model, label, without=torch.full_like(label, 10), weight=1 + 1e-12, steps=3,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert set(seen) == {6} and (plain - almost).abs().max() < 1e-8


def test_a_stream_knows_the_place_of_each_latent_and_padding_is_read_by_none():
    label, latents = given(2)
    long = stream(label, latents[:, :3], label, latents[:, 3:5], label)
    assert long.places[0].tolist() == [0, 0, 1, 2, 0, 0, 1, 0] and long.time == 8
    short = stream(label[:1], latents[:1, :2])
    both, model = stacked([short, long]), model_of()
    assert both.words[0, 3:].tolist() == [IGNORED] * 5 and not both.continuous[0, 3:].any() and len(both) == 3
    found = model(both)[0]
    assert (found[0, :3] - model(short)[0][0]).abs().max() < 1e-12
    # Losses: words and latents ahead that are there, each counted once.
    words, squared = model.losses(both, draws=1, generator=torch.Generator().manual_seed(0))
    assert words > 0 and squared > 0
    alone = model.losses(stream(label, latents), generator=torch.Generator().manual_seed(0))
    assert alone[0] == 0 and alone[1] > 0


def test_the_backbone_runs_once_for_all_draws_and_gradients_are_their_mean():
    model, (label, latents) = model_of(), given()
    calls, read = [], model.backbone.read
    model.backbone.read = lambda *arguments: (calls.append(1), read(*arguments))[1]
    weight = model.condition.weight
    these = stream(label, latents)
    _, loss = model.losses(these, draws=4, generator=torch.Generator().manual_seed(3))
    (together,) = torch.autograd.grad(loss, weight)
    assert len(calls) == 1
    # The same times and noises, a draw after the other: they are drawn for all rows, draw by draw.
    generator = torch.Generator().manual_seed(3)
    rows = 4 * 18
    time = torch.randint(1000, (rows,), generator=generator)
    noise = torch.randn(rows, 4, dtype=torch.float64, generator=generator)
    conditions = model(these)[0][:, :-1].flatten(0, 1)
    single = []
    for part in range(4):
        mine = slice(18 * part, 18 * part + 18)
        alpha, sigma = model.schedule.at(time[mine], noise)
        flat = latents.flatten(0, 1)
        output = model.head(alpha * flat + sigma * noise[mine], time[mine], model.condition(conditions))
        target = alpha * noise[mine] - sigma * flat
        single.append(torch.autograd.grad((output - target).square().mean(), weight, retain_graph=True)[0])
    assert (together - torch.stack(single).mean(0)).abs().max() < 1e-10


def test_every_latent_and_draw_has_a_time_of_its_own():
    model, (label, latents) = model_of(), given()
    seen, head = [], model.head.forward
    model.head.forward = lambda noisy, time, condition: (seen.append(time), head(noisy, time, condition))[1]
    model.losses(stream(label, latents), draws=4)
    (time,) = seen
    assert time.shape == (4 * 3 * 6,) and len(time.unique()) > 50


def test_the_first_loss_of_the_head_is_about_one_and_training_lowers_it():
    torch.manual_seed(0)
    model = LatentModel(latent_sizes(11, **TINY))
    labels = torch.arange(200)[:, None] % 10
    latents = torch.randn(200, 6, 4) * 0.05 + (labels[..., None] - 4.5) / 2.87
    these, before = stream(labels, latents), model.condition.weight.clone()
    losses = train_latent_model(model, these, steps=60, batch=32, hide=hidden_words(0, 1, 10))
    assert losses[0] == pytest.approx(1, abs=0.2) and sum(losses[-10:]) < 0.75 * sum(losses[:10])
    assert not torch.equal(model.condition.weight, before) and not model.training


def test_a_hidden_class_is_hidden_in_its_share_of_the_rows():
    these = stream(torch.arange(1000)[:, None] % 10, torch.zeros(1000, 2, 4))
    hidden = hidden_words(0, 1, 10, share=0.25)(these, torch.Generator().manual_seed(0))
    assert (hidden.words[:, 0] == 10).double().mean().item() == pytest.approx(0.25, abs=0.05)
    assert torch.equal(hidden.words[:, 1:], these.words[:, 1:]) and hidden.latents is these.latents


def test_the_average_of_weights_starts_soon_and_an_interrupted_order_is_the_seed_s():
    line = torch.nn.Linear(1, 1, bias=False)
    average = Average(line, limit=0.5)
    with torch.no_grad():
        line.weight.fill_(1.0)
    average.follow(line)
    start = average.weights["weight"].item()
    for _ in range(20):
        average.follow(line)
    assert average.weights["weight"].item() == pytest.approx(1.0, abs=1e-3) and start > 0.5
    orders = [next(batches(10, 4, torch.Generator().manual_seed(5))).tolist() for _ in range(2)]
    assert orders[0] == orders[1] and len(set(orders[0])) == 4
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        fit(line, lambda places, generator: line.weight.sum() * float("nan"), count=4, steps=1, batch=2)


def test_a_stream_of_prompt_image_and_caption_reads_as_it_is_written():
    latents = torch.randn(2, 16, 8)
    these = captions.captioned(latents, torch.tensor([7, 6]))
    letters = [captions.LETTERS.letters[each] if 0 <= each < len(captions.LETTERS) else "|" for each in these.words[0]]
    assert "".join(letters) == "draw a seven|" + 16 * "|" + "|a seven|"
    assert these.continuous.sum(1).tolist() == [16, 16] and these.time == 38
    assert torch.equal(these.latents[1][these.continuous[1]], latents[1])
    hidden = captions.prompts_hidden(1.0)(these, torch.Generator())
    assert torch.equal(hidden.words[0, :13], captions.hidden_prompt(7)) and torch.equal(
        hidden.words[:, 29:], these.words[:, 29:]
    )
    assert captions.read_caption(captions.caption_of(4)[1:]) == 4
    assert captions.read_caption(captions.LETTERS.encode("draw")) is None
    assert max(len(captions.prompt_of(each)) + len(captions.caption_of(each)) for each in range(10)) <= captions.LONGEST


def test_a_model_that_was_taught_captions_writes_them_after_an_image():
    torch.manual_seed(0)
    labels = torch.arange(120) % 3
    latents = torch.randn(120, 4, 4) * 0.1 + labels[:, None, None]
    these = captions.captioned(latents, labels)
    model = LatentModel(latent_sizes(captions.WORDS, width=32, layers=1, heads=2, latent=4, places=4, context=40))
    train_latent_model(model, these, steps=150, batch=32, rate=1e-2, hide=captions.prompts_hidden(1.0))
    latents = torch.arange(3)[:, None, None] + torch.zeros(3, 4, 4)
    prompt = captions.hidden_prompt(0).expand(3, -1)
    states = model.new_states(3)
    _, states = model(stream(prompt, latents), states)
    written = write(model, torch.full((3, 1), captions.END), states, count=10, stop=captions.STOP)
    assert [captions.read_caption(row) for row in written] == [0, 1, 2]
    for row in written.tolist():  # what follows the end is the end again
        assert set(row[row.index(captions.STOP) :]) == {captions.STOP}


def test_codes_are_drawn_by_the_same_backbone_and_a_step_is_the_whole_pass():
    torch.manual_seed(0)
    sizes = latent_sizes(11 + 8, **TINY).backbone
    model, labels = CodeModel(sizes, places=6), torch.arange(200) % 10
    codes = (labels[:, None] + torch.arange(6)) % 8
    words = torch.cat((labels[:, None], codes[:, :-1] + 11), 1)
    whole = model(words)[0]
    states, steps = model.backbone.new_states(200), []
    for place in range(6):
        logits, states = model(words[:, place : place + 1], place, states)
        steps.append(logits)
    assert whole.shape == (200, 6, 8) and (torch.cat(steps, 1) - whole).abs().max() < 1e-5
    train_code_model(model, codes, labels, steps=120, batch=32, rate=1e-2)
    drawn = draw_codes(model, labels[:50], weight=2.0, generator=torch.Generator().manual_seed(0))
    assert (drawn == codes[:50]).double().mean() > 0.9


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_latents_drawn_once_more_after_themselves_are_themselves_and_later_ones_change_none(weight):
    model, (label, _) = model_of(), given()
    more = dict(without=torch.full_like(label, 10), weight=weight, steps=4)
    found, _ = draw(model, label, generator=torch.Generator().manual_seed(1), **more)
    generator = torch.Generator().manual_seed(1)
    start = torch.stack([normal((len(label), 4), found, generator) for _ in range(found.shape[1])], 1)
    again = redraw(model, label, found, start=start, **more)
    assert (again - found).abs().max() < 1e-9
    changed = found.clone()
    changed[:, 3] += 1
    other = redraw(model, label, changed, start=start, **more)
    assert torch.equal(other[:, :4], again[:, :4]) and ((other - again)[:, 4:].abs().amax((0, 2)) > 1e-6).all()
    with pytest.raises(ValueError, match="needs `without`"):
        redraw(model, label, found, weight=3.0)


@pytest.mark.parametrize("seeded", [False, True], ids=["unseeded", "of a seed"])
def test_what_is_made_on_the_way_lies_where_the_model_lies(seeded):
    """As on a GPU: whatever names no device is made on another one here, and would not go with the model."""
    model, whole = LatentModel(latent_sizes(11, **TINY)), WholeModel(11, width=16, heads=2, latent=4, places=6)
    code = CodeModel(latent_sizes(19, **TINY).backbone, places=6)
    (label, latents), line = given(), dict(steps=3, generator=torch.Generator("cpu") if seeded else None)
    latents, generator = latents.float(), line["generator"]
    hides = hidden_words(0, 1, 10), captions.prompts_hidden(0.5)
    with torch.device("meta"):
        for use_cache in (True, False):
            found, states = draw(model, label, without=label, weight=2.0, use_cache=use_cache, **line)
            assert found.device.type == "cpu"
        write(model, label, model.new_states(3), count=2, stop=4)
        for hide in hides:
            sum(model.losses(hide(stream(label, latents, label), generator), generator=generator)).backward()
        whole.loss(latents, label[:, 0], generator).backward()
        draw_whole(whole, label[:, 0], without=label[:, 0], weight=2.0, **line)
        draw_codes(code, label[:, 0], generator=generator)
        for kind in ("sigma", "vae"):
            tokeniser = Tokeniser(kind, side=8, patch=2, latent=4, width=16).to_empty(device="cpu")
            tokeniser.sample(tokeniser.encode(label.new_zeros(2, 1, 8, 8, dtype=torch.float32)), generator)


def test_a_model_trains_and_draws_through_the_kernels_where_they_are_asked_for(monkeypatch):
    """On a GPU without being asked; elsewhere by the head's `implementation`."""
    asked, step = [], operators.head_step
    monkeypatch.setattr(operators, "head_step", lambda *given: (asked.append(len(given[0])), step(*given))[1])
    label, latents = given(2)
    found = {}
    for implementation in ("torch", "triton", None):
        model = model_of().float().to(runtime.device())
        model.head.implementation = implementation
        label, latents, asked[:] = label.to(runtime.device()), latents.float().to(runtime.device()), []
        loss = sum(model.losses(stream(label, latents), draws=2, generator=torch.Generator().manual_seed(0)))
        loss.backward()
        trained = len(asked)
        drawn, _ = draw(model, label, count=2, steps=2, generator=torch.Generator().manual_seed(1))
        through = implementation == "triton" or implementation is None and runtime.mode == "gpu"
        assert asked == ([2 * 12] * trained + [2] * 2 * 2 * 3 if through else []) and trained in (0, 3)
        weights = [each.grad for block in model.head.blocks for each in block.parameters()]
        found[implementation] = [loss.detach(), drawn, model.condition.weight.grad, *weights]
    for plain, kernels in zip(found["torch"], found["triton"], strict=True):
        torch.testing.assert_close(kernels, plain, rtol=1e-4, atol=1e-5)


def test_bad_input_says_what_was_given_and_what_is_wanted():
    with pytest.raises(ValueError, match="prediction must be one of .* it is 'x'"):
        latent_sizes(11, prediction="x")
    with pytest.raises(ValueError, match="places"):
        latent_sizes(11, places=0)
    with pytest.raises(ValueError, match="heads must divide the width of 96; heads is 7"):
        latent_sizes(11, heads=7)
    with pytest.raises(ValueError, match="guidance by 2 needs `without`"):
        draw(model_of(), given()[0], weight=2)
    model, (label, latents) = model_of(), given()
    with pytest.raises(ValueError, match="an image has 6 latents; count is 7"):
        draw(model, label, count=7)
    with pytest.raises(ValueError, match="count must be a whole number of at least 1; it is 0"):
        draw(model, label, count=0)
    with pytest.raises(ValueError, match=r"the prompt must have a word; words are \(3, 0\)"):
        draw(model, label[:, :0])
    with pytest.raises(ValueError, match="states are given and use_cache is False"):
        draw(model, label, use_cache=False, states=model.new_states(3))
    with pytest.raises(ValueError, match="count must be a whole number of at least 1; it is 2.5"):
        write(model, label, model.new_states(3), count=2.5)
    with pytest.raises(ValueError, match="draws must be a whole number of at least 1; it is 0"):
        model.losses(stream(label, latents), draws=0)
    with pytest.raises(ValueError, match=r"a stream needs latents, a floating part; it got \['torch.int64'\]"):
        stream(label)
    with pytest.raises(ValueError, match="count must be a whole number of at least 1; it is 0"):
        train_latent_model(model, stream(label[:0], latents[:0]), steps=1)
    assert isinstance(stream(label, latents), Stream)


def test_a_whole_image_model_looks_both_ways_starts_at_zero_and_learns():
    torch.manual_seed(0)
    model = WholeModel(11, width=16, layers=2, heads=2, inner=32, latent=4, places=6)
    latents, labels = torch.randn(200, 6, 4), torch.arange(200) % 10
    assert not model(latents, torch.tensor([500]), labels).any()
    assert model.loss(latents, labels).item() == pytest.approx(1, abs=0.1)
    latents = (labels[:, None, None] - 4.5) / 2.87 + 0.05 * latents
    losses = train_whole_model(model, latents, labels, hidden=10, steps=60, batch=32)
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])
    moved = latents.clone()
    moved[:, 5] += 1.0
    changed = model(moved, torch.tensor([500]), labels) - model(latents, torch.tensor([500]), labels)
    assert (changed.abs().amax((0, 2)) > 1e-4).all()
    passes, forward = [], model.forward
    model.forward = lambda noisy, *rest: (passes.append(noisy.shape), forward(noisy, *rest))[1]
    drawn = draw_whole(model, labels[:3], without=labels[:3] * 0 + 10, weight=1.5, steps=4)
    assert drawn.shape == (3, 6, 4) and passes == [(6, 6, 4)] * 4
    with pytest.raises(ValueError, match="guidance by 2 needs `without`"):
        draw_whole(model, labels[:3], weight=2)
