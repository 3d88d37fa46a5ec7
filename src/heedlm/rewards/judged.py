"""A judge's score of each answer as the reward: direct reinforcement learning from AI feedback."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field

from heedlm.config import Config
from heedlm.judges import Endpoint, Local, centred
from heedlm.models.chat import Chat
from heedlm.records import Prompt
from heedlm.rewards.types import Episodes, Reward

_log = logging.getLogger(__name__)


def _from_text(value: Any) -> Any:
    """A plain string is the path of a local model."""
    return {"name": "local", "path": value} if isinstance(value, str) else value


class Judged(Config):
    """The expected score s = Σ i·P(i) of 1 … 10 that a judge gives an answer, as (s − 5.5)/4.5 in [−1, 1].

    Source: Lee et al. 2023 (RLAIF), section 2.2.2 (direct RLAIF); docs/methods.md §6.1, worked number N16.
    """

    name: Literal["judged"] = "judged"
    judge: Annotated[Annotated[Local | Endpoint, Field(discriminator="name")], BeforeValidator(_from_text)] = Field(
        description="who rates: a local model, by the probabilities it gives the scores, or an endpoint"
    )
    unreadable: float = Field(-1.0, ge=-1, le=1, description="reward of an answer whose rating could not be read")

    def open(self, chat: Chat, device: torch.device | str = "cpu") -> Judged:
        """Nothing to load; a local judge is loaded when it is first asked."""
        return self

    def prepare(self, prompts: Sequence[Prompt], count: int, tokens: int) -> None:
        """Have a judge that costs money say how much it is to rate `count` answers of at most so many tokens.

        Args:
            prompts: What they answer; the first 64 are taken for all.
            count: Answers that will be rated.
            tokens: What an answer may hold.

        Raises:
            BadInput: That is more than may be spent.
        """
        self.judge.prepare_ratings([prompt.messages for prompt in prompts[:64]], count, tokens)

    def score(self, episodes: Episodes) -> Reward:
        """(B,) rewards; the part `unreadable` is 1 where no rating could be read.

        Raises:
            BadInput: The judge cannot be reached or loaded.
        """
        cases = [(prompt.messages, text) for prompt, text in zip(episodes.prompts, episodes.texts, strict=True)]
        found = self.judge.rate_all(cases)
        unread = [float(each is None) for each in found]
        if any(unread):
            _log.warning("judge: %d of %d ratings could not be read", int(sum(unread)), len(unread))
        like = episodes.rollouts.logps
        values = [self.unreadable if each is None else centred(each) for each in found]
        total = torch.tensor(values, dtype=like.dtype, device=like.device)
        return Reward(total, {"unreadable": torch.tensor(unread, dtype=like.dtype, device=like.device)})
