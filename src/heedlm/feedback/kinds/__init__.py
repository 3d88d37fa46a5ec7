"""Kinds of questions put to people. Adding one takes a file here and its name in the union below.

Each says how many answers it needs, reads a reply, shows it again, and makes the records that train a model.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from heedlm.feedback.kinds.pair import Pair
from heedlm.feedback.kinds.rank import Rank
from heedlm.feedback.kinds.rate import FLAGS, Rate
from heedlm.feedback.kinds.reply import Said
from heedlm.feedback.kinds.steps import FirstWrong
from heedlm.feedback.kinds.thumb import Thumbs
from heedlm.feedback.kinds.write import CATEGORIES, Write

KINDS = ("rank", "pair", "rate", "thumb", "write", "steps")


def _from_text(value: Any) -> Any:
    """A plain string is a kind's name."""
    return {"name": value} if isinstance(value, str) else value


QuestionKind = Annotated[
    Annotated[Rank | Pair | Rate | Thumbs | Write | FirstWrong, Field(discriminator="name")],
    BeforeValidator(_from_text),
]

__all__ = [
    "CATEGORIES",
    "FLAGS",
    "KINDS",
    "FirstWrong",
    "Pair",
    "QuestionKind",
    "Rank",
    "Rate",
    "Said",
    "Thumbs",
    "Write",
]
