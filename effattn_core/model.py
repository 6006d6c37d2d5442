"""One small language model that takes any token mixer: pre-norm blocks, RMSNorm, SwiGLU, rotary positions."""

import importlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from effattn_core.calls import require_logits, require_temperature
from effattn_core.layers import AttentionMixer, SwiGLU
from effattn_core.states import require_sizes


@dataclass(frozen=True)
class Configuration:
    """Sizes of a LanguageModel. context: the most tokens it is trained on and its cache holds.

    window, sinks: what a token sees, of the mixer "attention"; the others have no window.
    mixer: a name of MIXERS. value_dim: of a mixer whose values have a size of their own; None for head_dim.
    rule: of the mixer "recurrent", a name of `effattn_core.recurrences.RULES`.
    cross_layers: how many of the layers, the last ones, have no mixer and read one cache that all of them share; see
    `effattn_core.yoco`.
    loops: how often the layers that have a mixer are gone through, with one set of weights; reinject: whether each loop
    after the first gets the embedding again; loop_embedding: whether it learns a vector of its own. See
    `effattn_core.universal`.
    attention_layers: the layers, counted from 0, that mix by plain attention although the mixer is another: a hybrid.
    experts: of each feed-forward layer; a token gets `top_k` of them by the `router`, see `effattn_core.routing`, and
    all `shared_experts`; feed_forward is the size of one; balance: see `loss`.
    tied: whether the head is the embedding's matrix. epsilon: of the RMS norms; None for PyTorch's, by dtype.
    biases: of the projections to queries, keys and values. head_norms: an RMS norm of each head's query and key before
    they turn (Qwen3). rotary_speeds: radians per token of each pair, where they are not powers of `rotary_base`. These
    five are what trained checkpoints need, see `effattn_core.pretrained`; only plain attention models have them.

    Raises ValueError for a size that is no whole number of at least 1, and for a setting that the mixer would ignore.
    """

    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    head_dim: int = 32
    feed_forward: int = 352
    context: int = 256
    rotary_base: float = 10000.0
    window: int | None = None
    sinks: int = 0
    mixer: str = "attention"
    value_dim: int | None = None
    rule: str | None = None
    cross_layers: int = 0
    loops: int = 1
    reinject: bool = False
    loop_embedding: bool = False
    attention_layers: tuple[int, ...] = ()
    experts: int = 0
    top_k: int | None = None
    router: str | None = None
    shared_experts: int = 0
    balance: float = 0.0
    tied: bool = False
    epsilon: float | None = None
    biases: bool = False
    head_norms: bool = False
    rotary_speeds: tuple[float, ...] | None = None

    def __post_init__(self):
        sizes = "vocabulary width layers heads key_value_heads head_dim feed_forward context loops".split()
        sizes += [name for name in ("window", "value_dim") if getattr(self, name) is not None]
        require_sizes(**{name: getattr(self, name) for name in sizes})
        require_sizes(0, sinks=self.sinks, cross_layers=self.cross_layers, experts=self.experts)
        if self.heads % self.key_value_heads:
            raise ValueError(f"key_value_heads must divide heads; got {self.key_value_heads} for {self.heads} heads.")
        if self.head_dim % 2:
            raise ValueError(f"rotary positions turn pairs, so head_dim must be even; it is {self.head_dim}.")
        if self.mixer not in MIXERS:
            raise ValueError(f"mixer must be one of {sorted(MIXERS)}; it is {self.mixer!r}.")
        if not 0 <= self.cross_layers < self.layers:
            raise ValueError(f"cross_layers must be fewer than the {self.layers} layers; it is {self.cross_layers}.")
        self._require_hybrid()
        self._require_heard()

    def _require_hybrid(self):
        """Raise ValueError for attention layers that the model does not have, or that are no exception in it."""
        given, there = self.attention_layers, range(self.layers)
        if not given:
            return
        if sorted(set(given)) != list(given) or not set(given) <= set(there):
            raise ValueError(f"attention_layers must rise and lie in 0..{self.layers - 1}; they are {given}.")
        if self.mixer == "attention" or self.cross_layers or self.loops > 1:
            raise ValueError(
                "attention_layers are for a model with another mixer, without cross layers and loops; got mixer "
                f"{self.mixer!r}, {self.cross_layers} cross layers, {self.loops} loops."
            )

    def _require_heard(self):
        """Raise ValueError for a setting that the mixer does not have."""
        ignored = {
            "value_dim": self.mixer == "attention",
            "sinks": self.window is None,
            "rule": self.mixer != "recurrent",
        }
        needs = {"sinks": "a window", **dict.fromkeys(("top_k", "router", "shared_experts", "balance"), "experts")}
        ignored |= {name: not self.experts for name, need in needs.items() if need == "experts"}
        for name, unheard in ignored.items():
            if unheard and getattr(self, name) not in (None, 0):
                without = f"without {needs[name]}" if name in needs else f"of the mixer {self.mixer!r}"
                raise ValueError(f"{name} is no setting {without}; it is {getattr(self, name)!r}.")
        plain = self.mixer == "attention" and not self.cross_layers and self.loops == 1
        for name in ("tied", "epsilon", "biases", "head_norms", "rotary_speeds"):
            if getattr(self, name) and not plain:
                raise ValueError(f"{name} is a setting of plain attention models; it is {getattr(self, name)!r}.")
        if self.rotary_speeds is not None and len(self.rotary_speeds) != self.head_dim // 2:
            raise ValueError(
                f"rotary_speeds must be {self.head_dim // 2} numbers, one per pair; it has {len(self.rotary_speeds)}."
            )


# Where the class of each token mixer lives. Topics import this file; it imports a topic by name, when a model asks.
MIXERS = {
    "attention": "effattn_core.layers:AttentionMixer",
    "retention": "effattn_core.retention.mixer:MultiScaleRetention",
    "recurrent": "effattn_core.recurrences.mixer:RecurrentMixer",
    "gated": "effattn_core.recurrences.mixer:GatedRetention",
}

SIZES = {
    "tiny": dict(width=64, layers=2, heads=4, key_value_heads=2, head_dim=16, feed_forward=176, context=64),
    "small": dict(width=96, layers=3, heads=4, key_value_heads=2, head_dim=32, feed_forward=256, context=256),
    # As many parameters as "small": keys of d, values, gate and output of 2d, and the feed-forward pays for them.
    "small-retention": dict(
        mixer="retention", width=96, layers=3, heads=3, key_value_heads=3, head_dim=32, value_dim=64, feed_forward=128,
        context=256,
    ),
    # Four layers with hardly fewer parameters: the two that share a cache have no keys and values of their own.
    "small-yoco": dict(
        width=96, layers=4, cross_layers=2, heads=4, key_value_heads=2, head_dim=32, window=32, feed_forward=170,
        context=256,
    ),
    "small-yoco-gated": dict(
        mixer="gated", width=96, layers=4, cross_layers=2, heads=3, key_value_heads=3, head_dim=32, feed_forward=159,
        context=256,
    ),
}  # fmt: skip


def configuration(size, vocabulary, **changes):
    """The Configuration of a named size, with changes. Raises ValueError for a name that is not in SIZES."""
    if size not in SIZES:
        raise ValueError(f"size must be one of {sorted(SIZES)}; it is {size!r}.")
    return Configuration(vocabulary, **{**SIZES[size], **changes})


def _named(path):
    """What a path like "package.module:Name" names."""
    module, _, member = path.partition(":")
    return getattr(importlib.import_module(module), member)


def mixer_class(name):
    """The class of a token mixer, by its name in MIXERS."""
    return _named(MIXERS[name])


def feed_forward(sizes):
    """A block's feed-forward layer: one for all tokens, or experts."""
    experts = sizes.experts and _named("effattn_core.routing.experts:MixtureOfExperts")
    return experts.of(sizes) if experts else SwiGLU(sizes.width, sizes.feed_forward)


def build(sizes):
    """The model of a Configuration: a LanguageModel, or a YOCO where some layers share a cache; or either in loops."""
    if sizes.loops > 1 or sizes.reinject or sizes.loop_embedding:
        kind = "UniversalYOCO" if sizes.cross_layers else "UniversalTransformer"
        return _named(f"effattn_core.universal:{kind}")(sizes)
    return _named("effattn_core.yoco:YOCO")(sizes) if sizes.cross_layers else LanguageModel(sizes)


class Block(nn.Module):
    """hidden + mixer(norm(hidden)), then hidden + feed_forward(norm(hidden)): a SwiGLU, or experts."""

    def __init__(self, sizes, mixer):
        super().__init__()
        self.before_mixer, self.before_feed_forward = (nn.RMSNorm(sizes.width, sizes.epsilon) for _ in range(2))
        self.mixer, self.feed_forward = mixer(sizes), feed_forward(sizes)

    def forward(self, hidden, state=None):
        mixed, state = self.mixer(self.before_mixer(hidden), state)
        hidden = hidden + mixed
        return hidden + self.feed_forward(self.before_feed_forward(hidden)), state


class LanguageModel(nn.Module):
    """Tokens in, logits of the next token out.

    mixer: a class built from a Configuration and called (hidden, state); by default the one that `sizes` names.
    """

    def __init__(self, sizes, mixer=None):
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.make_layers(mixer or mixer_class(sizes.mixer))
        self.norm = nn.RMSNorm(sizes.width, sizes.epsilon)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        if sizes.tied:
            self.head.weight = self.embedding.weight
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # What adds to the residual stream starts smaller, so that depth does not grow it (GPT-2).
                deep = (2 * sizes.layers) ** -0.5 if name.endswith(("output.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, std=0.02 * deep)

    def make_layers(self, mixer):
        """The layers between embedding and head; a model of another make has its own."""
        among = self.sizes.attention_layers
        mixers = (AttentionMixer if layer in among else mixer for layer in range(self.sizes.layers))
        self.blocks = nn.ModuleList(Block(self.sizes, each) for each in mixers)

    @property
    def parameter_count(self):
        return sum(weight.numel() for weight in self.parameters())

    def new_states(self, batch=1):
        """An empty state for each block, for decoding."""
        return [block.mixer.new_state(batch, self.head.weight) for block in self.blocks]

    def read(self, hidden, states):
        """Take tokens in: (what the layers make of them: [batch, time, width], states)."""
        states = list(states) if states is not None else [None] * len(self.blocks)
        for number, block in enumerate(self.blocks):
            hidden, states[number] = block(hidden, states[number])
        return hidden, states

    def answer(self, hidden, states):
        """Run the layers that only predicted tokens need. None here; YOCO overrides this with its cross-decoder."""
        return hidden

    def forward(self, tokens, states=None):
        """tokens: [batch, time] int64. Returns (logits: [batch, time, vocabulary], states)."""
        hidden, states = self.read(self.embedding(_checked(tokens)), states)
        return self.head(self.norm(self.answer(hidden, states))), states

    def prefill(self, tokens, states=None, *, chunk=None):
        """Read a prompt: (logits of its last token alone: [batch, 1, vocabulary], states to decode from).

        All prompts of a batch have one length: every token is read, so padding on either side would be text.
        chunk: tokens read at once; a prompt longer than memory allows is read by so many at a time, and gives the same.
        Raises ValueError for no token or no chunk.
        """
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1 token, or None for the whole prompt; it is {chunk}.")
        states = self.new_states(len(tokens)) if states is None else states
        for part in _checked(tokens).split(chunk or tokens.shape[1], 1):
            hidden, states = self.read(self.embedding(part), states)
        return self.head(self.norm(self.answer(hidden[:, -1:], states))), states

    def loss(self, tokens, targets):
        """Mean cross-entropy in nats per token; targets of `effattn_core.data.IGNORED` are left out.

        Texts of different lengths: see `effattn_core.data.padded`. In training `balance` · experts' loss is added.
        """
        logits, _ = self(tokens)
        loss, weight = functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), self.sizes.balance
        if not weight or not self.training or not torch.is_grad_enabled():
            return loss
        return loss + weight * sum(each.auxiliary for each in self.modules() if hasattr(each, "auxiliary"))


def _checked(tokens):
    """Return `tokens`; raise ValueError if empty, not 2-D, or negative as padding often is (seen on a CPU only)."""
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(f"tokens must be [batch, time] with at least one; the shape is {tuple(tokens.shape)}.")
    if tokens.device.type == "cpu" and not torch.compiler.is_compiling() and len(tokens) and tokens.min() < 0:
        raise ValueError(
            f"tokens must be 0 or more; one is {tokens.min()}. Padding is not understood: read texts of one length, "
            "or train on `effattn_core.data.padded`."
        )
    return tokens


@torch.no_grad()
def generate(model, prompt, count, *, use_cache=True, temperature=0.0, generator=None):
    """Yield `count` tokens after prompt: [time] int64, one at a time; temperature 0 takes the likeliest.

    Without the cache every step reads the whole text again, and gives the same tokens. Raises ValueError if prompt and
    count do not fit the model's context.
    """
    require_room(model, prompt, count)
    text, states = prompt[None], model.new_states() if use_cache else None
    unread = text
    for _ in range(count):
        logits, states = model.prefill(unread, states) if use_cache else model(text)
        token = sample(logits[:, -1], temperature, generator)
        text, unread = torch.cat([text, token], 1), token
        yield token.item()


def sample(logits, temperature=0.0, generator=None):
    """One token per text from logits [batch, vocabulary]: int64 [batch, 1]; temperature 0 takes the likeliest.

    Raises ValueError for a temperature that is negative or not finite, and where a largest logit is NaN or infinite.
    """
    require_temperature(temperature)
    require_logits(logits)
    if temperature > 0:
        return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)
    return logits.float().argmax(-1, keepdim=True)


def require_room(model, prompt, count):
    """Raise ValueError if a prompt, [time], and `count` new tokens do not fit the model's context."""
    context = model.sizes.context
    if len(prompt) + count > context:
        raise ValueError(f"a prompt of {len(prompt)} and {count} new tokens do not fit a context of {context}.")


def describe(model):
    """One line: layers, heads, sizes, parameters."""
    names = "layers", "width", "heads", "key_value_heads", "context"
    return f"{model.parameter_count:,} parameters: " + ", ".join(f"{one} {getattr(model.sizes, one)}" for one in names)
