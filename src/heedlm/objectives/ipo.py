"""Identity preference optimisation: a squared loss with a finite goal."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from heedlm.config import Config
from heedlm.ops.masked import widen
from heedlm.ops.pairs import pair_metrics, per_token
from heedlm.ops.shapes import Float, Int
from heedlm.ops.types import Loss, PairLogps


class Ipo(Config):
    """(h − 1/(2τ))² with h = log π/ref of the preferred answer minus that of the rejected one.

    Libraries differ in h: the paper's equation sums log-probabilities over an answer's tokens, TRL takes their mean.
    `length_norm` chooses the mean, with which the goal 1/(2τ) is one of nats a token.

    Source: Azar et al. 2023, eq. 17; docs/methods.md §5.2.
    """

    needs_reference: ClassVar[bool] = True

    name: Literal["ipo"] = Field(default="ipo", description="squared distance of the log-ratios' difference to a goal")
    tau: PositiveFloat = Field(default=0.1, description="τ: the goal is a difference of 1/(2τ) nats")
    length_norm: bool = Field(
        default=False, description="mean log-probabilities a token, as TRL takes them; false: sums, as in the paper"
    )

    def reward(
        self, logps: Float[Tensor, "B"], ref: Float[Tensor, "B"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """τ·log π/ref, of the whole answer or a token."""
        return self.tau * self._ratio(logps, ref, lengths)

    def __call__(self, policy: PairLogps, ref: PairLogps) -> Loss:
        """One value (nats²) for each pair; the count is the number of pairs. For metrics see `ops.pairs`."""
        chosen = self._ratio(policy.chosen, ref.chosen, policy.chosen_lengths)
        rejected = self._ratio(policy.rejected, ref.rejected, policy.rejected_lengths)
        values = (chosen - rejected - 1 / (2 * self.tau)).square()
        count = torch.tensor(len(values), device=values.device)
        return Loss(values, count, pair_metrics(self.tau * chosen, self.tau * rejected, policy))

    def _ratio(self, logps: Tensor, ref: Tensor, lengths: Tensor) -> Tensor:
        ratio = widen(logps) - widen(ref)
        return per_token(ratio, lengths) if self.length_norm else ratio
