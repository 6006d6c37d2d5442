"""Retention's launches, the peer's and ours, for `kernels.inspect`: the public functions, forward and backward.

The peer is `chunk_retention` of flash-linear-attention. Called on a CPU under a driver that only compiles, each of its
kernels is specialised as its own launcher would specialise it on an NVIDIA H100 (sm_90).
"""

import functools

import torch

from kernels import runtime

PACKAGES = ("flash-linear-attention", "fla-core")
# So long a text that what is moved once for all of it (decays, first and last state) is a few bytes a token.
BATCH, HEADS, TIME = 1, 8, 8192
TOKENS = {"forward": TIME, "backward": TIME, "decode": 1}  # tokens that a part's launches serve


def example_launches(dtype=torch.bfloat16, head_dim=64, device="cpu", first_only=False):
    """Drive `fla.ops.retention.chunk_retention` forward and backward; yields the word for the launches that follow.

    Every configuration of an autotuned kernel is launched, or with first_only the first.
    """
    chunk_retention = _peer(first_only)
    # As that library lays tensors out.
    query, key, value = _tensors(3, (BATCH, TIME, HEADS, head_dim), dtype, device, gradient=True)
    yield "forward"
    output, _ = chunk_retention(query, key, value)
    yield "backward"
    output.backward(torch.zeros_like(output))


first_launches = functools.partial(example_launches, first_only=True)  # for a test: six compilations, not 159


def our_launches(dtype=torch.bfloat16, head_dim=64, device="cpu"):
    """The same sizes through `effattn_core.retention.retention`, then one token with carried state."""
    from effattn_core.retention import decay_schedule, retention

    query, key, value = _tensors(3, (BATCH, HEADS, TIME, head_dim), dtype, device, gradient=True)
    decay = decay_schedule(HEADS).to(device)
    yield "forward"
    output, state = retention(query, key, value, decay, implementation="triton")
    yield "backward"
    output.backward(torch.zeros_like(output))
    yield "decode"
    token = _tensors(3, (BATCH, HEADS, 1, head_dim), dtype, device, gradient=False)
    retention(*token, decay, state=state.detach(), implementation="triton")


def _tensors(number, shape, dtype, device, gradient):
    return [torch.zeros(shape, dtype=dtype, device=device, requires_grad=gradient) for _ in range(number)]


def _peer(first_only):
    """`chunk_retention`, its questions about the device answered as an H100 would answer them.

    It asks PyTorch for the capability and the name when it is imported, the driver for the shared memory (the driver of
    `kernels.inspect` knows it), and a tensor for its device's index, which on a CPU is None. Its autotuners would time
    each of their configurations: here each is compiled, and who reads the reports chooses.
    """
    capability = divmod(runtime.architecture(), 10)
    torch.cuda.get_device_capability = lambda device=None: capability
    torch.cuda.get_device_name = lambda device=None: "NVIDIA H100" if capability == (9, 0) else "NVIDIA"
    torch.cuda.device_count = lambda: 1
    from fla.ops.common import chunk_o
    from fla.ops.retention import chunk_retention
    from fla.ops.utils.cache import CachedAutotuner
    from triton.runtime.autotuner import Autotuner

    enough = chunk_o.check_shared_mem
    chunk_o.check_shared_mem = lambda arch="none", tensor_idx=None: enough(arch, tensor_idx or 0)

    def run(self, *args, **kwargs):
        self.nargs = dict(zip(self.arg_names, args, strict=False))  # what its own `run` leaves for pruning
        for configuration in self.prune_configs(kwargs)[: 1 if first_only else None]:
            self.fn.run(*args, **kwargs, **configuration.all_kwargs())

    Autotuner.run = CachedAutotuner.run = run
    return chunk_retention
