"""Reviewers: what criticises, revises and grades answers. Adding one takes a file and its name in the union below."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from heedlm.judges.endpoint import Endpoint
from heedlm.judges.local import Local
from heedlm.judges.reviewers.village import VillageReviewer


def _from_text(value: Any) -> Any:
    """A plain string is "village" or the path of a local model."""
    if not isinstance(value, str):
        return value
    return {"name": "village"} if value == "village" else {"name": "local", "path": value}


Reviewer = Annotated[
    Annotated[VillageReviewer | Local | Endpoint, Field(discriminator="name")],
    BeforeValidator(_from_text),
]

__all__ = ["Endpoint", "Local", "Reviewer", "VillageReviewer"]
