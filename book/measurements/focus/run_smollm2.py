"""SmolLM2 reads more than its window: candidates with projections trained on a frozen model, beside what needs none.

python book/measurements/focus/run_smollm2.py     writes smollm2-cpu.json or smollm2-gpu.json beside this file

The window is made short, WINDOW tokens, so that a CPU can go beyond it; the model itself was trained on more, and reads
the whole text for comparison. Chunks to learn from are read once, and many lessons ask for them. A part that is done is
kept in .cache/runs/focus: an interrupted command goes on after the last, and training from its last checkpoint.
"""

import functools
import math

import torch
from torch import nn
from torch.nn import functional

from effattn_core.focus import Added, predict, prompted, read_chunks, refresh
from effattn_core.measurements import RUNS, record_pretrained
from effattn_core.pretrained import probe
from effattn_core.train import train

WINDOW, CHUNK, LOCAL, PROMPT, SCORED = 512, 256, 32, 16, 8
MEMORIES, LEARNED = 12, 2  # texts to learn from, and their chunks
STEPS, LESSONS, RATE, EVERY = 60, 8, 5e-4, 5
JUDGED, CHUNKS, SEGMENTS = 3, (1, 2, 4), 4  # held-out texts, chunks before their local context, times SCORED tokens
DEPTHS, NUMBERS, HIDING = (0.1, 0.35, 0.6, 0.85), 1, (1, 2, 4)
END = 0  # <|endoftext|>
COPIED, TRAINED = "untrained candidates", "trained candidates"
METHODS = ("dense", "window only", "local only", COPIED, TRAINED)
FOREIGN = "candidates of another text"  # trained, and of no use but as a prompt that was learned


class Pool(nn.Module):
    """Memories read once, and the projections that learn from them, as `effattn_core.train` trains a model."""

    def __init__(self, model, added, texts):
        super().__init__()
        self.added = added
        self._model, self._texts, self._read = (model,), texts, {}  # a tuple hides the model from parameters()

    def loss(self, asked, target):
        """asked: [lessons, 1 + LOCAL], the number of a memory and a local context; target: [lessons, SCORED]."""
        (model,), number = self._model, int(asked[0, 0])
        if number not in self._read:
            text = self._texts[number][None]
            self._read[number] = read_chunks(model, _chunked(text, LEARNED), text[:, :0])
        found = logits(model, self.added, self._read[number], asked[:, 1:], target)
        return functional.cross_entropy(found.flatten(0, 1), target.flatten())


def _chunked(text, count):
    """The first `count` chunks of texts [batch, time]: [batch, count, CHUNK]."""
    return text[:, : count * CHUNK].unflatten(1, (count, CHUNK))


def logits(model, added, states, local, target):
    """Logits of targets, [batch, scored, vocabulary], after local contexts over one memory; added None: without it."""
    candidates = None
    if added is not None:
        candidates = refresh(model, added, prompted(model, states, local[:, -PROMPT:]), len(local))
    return predict(model, candidates, torch.cat([local, target[:, :-1]], 1), last=target.shape[1])[0]


class Pooled:
    """Endless lessons on the memories of a Pool: of each batch half are continuations, half reconstructions.

    Its `generator` is its whole state, as `effattn_core.train` wants it.
    """

    def __init__(self, texts, lessons=LESSONS, seed=0):
        self.texts, self.lessons, self.generator = texts, lessons, torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def _places(self, first, last):
        return torch.randint(first, last + 1, (self.lessons // 2,), generator=self.generator)

    def __next__(self):
        number = int(torch.randint(len(self.texts), (), generator=self.generator))
        text, memory, span = self.texts[number], LEARNED * CHUNK, LOCAL + SCORED
        # A continuation begins where the memory ends; its local context may reach further on.
        starts = torch.cat([self._places(memory, len(text) - span), self._places(0, memory - span)])
        spans = text[starts[:, None] + torch.arange(span)]
        asked = torch.cat([torch.full((len(spans), 1), number), spans[:, :LOCAL]], 1)
        return asked, spans[:, LOCAL:]


@torch.no_grad()
def judged(model, memory, asked, added):
    """What each method without the whole text makes of targets: name -> (losses in nats, whether likeliest), flat.

    memory: [time] int64, whole chunks; asked: pairs of a local context that follows it and its target, each [batch, …];
    added: name -> Added.
    """
    states = read_chunks(model, _chunked(memory[None], len(memory) // CHUNK), memory[None, :0])
    found = {}
    for method, each in {"local only": None, **added}.items():
        scores = [_scores(logits(model, each, states, local, target), target) for local, target in asked]
        found[method] = tuple(torch.cat(part) for part in zip(*scores, strict=True))
    return found


def _scores(found, target):
    losses = functional.cross_entropy(found.transpose(1, 2), target, reduction="none")
    return losses.flatten(), (found.argmax(-1) == target).flatten()


@torch.no_grad()
def judged_dense(model, text, scored):
    """As `judged`, of the last `scored` tokens of a text [time] that the model reads whole, or through its window."""
    target = text[None, -scored:]
    return {
        method: _scores(predict(model, None, read[None, :-1], last=scored)[0], target)
        for method, read in (("dense", text), ("window only", text[-WINDOW:]))
    }


@torch.no_grad()
def judged_spans(model, memory, spans):
    """As `judged_dense`, of the last SCORED tokens of spans [batch, time], each read after the same memory [time]."""
    target, found = spans[:, -SCORED:], {}
    for method, before in (("dense", memory), ("window only", memory[-(WINDOW - spans.shape[1]) :])):
        _, states = predict(model, None, before[None], last=1)
        states = [state.reorder(torch.zeros(len(spans), dtype=torch.int64)) for state in states]
        found[method] = _scores(predict(model, None, spans[:, :-1], states, last=SCORED)[0], target)
    return found


def rows_of(found, names=METHODS, **shared):
    """A row per method: its mean loss, the share of tokens that are the likeliest, how many they are."""
    rows = []
    for method in names:
        losses, right = found[method]
        rows.append({**shared, "name": method, "loss": round(losses.mean().item(), 4),
                     "right": round(right.float().mean().item(), 4), "tokens": losses.numel()})  # fmt: skip
    told = ", ".join(f"{row['name']} {row['loss']:.3f} ({row['right']:.2f})" for row in rows)
    print(f"{shared}: {told}", flush=True)
    return rows


def following(text, end, segments):
    """Pairs of a local context that follows the memory, whose end is `end`, and its target, one after another."""
    edges = [end + LOCAL + number * SCORED for number in range(segments)]
    return [(text[None, end:edge], text[None, edge : edge + SCORED]) for edge in edges]


def spans_of(memory, passage, segments):
    """Spans of a memory from places drawn by the passage's number: [segments, LOCAL + SCORED]."""
    dice = torch.Generator().manual_seed(passage)
    starts = torch.randint(len(memory) - LOCAL - SCORED + 1, (segments, 1), generator=dice)
    return memory[starts + torch.arange(LOCAL + SCORED)]


def foreign_rows(model, added, text, other, passage, chunks=CHUNKS, segments=SEGMENTS):
    """As the two kinds of rows below, with candidates of another text's chunks: what of a gain is not the memory's."""
    end, rows, only = max(chunks) * CHUNK, [], {FOREIGN: added[TRAINED]}
    for count in chunks:
        asked = following(text, end, segments)
        found = judged(model, other[end - count * CHUNK : end], asked, only)
        rows += rows_of(found, (FOREIGN,), what="perplexity", passage=passage, chunks=count)
        spans = spans_of(text[: count * CHUNK], passage, segments)
        found = judged(model, other[: count * CHUNK], [(spans[:, :LOCAL], spans[:, LOCAL:])], only)
        rows += rows_of(found, (FOREIGN,), what="reconstruction", passage=passage, chunks=count)
    return rows


def perplexity_rows(model, added, text, passage, chunks=CHUNKS, segments=SEGMENTS):
    """Loss of the tokens after 1, 2, … chunks of a held-out passage: the same tokens under every number of chunks.

    Candidates are made anew every SCORED tokens, as they were trained.
    """
    end, rows = max(chunks) * CHUNK, []
    asked = following(text, end, segments)
    for count in chunks:
        begin = end - count * CHUNK
        found = judged(model, text[begin:end], asked, added)
        found |= judged_dense(model, text[begin : end + LOCAL + segments * SCORED], segments * SCORED)
        rows += rows_of(found, what="perplexity", passage=passage, chunks=count)
    return rows


def span_rows(model, added, text, passage, chunks=CHUNKS, segments=SEGMENTS):
    """Loss of tokens that follow a span copied out of the memory, which a reconstruction lesson asks for."""
    rows = []
    for count in chunks:
        memory = text[: count * CHUNK]
        spans = spans_of(memory, passage, segments)
        found = judged(model, memory, [(spans[:, :LOCAL], spans[:, LOCAL:])], added)
        found |= judged_spans(model, memory, spans)
        rows += rows_of(found, what="reconstruction", passage=passage, chunks=count)
    return rows


def number_rows(model, tokenizer, added, text, count, depths=DEPTHS, numbers=NUMBERS):
    """Are the digits of a number found that stood in one of the chunks? Candidates are made anew for every digit."""
    rows = []
    for hidden in probe.hidden_numbers(tokenizer, text, count * CHUNK + LOCAL, numbers=numbers, depths=depths):
        for depth, (read, given, answer) in zip(depths, hidden, strict=True):
            whole, edge = torch.cat([read, given[:1], answer]), count * CHUNK
            digits = [at for at in range(len(answer)) if tokenizer.decode([int(answer[at])]).strip()]
            places = [len(whole) - len(answer) + at for at in digits]
            asked = [(whole[None, edge:place], whole[None, place : place + 1]) for place in places]
            found = judged(model, whole[:edge], asked, added)
            dense = judged_dense(model, whole, len(answer))
            found |= {method: tuple(part[digits] for part in parts) for method, parts in dense.items()}
            rows += rows_of(found, what="numbers", chunks=count, depth=depth)
    return rows


def main(source="smollm2", memories=MEMORIES, steps=STEPS, lessons=LESSONS, judged_texts=JUDGED, chunks=CHUNKS,
         segments=SEGMENTS, numbers=NUMBERS, depths=DEPTHS, hiding=HIDING, folder=None, target=None):  # fmt: skip
    folder = folder or RUNS / "focus"
    longest = max(*chunks, *hiding) * CHUNK + LOCAL + max(segments + 1, 4) * SCORED

    def parts(model, tokenizer):
        model.requires_grad_(False)
        after = LEARNED * CHUNK + 2 * (LOCAL + SCORED) + CHUNK // 2
        texts = probe.passages(tokenizer, memories + judged_texts, max(longest, after))
        held_out = texts[:: len(texts) // judged_texts][:judged_texts]
        learned = [
            text[:after] for n, text in enumerate(texts) if not any(torch.equal(text, each) for each in held_out)
        ]

        @functools.cache
        def made():
            untrained, added = Added(model, END), Added(model, END)
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"smollm2-added-{len(learned)}-{lessons}-{steps}.pt"
            pool = Pool(model, added, learned)
            batches = Pooled(learned, lessons)
            settings = dict(steps=steps, learning_rate=RATE, warmup=max(1, steps // 10), weight_decay=0.0)
            history = train(pool, batches, **settings, checkpoint=path, every=20)
            if not history.finished:
                raise SystemExit(f"stopped; the next run goes on from {path.name}")
            return history.losses, {COPIED: untrained, TRAINED: added}

        def curve():
            losses, added = made()
            means = [losses[at : at + EVERY] for at in range(0, len(losses), EVERY)]
            moved = [
                (new - old).norm().item() / old.norm().item()
                for old, new in zip(added[COPIED].parameters(), added[TRAINED].parameters(), strict=True)
            ]
            return [{"what": "training", "every": EVERY, "losses": [round(math.fsum(m) / len(m), 4) for m in means],
                     "lessons": lessons, "scored": SCORED, "memories": len(learned),
                     "parameters": sum(each.numel() for each in added[TRAINED].parameters()),
                     "moved": [round(each, 5) for each in moved]}]  # fmt: skip

        name = f"{len(learned)}-{lessons}-{steps}"
        yield f"curve-{name}", curve
        for count in hiding:
            yield (
                f"numbers-{count}-{numbers}-{name}",
                lambda count=count: number_rows(model, tokenizer, made()[1], held_out[0], count, depths, numbers),
            )
        for passage, text in enumerate(held_out):
            for make in (perplexity_rows, span_rows):
                yield (
                    f"{make.__name__}-{passage}-{max(chunks)}-{segments}-{name}",
                    lambda make=make, passage=passage, text=text: make(
                        model, made()[1], text, passage, chunks, segments
                    ),
                )
            other = held_out[(passage + 1) % len(held_out)]
            yield (
                f"foreign_rows-{passage}-{max(chunks)}-{segments}-{name}",
                lambda passage=passage, text=text, other=other: foreign_rows(
                    model, made()[1], text, other, passage, chunks, segments
                ),
            )

    record_pretrained(__file__, parts, source=source, context=max(longest, WINDOW), folder=folder, target=target)


if __name__ == "__main__":
    main()
