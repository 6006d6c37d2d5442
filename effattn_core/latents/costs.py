"""What an image costs: parameters of backbone and head, operations and bytes per image, beside a diffusion Transformer
that takes the noise off all latents at once; and the image line of the bill."""

from dataclasses import dataclass, replace

from effattn_core import costs
from effattn_core.bill import MODEL, Line, Stage
from effattn_core.latents.head import FREQUENCIES

# The image that the bill prices: 256 × 256 pixels in patches of 16, as LatentLM and DiT have them; steps of a solver of
# second order; a head of three blocks, each with a feed-forward layer of the backbone's.
TOKENS, STEPS, LATENT, HEAD_BLOCKS = 256, 20, 16, 3


def head_block_parameters(width: int, inner: int) -> int:
    """Weights of one block of the head: the modulation 3 · width², and a SwiGLU."""
    return 3 * width**2 + 3 * width * inner


def head_parameters(latent: int, width: int, inner: int, blocks: int) -> int:
    """Weights of a `DiffusionHead`: in and out, time, the last modulation, the blocks."""
    ends, time = 2 * latent * width, 2 * FREQUENCIES * width + width**2
    return ends + time + 2 * width**2 + blocks * head_block_parameters(width, inner)


def released_inner(width: int, ratio: int) -> int:
    """The feed-forward size of LatentLM's released code: two thirds of ratio · width, in whole 64s."""
    return width * ratio * 2 // 3 // 64 * 64


@dataclass(frozen=True)
class Pair:
    """A backbone and a head, by their weights; `released` has those of LatentLM's configurations."""

    backbone: int
    head: int

    @classmethod
    def released(cls, layers, width, ratio, head_blocks, *, inner=None, latent=LATENT):
        """layers, width, ratio of the feed-forward layers and head_blocks, as the released code names them.

        inner: the size of a feed-forward layer, None for that of the released code.
        """
        inner = released_inner(width, ratio) if inner is None else inner
        backbone = layers * (4 * width**2 + 3 * width * inner) + latent * width + width**2
        return cls(backbone, head_parameters(latent, width, inner, head_blocks))


def image_flops(pair: Pair, tokens: int = TOKENS, steps: int = STEPS, *, guided: bool = False) -> int:
    """Operations of matrices for one image: 2 g (N P_B + N S P_H), g = 2 if guided, else 1 (eq. latents-cost)."""
    return 2 * (1 + guided) * tokens * (pair.backbone + steps * pair.head)


def whole_flops(parameters: int, tokens: int = TOKENS, steps: int = STEPS, *, guided: bool = False) -> int:
    """Operations of a Transformer that denoises all latents at every step: 2 g S N P."""
    return 2 * (1 + guided) * steps * tokens * parameters


def saving(pair: Pair, steps: int = STEPS) -> float:
    """How many times fewer operations than with the backbone at every step: 1 / (1 / S + P_H / P_B)."""
    return 1 / (1 / steps + pair.head / pair.backbone)


def image_bytes(pair: Pair, tokens: int = TOKENS, steps: int = STEPS, *, dtype: str = "bfloat16") -> int:
    """Bytes of weights read for one image alone: the backbone once per latent, the head at every step of each."""
    return int(costs.element_bytes(dtype) * tokens * (pair.backbone + steps * pair.head))


def whole_bytes(parameters: int, steps: int = STEPS, *, dtype: str = "bfloat16") -> int:
    """Bytes of weights that a Transformer reads which denoises all latents at once: all weights, once per step."""
    return int(costs.element_bytes(dtype) * steps * parameters)


def cache_bytes(model, tokens: int = TOKENS, *, guided: bool = False, dtype: str = "bfloat16") -> int:
    """Bytes of keys and values of an image's latents; guidance keeps them twice. A diffusion Transformer keeps none."""
    return (1 + guided) * costs.cache_bytes(model, tokens, dtype=dtype)


def training_flops(pair: Pair, draws: int = 4) -> int:
    """Operations of training per latent: 6 (P_B + m P_H), the backbone once for m draws."""
    return 6 * (pair.backbone + draws * pair.head)


def latent_bits(tokens: int, latent: int, bits: int = 16) -> int:
    """Bits of an image's latents."""
    return tokens * latent * bits


def code_bits(tokens: int, codes: int) -> int:
    """Bits of an image's codes out of a book of `codes`."""
    return tokens * (codes - 1).bit_length()


BILLED = Pair(MODEL.matrix_parameters, head_parameters(LATENT, MODEL.width, MODEL.feed_forward, HEAD_BLOCKS))


def _attention(context):
    """Operations of one pass of the image's latents over a text of `context` tokens and each other."""
    return costs.attention_flops(MODEL, context + TOKENS) - costs.attention_flops(MODEL, context)


def _brings(lines, context):
    """An image after the text, all its latents denoised together by the whole model, at every step."""
    image = Line(
        "image", "Operations to draw an image", "FLOP", whole_flops(BILLED.backbone), STEPS * _attention(context),
        ("matrices", "attention"),
        f"{TOKENS} latents of an image after the text, {STEPS} steps, no guidance",
    )  # fmt: skip
    return {"image": image}


def _changes(lines, context):
    """The backbone once per latent, the head at every step; the head is more weights."""
    grown = {
        "weights": lines["weights"].weights + costs.element_bytes("bfloat16") * BILLED.head,
        "optimizer": lines["optimizer"].weights + 8 * BILLED.head,
    }
    changed = {key: replace(lines[key], weights=value) for key, value in grown.items()}
    drawn = replace(lines["image"], weights=image_flops(BILLED), text=_attention(context))
    return {**changed, "image": drawn}


STAGE = Stage(
    topic="latents",
    place=(5, 1),
    method="A diffusion head per latent",
    design="grouped heads and a diffusion head",
    on="attention",
    brings=_brings,
    changes=_changes,
    cost="Latents come one after another: 256 passes of the model and 5,120 of the head, each waiting for the last.",
)
