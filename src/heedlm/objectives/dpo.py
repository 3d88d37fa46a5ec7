"""Direct preference optimisation, and its two readings of labels that may be the wrong way round."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedlm.config import Config
from heedlm.ops.masked import widen
from heedlm.ops.pairs import pair_metrics
from heedlm.ops.shapes import Float, Int
from heedlm.ops.types import Loss, PairLogps


class Dpo(Config):
    """−log σ(β·h) with h = log π/ref of the preferred answer minus that of the rejected one.

    With label smoothing ε the two sides weigh w₊ and w₋: w₊·(−log σ(βh)) + w₋·(−log σ(−βh)).

    - `conservative`: w₊ = 1 − ε, w₋ = ε, the expected loss if a label is wrong with probability ε. It is lowest at
      a finite h, so that preferences never become certain.
    - `robust`: the same two terms corrected so that the expectation over wrong labels is DPO's loss on right ones:
      w₊ = (1 − ε)/(1 − 2ε), w₋ = −ε/(1 − 2ε). It has no lower bound.

    Source: Rafailov et al. 2023, eq. 7; conservative, Mitchell 2023, "A note on DPO with noisy preferences", eq. 3;
    robust, Chowdhury et al. 2024, section 3; docs/methods.md §5.1.
    """

    needs_reference: ClassVar[bool] = True

    name: Literal["dpo"] = Field(default="dpo", description="logistic loss on the difference of log-ratios")
    beta: PositiveFloat = Field(default=0.1, description="how dear distance from the reference is")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="ε: share of labels taken to be the wrong way round"
    )
    smoothing: Literal["conservative", "robust"] = Field(
        default="conservative", description="how ε is read: expected loss (cDPO), or corrected for it (robust DPO)"
    )

    def reward(
        self, logps: Float[Tensor, "B"], ref: Float[Tensor, "B"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """β·log π/ref: the reward whose best policy under a KL leash of β is π, up to what the prompt decides."""
        return self.beta * (widen(logps) - widen(ref))

    def __call__(self, policy: PairLogps, ref: PairLogps) -> Loss:
        """One value (nats) for each pair; the count is the number of pairs. For metrics see `ops.pairs`."""
        chosen = self.reward(policy.chosen, ref.chosen, policy.chosen_lengths)
        rejected = self.reward(policy.rejected, ref.rejected, policy.rejected_lengths)
        margin = chosen - rejected
        eps = self.label_smoothing
        right, wrong = 1 - eps, eps
        if self.smoothing == "robust":
            right, wrong = right / (1 - 2 * eps), -wrong / (1 - 2 * eps)
        values = -right * logsigmoid(margin)
        if eps:
            values = values - wrong * logsigmoid(-margin)
        return Loss(values, torch.tensor(len(values), device=values.device), pair_metrics(chosen, rejected, policy))
