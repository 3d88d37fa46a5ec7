"""Reward sources: what scores an answer. Adding one takes a file here and its name in the union below."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from heedlm.rewards.ensemble import Ensemble
from heedlm.rewards.function import Function
from heedlm.rewards.game import Walk
from heedlm.rewards.gold import GoldReward
from heedlm.rewards.judged import Judged
from heedlm.rewards.learned import Learned
from heedlm.rewards.process import ProcessReward
from heedlm.rewards.rules import EndsWell, NearLength, Pattern
from heedlm.rewards.two_model import TwoModel
from heedlm.rewards.types import Episodes, Reward
from heedlm.rewards.verifiable import Layout, Sums, Verse

_NAMES = {"gold", "ends_well", "near_length", "pattern", "walk", "sums", "verse", "layout"}


def source_from_text(value: Any) -> Any:
    """A plain string is the name of a rule, the path of a Python file, or that of a reward model.

    Paths with commas between them are those of an ensemble.
    """
    if not isinstance(value, str):
        return value
    if value.endswith(".py"):
        return {"name": "function", "path": value}
    if value in _NAMES:
        return {"name": value}
    if "," in value:
        return {"name": "ensemble", "paths": [path.strip() for path in value.split(",")]}
    return {"name": "learned", "path": value}


# Those that are made of reward models, with which a critic may start and which may be adapters on the policy's base.
ScalarSource = Learned | Ensemble | TwoModel | ProcessReward


def is_learned(source: Any) -> bool:
    """Whether a reward source is a model of what is wanted, which a policy can fool; a rule is what is wanted."""
    return isinstance(source, ScalarSource | Judged)


def files_of(source: Any) -> dict[str, str]:
    """The runs and files that a reward source reads, by the roles they have among a run's inputs."""
    if isinstance(source, Ensemble):
        return {f"reward_model_{place}": path for place, path in enumerate(source.paths, 1)}
    if isinstance(source, TwoModel):
        return {"reward_helpful": source.helpful, "reward_safety": source.safety}
    path = getattr(source.judge if isinstance(source, Judged) else source, "path", None)
    if path is None:
        return {}
    return {"reward_code" if isinstance(source, Function) else "reward_model": str(path)}


AnySource = (
    Learned
    | Ensemble
    | TwoModel
    | ProcessReward
    | GoldReward
    | Judged
    | EndsWell
    | NearLength
    | Pattern
    | Sums
    | Verse
    | Layout
    | Function
    | Walk
)
RewardSource = Annotated[Annotated[AnySource, Field(discriminator="name")], BeforeValidator(source_from_text)]

__all__ = [
    "AnySource",
    "EndsWell",
    "Ensemble",
    "Episodes",
    "Function",
    "GoldReward",
    "Judged",
    "Layout",
    "Learned",
    "NearLength",
    "Pattern",
    "ProcessReward",
    "Reward",
    "RewardSource",
    "ScalarSource",
    "Sums",
    "TwoModel",
    "Verse",
    "Walk",
    "files_of",
    "is_learned",
    "source_from_text",
]
