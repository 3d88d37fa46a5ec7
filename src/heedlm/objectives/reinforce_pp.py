"""REINFORCE++: one answer a prompt, KL token by token, advantages whitened over the whole buffer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from heedlm.objectives.grpo import Grouped


class ReinforcePp(Grouped):
    """A_t = r − β·Σ_{i≥t} k_i, whitened over all tokens of the buffer, in PPO's clipped surrogate.

    With several answers to a prompt and `baseline=mean` it is the paper's REINFORCE++-baseline.

    Source: Hu 2025, "REINFORCE++", section 3; docs/online.md.
    """

    group: ClassVar[int] = 1

    name: Literal["reinforce_pp"] = Field(
        default="reinforce_pp", description="rewards to go, whitened over the buffer, without a group"
    )
    baseline: Literal["none", "mean", "leave_one_out"] = Field(
        default="none", description="none; mean: of the answers to the same prompt, which then need a group"
    )
    deviation: Literal["none", "sample", "population", "tokens"] = Field(
        default="tokens", description="whitened over all tokens of the buffer"
    )
    credit: Literal["answer", "rest"] = Field(default="rest", description="a token answers for what comes after it")
