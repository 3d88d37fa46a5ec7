"""The village's ground truth as a reward: what a perfect reward model would give. For measurement, not for use."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.rewards.types import Episodes, Reward
from heedlm.village import score


class GoldReward(Config):
    """The village's gold score, in [0, 1], with its components as parts (ARCHITECTURE §10)."""

    name: Literal["gold"] = "gold"

    def open(self, chat: Chat, device: torch.device | str = "cpu") -> GoldReward:
        """Nothing to load."""
        return self

    def score(self, episodes: Episodes) -> Reward:
        """(B,) gold totals.

        Raises:
            BadInput: A prompt carries no ground truth.
        """
        golds = []
        for prompt, text in zip(episodes.prompts, episodes.texts, strict=True):
            if prompt.meta.task is None:
                raise BadInput(
                    f"prompt {prompt.id}: no ground truth (meta.task), so no gold reward; use a reward model"
                )
            golds.append(score(prompt.meta.task, text))
        like = episodes.rollouts.logps

        def numbers(name: str) -> Tensor:
            return torch.tensor([getattr(gold, name) for gold in golds], dtype=like.dtype, device=like.device)

        parts = {name: numbers(name) for name in ("helpful", "honest", "harmless", "form", "length")}
        return Reward(numbers("total"), parts)
