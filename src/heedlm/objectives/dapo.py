"""DAPO: GRPO with decoupled clips, prompts that can teach something, and every token alike."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from heedlm.objectives.grpo import Grouped


class Dapo(Grouped):
    """GRPO's advantages; a higher upper clip, every token weighs the same, equal groups replaced, length priced.

    Source: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", eq. 8 to 13;
    docs/online.md.
    """

    name: Literal["dapo"] = Field(
        default="dapo", description="GRPO with two clips, dynamic sampling and a price of length"
    )
    clip_high: PositiveFloat | None = Field(default=0.28, description="unlikely tokens may become likelier faster")
    kl: Literal["reward", "loss"] = Field(default="loss", description="where kl.coef pulls, if it is above 0")
    deviation: Literal["none", "sample", "population", "tokens"] = Field(
        default="sample", description="deviation of the group's rewards, ÷ K−1 as in TRL"
    )
    resample: int = Field(
        default=3, ge=0, le=8, description="rounds in which prompts with equal rewards are replaced; 0: they stay"
    )
    overlong: NonNegativeFloat = Field(
        default=0.2, le=1, description="last share of the token limit in which a penalty rises from 0 to 1; 0: none"
    )
