"""Simple preference optimisation: the mean log-probability a token as reward, without a reference."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedlm.config import Config
from heedlm.ops.pairs import pair_metrics, per_token
from heedlm.ops.shapes import Float, Int
from heedlm.ops.types import Loss, PairLogps


class Simpo(Config):
    """−log σ(β·(mean log π of the preferred − mean log π of the rejected) − γ), means over an answer's tokens.

    γ is a margin of rewards, as in the paper; some advise it as a share γ/β, usually 0.1 to 0.8.

    Source: Meng et al. 2024, eq. 6; docs/methods.md §5.5.
    """

    needs_reference: ClassVar[bool] = False

    name: Literal["simpo"] = Field(default="simpo", description="mean log-probabilities a token, with a margin")
    beta: PositiveFloat = Field(default=2.0, description="scale of the reward, for each nat a token")
    gamma: NonNegativeFloat = Field(default=1.0, description="γ: reward by which the preferred answer is to win")

    def reward(
        self, logps: Float[Tensor, "B"], ref: Float[Tensor, "B"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """β·mean log-probability a token; the reference is not looked at."""
        return self.beta * per_token(logps, lengths)

    def __call__(self, policy: PairLogps, ref: PairLogps) -> Loss:
        """One value (nats) for each pair; the count is the number of pairs. For metrics see `ops.pairs`.

        The reference is not looked at.
        """
        chosen = self.reward(policy.chosen, ref.chosen, policy.chosen_lengths)
        rejected = self.reward(policy.rejected, ref.rejected, policy.rejected_lengths)
        values = -logsigmoid(chosen - rejected - self.gamma)
        count = torch.tensor(len(values), device=values.device)
        return Loss(values, count, pair_metrics(chosen, rejected, policy))
