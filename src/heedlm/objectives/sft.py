"""Supervised fine-tuning and pretraining: make the given tokens likely.

Source: maximum likelihood; the loss on responses only as in Ouyang et al. 2022, §3.5.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from heedlm.config import Config
from heedlm.ops.masked import masked_sum
from heedlm.ops.shapes import Bool, Float
from heedlm.ops.types import Loss


class Sft(Config):
    """Mean negative log-likelihood over the tokens of the global batch, not over its sequences.

    Source: docs/methods.md §2.2.
    """

    name: Literal["sft"] = Field(default="sft", description="negative log-likelihood of the wanted tokens")

    def __call__(self, logps: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Loss:
        """Negative log-likelihood of the tokens under the mask.

        Args:
            logps: Log-probability (nats) of each token (B, T), as `ops.logprobs.token_logps` gives it.
            mask: True on tokens to learn (B, T): all of them in pretraining, and in fine-tuning those of
                assistant turns with their EOS.

        Returns:
            One sum for each row (B,), in nats; the count is the number of tokens learned.
        """
        values = -masked_sum(logps, mask, dim=1)
        count = mask.sum()
        return Loss(values, count, {"nll": values.detach().sum() / count.clamp(min=1)})
