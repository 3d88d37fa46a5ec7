"""Objectives: one file for each method, and one name in the unions below.

Each is a small frozen config that is called on tensors and returns a `Loss`; which call it answers to is said
by its kind's Protocol in `heedlm.seams`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from heedlm.objectives.bradley_terry import BradleyTerry, RankedBatch, ranked_batch
from heedlm.objectives.dapo import Dapo
from heedlm.objectives.dpo import Dpo
from heedlm.objectives.dr_grpo import DrGrpo
from heedlm.objectives.grpo import Grpo
from heedlm.objectives.ipo import Ipo
from heedlm.objectives.kto import Kto
from heedlm.objectives.online_dpo import OnlineDpo
from heedlm.objectives.orpo import Orpo
from heedlm.objectives.ppo import Ppo
from heedlm.objectives.process import Process
from heedlm.objectives.reinforce_pp import ReinforcePp
from heedlm.objectives.rloo import Rloo
from heedlm.objectives.sft import Sft
from heedlm.objectives.simpo import Simpo


def objective_from_text(value: Any) -> Any:
    """A plain string is the name of an objective, with its own defaults."""
    return {"name": value} if isinstance(value, str) else value


TokenObjective = Sft
RankingObjective = BradleyTerry
StepObjective = Process
PairObjective = Annotated[Dpo | Ipo | Orpo | Simpo, Field(discriminator="name")]
SingleObjective = Kto
PreferenceObjective = Annotated[Dpo | Ipo | Kto | Orpo | Simpo, Field(discriminator="name")]
CriticObjective = Ppo
GroupObjective = Annotated[Dapo | DrGrpo | Grpo | OnlineDpo | ReinforcePp | Rloo, Field(discriminator="name")]
RolloutObjective = Annotated[
    Annotated[Ppo | Dapo | DrGrpo | Grpo | OnlineDpo | ReinforcePp | Rloo, Field(discriminator="name")],
    BeforeValidator(objective_from_text),
]
Objective = Annotated[
    Sft
    | BradleyTerry
    | Process
    | Dpo
    | Ipo
    | Kto
    | Orpo
    | Simpo
    | Ppo
    | Dapo
    | DrGrpo
    | Grpo
    | OnlineDpo
    | ReinforcePp
    | Rloo,
    Field(discriminator="name"),
]

__all__ = [
    "BradleyTerry",
    "CriticObjective",
    "Dapo",
    "Dpo",
    "DrGrpo",
    "GroupObjective",
    "Grpo",
    "Ipo",
    "Kto",
    "Objective",
    "OnlineDpo",
    "Orpo",
    "PairObjective",
    "Ppo",
    "PreferenceObjective",
    "Process",
    "RankedBatch",
    "RankingObjective",
    "ReinforcePp",
    "Rloo",
    "RolloutObjective",
    "Sft",
    "Simpo",
    "SingleObjective",
    "StepObjective",
    "TokenObjective",
    "ranked_batch",
]
