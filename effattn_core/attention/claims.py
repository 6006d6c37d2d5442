"""What the papers on softmax attention say, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core import attention, costs
from effattn_core.attention import sinks
from effattn_core.ledger import Claim, Figure, at_least, exact


def _online_softmax_error():
    torch.manual_seed(0)
    scores, value = torch.randn(257, dtype=torch.float64) * 30, torch.randn(257, 8, dtype=torch.float64)
    *_, (_, total, accumulator) = attention.online_softmax(scores, value)
    return (accumulator / total - scores.softmax(0) @ value).abs().max().item()


def _merge_error():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 30, 8, dtype=torch.float64) for _ in range(3))
    a, b, c = (
        attention.oracle(query, key[:, :, span], value[:, :, span], causal=False, scale=1.0)
        for span in (slice(0, 4), slice(4, 19), slice(19, 30))
    )
    left = attention.merge([attention.merge([a, b]), c])
    right = attention.merge([a, attention.merge([b, c])])
    return (left.output - right.output).abs().max().item()


def _traffic_ratio():
    shape = (1, 1, 4096, 4096, 64)
    flash = costs.flash_traffic(*shape, block_query=128, block_key=64, element=2)
    naive = costs.naive_traffic(*shape, element=2)
    return (naive.loaded + naive.stored) / (flash.loaded + flash.stored)


def _cached(heads):
    """Bytes of one cached token of Llama 3 8B with this many key-value heads."""
    return costs.cache_bytes(costs.LLAMA_8B, 1, key_value_heads=heads)


def _cached_with_all_heads():
    return _cached(costs.LLAMA_8B.heads) / _cached(costs.LLAMA_8B.key_value_heads)


def _lost_to_a_window():
    return fmean(sinks.lost("window of 256"))


def _given_back_by_four():
    return sinks.given_back("window of 252, 4 sinks")


READ = (
    "SmolLM2 135M, three passages of 4,096 tokens of the plays, 256 keys kept, "
    "places counted in the text (the paper: in the cache)"
)
SOFTMAX = "Milakov and Gimelshein 2018"

CLAIMS = [
    Claim(
        topic="attention",
        paper=SOFTMAX,
        where="algorithm 3",
        read=False,
        statement="The maximum and the normaliser of a softmax come from one pass over the row.",
        measured=Figure(_online_softmax_error, "largest error"),
        rule=exact(),
        conditions="257 keys, scores of standard deviation 30, float64",
    ),
    Claim(
        topic="attention",
        paper="Dao et al. 2022",
        where="abstract",
        statement="Exact attention by tiles needs fewer accesses to a GPU's memory than standard attention.",
        unit="fewer accesses",
        formula=Figure(_traffic_ratio, "times fewer bytes"),
        rule=at_least(1.0),
        conditions="one causal head of 4,096 tokens, head_dim 64, blocks of 128 × 64, 2 bytes per element",
    ),
    Claim(
        topic="attention",
        paper=SOFTMAX,
        where="section 3.1",
        read=False,
        statement="The operation that joins two partial softmaxes is associative.",
        measured=Figure(_merge_error, "largest difference"),
        rule=exact(),
        conditions="three parts of 4, 15 and 11 keys, both groupings, float64",
    ),
    Claim(
        topic="attention",
        paper="Grattafiori et al. 2024",
        where="section 3.2",
        statement="Eight key-value heads reduce the size of the key-value cache during decoding.",
        unit="a smaller cache",
        formula=Figure(_cached_with_all_heads, "times smaller than with 32 heads"),
        rule=at_least(1.0),
        conditions=lambda: (
            f"Llama 3 8B, 16 bits: {_cached(8) // 1024} KiB per token instead of {_cached(32) // 1024} KiB"
        ),
    ),
    Claim(
        topic="attention",
        paper="Xiao et al. 2024",
        where="abstract",
        statement="Window attention fails when the text is longer than the cache.",
        unit="fails",
        measured=Figure(_lost_to_a_window, "nats per token lost past the window"),
        rule=at_least(0.5),
        conditions=f"{READ}: the loss does not run away, it stays that much higher",
    ),
    Claim(
        topic="attention",
        paper="Xiao et al. 2024",
        where="abstract",
        statement="Keeping the first tokens' keys and values largely recovers the performance of window attention.",
        unit="largely recovered",
        measured=Figure(_given_back_by_four, "of the lost nats given back by 4 sinks"),
        rule=at_least(0.5),
        conditions=lambda: f"{READ}; one sink: {sinks.given_back('window of 255, 1 sink'):.3g}",
    ),
]
