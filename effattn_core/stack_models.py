"""The small model of a Stack (see `effattn_core.stacks`): sizes, model, optimizer, decoding states, and what it writes.

Every function takes a Stack and asks the chapters' own code. Nothing here knows which parts fit: `require` builds the
model without its numbers, and what refuses says so.
"""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import torch

from effattn_core.channels.cache import ChannelCache
from effattn_core.channels.costs import RELEASED_KEPT
from effattn_core.channels.masks import keep_top, plan
from effattn_core.channels.training import by_frequency
from effattn_core.indexing.model import IndexedYOCO, Jointly
from effattn_core.latents.digits import small_digits
from effattn_core.latents.model import LatentModel, LatentSizes, stream
from effattn_core.lowbit import training as low_bits
from effattn_core.model import Configuration, build, require_room, sample
from effattn_core.rectified.cache import RectifiedCache, RewindableCache, SparseDecoder
from effattn_core.rectified.costs import PERIOD
from effattn_core.routing.costs import EXPERTS, TOP_K
from effattn_core.speculation import decoding
from effattn_core.speculation.drafters import Lookup, early_exit
from effattn_core.speculation.vocabulary import counts, most_frequent
from effattn_core.states import sees_all
from effattn_core.universal.costs import LOOPS
from effattn_core.yoco.model import YOCO

SHAPE = dict(width=64, layers=4, heads=4, key_value_heads=2, head_dim=16)  # of every stack; the feed-forward is solved
PLAIN_FEED_FORWARD, WINDOW, TOP_ROWS, EVERY = 176, 64, 64, 4
LEARNING_RATE, BETA1 = 3e-3, 0.8  # of the recorded runs of `lowbit`: at this β1 all optimizers did well
MIXERS = {
    "attention": {},
    "window": dict(window=WINDOW),
    "retention": dict(mixer="retention", value_dim=2 * SHAPE["head_dim"]),
    "gated": dict(mixer="gated"),
    "gated delta": dict(mixer="recurrent", rule="gated_delta", value_dim=2 * SHAPE["head_dim"]),
}
SHARING = {
    "none": {},
    "yoco": dict(cross_layers=SHAPE["layers"] // 2),
    "loops": dict(loops=LOOPS),
    "yoco loops": dict(cross_layers=SHAPE["layers"] // 2, loops=LOOPS),
}
HYBRID = {"none": {}, "one in four": dict(attention_layers=tuple(range(EVERY - 1, SHAPE["layers"], EVERY)))}
FEED_FORWARD = {"dense": {}, "experts": dict(experts=EXPERTS, top_k=TOP_K, router="past_prices")}
OPTIMIZERS = {"AdamW": "AdamW", "AdamW 8-bit": "8-bit", "SOLO 4/2": "SOLO 4/2", "SOLO 2/2": "SOLO 2/2"}
# What the parameters of every stack are held to; as much of a stack as a model is made of.
PLAIN = SimpleNamespace(mixer="attention", hybrid="none", sharing="none", reading="whole", feed_forward="dense")
IMAGE = dict(latent=8, places=8, inner=64, blocks=1)  # a digit of 8 × 8: a latent is a row of eight pixels


def _sizes(stack, vocabulary, context, feed_forward):
    parts = MIXERS[stack.mixer], HYBRID[stack.hybrid], SHARING[stack.sharing], FEED_FORWARD[stack.feed_forward]
    settings = {name: value for part in parts for name, value in part.items()}
    return Configuration(vocabulary, **SHAPE, feed_forward=feed_forward, context=context, **settings)


def _backbone(stack, sizes):
    """What reads tokens. Raises ValueError where the parts do not make a model."""
    if stack.reading != "index":
        return build(sizes)
    if not isinstance(build(replace(sizes, loops=1)), YOCO) or sizes.loops > 1:
        raise ValueError("an index chooses rows of one shared cache, whose layers are gone through once.")
    return Indexed(sizes, top_k=TOP_ROWS)


def parameters_met(stack, vocabulary, feed_forward):
    """Parameters of the backbone that one token meets, with feed-forward layers of a size: of experts its TOP_K."""
    with torch.device("meta"):
        model = _backbone(stack, _sizes(stack, vocabulary, 1, feed_forward))
    return sum(each.numel() * (TOP_K / EXPERTS if each.ndim == 3 else 1) for each in model.parameters())


def sizes(stack, vocabulary, context=256):
    """The Configuration of a stack: its feed-forward is as wide as makes it meet as many parameters as the plain one.

    A token of a model with experts meets TOP_K of them, so that all of its parameters are more. What a head for images
    adds is not counted.
    """
    wanted = parameters_met(PLAIN, vocabulary, PLAIN_FEED_FORWARD)
    least, more = (parameters_met(stack, vocabulary, width) for width in (1, 2))
    width = 1 + round((wanted - least) / (more - least))
    return _sizes(stack, vocabulary, context, width)


class Indexed(IndexedYOCO):
    """A YOCO with one index, whose loss in training is that of both: of words, and the indexer's own."""

    def loss(self, tokens, targets):
        if self.training and torch.is_grad_enabled():
            return Jointly(self).loss(tokens, targets)
        return super().loss(tokens, targets)


class WordsAndImages(LatentModel):
    """A backbone that reads words and images; the first ten words of its vocabulary name the digits.

    loss: of words alone when it is judged; in training also of 8 digits of 8 × 8, each after its name, drawn by the
    number of the step, which is kept with the weights.
    """

    def __init__(self, backbone):
        super().__init__(LatentSizes(backbone.sizes, **IMAGE))
        self.backbone = backbone
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def loss(self, tokens, targets):
        """Nats per word; in training, the squared error of the diffusion head is added."""
        words = self.backbone.loss(tokens, targets)
        if not self.training or not torch.is_grad_enabled():
            return words
        self.step += 1
        generator = torch.Generator().manual_seed(self.step.item())
        digits = small_digits()
        rows = torch.randint(len(digits.labels), (8,), generator=generator)
        images = digits.images[rows, 0].to(self.input.weight)
        given = stream(digits.labels[rows][:, None].to(images.device), images)
        return words + self.losses(given, generator=generator)[1]


def make(stack, vocabulary, seed=0, context=256):
    """The model of a stack, new: what `train.train` trains. Its first weights are the seed's."""
    torch.manual_seed(seed)
    backbone = _backbone(stack, sizes(stack, vocabulary, context))
    return WordsAndImages(backbone) if stack.stream == "text and images" else backbone


def reader_of(model):
    """What reads and writes words: the model itself, or its backbone where it also draws images."""
    return getattr(model, "backbone", model)


def optimizer_of(stack, model, learning_rate=LEARNING_RATE):
    """The optimizer of a stack, over all parameters of its model; matrices decay."""
    return low_bits.optimizer_of(OPTIMIZERS[stack.optimizer], model, BETA1, lr=learning_rate)


class BlockCache(RectifiedCache):
    """A RectifiedCache that layers without keys may look at too: several tokens at once read all that is kept."""

    def look(self, query):
        if query.shape[2] == 1:
            return super().look(query)
        self.rewound = False
        return RewindableCache.look(self, query)


def _thinned(batch, heads, capacity, head_dim, **place):
    """A cache of the slowest rotary channels: as many as LeanK's released masks keep, the same for each head."""
    kept = keep_top(by_frequency((heads, head_dim)), round(RELEASED_KEPT * head_dim))
    return ChannelCache(plan(kept), batch, capacity, head_dim, **place)


def states_of(stack, model, capacity):
    """Empty states for one text of up to `capacity` tokens: its reading is that of its growing caches."""
    reader = reader_of(model)
    kept = reader.sizes
    reader.sizes = replace(kept, context=capacity)
    mixers = [block.mixer for block in reader.blocks if hasattr(block.mixer, "sizes")]
    own = [mixer.sizes for mixer in mixers]
    try:
        for mixer in mixers:
            mixer.sizes = replace(mixer.sizes, context=capacity)
        made = reader.new_states()
    finally:
        reader.sizes = kept
        for mixer, was in zip(mixers, own, strict=True):
            mixer.sizes = was
    kind = {"rectified": BlockCache, "channels": _thinned}.get(stack.reading)
    if kind is None:
        return made
    return [_read_by(kind, state, capacity) if state.grows else state for state in made]


def _read_by(kind, cache, capacity):
    batch, heads, _, head_dim = cache.key.shape
    return kind(batch, heads, capacity, head_dim, dtype=cache.key.dtype, device=cache.key.device)


def period_of(stack):
    """Tokens after which what was read sparsely is read again; 0 for never.

    A shared cache above states or windows is exact, for nothing below it is read sparsely: nothing is to be rectified.
    """
    exact = stack.sharing.startswith("yoco") and stack.mixer != "attention"
    return PERIOD if stack.reading == "rectified" and not exact else 0


class Decoder(SparseDecoder):
    """A SparseDecoder of a model some of whose layers keep a state, which never changes: the one before is kept."""

    @torch.no_grad()
    def read(self, tokens):
        logits, self.states = self.model.prefill(tokens, self.states)
        self._exact = list(self.states)
        return logits

    @torch.no_grad()
    def rectify(self):
        if self.unrectified:
            tokens = torch.cat(self.unrectified, 1)
            for place, state in enumerate(self.states):
                if isinstance(state, RewindableCache):
                    state.rewind(tokens.shape[1])
                else:
                    self.states[place] = self._exact[place]
            _, self.states = self.model(tokens, self.states)
            self._exact, self.unrectified = list(self.states), []


def _drafter(stack, reader, prompt):
    vocabulary = reader.sizes.vocabulary
    if stack.drafting == "lookup":
        return Lookup(vocabulary)
    found = counts(prompt, vocabulary)
    return early_exit(reader, 1, subset=most_frequent(found, max(1, vocabulary // 4), always=()))


@contextlib.contextmanager
def _judged(model):
    """The model as it decodes, and then as it was."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


def write(stack, model, prompt, count, *, temperature=0.0, generator=None):
    """Yield `count` tokens after prompt: [time] int64, read and drafted as the stack does it.

    Raises ValueError if prompt and count do not fit the model's context.
    """
    reader = reader_of(model)
    require_room(reader, prompt, count)
    with _judged(model):
        if stack.drafting != "none":
            drafter = _drafter(stack, reader, prompt)
            settings = dict(temperature=temperature, generator=generator)
            yield from decoding.generate(reader, prompt, count, drafter, **settings).tokens
            return
        decoder = Decoder(reader, states_of(stack, model, len(prompt) + count), period=period_of(stack))
        logits = decoder.read(prompt[None])
        for place in range(count):
            token = sample(logits[:, -1], temperature, generator)
            yield token.item()
            if place < count - 1:
                logits = decoder.step(token)


@contextlib.contextmanager
def _told(sentence):
    """What the chapters' code refuses is told in a reader's sentence."""
    try:
        yield
    except ValueError as error:
        raise ValueError(sentence) from error


def _require_caches(stack, reader):
    """Raise ValueError unless the states are such as the reading needs."""
    if stack.reading == "rectified" and not any(state.grows for state in reader.new_states()):
        raise ValueError("no state grows.")
    if stack.reading == "channels" and not sees_all(reader.sizes):
        raise ValueError("not every layer is plain attention with a cache of its own.")


def require(stack):
    """Raise ValueError with a sentence unless the stack can be built and decoded."""
    with _told(NEEDS["hybrid"]):
        made = _sizes(stack, 16, 16, 16)
    if stack.reading != "whole":
        with _told(NEEDS[stack.reading]), torch.device("meta"):
            _require_caches(stack, _backbone(stack, made))
    if stack.drafting != "none" and not (sees_all(made) and stack.reading == "whole"):
        raise ValueError(NEEDS["drafting"])


NEEDS = {
    "hybrid": "One layer of four can attend only where the others do not, each gone through once with a state of its "
    "own: choose retention, gated or gated delta and no sharing, or no hybrid.",
    "rectified": "Rectified reading chooses blocks of a cache that grows, and here every layer keeps a window or a "
    "state of one size: choose attention, a hybrid or YOCO, or read the whole.",
    "channels": "LeanK thins the keys of plain attention, in every layer a cache of its own: choose attention, no "
    "hybrid and no sharing, or read the whole.",
    "index": "CLSA's index chooses rows of the one cache that YOCO's upper layers share, above layers gone through "
    "once: choose YOCO without loops, or read the whole.",
    "drafting": "Drafts are checked together, as further rows of one whole cache per layer: choose attention, no "
    "hybrid, no sharing and whole reading, or no drafting.",
}
