"""A process reward model as the source of reward: each step of an answer is judged, and the steps make the score."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor
from transformers import PreTrainedModel

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.adapters import Adapted
from heedlm.models.chat import Chat
from heedlm.ops.shapes import Float
from heedlm.rewards.learned import Learned
from heedlm.rewards.types import Episodes, Reward
from heedlm.train.steps import reads_steps, split_steps, step_ends, step_scores


class ProcessReward(Config):
    """A process reward model: the product of the steps' P(right), or the least of them.

    Steps are sentences and lines. With `dense`, the last token of each step gets that weight times the change of the
    running score, which starts at 1: the first wrong step is felt where it stands. As a difference of a potential it
    adds the same to all answers with the same score (Ng et al. 1999). Source: Lightman et al. 2023, appendix F.2.
    """

    name: Literal["process"] = "process"
    path: str = Field(description="a reward run that was trained on steps (objective.name=process)")
    combine: Literal["product", "min"] = Field("product", description="how the steps' probabilities become a score")
    dense: NonNegativeFloat = Field(0.0, description="weight of each step's own change; 0: the score at the end alone")
    budget: PositiveInt = Field(4096, description="tokens a forward pass may hold")

    def open(
        self, chat: Chat, device: torch.device | str = "cpu", base: PreTrainedModel | None = None
    ) -> ProcessRewards:
        """Load the model; see `Learned.open`."""
        model = Learned(path=self.path, budget=self.budget).load(chat, device, base)
        if not reads_steps(model):
            raise BadInput(f"{self.path} judges whole answers, not steps: leave out name=process")
        return ProcessRewards(self, model.requires_grad_(False).train(False), chat)


class ProcessRewards:
    """Scores answers with a frozen process reward model."""

    def __init__(self, settings: ProcessReward, model: PreTrainedModel | Adapted, chat: Chat) -> None:
        self.settings, self.model, self._chat = settings, model, chat

    def score(self, episodes: Episodes) -> Reward:
        """(B,) scores in [0, 1]; the number of steps and the least P(right) as parts; (B, T) changes if dense."""
        rollouts = episodes.rollouts
        like, starts, lengths = rollouts.logps, rollouts.prompt_lengths.tolist(), rollouts.lengths.tolist()
        ids = [row[:length] for row, length in zip(rollouts.tokens.tolist(), lengths, strict=True)]
        ends = [
            [start + place for place in step_ends(self._chat, row[start:], split_steps(text))]
            for row, start, text in zip(ids, starts, episodes.texts, strict=True)
        ]
        scores = step_scores(self.model, ids, ends, budget=self.settings.budget)
        changes = torch.zeros(like.shape, dtype=torch.float64)
        totals, least = [], []
        for row, (places, values) in enumerate(zip(ends, scores, strict=True)):
            right = torch.tensor(values, dtype=torch.float64).sigmoid()
            running = running_scores(right, self.settings.combine)
            changes[row].index_add_(0, torch.tensor(places), running.diff(prepend=torch.ones(1, dtype=torch.float64)))
            totals.append(float(running[-1]))
            least.append(float(right.min()))
        parts = {"steps": [len(places) for places in ends], "least": least}
        made = {name: torch.tensor(v, dtype=like.dtype, device=like.device) for name, v in parts.items()}
        total = torch.tensor(totals, dtype=like.dtype, device=like.device)
        dense = (self.settings.dense * changes).to(like) if self.settings.dense else None
        return Reward(total, made, dense)


def running_scores(right: Float[Tensor, "S"], combine: Literal["product", "min"]) -> Float[Tensor, "S"]:
    """Score of an answer after each of its steps: product or minimum of P(right) (S,) so far; the last is its own."""
    return right.cumprod(0) if combine == "product" else right.cummin(0).values
