"""The hidden cases of the exercises on condensed chunks."""

import torch

from effattn_core.attention import attention
from effattn_core.exercises import compare_number, exercise
from effattn_core.focus.forms import Projections, layout, scores_chunked, scores_dense
from effattn_core.judging import Case, kernel_exercise, random
from effattn_core.positions import rotate


@exercise("focus.entries", level="pencil")
def entries(answer):
    """Scores per head and layer of a step over 12,288 tokens in chunks of 2,048, 512 injected, 2,048 local."""
    chunks, chunk, prompt, local = 5, 2048, 512, 2048
    time = chunk + prompt
    local_scores = chunks * local + local * (local + 1) // 2
    mistakes = [
        (scores_dense(chunks * chunk + local), "That is dense attention, whose tokens see all chunks before them."),
        (
            chunks * (time * (time + 1) // 2) + local_scores,
            "The candidate is a token of its chunk's pass too, with a row and a column of scores.",
        ),
        (
            chunks * ((time + 1) * (time + 2) // 2) + local * (local + 1) // 2,
            "Each local token reads the candidates too, one per chunk.",
        ),
        (
            chunks * ((chunk + 1) * (chunk + 2) // 2) + local_scores,
            "The injected tokens are read in every chunk's pass, behind the chunk.",
        ),
        (chunks * (time + 1) ** 2 + local * chunks + local**2, "Causal passes compute half of their squares."),
        ((time + 1) * (time + 2) // 2 + local_scores, "That counts one chunk; there are five."),
    ]
    return compare_number(answer, scores_chunked(chunks, chunk, prompt, local), mistakes, within=1e-4)


@exercise("focus.window", level="pencil")
def window(answer):
    """The longest text for a model of 8,192 positions, chunks of 4,096, 512 injected, 2,048 local."""
    trained, chunk, prompt, local = 8192, 4096, 512, 2048
    count = trained - local
    mistakes = [
        (trained * chunk, "Positions are for the local tokens too: what they take, candidates cannot have."),
        (trained * chunk + local, "Positions are for the local tokens too: what they take, candidates cannot have."),
        (count * chunk, "The local tokens are part of the text: they come on top."),
        (
            (count - prompt) * chunk + local,
            "The injected tokens stand in the chunks' passes; the local pass has them among its local tokens.",
        ),
        (trained, "That is what one pass holds; each candidate in it stands for a whole chunk."),
        ((trained // chunk) * chunk, "Chunks do not share a window: each has a pass of its own."),
    ]
    return compare_number(answer, count * chunk + local, mistakes, within=1e-5)


@exercise("focus.rows", level="pencil")
def rows(answer):
    """Rows through the weights per written token with 200 chunks and 2,048 local tokens, candidates made anew."""
    chunks, local = 200, 2048
    mistakes = [
        (
            2 * chunks + 1,
            "That keeps the local tokens' cache. They have read the old candidates: with new ones they are read anew.",
        ),
        (chunks + local, "Each chunk reads the new token first, and then its candidate: two rows."),
        (chunks, "That is one row per chunk: the candidates alone."),
        (2 * chunks, "The local pass is missing: it reads the new candidates."),
        (chunks + 1, "Each chunk reads the new token, then its candidate; and the local pass has more rows than one."),
        (local, "That is the local pass alone; the candidates that it reads have to be made."),
    ]
    return compare_number(answer, 2 * chunks + local, mistakes, within=1e-5)


@exercise("focus.who", level="code")
def who(function):
    for sizes in ((2, 3, 1, 2), (3, 2, 2, 4), (1, 4, 0, 3), (0, 2, 0, 3)):
        wanted, got = layout(*sizes).seen, function(*sizes)
        case = "With {} chunks of {} tokens, {} injected, {} local".format(*sizes)
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape or got.dtype != torch.bool:
            shown = f"{got.dtype}, {tuple(got.shape)}" if isinstance(got, torch.Tensor) else type(got).__name__
            return f"{case} the mask is {shown}; it must be torch.bool, {tuple(wanted.shape)}."
        if torch.equal(got, wanted):
            continue
        return f"{case} {_seen_wrongly(got, wanted, sizes)}"
    return None


def _seen_wrongly(got, wanted, sizes):
    """What is wrong with a mask, by the first kind of entry that differs."""
    chunks, chunk, prompt, _ = sizes
    kind, group = layout(*sizes).kind, layout(*sizes).group
    row, column = (got != wanted).nonzero()[0].tolist()
    if kind[row] == "read":
        return "a candidate's place in the local pass has a row: its key comes ready, so it reads nothing there."
    if group[row] != group[column]:
        if "local" in (group[row], group[column]):
            return f"row {row}, a {kind[row]} token, sees column {column}, a {kind[column]} token of another pass."
        return f"row {row} of chunk {group[row]} sees column {column} of chunk {group[column]}: chunks are independent."
    if got[row, column]:
        return f"row {row} sees column {column}, which comes later in its pass."
    if kind[row] == "candidate":
        return "a candidate does not see all of its chunk, the injected tokens and itself."
    if kind[column] == "read":
        return "a local token does not see all candidates."
    return f"row {row} does not see column {column}, which comes before it in its pass."


def _drawn(chunks, time, width, head_dim, seed):
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    frozen, own = (
        Projections(*(drawn(head_dim, width) / width**0.5 for _ in range(3)), drawn(width, head_dim)) for _ in range(2)
    )
    return drawn(chunks, time, width), drawn(chunks, width), frozen, own


def _one_head(text, last, query, key, value, output, *, own_key, own_value, scale=None, itself=True):
    """A candidate's output without positions, by whichever weights."""
    keys, values = text @ key.mT, text @ value.mT
    if itself:
        keys = torch.cat([keys, (last @ own_key.mT)[:, None]], 1)
        values = torch.cat([values, (last @ own_value.mT)[:, None]], 1)
    scale = query.shape[0] ** -0.5 if scale is None else scale
    weight = ((keys @ (last @ query.mT)[..., None])[..., 0] * scale).softmax(-1)
    return (weight[:, None] @ values)[:, 0] @ output.mT


@exercise("focus.candidate", level="code")
def candidate(function):
    for chunks, time, width, head_dim in ((3, 5, 8, 4), (1, 1, 4, 6), (4, 9, 6, 2)):
        text, last, frozen, own = _drawn(chunks, time, width, head_dim, time)
        both = dict(own_key=own.key, own_value=own.value)

        def form(query=own.query, key=frozen.key, value=frozen.value, output=own.output, text=text, last=last, **other):
            return _one_head(text, last, query, key, value, output, **other)

        wanted, got = form(**both), function(text, last, frozen, own)
        case = f"With {chunks} chunks of {time} tokens"
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            shape = tuple(getattr(got, "shape", [type(got).__name__]))
            return f"{case} the output is {shape}; it must be {tuple(wanted.shape)}."
        if torch.allclose(got, wanted):
            continue
        scale = dict(scale=1.0, **both)
        for other, sentence in (
            (form(own.query, own.key, own.value, **both), "the text goes through the frozen projections, not its own."),
            (form(own_key=frozen.key, own_value=frozen.value), "its own key and value come from its own projections."),
            (form(frozen.query, **both), "the query is the candidate's own."),
            (form(output=frozen.output, **both), "the output projection is the candidate's own."),
            (form(itself=False, own_key=None, own_value=None), "the candidate sees itself too, behind the text."),
            (form(**scale), "the scores are not scaled by head_dim ** -0.5."),
        ):
            if torch.allclose(got, other):
                return f"{case}: {sentence}"
        return f"{case} the output is off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("focus.positions", level="code")
def positions(function):
    for count, time, head_dim, base in ((3, 5, 8, 1e4), (1, 1, 4, 100.0), (6, 2, 2, 1e4)):
        generator = torch.Generator().manual_seed(count)
        candidates, local = (
            torch.randn(size, head_dim, dtype=torch.float64, generator=generator) for size in (count, time)
        )

        def turned(keys, first, base=base):
            return rotate(keys[None, None], first, base)[0, 0]

        wanted = turned(torch.cat([candidates, local]), 0)
        got = function(candidates.clone(), local.clone(), base)
        case = f"With {count} candidates and {time} local tokens"
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            shape = tuple(getattr(got, "shape", [type(got).__name__]))
            return f"{case} the keys are {shape}; they must be {tuple(wanted.shape)}, candidates first."
        if torch.allclose(got, wanted):
            continue
        split = torch.cat([candidates, local]).unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
        for keys, sentence in (
            (
                [turned(candidates, 0), turned(local, 0)],
                "the local tokens begin at 0; they stand behind the candidates.",
            ),
            ([candidates, turned(local, count)], "the candidates are not turned; they stand at 0, 1, 2 and so on."),
            ([candidates, turned(local, 1)], "all candidates stand at 0; each has a position of its own."),
            ([turned(local, 0), turned(candidates, time)], "the candidates come first, then the local tokens."),
            ([candidates, local], "nothing is turned."),
            (
                [turned(split, 0).unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)],
                "pairs are neighbours in this book, channels 2i and 2i + 1, not a half apart.",
            ),
        ):
            if torch.allclose(got, torch.cat(keys)):
                return f"{case}: {sentence}"
        return f"{case} the keys are off by {(got - wanted).abs().max():.2g}."
    return None


@kernel_exercise("focus.local")
def local_pass():
    """Attention of local tokens to candidates, all of them, and to themselves, causally."""

    def case(count, time, head_dim):
        query, (key, value) = 3 * random(time, head_dim), random(2, count + time, head_dim)
        given = query.double(), key.double(), value.double()
        before = "token t sees t + 1 keys: the candidates come before them, so it sees {} more."
        mistakes = [
            (_seen(*given, causal=False), "every token sees every key: behind the candidates the mask is causal."),
        ]
        if count:
            own = _seen(given[0], given[1][count:], given[2][count:])
            mistakes.append((own, "no candidate is read: the first n keys are seen by every token."))
        if count and time > 1:
            mistakes.append((_seen(given[0], given[1][:time], given[2][:time]), before.format(count)))
        mistakes.append((_seen(*given, scale=1.0), "the scores are not scaled by head_dim ** -0.5."))
        hint = "is each row the average of the values it sees, weighed by the softmax of its scores?"
        what = f"query [{time}, {head_dim}] and key [{count + time}, {head_dim}]"
        return Case(
            what, (query, key, value), _seen(*given), mistakes=mistakes, hint=hint, nan="some results are not finite."
        )

    return [case(*sizes) for sizes in ((0, 16, 16), (3, 16, 16), (5, 33, 32), (40, 7, 16), (1, 1, 16), (17, 48, 32))]


def _seen(query, key, value, **how):
    """Attention whose queries, [time, head_dim], are the last of the keys, as float32."""
    return attention(query[None, None], key[None, None], value[None, None], **how)[0, 0].float()
