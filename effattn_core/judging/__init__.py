"""Exercises that ask for a kernel: their cases, how a launcher is watched, and what is said of what it gave."""

from effattn_core.judging.case import STRIDES, WIDE, Case, in_float32, judge, kernel_exercise, near, random
from effattn_core.judging.verdict import MASK, NO_KERNEL

__all__ = ["MASK", "NO_KERNEL", "STRIDES", "WIDE", "Case", "in_float32", "judge", "kernel_exercise", "near", "random"]
