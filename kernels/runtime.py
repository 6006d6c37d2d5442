"""Where kernels run here: on a GPU, in Triton's interpreter, or nowhere. Decided once, before triton is imported."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import sys

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # that kernels take

# Triton 3.9 warns unless this is explicit: let it fuse multiply and add, as its compiler does by default.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")


NOT_INSTALLED = "triton is not installed (Linux: pip install triton, Windows: pip install triton-windows, macOS: none)"


def _choose():
    """Return (mode, reason), and ask triton for its interpreter where there is no GPU."""
    if importlib.util.find_spec("triton") is None:
        return "none", NOT_INSTALLED
    if os.environ.get("EFFATTN_COMPILE_ONLY") == "1":
        return "compiler", "kernels.inspect compiles them without launching"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "interpreter", "TRITON_INTERPRET=1 asks for it"
    if torch.cuda.is_available():
        return "gpu", "an NVIDIA GPU is present"
    if "triton" in sys.modules:
        return "none", "triton was imported before kernels, so its interpreter can no longer be chosen"
    os.environ["TRITON_INTERPRET"] = "1"
    return "interpreter", "no NVIDIA GPU is present"


mode, reason = _choose()


def statement():
    """One sentence: device, versions, how kernels run and why."""
    device = torch.cuda.get_device_name() if mode == "gpu" else "CPU"
    how = {"gpu": "compiled", "interpreter": "interpreted", "compiler": "compiled only", "none": "not run"}[mode]
    sentence = f"{device}, torch {torch.__version__}: Triton kernels are {how}, because {reason}."
    return " ".join(filter(None, (sentence, known_fault())))


def triton_version():
    """The version of the distribution that holds triton, which has another name on Windows; "" where there is none."""
    for name in ("triton", "triton-windows"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


@functools.cache
def known_fault(version=None, capability=None):
    """A warning where this Triton can give silently wrong gradients on this GPU, else "".

    On Hopper, Triton 3.4 to 3.8:

    - published: gradients of flash-linear-attention's kernels, wrong from 3.4 (issue 640) and still with 3.7.1
      (issue 984); an assembler that may reuse the registers of an operand before the product that reads them is done
      (triton pull request 11781), where 3.9 takes ptxas 13.4;
    - seen, with 3.6.0 on an H200: gradients of retention in bfloat16, off by as much as they are large where key and
      value differ in width. The machine code that 3.9.0 makes of the same kernels was right there, by ptxas 13.4 and by
      12.9: the compiler is at fault. Tiles of 32 were right, which retention now takes there
      (kernels/retention/configurations.py); so were its outputs, attention and the recurrences;
    - not known: 3.8, float16, and shapes that no test runs.
    """
    if capability is None:
        capability = architecture() if mode == "gpu" else 0
    if version is None:
        version = triton_version() if capability else "0"
    release = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if capability // 10 == 9 and (3, 4, 0) <= release < (3, 9, 0):
        return f"Triton {version} can give wrong gradients on this GPU: check them before training, or take 3.9.0."
    return ""


def require_triton():
    """Raise ModuleNotFoundError with one sentence, under the name "triton", where it is not installed."""
    if reason == NOT_INSTALLED:
        raise ModuleNotFoundError(
            f"Triton kernels cannot be looked at here: {reason}; the forms in PyTorch, effattn_core, need none.",
            name="triton",
        )


def require_kernels(dtype=None):
    """Raise RuntimeError with one sentence where no kernel can be launched, ValueError where none takes `dtype`."""
    if mode == "none":
        raise RuntimeError(f'Triton kernels cannot run here: {reason}; use implementation="torch".')
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"the kernels take float32, float16 or bfloat16; got {dtype}: use implementation='torch'.")
    if dtype == torch.bfloat16 and mode == "interpreter":
        raise ValueError("Triton's interpreter gets bfloat16 wrong: launch in float32, as the operators do.")


def interpretable(tensor):
    """The tensor as a launch here takes it: bfloat16 becomes float32 where kernels are interpreted.

    The interpreter keeps bfloat16 as raw integers and computes with those (triton issue 11584): attention over ones
    gave 2.6e8. A compiled kernel rounds what the interpreted one then does not; callers cast the results back.
    """
    return tensor.float() if mode == "interpreter" and tensor.dtype == torch.bfloat16 else tensor


def architecture():
    """Compute capability as 80, 90, …: of the GPU here, else EFFATTN_ARCHITECTURE of the environment, else 90."""
    if mode == "gpu":
        major, minor = torch.cuda.get_device_capability()
        return 10 * major + minor
    return int(os.environ.get("EFFATTN_ARCHITECTURE", "90"))


def multiprocessors(device):
    """Of the GPU that a tensor is on; 4 where kernels are interpreted, so that splits are seen there too."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def device():
    """The device that a chapter puts its tensors on."""
    return torch.device("cuda" if mode == "gpu" else "cpu")
