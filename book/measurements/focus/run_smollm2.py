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

WINDOW, CHUNK, LOCAL, PROMPT, SCORED = 512, 256, 64, 32, 16
MEMORIES, LEARNED = 20, 2  # texts to learn from, and their chunks
STEPS, LESSONS, RATE, EVERY = 160, 8, 5e-4, 10
JUDGED, CHUNKS, SEGMENTS = 4, (1, 2, 4, 8), 4  # held-out texts, chunks before their local context, places that count
DEPTHS, NUMBERS = (0.1, 0.35, 0.6, 0.85), 2
END = 0  # <|endoftext|>
METHODS = ("whole text", "window", "local alone", "copied", "trained")


class Pool(nn.Module):
    """Memories read once, and the projections that learn from them, as `effattn_core.train` trains a model."""

    def __init__(self, model, added, texts):
        super().__init__()
        self.added = added
        self._held = model, [read_chunks(model, _chunked(text[None], LEARNED), text[None, :0]) for text in texts]

    def loss(self, asked, target):
        """asked: [lessons, 1 + LOCAL], the number of a memory and a local context; target: [lessons, SCORED]."""
        model, states = self._held
        found = logits(model, self.added, states[asked[0, 0]], asked[:, 1:], target)
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
def judged(model, memory, spans, added):
    """(method, losses in nats, whether a token is the likeliest), each [batch, scored], of methods with a local pass.

    memory: [time] int64, whole chunks; spans: [batch, LOCAL + scored]; added: name -> Added. The whole text and the
    window, which need no candidates, are those of `judged_dense`.
    """
    local, target = spans[:, :LOCAL], spans[:, LOCAL:]
    states = read_chunks(model, _chunked(memory[None], len(memory) // CHUNK), memory[None, :0])
    for method, each in {"local alone": None, **added}.items():
        yield method, *_scores(logits(model, each, states, local, target), target)


def _scores(found, target):
    losses = functional.cross_entropy(found.transpose(1, 2), target, reduction="none")
    return losses, found.argmax(-1) == target


@torch.no_grad()
def judged_dense(model, before, target):
    """As `judged`, of one target [batch, scored] after texts [batch, time] that the model reads whole, or a window."""
    for method, text in (("whole text", before), ("window", before[:, -(WINDOW - target.shape[1]) :])):
        found = predict(model, None, torch.cat([text, target[:, :-1]], 1), last=target.shape[1])[0]
        yield method, *_scores(found, target)


def text_rows(model, added, text, passage, chunks=CHUNKS, segments=SEGMENTS):
    """Loss of the tokens after 1, 2, … chunks of a held-out passage: the same tokens under every number of chunks."""
    end, rows = max(chunks) * CHUNK, []
    starts = [end + number * SCORED for number in range(segments)]
    spans = torch.stack([text[start : start + LOCAL + SCORED] for start in starts])
    for count in chunks:
        found = {method: both for method, *both in judged(model, text[end - count * CHUNK : end], spans, added)}
        for start in starts:
            before, after = text[end - count * CHUNK : start + LOCAL], text[start + LOCAL : start + LOCAL + SCORED]
            for method, losses, right in judged_dense(model, before[None], after[None]):
                held = found.setdefault(method, ([], []))
                held[0].append(losses), held[1].append(right)
        for method in METHODS:
            losses, right = (each if torch.is_tensor(each) else torch.cat(each) for each in found[method])
            rows.append({"what": "text", "passage": passage, "chunks": count, "method": method,
                         "loss": round(losses.mean().item(), 4), "tokens": losses.numel()})  # fmt: skip
        told = ", ".join(f"{row['method']} {row['loss']:.3f}" for row in rows[-len(METHODS) :])
        print(f"passage {passage}, {count} chunks: {told}", flush=True)
    return rows


def span_rows(model, added, text, passage, chunks=CHUNKS, segments=SEGMENTS):
    """Loss of tokens that follow a span copied out of the memory, which a reconstruction lesson asks for."""
    rows, dice = [], torch.Generator().manual_seed(passage)
    for count in chunks:
        memory = text[: count * CHUNK]
        starts = torch.randint(len(memory) - LOCAL - SCORED + 1, (segments, 1), generator=dice)
        spans = memory[starts + torch.arange(LOCAL + SCORED)]
        found = {method: (losses, right) for method, losses, right in judged(model, memory, spans, added)}
        before = torch.cat([memory.expand(segments, -1), spans[:, :LOCAL]], 1)
        for method, *both in judged_dense(model, before, spans[:, LOCAL:]):
            found[method] = both
        for method in METHODS:
            losses, right = found[method]
            rows.append({"what": "span", "passage": passage, "chunks": count, "method": method,
                         "loss": round(losses.mean().item(), 4), "first": round(losses[:, 0].mean().item(), 4),
                         "right": round(right.float().mean().item(), 4), "tokens": losses.numel()})  # fmt: skip
        told = ", ".join(f"{row['method']} {row['loss']:.3f}" for row in rows[-len(METHODS) :])
        print(f"span of passage {passage}, {count} chunks: {told}", flush=True)
    return rows


def number_rows(model, tokenizer, added, text, count, depths=DEPTHS, numbers=NUMBERS):
    """Is a number of five digits found that stood in one of the chunks? Candidates are made anew for every digit."""
    rows = []
    for asked in probe.hidden_numbers(tokenizer, text, count * CHUNK + LOCAL, numbers=numbers, depths=depths):
        for depth, (read, given, answer) in zip(depths, asked, strict=True):
            whole = torch.cat([read, given[:1], answer])
            places = [len(read) + 1 + at for at in range(len(answer)) if tokenizer.decode([answer[at]]).strip()]
            spans = torch.stack([whole[place - LOCAL : place + 1] for place in places])
            found = {method: right for method, _, right in judged(model, whole[: count * CHUNK], spans, added)}
            dense = {}
            for place in places:
                for method, _, right in judged_dense(model, whole[None, :place], whole[None, place : place + 1]):
                    dense.setdefault(method, []).append(right)
            found |= {method: torch.cat(each) for method, each in dense.items()}
            for method in METHODS:
                rows.append({"what": "number", "chunks": count, "depth": depth, "method": method,
                             "digits": int(found[method].sum()), "asked": len(places)})  # fmt: skip
        told = ", ".join(f"{each['method']} {each['digits']}" for each in rows[-len(METHODS) :])
        print(f"number over {count} chunks, the last: {told} digits", flush=True)
    return rows


def main(source="smollm2", memories=MEMORIES, steps=STEPS, lessons=LESSONS, judged_texts=JUDGED, chunks=CHUNKS,
         segments=SEGMENTS, numbers=NUMBERS, depths=DEPTHS, folder=None, target=None):  # fmt: skip
    folder = folder or RUNS / "focus"
    longest = max(chunks) * CHUNK + LOCAL + segments * SCORED + 2 * SCORED

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
            copied, added = Added(model, END), Added(model, END)
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"smollm2-added-{len(learned)}-{lessons}-{steps}.pt"
            pool = Pool(model, added, learned)
            batches = Pooled(learned, lessons)
            settings = dict(steps=steps, learning_rate=RATE, warmup=max(1, steps // 10), weight_decay=0.0)
            history = train(pool, batches, **settings, checkpoint=path, every=20)
            if not history.finished:
                raise SystemExit(f"stopped; the next run goes on from {path.name}")
            return history.losses, {"copied": copied, "trained": added}

        def curve():
            losses, added = made()
            means = [losses[at : at + EVERY] for at in range(0, len(losses), EVERY)]
            moved = [
                (new - old).norm().item() / old.norm().item()
                for old, new in zip(added["copied"].parameters(), added["trained"].parameters(), strict=True)
            ]
            return [{"what": "curve", "every": EVERY, "losses": [round(math.fsum(m) / len(m), 4) for m in means],
                     "lessons": lessons, "scored": SCORED, "memories": len(learned),
                     "parameters": sum(each.numel() for each in added["trained"].parameters()),
                     "moved": [round(each, 5) for each in moved]}]  # fmt: skip

        name = f"{len(learned)}-{lessons}-{steps}"
        yield f"curve-{name}", curve
        for count in chunks:
            yield (
                f"number-{count}-{numbers}-{name}",
                lambda count=count: number_rows(model, tokenizer, made()[1], held_out[0], count, depths, numbers),
            )
        for passage, text in enumerate(held_out):
            for make in (text_rows, span_rows):
                yield (
                    f"{make.__name__}-{passage}-{max(chunks)}-{segments}-{name}",
                    lambda make=make, passage=passage, text=text: make(
                        model, made()[1], text, passage, chunks, segments
                    ),
                )

    record_pretrained(__file__, parts, source=source, context=max(longest, WINDOW), folder=folder, target=target)


if __name__ == "__main__":
    main()
