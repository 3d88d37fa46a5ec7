"""Heed takes a language model from raw text to an assistant aligned with human feedback, and proves it."""

__version__ = "0.1.0"
