"""Online DPO: the policy's own answers, judged as they come, as pairs of the best and the worst."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from heedlm.config import Config
from heedlm.objectives.dpo import Dpo
from heedlm.objectives.ipo import Ipo
from heedlm.objectives.orpo import Orpo
from heedlm.objectives.simpo import Simpo
from heedlm.ops.masked import masked_sum
from heedlm.ops.shapes import Bool, Float
from heedlm.ops.types import Loss, PairLogps


class OnlineDpo(Config):
    """A pair loss on the answers with the highest and the lowest reward among those just sampled.

    The reward only decides the order. What holds the policy is the pair loss's own β.

    Source: Guo et al. 2024, "Direct Language Model Alignment from Online AI Feedback", algorithm 1; docs/online.md.
    """

    group: ClassVar[int] = 2
    rows: ClassVar[int] = 2
    kl: ClassVar[Literal["reward"]] = "reward"
    entropy: ClassVar[float] = 0.0

    name: Literal["online_dpo"] = Field(
        default="online_dpo", description="a pair loss on the best and the worst answer"
    )
    loss: Annotated[Dpo | Ipo | Orpo | Simpo, Field(discriminator="name")] = Field(
        default=Dpo(), description="the pair loss"
    )
    resample: int = Field(
        default=0, ge=0, le=8, description="rounds in which prompts whose answers all got the same reward are replaced"
    )

    def advantages(self, rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], group: int) -> Float[Tensor, "B T"]:
        """1 on the tokens of each prompt's best answer, −1 on those of its worst; 0 elsewhere and where all tie.

        Args:
            rewards: Reward of each token (B, T).
            mask: True on response tokens (B, T).
            group: Answers to each prompt; they stand one after the other.

        Raises:
            ValueError: One answer makes no pair.
        """
        if group < 2:
            raise ValueError(f"a pair needs at least 2 answers to each prompt, not {group}")
        scores = masked_sum(rewards, mask, dim=1).view(-1, group)
        best, worst = scores.max(1, keepdim=True), scores.min(1, keepdim=True)
        differ = (best.values > worst.values).to(scores.dtype)
        signs = torch.zeros_like(scores).scatter(1, best.indices, differ).scatter_add(1, worst.indices, -differ)
        return torch.where(mask, signs.view(-1, 1), 0.0)

    def policy(
        self,
        logps: Float[Tensor, "B T"],
        old_logps: Float[Tensor, "B T"],
        advantages: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        spread: Float[Tensor, "B T"] | None = None,
        ref: Float[Tensor, "B T"] | None = None,
        beta: float = 0.0,
        room: int = 1,
    ) -> Loss:
        """The pair loss of rows that stand in pairs, in either order: advantages tell which one is preferred.

        Args:
            logps: Log-probabilities (nats) under the policy being trained (B, T).
            old_logps: Not looked at, like `spread`, `beta` and `room`.
            advantages: Above 0 on the tokens of the preferred answer, below on those of the other (B, T).
            mask: True on response tokens (B, T).
            ref: Log-probabilities (nats) under the reference (B, T).

        Returns:
            One number for each pair; the count is that of pairs. For metrics see `ops.pairs`.

        Raises:
            ValueError: There is no reference, and the loss needs one; or the rows are no pairs.
        """
        if ref is None and self.loss.needs_reference:
            raise ValueError("the pair loss needs the reference's log-probabilities")
        sign = masked_sum(advantages, mask, dim=1).sign()
        better, worse = (sign > 0).nonzero().squeeze(1), (sign < 0).nonzero().squeeze(1)
        if not torch.equal(better // 2, worse // 2) or len(better) * 2 != len(sign):
            raise ValueError("the rows do not stand in pairs of a better and a worse answer")
        lengths = mask.sum(1)

        def pairs(each: Tensor) -> PairLogps:
            # Differences of large sums follow: float64.
            sums = masked_sum(each.double(), mask, dim=1)
            return PairLogps(sums[better], sums[worse], lengths[better], lengths[worse])

        return self.loss(pairs(logps), pairs(torch.zeros_like(logps) if ref is None else ref))

    def count(self, mask: Bool[Tensor, "B T"]) -> Tensor:
        """What the loss is a mean over: pairs."""
        return torch.tensor(len(mask) // 2, device=mask.device)
