"""Figures of the chapter on latents: collapse, samplers and the error at the last time; digits as they are drawn."""
