"""Rows of data: their types, how files of many formats are read, and how they are written."""

from __future__ import annotations

from heedlm.records.convert import as_format, from_format
from heedlm.records.faults import BadRow, RowFault, fault
from heedlm.records.formats import FORMATS, Format
from heedlm.records.reading import Rows, detect, detect_kind, read
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
    Steps,
    Strength,
    Thumb,
    content_id,
)
from heedlm.records.writing import write

__all__ = [
    "FORMATS",
    "Answer",
    "Answers",
    "BadRow",
    "Comparison",
    "Criterion",
    "Demonstration",
    "Document",
    "Format",
    "Message",
    "Meta",
    "Prompt",
    "Rating",
    "Role",
    "Row",
    "RowFault",
    "Rows",
    "Steps",
    "Strength",
    "Thumb",
    "as_format",
    "content_id",
    "detect",
    "detect_kind",
    "fault",
    "from_format",
    "read",
    "write",
]
