"""Objectives: one file for each method, and one name in the unions below.

Each is a small frozen config that is called on tensors and returns a `Loss`; which call it answers to is said
by its kind's Protocol in `heedlm.seams`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heedlm.objectives.bradley_terry import BradleyTerry, RankedBatch, ranked_batch
from heedlm.objectives.dpo import Dpo
from heedlm.objectives.ipo import Ipo
from heedlm.objectives.kto import Kto
from heedlm.objectives.orpo import Orpo
from heedlm.objectives.ppo import Ppo
from heedlm.objectives.process import Process
from heedlm.objectives.sft import Sft
from heedlm.objectives.simpo import Simpo

TokenObjective = Sft
RankingObjective = BradleyTerry
StepObjective = Process
PairObjective = Annotated[Dpo | Ipo | Orpo | Simpo, Field(discriminator="name")]
SingleObjective = Kto
PreferenceObjective = Annotated[Dpo | Ipo | Kto | Orpo | Simpo, Field(discriminator="name")]
RolloutObjective = Ppo
Objective = Annotated[Sft | BradleyTerry | Process | Dpo | Ipo | Kto | Orpo | Simpo | Ppo, Field(discriminator="name")]

__all__ = [
    "BradleyTerry",
    "Dpo",
    "Ipo",
    "Kto",
    "Objective",
    "Orpo",
    "PairObjective",
    "Ppo",
    "PreferenceObjective",
    "Process",
    "RankedBatch",
    "RankingObjective",
    "RolloutObjective",
    "Sft",
    "Simpo",
    "SingleObjective",
    "StepObjective",
    "TokenObjective",
    "ranked_batch",
]
