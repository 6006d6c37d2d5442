"""Facts in the plays that a long memory must give back: a small language, and a model of it trained in a minute.

A text is letters of the plays in cells of CELL. Every cell holds either a fact, one token that names a key and its
value, or a question, a token that names a key, with its answer, the value. Within a text a key has one value. Questions
ask mostly for one of the last NEAR facts, seldom for one of all before: so what follows a long memory hardly needs it,
as in real text. A fact is one token, and not two, so that a model need not first learn to tie neighbours.
"""

import functools

import torch
from torch import nn

from effattn_core.data import IGNORED, Characters, shakespeare, split
from effattn_core.focus.training import Condensing, Lesson
from effattn_core.model import LanguageModel, configuration

KEYS, VALUES, CELL, NEAR, FAR = 32, 8, 8, 2, 1 / 16
WINDOW, CHUNK, LOCAL, PROMPT = 96, 16, 16, 8
SIZES = dict(width=64, layers=4, heads=4, key_value_heads=4, head_dim=16, feed_forward=128, context=WINDOW)


@functools.cache
def letters():
    """(alphabet, training letters, held-out letters): the plays, a token per letter."""
    text = shakespeare()
    alphabet = Characters(text)
    return alphabet, *split(alphabet.encode(text))


def places():
    """(first question, first answer, first fact, tokens in all): where each kind of token begins; letters at 0."""
    question = len(letters()[0])
    return question, question + KEYS, question + KEYS + VALUES, question + KEYS + VALUES + KEYS * VALUES


class Embedding(nn.Module):
    """The vector of a letter, a question's key, an answer's value; of a fact that of its key and its value, added."""

    def __init__(self, width):
        super().__init__()
        self.question, self.answer, self.fact, _ = places()
        self.word, self.value = nn.Embedding(self.fact, width), nn.Embedding(VALUES + 1, width)
        for table in (self.word, self.value):
            nn.init.normal_(table.weight, std=0.5)

    def forward(self, tokens):
        fact = tokens - self.fact  # key · VALUES + value, below 0 for another token
        word = torch.where(fact < 0, tokens, self.question + fact // VALUES)
        return self.word(word) + self.value(torch.where(fact < 0, VALUES, fact % VALUES))


def model(seed=0, **changes):
    """An untrained model of this language, seeded."""
    torch.manual_seed(seed)
    made = LanguageModel(configuration("tiny", places()[3], **{**SIZES, **changes}))
    made.embedding = Embedding(made.sizes.width)
    return made


def texts(batch, time, generator, *, held_out=False):
    """`batch` texts of `time` tokens: int64 [batch, time]. held_out: of the plays' end, which is not trained on."""
    return described(batch, time, generator, held_out=held_out)[0]


def described(batch, time, generator, *, held_out=False):
    """(texts, key, value, asked, back), the latter [batch, cells]: what each cell names, whether it is a question, and
    how many facts were told after the one that it asks for (of a fact: 0).

    Raises ValueError for a time of less than one cell.
    """
    if time < CELL:
        raise ValueError(f"a text has at least one cell of {CELL} tokens; {time} were asked.")
    _, training, rest = letters()
    source, cells = rest if held_out else training, -(-time // CELL)
    start = torch.randint(len(source) - cells * CELL, (batch, 1), generator=generator)
    text = source[start + torch.arange(cells * CELL)].unflatten(1, (cells, CELL))
    key, asked, back = _named(batch, cells, generator)
    value = torch.randint(VALUES, (batch, KEYS), generator=generator).gather(1, key)
    place = torch.randint(CELL - 1, (batch, cells, 1), generator=generator)
    question, answer, fact, _ = places()
    first = torch.where(asked, question + key, fact + key * VALUES + value)[..., None]
    second = torch.where(asked[..., None], answer + value[..., None], text.gather(2, place + 1))
    text = text.scatter(2, place, first).scatter(2, place + 1, second)
    return text.flatten(1)[:, :time], key, value, asked, back


def _named(batch, cells, generator):
    """(the key that each cell names, whether it asks, how many facts back), [batch, cells]. The first cell is a fact.

    Keys come in a random order, and again from the first when all have been told.
    """
    order = torch.rand(batch, KEYS, generator=generator).argsort(1)
    asked = torch.rand(batch, cells, generator=generator) < 0.5
    asked[:, 0] = False
    far = torch.rand(batch, cells, generator=generator) < FAR
    drawn = torch.rand(batch, cells, generator=generator)
    told = (~asked).cumsum(1)  # facts so far, that of the cell itself included
    choice = torch.where(far, told, told.clamp(max=NEAR))
    back = torch.where(asked, (drawn * choice).long(), 0)
    return order.gather(1, (told - 1 - back) % KEYS), asked, back


def drill(batch, time, generator):
    """(texts, targets): facts in the first third, then questions, each with its answer; the answers alone are targets.

    [batch, time] int64 each. It takes no more than some hundred steps of these to learn to look a key up.
    """
    told, (question, answer, fact, _) = min(KEYS, time // 3), places()
    key = torch.rand(batch, KEYS, generator=generator).argsort(1)[:, :told]
    value = torch.randint(VALUES, (batch, told), generator=generator)
    asked = torch.randint(told, (batch, -(-(time - told) // 2)), generator=generator)
    answers = answer + value.gather(1, asked)
    pairs = torch.stack([question + key.gather(1, asked), answers], 2).flatten(1)[:, : time - told]
    tokens = torch.cat([fact + key * VALUES + value, pairs], 1)
    targets = torch.full_like(tokens, IGNORED)
    targets[:, told::2] = answers[:, : targets[:, told::2].shape[1]]
    return tokens, targets


class Texts:
    """Endless batches of short texts for `effattn_core.train`: (tokens, targets), each [2 · batch, time].

    Half of them are `texts`, whose every token is a target, half a `drill`.
    """

    def __init__(self, batch, time=WINDOW, seed=0):
        self.batch, self.time, self.generator = batch, time, torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def __next__(self):
        tokens = texts(self.batch, self.time + 1, self.generator)
        drilled, answers = drill(self.batch, self.time, self.generator)
        return torch.cat([tokens[:, :-1], drilled]), torch.cat([tokens[:, 1:], answers])


def questions(batch, chunks, generator, *, chunk=CHUNK, local=LOCAL, held_out=True):
    """(Lesson, chunk of the fact): long texts whose last local token asks for a fact of the memory.

    The fact stands once, in a chunk drawn at random, [batch] int64 from 0; the local context does not name its key.
    """
    question, answer, fact, _ = places()
    memory = chunks * chunk
    text = texts(batch, memory + local, generator, held_out=held_out)
    row, place = torch.arange(batch), torch.randint(memory, (batch,), generator=generator)
    key, value = (torch.randint(size, (batch,), generator=generator) for size in (KEYS, VALUES))
    told = torch.where(text < fact, text - question, (text - fact) // VALUES)  # a key, or no key of ours
    named = (told == key[:, None]) & ((text >= fact) | (text < answer))
    after = named.roll(1, 1) & (text >= answer) & (text < fact)
    letter = torch.randint(question, text.shape, generator=generator)
    text = torch.where(named | after, letter, text)
    text[row, place] = fact + key * VALUES + value
    text[:, -1] = question + key
    return Lesson(text[:, :memory], text[:, memory:], (answer + value)[:, None]), place // chunk


class Questions:
    """Endless lessons for a `Condensing`, each a question for a fact of the memory: its answer alone is scored.

    As instructions do to a large model, they ask for what a continuation seldom needs. chunks: counts, one per step.
    """

    def __init__(self, batch, *, chunk=CHUNK, chunks=(1, 2, 4), local=LOCAL, seed=0):
        self.batch, self.chunk, self.chunks, self.local = batch, chunk, tuple(chunks), local
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def __next__(self):
        count = self.chunks[int(torch.randint(len(self.chunks), (), generator=self.generator))]
        lesson, _ = questions(self.batch, count, self.generator, chunk=self.chunk, local=self.local, held_out=False)
        return torch.cat([lesson.memory, lesson.local], 1), lesson.target


class Recalling(Condensing):
    """A `Condensing` scored on facts and answers alone: letters, which no memory foretells, would drown them."""

    def scored(self, target):
        return target.masked_fill(target < places()[1], IGNORED)
