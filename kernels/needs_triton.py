"""Imported first by whatever imports triton: where it is not installed, the import stops with a sentence."""

from kernels import runtime

runtime.require_triton()
