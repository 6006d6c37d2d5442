"""Models from a form: what fits together, that each builds, trains and decodes, and that its bill is the chapters'."""

import itertools
import math
from dataclasses import fields, replace

import pytest
import torch

from effattn_core import bill as chapters
from effattn_core.latents import draw
from effattn_core.stack_models import Decoder, parameters_met, period_of, reader_of
from effattn_core.stacks import (
    BEST,
    CHOICES,
    PRESETS,
    Stack,
    bill,
    every,
    make,
    optimizer_of,
    reasons,
    sizes,
    states_of,
    write,
)
from effattn_core.universal import costs as universal

VOCABULARY = 40
# Each chapter's design as a stack: its bill must be that chapter's, line for line.
DESIGNS = {
    "attention": Stack(),
    "retention": Stack(mixer="retention"),
    "recurrences": Stack(mixer="gated delta"),
    "yoco": Stack(mixer="gated", sharing="yoco"),
    "universal": Stack(mixer="gated", sharing="yoco loops"),
    "rectified": Stack(reading="rectified"),
    "indexing": Stack(mixer="gated", sharing="yoco", reading="index"),
    "channels": Stack(reading="channels"),
    "routing": Stack(feed_forward="experts"),
    "speculation": Stack(drafting="frequent words"),
    "latents": Stack(stream="text and images"),
    "lowbit": Stack(optimizer="SOLO 4/2"),
}


def combinations():
    """Every choice of one option per part, whether it fits or not, as keyword arguments."""
    names = list(CHOICES)
    for options in itertools.product(*(CHOICES[name].options for name in names)):
        yield dict(zip(names, options, strict=True))


def pairs(stack):
    """All pairs of options that a stack holds; each option is also a pair with itself."""
    return set(itertools.combinations_with_replacement(vars(stack).items(), 2))


def covering():
    """Few stacks that hold every pair of options that any stack holds: the one with most new pairs, again and again."""
    held = {stack: pairs(stack) for stack in every()}
    left, chosen = set().union(*held.values()), []
    while left:
        chosen.append(max(held, key=lambda each: len(held[each] & left)))
        left -= held[chosen[-1]]
    return chosen


COVERING = covering()


def tokens(*shape, seed=0):
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def named(stack):
    """The parts that are not the plain Transformer's, for the name of a test."""
    return ", ".join(value for name, value in vars(stack).items() if value != getattr(Stack(), name)) or "plain"


def without_a_cache(stack, model, prompt, count):
    """The likeliest tokens after a prompt, the whole text read again for each: in the model as it decodes."""
    reader, text = reader_of(model.eval()), prompt
    with torch.no_grad():
        for _ in range(count):
            text = torch.cat([text, reader(text[None])[0][:, -1].argmax(-1)])
    return text[len(prompt) :].tolist()


# ---- what fits ----


def test_the_parts_of_a_stack_are_the_questions_of_the_form():
    assert [each.name for each in fields(Stack)] == list(CHOICES)
    assert all(getattr(Stack(), name) == next(iter(part.options)) for name, part in CHOICES.items())


def test_what_cannot_be_built_is_refused_in_a_sentence_that_says_what_to_choose():
    possible, refused = set(every()), 0
    for given in combinations():
        try:
            stack = Stack(**given)
        except ValueError as error:
            said, refused = str(error), refused + 1
            assert said.endswith(".") and ": choose " in said and " or " in said, said
            continue
        assert stack in possible
    assert refused + len(possible) == math.prod(len(part.options) for part in CHOICES.values())
    assert refused > 100 and len(possible) > 100


def test_the_reasons_are_what_choosing_would_say():
    for stack in every()[::7]:
        found = reasons(stack)
        for part, choice in CHOICES.items():
            for option in choice.options:
                said = found.get(part, {}).get(option)
                if said is None:
                    replace(stack, **{part: option})
                    continue
                with pytest.raises(ValueError) as refusal:
                    replace(stack, **{part: option})
                assert said == str(refusal.value) and option != getattr(stack, part)


@pytest.mark.parametrize(
    "given, sentence",
    [
        (dict(mixer="softmax"), r"mixer must be one of attention, .*; it is 'softmax'"),
        (dict(optimizer=None), r"optimizer must be one of AdamW, .*; it is None"),
        (dict(hybrid="one in four"), "One layer of four can attend only where the others do not"),
        (dict(mixer="gated", reading="rectified"), "chooses blocks of a cache that grows"),
        (dict(mixer="window", reading="channels"), "LeanK thins the keys of plain attention"),
        (dict(mixer="gated", sharing="yoco loops", reading="index"), "choose YOCO without loops"),
        (dict(reading="rectified", drafting="lookup"), "Drafts are checked together"),
    ],
)
def test_a_stack_that_is_none_is_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        Stack(**given)


def test_the_best_stack_is_among_the_presets_and_all_of_them_differ():
    assert BEST in PRESETS.values() and Stack() == PRESETS["Plain Transformer"]
    assert len(set(PRESETS.values())) == len(PRESETS)


# ---- what it costs ----


@pytest.mark.parametrize("topic", DESIGNS)
@pytest.mark.parametrize("context", [4096, chapters.CONTEXT])
def test_a_stack_that_is_one_chapter_s_design_has_that_chapter_s_bill(topic, context):
    assert bill(DESIGNS[topic], context) == chapters.lines(topic, context)


def test_every_stage_of_the_bill_is_a_stack_but_the_reading_in_pieces():
    assert {each.topic for each in chapters.stages()} - set(DESIGNS) == {"focus"}


def test_every_stack_is_priced():
    begun = chapters.lines()
    for stack in every():
        lines = bill(stack)
        extra = {"experts"} if stack.feed_forward == "experts" else set()
        extra |= {"image"} if stack.stream == "text and images" else set()
        assert set(lines) == set(begun) | extra, stack
        for key, line in lines.items():
            assert line.key == key and line.weights >= 0 and line.text >= 0 and math.isfinite(line.value), (stack, key)
        assert lines["decode"].value > 0 and lines["cache"].value > 0


def test_each_part_moves_the_bill_as_its_chapter_does():
    more = {name: bill(Stack(**given)) for name, given in {
        "hybrid": dict(mixer="gated delta", hybrid="one in four"), "delta": dict(mixer="gated delta"),
        "window": dict(mixer="window"), "yoco": dict(mixer="gated delta", sharing="yoco"),
        "blocks": dict(mixer="gated delta", sharing="yoco", reading="rectified"),
        "loops": dict(sharing="loops"), "plain": {}, "lookup": dict(drafting="lookup"),
    }.items()}  # fmt: skip
    cache, decode = ({name: lines[key].text for name, lines in more.items()} for key in ("cache", "decode"))
    assert cache["delta"] < cache["yoco"] < cache["hybrid"] < cache["plain"] == cache["loops"] / 4
    assert cache["window"] < cache["hybrid"] and more["loops"]["weights"] == more["plain"]["weights"]
    # Above states a shared cache is exact: of all of it a sixteenth and a tenth is read, and nothing is read again.
    states = cache["delta"] / 2
    assert decode["blocks"] - states == pytest.approx((1 / 16 + 0.1) * (decode["yoco"] - states))
    assert decode["lookup"] < decode["plain"] and cache["lookup"] == cache["plain"]


@pytest.mark.parametrize("sharing", ["yoco", "loops", "yoco loops"])
def test_shared_and_looped_attention_costs_what_the_formulas_of_loops_say(sharing):
    context, loops = 4096, universal.LOOPS if "loops" in sharing else 1
    shares = sharing.startswith("yoco")
    made = universal.llama_sized(loops, context, mixer="attention", window=None, shares=shares)
    lines, kept = bill(Stack(sharing=sharing), context), universal.kept(made, context)
    assert lines["prefill"].value == universal.prefill_flops(made, context)
    assert lines["weights"].weights == 2 * universal.parameters(made)
    assert lines["optimizer"].weights == 8 * universal.parameters(made)
    assert lines["cache"].text == kept.total
    sparse = bill(Stack(sharing=sharing, reading="rectified"), context)
    assert sparse["cache"].text == pytest.approx(kept.total * (1 + 1 / 16))
    shared = universal.kept(universal.llama_sized(1, context, mixer="gated"), context).growing if shares else 0
    own = kept.total - shared  # of the layers that mix, which are read once, and again every 32 tokens
    read = (1 / 16 + 0.1 + 1 / 32) * own + (1 / 16 + 0.1) * 16 * shared
    assert sparse["decode"].text == pytest.approx(read)


def test_a_bill_of_no_token_is_refused():
    with pytest.raises(ValueError, match="context must be at least 1 token; it is 0"):
        bill(Stack(), 0)


# ---- what it is ----


def test_a_token_of_every_stack_meets_as_many_parameters():
    wanted, seen = None, set()
    for stack in every():
        made = stack.mixer, stack.hybrid, stack.sharing, stack.reading == "index", stack.feed_forward
        if made in seen:
            continue
        seen.add(made)
        found = parameters_met(stack, VOCABULARY, sizes(stack, VOCABULARY).feed_forward)
        wanted = wanted or found
        assert abs(found / wanted - 1) < 0.01, (stack, found, wanted)
    model = make(Stack(), VOCABULARY)
    assert model.parameter_count == wanted
    assert make(Stack(feed_forward="experts"), VOCABULARY).parameter_count > 2 * wanted


def test_the_sample_holds_every_pair_of_options_and_each_option_twice():
    held = [option for stack in COVERING for option in vars(stack).items()]
    for part, choice in CHOICES.items():
        assert all(held.count((part, option)) >= 2 for option in choice.options), part
    assert set().union(*map(pairs, COVERING)) == set().union(*map(pairs, every()))


@pytest.mark.parametrize("stack", COVERING, ids=named)
def test_a_stack_trains_a_step_and_writes_what_it_writes_without_a_cache(stack):
    model = make(stack, VOCABULARY, seed=1)
    optimizer, text = optimizer_of(stack, model), tokens(2, 33)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    first = model.loss(text[:, :-1], text[:, 1:])
    first.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    optimizer.step()
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert any(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    prompt = tokens(24, seed=2)
    written = list(write(stack, model, prompt, 8))
    assert model.training and len(written) == 8 and all(0 <= each < VOCABULARY for each in written)
    if stack.reading != "channels":  # whose keys are thinned from the first chunk on
        assert written == without_a_cache(stack, model, prompt, 8)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_learns(name):
    stack, text = PRESETS[name], torch.arange(60).remainder(6)[None].repeat(2, 1)
    model, losses = make(stack, VOCABULARY), []
    optimizer = optimizer_of(stack, model)
    for _ in range(12):
        loss = model.loss(text[:, :-1], text[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_writing_past_the_context_is_refused():
    with pytest.raises(ValueError, match="a prompt of 20 and 8 new tokens do not fit a context of 24"):
        list(write(Stack(), make(Stack(), VOCABULARY, context=24), tokens(20), 8))


# ---- reading sparsely ----

LONG = 320  # twenty blocks, of which sixteen are read


def read_sparsely(stack, steps):
    """(a Decoder after a long prompt and some tokens, what it said, what is said when all is read, the text)."""
    torch.manual_seed(3)
    model = make(stack, VOCABULARY, context=LONG + 64).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 3 if weight.ndim == 2 else 1  # so that attention prefers some tokens to others
    text = tokens(1, LONG + steps)
    decoder, said = Decoder(model, states_of(stack, model, LONG + 64), period=0), []
    decoder.read(text[:, :LONG])
    for place in range(LONG, LONG + steps):
        said.append(decoder.step(text[:, place : place + 1]))
    with torch.no_grad():
        whole, states = model(text, states_of(replace(stack, reading="whole"), model, LONG + 64))
    return decoder, torch.cat(said, 1), whole[:, LONG:], states


def apart(found, exact):
    """The largest distance of what states keep of the same text: keys and values, or memories."""
    names = ("key", "value") if hasattr(exact, "key") else ("memory",)
    return max((getattr(found, name) - getattr(exact, name)).abs().max().item() for name in names)


@pytest.mark.parametrize(
    "given", [{}, dict(sharing="loops"), dict(sharing="yoco"), dict(mixer="gated", hybrid="one in four")], ids=str
)
def test_rectifying_gives_the_states_that_whole_reading_has(given):
    stack = Stack(reading="rectified", **given)
    decoder, said, whole, states = read_sparsely(stack, 5)
    assert (said - whole).abs().max() > 1e-6  # blocks were left out, and it shows
    own = [place for place, state in enumerate(states) if apart(decoder.states[place], state) > 1e-9]
    assert bool(own) == ("hybrid" not in given)  # the one attending layer is the last: what it got wrong, none keeps
    decoder.rectify()
    assert max(map(apart, decoder.states, states)) < 1e-9 and period_of(stack) == 32
    assert [state.length for state in decoder.states] == [LONG + 5] * len(states)
    assert not any(getattr(state, "rewound", False) for state in decoder.states)  # or each token makes all bounds anew


@pytest.mark.parametrize("mixer", ["window", "retention", "gated delta"])
def test_a_shared_cache_above_states_is_exact_and_needs_no_rectifying(mixer):
    stack = Stack(mixer=mixer, sharing="yoco", reading="rectified")
    decoder, said, whole, states = read_sparsely(stack, 5)
    assert period_of(stack) == 0 and (said - whole).abs().max() > 1e-6
    assert apart(decoder.states[-1], states[-1]) < 1e-9
    text = tokens(1, LONG + 5)
    with torch.no_grad():
        several, _ = decoder.model(text, states_of(stack, decoder.model, LONG + 64))
    torch.testing.assert_close(several[:, LONG:], whole, rtol=0, atol=1e-9)  # several tokens at once read all


def test_states_have_the_room_that_was_asked_for_and_the_model_keeps_its_own():
    for stack in (Stack(), Stack(mixer="gated", sharing="yoco", reading="index"), Stack(reading="channels"), BEST):
        model = make(stack, VOCABULARY)
        states = states_of(stack, model, 900)
        assert all(state.capacity == 900 for state in states if state.grows), stack
        assert model.sizes.context == 256 and all(
            state.capacity == 256 for state in model.new_states() if state.grows
        )  # fmt: skip


# ---- images in the stream ----


def test_a_stack_of_words_and_images_draws_and_is_judged_by_its_words():
    stack = replace(BEST, stream="text and images")
    model, text = make(stack, VOCABULARY), tokens(2, 33)
    words = model.backbone.loss(text[:, :-1], text[:, 1:]).item()
    assert model.loss(text[:, :-1], text[:, 1:]).item() > words + 0.1 and model.step == 1
    assert model.eval().loss(text[:, :-1], text[:, 1:]).item() == pytest.approx(words)
    drawn, states = draw(model, torch.tensor([[7]]), steps=2, states=states_of(stack, model, 16))
    assert drawn.shape == (1, 8, 8) and drawn.isfinite().all() and states[-1].length == 9
