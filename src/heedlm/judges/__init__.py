"""Judges: what compares two answers. Adding one takes a file here and its name in the union below."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from heedlm.judges.asked import Asked, centred, expected_score
from heedlm.judges.endpoint import Endpoint
from heedlm.judges.local import Local
from heedlm.judges.orders import BothOrders, both_orders, both_orders_all, clamp, option_probability
from heedlm.judges.scripted import Scripted


def _from_text(value: Any) -> Any:
    """A plain string is the path of a local model."""
    return {"name": "local", "path": value} if isinstance(value, str) else value


Judge = Annotated[
    Annotated[Local | Endpoint | Scripted, Field(discriminator="name")],
    BeforeValidator(_from_text),
]

__all__ = [
    "Asked",
    "BothOrders",
    "Endpoint",
    "Judge",
    "Local",
    "Scripted",
    "both_orders",
    "both_orders_all",
    "centred",
    "clamp",
    "expected_score",
    "option_probability",
]
