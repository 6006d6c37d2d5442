"""How every topic is called: what is refused, in which words, and which implementation answers.

An implementation is "oracle" (the definition in float64), "torch" (the plain form, vectorised) or "triton" (kernels,
compiled on a GPU and interpreted without one). None leaves the choice to `choose`.
"""

import importlib
import importlib.util
import math
from numbers import Real

import torch
from torch.autograd import forward_ad

from kernels import runtime

IMPLEMENTATIONS = ("oracle", "torch", "triton")


def require_implementation(implementation: str | None) -> None:
    """Raise ValueError unless `implementation` is one of IMPLEMENTATIONS or None."""
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation must be 'oracle', 'torch', 'triton' or None; it is {implementation!r}.")


def choose(implementation: str | None, device: torch.device, dtype: torch.dtype, misfit: str = "") -> str:
    """The implementation that answers a call: the one rule of all topics. Returns a name of IMPLEMENTATIONS.

    misfit: why the kernels do not take the call, a clause, or "". Left open (None), the kernels answer on a GPU where
    they take the call, and the plain form everywhere else. Asked for by name, they refuse what they do not take:
    ValueError, or RuntimeError where no kernel runs at all.
    """
    require_implementation(implementation)
    if implementation == "triton":
        runtime.require_kernels()
        if device.type == "cpu" and runtime.mode == "gpu":
            raise ValueError("kernels run on the GPU here, and the tensors are on the CPU: move them, or use 'torch'.")
        if dtype not in runtime.DTYPES:
            raise ValueError(f"the kernels take float32, float16 or bfloat16; got {dtype}: use implementation='torch'.")
        if misfit:
            raise ValueError(f"{misfit}: use implementation='torch'.")
        if carries_tangents():
            raise ValueError("the kernels have no forward-mode derivative: use implementation='torch'.")
    if implementation is not None:
        return implementation
    compiled = device.type == "cuda" and runtime.mode == "gpu"
    return "triton" if compiled and dtype in runtime.DTYPES and not misfit and not carries_tangents() else "torch"


def operators(topic: str):
    """A topic's kernels as operators: their module, or None where triton is not installed and plain forms serve."""
    return importlib.import_module(f"kernels.{topic}.operators") if importlib.util.find_spec("triton") else None


def misfit_of_sizes(allowed: tuple[int, ...], **sizes: int) -> str:
    """Why kernels that take the sizes `allowed` do not take these, as a clause; "" where they do."""
    if set(sizes.values()) <= set(allowed):
        return ""
    names, given = " and ".join(sizes), " and ".join(map(str, sizes.values()))
    return f"the kernels take {names} among {allowed}; got {given}"


def carries_tangents() -> bool:
    """Whether a forward-mode derivative is being taken: a form with a backward of its own would answer 0 to it."""
    return forward_ad._current_level >= 0


def wants_gradient(*tensors) -> bool:
    """Whether a backward pass may come to any of the tensors, of which some may be None."""
    return torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)


def exactly(function, *tensors, **settings):
    """`function` in float64, what "oracle" means in every topic: floating tensors, and lists of them, are cast."""
    return function(*(_double(each) for each in tensors), **{name: _double(each) for name, each in settings.items()})


def _double(given):
    if isinstance(given, (list, tuple)):
        return [_double(each) for each in given]
    return given.double() if isinstance(given, torch.Tensor) and given.is_floating_point() else given


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in: float32, or `dtype` where that is wider."""
    return torch.promote_types(dtype, torch.float32)


def require_rank(layout: str, **tensors: torch.Tensor) -> None:
    """Raise ValueError unless every tensor has as many dimensions as `layout` names: "batch, heads, time, head_dim"."""
    for name, tensor in tensors.items():
        if tensor.ndim != layout.count(",") + 1:
            raise ValueError(f"{name} must be [{layout}]; its shape is {tuple(tensor.shape)}.")


def require_alike(**tensors: torch.Tensor) -> None:
    """Raise ValueError unless the tensors share one floating dtype and one device."""
    names, first = ", ".join(tensors), next(iter(tensors.values()))
    if len({each.dtype for each in tensors.values()}) > 1 or not first.is_floating_point():
        given = ", ".join(str(each.dtype) for each in tensors.values())
        raise ValueError(f"{names} must share a floating dtype; got {given}.")
    require_device(**tensors)


def require_device(**tensors: torch.Tensor) -> None:
    """Raise ValueError unless the tensors share a device."""
    if len({each.device for each in tensors.values()}) > 1:
        given = ", ".join(str(each.device) for each in tensors.values())
        raise ValueError(f"{', '.join(tensors)} must share a device; got {given}.")


def require_heads(query: torch.Tensor, key: torch.Tensor) -> None:
    """Raise ValueError unless there are heads, and those of `key` divide those of `query` (grouped heads)."""
    if key.shape[1] == 0 or query.shape[1] == 0 or query.shape[1] % key.shape[1]:
        raise ValueError(
            f"key heads must divide query heads; got {key.shape[1]} key heads, {query.shape[1]} query heads."
        )


def require_sizes(**sizes: int) -> None:
    """Raise ValueError for a head size of 0, which leaves nothing to multiply."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; it is {size}.")


def require_count(name: str, given, least: int = 1) -> None:
    """Raise ValueError unless `given` is a whole number of at least `least`."""
    whole = isinstance(given, (int, torch.SymInt)) and not isinstance(given, bool)
    if not whole or given < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; it is {given!r}.")


def require_temperature(given) -> None:
    """Raise ValueError unless a temperature of sampling is a finite number of at least 0."""
    if not isinstance(given, Real) or not 0 <= given < math.inf:
        raise ValueError(f"temperature must be a finite number of at least 0, the likeliest token; it is {given!r}.")


def require_logits(logits: torch.Tensor) -> None:
    """Raise ValueError unless each row of [batch, vocabulary] has a largest logit that is finite.

    -inf, which bans a token, is allowed of all but one; NaN is not. Not looked at while compiling.
    """
    if torch.compiler.is_compiling():
        return
    largest = logits.detach().amax(-1)  # NaN is larger than all
    if not (finite := largest.isfinite()).all():
        row = int((~finite).nonzero()[0])
        raise ValueError(
            f"the largest logit must be finite; that of row {row} is {largest[row].item()}: look for NaN among the "
            "model's weights, or for sums that its dtype cannot hold."
        )


def require_state(state: torch.Tensor | None, shape: tuple[int, ...], like: torch.Tensor, why: str = "") -> None:
    """Raise ValueError unless a state, if any, has this shape, in float32 or float64, on the device of `like`.

    why: what the shape follows from, a clause that begins with a space.
    """
    if state is None:
        return
    if tuple(state.shape) != tuple(shape) or state.dtype not in (torch.float32, torch.float64):
        wanted = f"state must be {tuple(shape)} in float32 or float64{why}"
        raise ValueError(f"{wanted}; it is {tuple(state.shape)} {state.dtype}.")
    require_device(query=like, state=state)


def first_overflow(*tensors: torch.Tensor) -> int | None:
    """The first token, along dimension 2, that is infinite, nan, or so large that its square is; None where none is.

    None, too, where a look would cost a wait (on a GPU) or there is nothing to look at (while compiling).
    """
    if tensors[0].device.type != "cpu" or torch.compiler.is_compiling():
        return None
    dtype = wide(tensors[0].dtype)
    # Sums of squares are quick, of strided tensors too. Where one overflows each number is asked.
    norms = [torch.linalg.vector_norm(each.detach(), dtype=dtype).item() for each in tensors]
    if all(map(math.isfinite, norms)):
        return None
    most = math.sqrt(torch.finfo(dtype).max)
    places = sum((~(each.detach().abs() < most)).sum((0, 1, 3)) for each in tensors).nonzero()
    return int(places[0]) if len(places) else None


def scale_of(scale: float | None, head_dim: int) -> float:
    """The factor of the scores: `scale`, or head_dim ** -0.5 where it is None. ValueError unless it is finite."""
    if scale is None:
        return head_dim**-0.5
    if isinstance(scale, torch.Tensor) or not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number; it is {scale}.")
    return float(scale)
