"""What a generator of latents costs: its weights and operations, as formulas that the modules equal. The tokeniser's
geometry changes none of them: it changes how many steps of training a quality takes."""

from effattn_core.calls import require_count
from effattn_core.latents.head import FREQUENCIES


def block_parameters(width: int, inner: int) -> int:
    """Weights of a modulated block: modulation 6 width², attention 4 width², a SwiGLU (eq. autoencoders-block)."""
    return 10 * width**2 + 3 * width * inner


def flow_parameters(latent: int, tokens: int, *, width: int, layers: int, inner: int, classes: int = 10) -> int:
    """Weights of a FlowModel: latents in and out, places, time, classes, the blocks and the last modulation."""
    ends = 2 * latent * width + width + latent
    told = 2 * FREQUENCIES * width + width + width**2 + width + (classes + 1) * width
    return ends + tokens * width + told + layers * block_parameters(width, inner) + 2 * width**2 + 2 * width


def pass_flops(latent: int, tokens: int, *, width: int, layers: int, inner: int) -> int:
    """Operations of one pass over an image's latents, matrices alone (eq. autoencoders-flops).

    Twice the weights that each token meets, 4 tokens² · width per layer of attention, time and class once.
    """
    per_token = 2 * (2 * latent * width + layers * (4 * width**2 + 3 * width * inner))
    once = 2 * (2 * FREQUENCIES * width + width**2 + layers * 6 * width**2 + 2 * width**2)
    return tokens * per_token + layers * 4 * tokens**2 * width + once


def sampling_passes(steps: int, sampler: str = "euler", *, guided_share: float = 0.0) -> float:
    """Passes of a walk: one per step, two of Heun's; guidance doubles those in its share of the steps.

    Raises ValueError for a share outside [0, 1], and for steps that are no count.
    """
    require_count("steps", steps)
    if not 0 <= guided_share <= 1:
        raise ValueError(f"guided_share must lie in [0, 1]; it is {guided_share}.")
    return steps * (2 if sampler == "heun" else 1) * (1 + guided_share)


def shift_share(shift: float, above: float) -> float:
    """The share of evenly spaced times that a shift leaves at or above `above`: (1 - a) s' with the shift undone.

    Guidance from t = 0.3 on, walked with shift 0.4, is on for this share of steps. Raises ValueError for a shift that
    is not positive, and for a time outside [0, 1].
    """
    if shift <= 0 or not 0 <= above <= 1:
        raise ValueError(f"shift must be above 0, and the time in [0, 1]; they are {shift} and {above}.")
    back = above / (shift + (1 - shift) * above)
    return 1 - back
