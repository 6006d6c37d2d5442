"""YOCO's exercises: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved


def prefill(read, answer, hidden):
    hidden, shared = read(hidden)
    return answer(hidden[:, -1:], shared)


def late(read, answer, hidden):
    return answer(*read(hidden))[:, -1:]


def raw(read, answer, hidden):
    return answer(hidden[:, -1:], read(hidden)[1])


def cache(model, context, architecture, window=1024, element=2, kinds=2):
    row = kinds * element * model.head_dim
    if architecture == "grouped":
        return model.layers * row * model.key_value_heads * context
    return row * model.key_value_heads * context + model.layers // 2 * row * model.heads * window


def ranks(states, log_decays, fade=True, own=False):
    before, entering = torch.zeros_like(states[0]), []
    for state, log_decay in zip(states, log_decays, strict=True):
        entering.append(before)
        left = log_decay.exp()[:, None, None] if fade else 1.0
        before = left * (before + state) if own else left * before + state
    return torch.stack(entering)


def write(keys, new, turn, first=0, again=False):
    before = turn(keys, 0) if again else keys
    return torch.cat([before, turn(new, keys.shape[2] + first)], 2)


@triton.jit
def ring_kernel(Q, K, V, Keys, Values, Out, place, filled, scale, W: tl.constexpr, D: tl.constexpr,
                OLD: tl.constexpr, STORE: tl.constexpr):  # fmt: skip
    rows, dims = tl.arange(0, W)[:, None], tl.arange(0, D)[None, :]
    spots, new = rows * D + dims, rows == place
    key, value = tl.load(Keys + spots), tl.load(Values + spots)
    if not OLD:
        key, value = tl.where(new, tl.load(K + dims), key), tl.where(new, tl.load(V + dims), value)
    scores = tl.sum(key * tl.load(Q + dims), 1)[:, None] * scale
    scores = tl.where(rows < filled, scores, -float("inf"))
    weight = tl.exp(scores - tl.max(scores, 0))
    tl.store(Out + tl.arange(0, D), tl.sum(weight * value, 0) / tl.sum(weight, 0))
    if STORE:
        tl.store(Keys + spots, tl.load(K + dims), mask=new)
        tl.store(Values + spots, tl.load(V + dims), mask=new)


def ring(query, key, value, keys, values, length, place=None, filled=None, scale=None, old=False, store=True,
         twice=False):  # fmt: skip
    window, dim = keys.shape
    if twice:
        keys[-1] = key
    out, old = torch.empty_like(query), old and length > 0
    filled = min(length + 1 - old, window) if filled is None else filled
    place = length % window if place is None else place
    ring_kernel[(1,)](query, key, value, keys, values, out, place, filled, scale or dim**-0.5, window, dim, old, store)
    return out


def throughput(weights, kept, read, memory, bandwidth, each=0, beside=True, whole=True, answered=None, batch=None,
               least=0):  # fmt: skip
    texts = (memory - weights * beside) / kept if batch is None else batch
    texts = max(least, int(texts) if whole else texts)
    spent = weights + texts * (read + each * weights * (1 - 1 / max(texts, 1)))
    return (answered or texts) * bandwidth / spent


SOLVED = {
    "yoco.prefill": prefill,
    "yoco.cache": cache,
    "yoco.ranks": ranks,
    "yoco.crossover": 13 * 1024 * 3,
    "yoco.uneven": 4,
    "yoco.write": write,
    "yoco.ring": ring,
    "yoco.throughput": throughput,
}
MISTAKES = [
    ("yoco.prefill", late, "Right, but not early"),
    ("yoco.prefill", raw, "got the embedding of the last token"),
    ("yoco.prefill", lambda *given: late(*given)[:, 0], "Return what the cross-decoder makes"),
    ("yoco.prefill", lambda *given: 2 * prefill(*given), "is off by"),
    ("yoco.cache", lambda *given: cache(*given, kinds=1), "Keys and values are two"),
    ("yoco.cache", lambda *given: cache(*given, window=0), "the windows of the self-decoder are missing"),
    ("yoco.cache", lambda model, context, _: cache(model, context, "grouped"), "a YOCO keeps one"),
    ("yoco.cache", lambda *given: 7, "7 is not"),
    ("yoco.ranks", lambda *given: ranks(*given, fade=False), "Nothing fades"),
    ("yoco.ranks", lambda *given: ranks(*given, own=True), "not the state that it makes itself"),
    ("yoco.ranks", lambda states, log_decays: states, "enters with nothing"),
    ("yoco.ranks", lambda states, log_decays: states[:, 0], "ranks enter with"),
    ("yoco.ranks", lambda states, log_decays: -ranks(states, log_decays), "are off by"),
    ("yoco.crossover", 26 * 1024 * 3, "not all of them"),
    ("yoco.crossover", 13 * 1024, "for all query heads"),
    ("yoco.crossover", 1024 * 3, "a window of its own"),
    ("yoco.crossover", 1024, "the length of one window"),
    ("yoco.uneven", 32, "is *kept*"),
    ("yoco.uneven", 32 / 24, "read no cache"),
    ("yoco.uneven", 2, "an even split"),
    ("yoco.uneven", 0.25, "the share that is still read"),
    ("yoco.write", lambda keys, new, turn: write(keys, new, turn, first=-keys.shape[2]), "turned by 0"),
    ("yoco.write", lambda keys, new, turn: write(keys, new, turn, first=1), "one too far"),
    ("yoco.write", lambda keys, new, turn: write(keys, new, turn, again=True), "turned twice"),
    ("yoco.write", lambda keys, new, turn: torch.cat([keys, new], 2), "are not turned"),
    ("yoco.write", lambda keys, new, turn: turn(new, keys.shape[2]), "the new ones come behind"),
    ("yoco.write", lambda keys, new, turn: -write(keys, new, turn), "are off by"),
    ("yoco.ring", lambda query, *given: query, "No Triton kernel was launched"),
    ("yoco.ring", lambda *given: ring(*given)[:4], "the output must be a tensor of shape (16,); got (4,)"),
    ("yoco.ring", lambda *given: [ring(*given)].clear(), "the output must be a tensor of shape (16,); got nothing"),
    ("yoco.ring", lambda *given: ring(*given, store=False), "hold what they held before"),
    ("yoco.ring", lambda *given: ring(*given, place=1), "modulo the window, and nowhere else"),
    ("yoco.ring", lambda *given: ring(*given, twice=True), "belong into row 0"),
    ("yoco.ring", lambda *given: ring(*given, old=True), "as it was before"),
    ("yoco.ring", lambda *given: ring(*given, filled=len(given[3])), "rows that were never written count"),
    ("yoco.ring", lambda *given: ring(*given, scale=1.0), "not scaled"),
    ("yoco.ring", lambda *given: -ring(*given), "does the query read each row"),
    ("yoco.throughput", lambda *given: throughput(*given, beside=False), "the weights take memory too"),
    ("yoco.throughput", lambda *given: throughput(*given, each=1), "share one reading of the weights"),
    ("yoco.throughput", lambda *given: throughput(*given, batch=1), "as many as fit share"),
    ("yoco.throughput", lambda *given: throughput(*given, answered=1), "what one text gets"),
    ("yoco.throughput", lambda *given: throughput(*given, whole=False), "round down"),
    ("yoco.throughput", lambda *given: throughput(given[0], given[1], given[1], *given[3:]), "`read`, not `kept`"),
    ("yoco.throughput", lambda *given: throughput(*given, least=-9), "no text fits beside the weights"),
    ("yoco.throughput", lambda *given: 2 * throughput(*given), "is not"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "wrong", "sentence"), MISTAKES, ids=[sentence for *_, sentence in MISTAKES])
def test_a_known_mistake_is_named(name, wrong, sentence):
    assert_named(name, wrong, sentence)
