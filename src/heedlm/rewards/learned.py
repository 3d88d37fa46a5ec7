"""A trained reward model as the source of reward."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.adapters import Adapted, reward_on, whole
from heedlm.models.chat import Chat
from heedlm.models.load import check_fits, check_same_vocabulary, load_reward
from heedlm.models.tokenizer import load_tokenizer
from heedlm.rewards.types import Episodes, Reward
from heedlm.train.experience import rollout_scores
from heedlm.train.steps import reads_steps


class Learned(Config):
    """A reward model: a scalar head read at the answer's last token (Stiennon et al. 2020, section 3.4)."""

    name: Literal["learned"] = "learned"
    path: str = Field(description="a reward run, or a folder with a one-label sequence-classification model")
    budget: PositiveInt = Field(4096, description="tokens a forward pass may hold")

    def open(
        self, chat: Chat, device: torch.device | str = "cpu", base: PreTrainedModel | None = None
    ) -> LearnedReward:
        """Load the model.

        Args:
            chat: The policy's.
            device: Where the policy's answers lie.
            base: A model in memory; a reward model that was trained as an adapter on just its weights goes on them.

        Raises:
            BadInput: The model cannot be read, its vocabulary is not the policy's, or it judges steps.
        """
        model = self.load(chat, device, base)
        if reads_steps(model):
            raise BadInput(f"{self.path} judges the steps of answers: say name=process for it")
        return LearnedReward(model, self.budget)

    def load(
        self, chat: Chat, device: torch.device | str = "cpu", base: PreTrainedModel | None = None
    ) -> PreTrainedModel | Adapted:
        """The model alone, whatever it was trained to judge; see `open`."""
        folder = runs.find_model(self.path)
        tokenizer = load_tokenizer(folder)
        model = self._shared(base) or load_reward(folder, device=device)
        check_fits(whole(model), tokenizer, self.path)
        check_same_vocabulary(chat.tokenizer, tokenizer, ("the policy", f"the reward model {self.path}"))
        return model

    def _shared(self, base: PreTrainedModel | None) -> Adapted | None:
        if base is None or not runs.has_data(self.path, "adapter"):
            return None
        return reward_on(base, runs.find_data(self.path, "adapter"))


class LearnedReward:
    """Scores answers with a frozen reward model."""

    def __init__(self, model: PreTrainedModel | Adapted, budget: int = 4096) -> None:
        self.model = model.requires_grad_(False)
        self.model.train(False)
        self.budget = budget

    def score(self, episodes: Episodes) -> Reward:
        """(B,) reward-model scores at the last real token, cut answers included."""
        return Reward(rollout_scores(self.model, episodes.rollouts, budget=self.budget))
