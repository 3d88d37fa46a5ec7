"""Reward sources: what scores an answer. Adding one takes a file here and its name in the union below."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from heedlm.rewards.function import Function
from heedlm.rewards.game import Walk
from heedlm.rewards.gold import GoldReward
from heedlm.rewards.learned import Learned
from heedlm.rewards.rules import EndsWell, NearLength, Pattern
from heedlm.rewards.types import Episodes, Reward

_NAMES = {"gold", "ends_well", "near_length", "pattern", "walk"}


def source_from_text(value: Any) -> Any:
    """A plain string is the name of a rule, the path of a Python file, or else the path of a reward model."""
    if not isinstance(value, str):
        return value
    if value.endswith(".py"):
        return {"name": "function", "path": value}
    return {"name": value} if value in _NAMES else {"name": "learned", "path": value}


RewardSource = Annotated[
    Annotated[Learned | GoldReward | EndsWell | NearLength | Pattern | Function | Walk, Field(discriminator="name")],
    BeforeValidator(source_from_text),
]

__all__ = [
    "EndsWell",
    "Episodes",
    "Function",
    "GoldReward",
    "Learned",
    "NearLength",
    "Pattern",
    "Reward",
    "RewardSource",
    "Walk",
    "source_from_text",
]
