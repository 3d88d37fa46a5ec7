"""Odds-ratio preference optimisation: fine-tuning and preference in one loss, without a reference."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedlm.config import Config
from heedlm.ops.pairs import log_odds, pair_metrics, per_token
from heedlm.ops.shapes import Float, Int
from heedlm.ops.types import Loss, PairLogps


class Orpo(Config):
    """NLL of the preferred answer (nats a token) − λ·log σ(log odds of the preferred − log odds of the rejected).

    The odds p/(1 − p) are those of the mean log-probability a token. The NLL is a mean over each answer's own tokens
    and then over pairs, and of the answer alone; TRL's counts the prompt's tokens too and weighs every token alike.

    Source: Hong et al. 2024, eq. 6 and 7; docs/methods.md §5.4.
    """

    needs_reference: ClassVar[bool] = False

    name: Literal["orpo"] = Field(default="orpo", description="fine-tuning plus the log of an odds ratio")
    lam: PositiveFloat = Field(default=0.1, description="λ: weight of the odds ratio beside fine-tuning")

    def reward(
        self, logps: Float[Tensor, "B"], ref: Float[Tensor, "B"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """λ·mean log-probability a token; the reference is not looked at."""
        return self.lam * per_token(logps, lengths)

    def __call__(self, policy: PairLogps, ref: PairLogps) -> Loss:
        """One value (nats) for each pair; the count is the number of pairs. For metrics see `ops.pairs`.

        The reference is not looked at.
        """
        chosen = per_token(policy.chosen, policy.chosen_lengths)
        rejected = per_token(policy.rejected, policy.rejected_lengths)
        values = -chosen - self.lam * logsigmoid(log_odds(chosen) - log_odds(rejected))
        count = torch.tensor(len(values), device=values.device)
        return Loss(values, count, pair_metrics(self.lam * chosen, self.lam * rejected, policy))
