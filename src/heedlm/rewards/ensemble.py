"""Several reward models as one: what fools one of them seldom fools all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from heedlm.config import Config
from heedlm.models.adapters import Adapted
from heedlm.models.chat import Chat
from heedlm.ops.masked import widen
from heedlm.ops.shapes import Float
from heedlm.rewards.learned import Learned, LearnedReward
from heedlm.rewards.types import Episodes, Reward

Combination = Literal["mean", "min", "penalised"]


class Ensemble(Config):
    """Reward models that differ in their seed, joined: their mean, the least of them, or the mean less their spread.

    Source: Coste et al. 2024, eq. 1 to 3; the penalty there is on the variance, here on the (population) deviation,
    which is in the rewards' own units.
    """

    name: Literal["ensemble"] = "ensemble"
    paths: tuple[str, ...] = Field(min_length=2, description="reward runs, or folders of reward models")
    combine: Combination = Field(
        "mean", description="mean; min: the most critical one; penalised: mean less penalty times their deviation"
    )
    penalty: NonNegativeFloat = Field(1.0, description="penalised: deviations taken off the mean")
    budget: PositiveInt = Field(4096, description="tokens a forward pass may hold")

    def open(
        self, chat: Chat, device: torch.device | str = "cpu", base: PreTrainedModel | None = None
    ) -> EnsembleReward:
        """Load all members; see `Learned.open`."""
        members = [Learned(path=path, budget=self.budget).open(chat, device, base) for path in self.paths]
        return EnsembleReward(members, self.combine, self.penalty)


class EnsembleReward:
    """Scores answers with several frozen reward models."""

    def __init__(self, members: Sequence[LearnedReward], combine: Combination = "mean", penalty: float = 1.0) -> None:
        self.members, self.combine, self.penalty = list(members), combine, penalty

    @property
    def model(self) -> PreTrainedModel | Adapted:
        """The first member's model, from which a critic may start."""
        return self.members[0].model

    def score(self, episodes: Episodes) -> Reward:
        """(B,) joined scores; `member_k` and `spread`, their deviation, as parts."""
        scores = torch.stack([member.score(episodes).total for member in self.members])
        parts = {f"member_{place}": row for place, row in enumerate(scores, 1)}
        return Reward(joined(scores, self.combine, self.penalty), parts | {"spread": scores.std(0, correction=0)})


def joined(scores: Float[Tensor, "M B"], combine: Combination, penalty: float = 1.0) -> Float[Tensor, "B"]:
    """Scores of M members as one score an answer: mean, least, or mean − penalty · population deviation."""
    wide = widen(scores)
    if combine == "min":
        return wide.amin(0)
    return wide.mean(0) if combine == "mean" else wide.mean(0) - penalty * wide.std(0, correction=0)
