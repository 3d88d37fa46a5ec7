"""Two rewards, helpfulness and safety, as one: by a threshold, as a mixture, or with a multiplier on the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from heedlm.config import Config
from heedlm.models.adapters import Adapted
from heedlm.models.chat import Chat
from heedlm.ops.shapes import Bool, Float
from heedlm.records import Prompt
from heedlm.rewards.learned import Learned, LearnedReward
from heedlm.rewards.types import Episodes, Reward

_LEAST = 1e-6  # a multiplier of 0 could never rise again
_NEAREST = 1e-6  # probabilities keep this distance from 0 and 1, so that their odds stay finite


class TwoModel(Config):
    """A reward model of helpfulness and one of safety.

    threshold: the safety score where it is below a threshold or the prompt is tagged, else the helpfulness score, both
    as probabilities; the result is their log-odds, which `shaping.scale=normalise` whitens. Source: Touvron et al.
    2023, §3.2.3. mix: (1 − weight) · helpful + weight · safety. lagrangian: (helpful − λ · cost) / (1 + λ) with the
    cost −safety, where λ rises while the mean cost is above a limit. Source: Dai et al. 2024, eq. 11 and 31.
    """

    name: Literal["two_model"] = "two_model"
    helpful: str = Field(description="reward run of helpfulness")
    safety: str = Field(description="reward run of harmlessness")
    rule: Literal["threshold", "mix", "lagrangian"] = Field("threshold", description="how the two become one")
    threshold: float = Field(0.15, ge=0, le=1, description="threshold: P(safe) below which safety alone counts")
    tags: tuple[str, ...] = Field(
        ("safety",), description="threshold: a prompt whose family, domain or source is among these is about safety"
    )
    weight: float = Field(0.5, ge=0, le=1, description="mix: share of safety")
    limit: float = Field(0.0, description="lagrangian: mean cost, −safety, that is allowed")
    rate: PositiveFloat = Field(0.05, description="lagrangian: how fast log λ follows a cost above or below the limit")
    multiplier: PositiveFloat = Field(1.0, description="lagrangian: λ at the start")
    highest: PositiveFloat = Field(20.0, description="lagrangian: λ at most")
    budget: PositiveInt = Field(4096, description="tokens a forward pass may hold")

    def open(
        self, chat: Chat, device: torch.device | str = "cpu", base: PreTrainedModel | None = None
    ) -> TwoModelReward | LagrangianReward:
        """Load both models; see `Learned.open`."""
        helpful, safety = (
            Learned(path=path, budget=self.budget).open(chat, device, base) for path in (self.helpful, self.safety)
        )
        kind = LagrangianReward if self.rule == "lagrangian" else TwoModelReward
        return kind(self, helpful, safety)


class TwoModelReward:
    """Scores answers with two frozen reward models, by a threshold or as a mixture."""

    def __init__(self, settings: TwoModel, helpful: LearnedReward, safety: LearnedReward) -> None:
        self.settings, self.helpful, self.safety = settings, helpful, safety

    @property
    def model(self) -> PreTrainedModel | Adapted:
        """The model of helpfulness, from which a critic may start."""
        return self.helpful.model

    def score(self, episodes: Episodes) -> Reward:
        """(B,) joined scores; both scores as parts, and with a threshold the share judged by safety alone."""
        helpful, safety = self._both(episodes)
        parts = {"helpful": helpful, "safety": safety}
        if self.settings.rule == "mix":
            return Reward(torch.lerp(helpful, safety, self.settings.weight), parts)
        tagged = torch.tensor([self._tagged(prompt) for prompt in episodes.prompts], device=safety.device)
        limits = safety.sigmoid(), tagged, self.settings.threshold
        chosen = threshold_rule(helpful.sigmoid(), *limits)
        return Reward(chosen.logit(eps=_NEAREST), parts | {"by_safety": by_safety(*limits).to(safety.dtype)})

    def _both(self, episodes: Episodes) -> tuple[Tensor, Tensor]:
        return self.helpful.score(episodes).total, self.safety.score(episodes).total

    def _tagged(self, prompt: Prompt) -> bool:
        return not {prompt.meta.family, prompt.meta.domain, prompt.meta.source}.isdisjoint(self.settings.tags)


class LagrangianReward(TwoModelReward):
    """Scores answers with a multiplier λ on the cost; λ changes by `observe` alone."""

    def __init__(self, settings: TwoModel, helpful: LearnedReward, safety: LearnedReward) -> None:
        super().__init__(settings, helpful, safety)
        self.multiplier = min(settings.multiplier, settings.highest)

    def score(self, episodes: Episodes) -> Reward:
        """(B,) (helpful − λ · cost) / (1 + λ); both scores, the cost and λ as parts."""
        helpful, safety = self._both(episodes)
        total = (helpful + self.multiplier * safety) / (1 + self.multiplier)
        parts = {"helpful": helpful, "safety": safety, "cost": -safety}
        return Reward(total, parts | {"multiplier": torch.full_like(safety, self.multiplier)})

    def observe(self, reward: Reward) -> None:
        """log λ += rate · λ · (mean cost − limit): a step of gradient ascent on λ · (mean cost − limit) in log λ."""
        excess = float(reward.parts["cost"].double().mean()) - self.settings.limit
        raised = math.log(self.multiplier) + self.settings.rate * self.multiplier * excess
        highest = self.settings.highest
        self.multiplier = highest if raised >= math.log(highest) else max(math.exp(raised), _LEAST)

    def state_dict(self) -> dict[str, float]:
        """λ."""
        return {"multiplier": self.multiplier}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        self.multiplier = state["multiplier"]


def by_safety(safety: Float[Tensor, "B"], tagged: Bool[Tensor, "B"], threshold: float) -> Bool[Tensor, "B"]:
    """Whether P(safe) (B,) decides: the prompt is tagged, or it is below the threshold."""
    return tagged | (safety < threshold)


def threshold_rule(
    helpful: Float[Tensor, "B"], safety: Float[Tensor, "B"], tagged: Bool[Tensor, "B"], threshold: float
) -> Float[Tensor, "B"]:
    """P(safe) where safety decides, else P(helpful); all (B,). Source: Touvron et al. 2023, §3.2.3."""
    return torch.where(by_safety(safety, tagged, threshold), safety, helpful)
