"""Rows of data: their types, how files of many formats are read, and how they are written."""

from __future__ import annotations

from heedlm.records.types import (
    Answer,
    Answers,
    Comparison,
    Criterion,
    Demonstration,
    Document,
    Message,
    Meta,
    Prompt,
    Rating,
    Role,
    Row,
    Strength,
    Thumb,
    content_id,
)
from heedlm.records.writing import write

__all__ = [
    "Answer", "Answers", "Comparison", "Criterion", "Demonstration", "Document", "Message", "Meta", "Prompt",
    "Rating", "Role", "Row", "Strength", "Thumb", "content_id", "write",
]  # fmt: skip
