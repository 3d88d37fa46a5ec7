"""Objectives: one file for each method, and one name in the unions below.

Each is a small frozen config that is called on tensors and returns a `Loss`; which call it answers to is said
by its kind's Protocol in `heedlm.seams`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heedlm.objectives.bradley_terry import BradleyTerry, RankedBatch, ranked_batch
from heedlm.objectives.ppo import Ppo
from heedlm.objectives.sft import Sft

TokenObjective = Sft
RankingObjective = BradleyTerry
RolloutObjective = Ppo
Objective = Annotated[Sft | BradleyTerry | Ppo, Field(discriminator="name")]

__all__ = [
    "BradleyTerry",
    "Objective",
    "Ppo",
    "RankedBatch",
    "RankingObjective",
    "RolloutObjective",
    "Sft",
    "TokenObjective",
    "ranked_batch",
]
