"""Triton kernels and the tools to run, trace, inspect and time them."""
