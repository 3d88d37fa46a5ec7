"""Dr. GRPO: GRPO without its two biases."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heedlm.objectives.grpo import Grouped


class DrGrpo(Grouped):
    """GRPO "done right": no division by the group's deviation, and none by the answer's own length.

    GRPO's deviation favours prompts whose answers are nearly alike, its length lets long wrong answers off lightly.

    Source: Liu et al. 2025, "Understanding R1-Zero-Like Training", section 3; docs/online.md.
    """

    name: Literal["dr_grpo"] = Field(default="dr_grpo", description="rewards less the group's mean, sums over tokens")
    average: Literal["tokens", "answers", "constant"] = Field(
        default="constant", description="sums over an answer's tokens, divided by the most it may have"
    )
    kl: Literal["reward", "loss"] = Field(default="loss", description="where kl.coef pulls, if it is above 0")
