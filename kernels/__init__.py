"""Triton kernels and the tools to run, trace, inspect and time them.

`runtime` comes first: it decides how kernels run, and that must happen before triton is imported.
"""

from kernels import runtime

__all__ = ["runtime"]
