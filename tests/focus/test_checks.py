"""The exercises on condensed chunks: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.positions import rotate

PASS = 2048 + 512 + 1


def who(chunks, chunk, prompt, local):
    sizes = [chunk + prompt + 1] * chunks + [chunks + local]
    seen = torch.block_diag(*(torch.ones(size, size).tril() for size in sizes))
    seen[len(seen) - chunks - local : len(seen) - local] = 0
    return seen.bool()


def changed(rows, columns, value):
    """`who` with one kind of entry wrong: rows and columns, from (chunks, chunk, prompt, local) to slices."""

    def mistake(*sizes):
        seen = who(*sizes)
        seen[rows(*sizes), columns(*sizes)] = value
        return seen

    return mistake


def everything_before(*sizes):
    seen = torch.ones_like(who(*sizes)).tril()
    edge = len(seen) - sizes[0] - sizes[3]
    seen[edge : edge + sizes[0]] = False
    return seen


def with_rows_for_what_comes_ready(*sizes):
    passes = [sizes[1] + sizes[2] + 1] * sizes[0] + [sizes[0] + sizes[3]]
    return torch.block_diag(*(torch.ones(size, size).tril() for size in passes)).bool()


def candidates(
    text, last, frozen, own, *, query=None, key=None, value=None, output=None, scale=None, itself=True,
    last_key=None, last_value=None,
):  # fmt: skip
    query, output = own.query if query is None else query, own.output if output is None else output
    key, value = frozen.key if key is None else key, frozen.value if value is None else value
    last_key, last_value = own.key if last_key is None else last_key, own.value if last_value is None else last_value
    keys, values = text @ key.mT, text @ value.mT
    if itself:
        keys = torch.cat([keys, (last @ last_key.mT)[:, None]], 1)
        values = torch.cat([values, (last @ last_value.mT)[:, None]], 1)
    asked = (last @ query.mT)[:, None]
    weight = (asked @ keys.mT * (asked.shape[-1] ** -0.5 if scale is None else scale)).softmax(-1)
    return (weight @ values @ output.mT)[:, 0]


def placed(candidate_keys, local_keys, base):
    return rotate(torch.cat([candidate_keys, local_keys])[None, None], 0, base)[0, 0]


def turned(keys, first, base):
    return rotate(keys[None, None], first, base)[0, 0]


def by_halves(candidate_keys, local_keys, base):
    keys = torch.cat([candidate_keys, local_keys]).unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
    return turned(keys, 0, base).unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)


@triton.jit
def any_length(
    query_pointer, key_pointer, value_pointer, output_pointer,
    time, candidates, ahead, scale,
    DIM: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    dims, block = tl.arange(0, DIM)[None, :], tl.program_id(0)
    rows = (block * BLOCK + tl.arange(0, BLOCK))[:, None]
    query = tl.load(query_pointer + rows * DIM + dims, mask=rows < time, other=0.0)
    maximum = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    accumulator = tl.zeros([BLOCK, DIM], tl.float32)
    for start in range(0, candidates + tl.cdiv(time, BLOCK) * BLOCK, BLOCK):
        keys = start + tl.arange(0, BLOCK)[:, None]
        inside = keys < candidates + time
        read = inside if MASKED else keys >= 0
        key = tl.load(key_pointer + keys * DIM + dims, mask=read, other=0.0)
        value = tl.load(value_pointer + keys * DIM + dims, mask=read, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee")
        seen = tl.trans(inside)
        if CAUSAL:
            seen = seen & (tl.trans(keys) <= ahead + rows)
        scores = tl.where(seen, scores * scale, float("-inf"))
        larger = tl.maximum(maximum, tl.max(scores, 1))
        shrink = tl.exp(maximum - larger)
        weight = tl.exp(scores - larger[:, None])
        total = shrink * total + tl.sum(weight, 1)
        accumulator = shrink[:, None] * accumulator + tl.dot(weight, value, input_precision="ieee")
        maximum = larger
    accumulator /= total[:, None]
    tl.store(output_pointer + rows * DIM + dims, accumulator, mask=rows < time)


def launched(query, key, value, *, masked=True, causal=True, ahead=None, scale=None, grow=0, programs=None):
    """The local pass by `any_length`, or with one of its mistakes."""
    time, dim = query.shape
    output, count = torch.empty(time + grow, dim), len(key) - time
    any_length[(programs or triton.cdiv(time, 16),)](
        query, key, value, output, time, count, count if ahead is None else ahead,
        dim**-0.5 if scale is None else scale, dim, 16, masked, causal,
    )  # fmt: skip
    return output


def without_candidates(query, key, value):
    count = len(key) - len(query)
    return launched(query, key[count:].contiguous(), value[count:].contiguous())


SOLVED = {
    "focus.entries": 5 * PASS * (PASS + 1) // 2 + 5 * 2048 + 2048 * 2049 // 2,
    "focus.window": (8192 - 2048) * 4096 + 2048,
    "focus.rows": 2 * 200 + 2048,
    "focus.who": who,
    "focus.candidate": candidates,
    "focus.positions": placed,
    "focus.local": launched,
}
LOCAL = 5 * 2048 + 2048 * 2049 // 2
MISTAKES = [
    ("focus.entries", 12288 * 12289 // 2, "dense attention"),
    ("focus.entries", 5 * 2560 * 2561 // 2 + LOCAL, "The candidate is a token of its chunk's pass too"),
    ("focus.entries", 5 * PASS * (PASS + 1) // 2 + 2048 * 2049 // 2, "reads the candidates too"),
    ("focus.entries", 5 * 2049 * 2050 // 2 + LOCAL, "The injected tokens are read in every chunk's pass"),
    ("focus.entries", 5 * PASS**2 + 5 * 2048 + 2048**2, "half of their squares"),
    ("focus.entries", PASS * (PASS + 1) // 2 + LOCAL, "counts one chunk"),
    ("focus.entries", 7.0, "too small"),
    ("focus.window", 8192 * 4096, "Positions are for the local tokens too"),
    ("focus.window", 8192 * 4096 + 2048, "Positions are for the local tokens too"),
    ("focus.window", (8192 - 2048) * 4096, "they come on top"),
    ("focus.window", (8192 - 2048 - 512) * 4096 + 2048, "stand in the chunks' passes"),
    ("focus.window", 8192, "stands for a whole chunk"),
    ("focus.rows", 401, "keeps the local tokens' cache"),
    ("focus.rows", 2248, "reads the new token first"),
    ("focus.rows", 200, "the candidates alone"),
    ("focus.rows", 400, "The local pass is missing"),
    ("focus.rows", 201, "the local pass has more rows than one"),
    ("focus.rows", 2048, "the local pass alone"),
    ("focus.who", lambda *sizes: who(*sizes).float(), "must be torch.bool"),
    ("focus.who", lambda *sizes: who(*sizes).tolist(), "the mask is list"),
    ("focus.who", everything_before, "chunks are independent"),
    ("focus.who", with_rows_for_what_comes_ready, "its key comes ready"),
    ("focus.who", changed(lambda *s: -1, lambda *s: 0, True), "a chunk token of another pass"),
    ("focus.who", changed(lambda *s: 0, lambda *s: 1, True), "which comes later in its pass"),
    ("focus.who", changed(lambda *s: s[1] + s[2], lambda *s: s[1] + s[2], False), "and itself"),
    ("focus.who", changed(lambda *s: -1, lambda *s: -s[0] - s[3], False), "does not see all candidates"),
    ("focus.who", changed(lambda *s: 1, lambda *s: 0, False), "does not see column 0, which comes before it"),
    ("focus.candidate", lambda t, c, f, o: candidates(t, c, f, o, key=o.key, value=o.value), "frozen projections"),
    (
        "focus.candidate",
        lambda t, c, f, o: candidates(t, c, f, o, last_key=f.key, last_value=f.value),
        "its own key and value come from",
    ),
    ("focus.candidate", lambda t, c, f, o: candidates(t, c, f, o, query=f.query), "the query is the candidate's own"),
    ("focus.candidate", lambda t, c, f, o: candidates(t, c, f, o, output=f.output), "the output projection is"),
    ("focus.candidate", lambda t, c, f, o: candidates(t, c, f, o, itself=False), "sees itself too"),
    ("focus.candidate", lambda t, c, f, o: candidates(t, c, f, o, scale=1.0), "are not scaled"),
    ("focus.candidate", lambda t, c, f, o: candidates(t, c, f, o)[:, None], "the output is"),
    ("focus.candidate", lambda t, c, f, o: candidates(t, c, f, o) + 1, "is off by 1"),
    (
        "focus.positions",
        lambda c, w, b: torch.cat([turned(c, 0, b), turned(w, 0, b)]),
        "the local tokens begin at 0",
    ),
    ("focus.positions", lambda c, w, b: torch.cat([c, turned(w, len(c), b)]), "the candidates are not turned"),
    ("focus.positions", lambda c, w, b: torch.cat([c, turned(w, 1, b)]), "all candidates stand at 0"),
    ("focus.positions", lambda c, w, b: placed(w, c, b), "the candidates come first"),
    ("focus.positions", lambda c, w, b: torch.cat([c, w]), "nothing is turned"),
    ("focus.positions", by_halves, "pairs are neighbours in this book"),
    ("focus.positions", lambda c, w, b: placed(c, w, b)[1:], "candidates first"),
    ("focus.positions", lambda c, w, b: placed(c, w, b) * 2, "the keys are off by"),
    ("focus.local", lambda q, k, v: q * 1.0, "No Triton kernel was launched"),
    ("focus.local", lambda q, k, v: launched(q, k, v, masked=False), "reads outside key_pointer"),
    ("focus.local", lambda q, k, v: launched(q, k, v, causal=False), "behind the candidates the mask is causal"),
    ("focus.local", without_candidates, "no candidate is read"),
    ("focus.local", lambda q, k, v: launched(q, k, v, ahead=0), "token t sees t + 1 keys"),
    ("focus.local", lambda q, k, v: launched(q, k, v, scale=1.0), "are not scaled"),
    ("focus.local", lambda q, k, v: launched(q, k, v) + 1, "the average of the values it sees"),
    ("focus.local", lambda q, k, v: launched(q, k, v, grow=1), "of shape (16, 16); got (17, 16)"),
    ("focus.local", lambda q, k, v: launched(q, k, v, scale=float("nan")), "not finite"),
    ("focus.local", lambda q, k, v: launched(q, k, v, programs=1), "are never written"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
