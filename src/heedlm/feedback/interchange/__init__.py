"""Judgements in the files of others: exports of Argilla and Label Studio in, the columns trainers read out."""

from __future__ import annotations

from heedlm.feedback.interchange.loading import Imported, load
from heedlm.feedback.interchange.replies import Columns
from heedlm.feedback.interchange.saving import FORMS, Exported, Form, save

__all__ = ["FORMS", "Columns", "Exported", "Form", "Imported", "load", "save"]
