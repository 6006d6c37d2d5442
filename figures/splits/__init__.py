"""Figures of the chapter on split data, moved knowledge and honest comparisons: a file for each question's family."""

from figures.splits import comparison, institutions, linking, samples

__all__ = ["comparison", "institutions", "linking", "samples"]
