"""Figures of the chapter on rectified sparse attention: decoding from blocks, and its ways judged by a model."""
