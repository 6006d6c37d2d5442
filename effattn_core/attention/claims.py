"""What the papers on softmax attention say, and how this library measures it."""

import torch

from effattn_core import attention, costs
from effattn_core.ledger import Claim


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


CLAIMS = [
    Claim(
        topic="attention",
        paper="Milakov and Gimelshein 2018",
        where="as we recall the paper",
        statement="The softmax's normalizer can be computed in one pass over the row, exactly.",
        published=None,
        unit="largest error",
        measure=_online_softmax_error,
        agrees=lambda ours: ours < 1e-12,
        conditions="257 keys, scores of standard deviation 30, float64",
    ),
    Claim(
        topic="attention",
        paper="Dao et al. 2022",
        where="as we recall the abstract",
        statement="Exact attention by tiles makes fewer reads and writes of GPU memory than standard attention.",
        published=None,
        unit="times fewer bytes",
        measure=_traffic_ratio,
        agrees=lambda ours: ours > 1,
        conditions=(
            "bytes by formula, one causal head of 4,096 tokens, head_dim 64, blocks of 128 × 64, 2 bytes an element"
        ),
    ),
    Claim(
        topic="attention",
        paper="Milakov and Gimelshein 2018",
        where="as we recall the paper",
        statement="The operation that joins two partial softmaxes is associative.",
        published=None,
        unit="largest difference",
        measure=_merge_error,
        agrees=lambda ours: ours < 1e-12,
        conditions="three parts of 4, 15 and 11 keys, both groupings, float64",
    ),
    Claim(
        topic="attention",
        paper="Grattafiori et al. 2024",
        where="table 3, the sizes of Llama 3 8B",
        statement="With 8 key-value heads of 128 and 32 layers, a cached token takes 128 KiB in 16 bits.",
        published=128.0,
        unit="KiB a token",
        measure=lambda: costs.cache_bytes(costs.LLAMA_8B, 1) / 1024,
        agrees=lambda ours: ours == 128,
        conditions="formula from the published sizes; the figure of 128 is derived from them, not printed in the paper",
    ),
]
