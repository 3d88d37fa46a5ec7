"""RLOO: REINFORCE on whole answers, with the other answers' mean as baseline."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from heedlm.objectives.grpo import Grouped


class Rloo(Grouped):
    """−(r_i − mean of the others' r)·log π(y_i), the whole answer as one action, and KL in its reward.

    As an answer's ratio to the old policy, clipped like PPO's, it stays right for the second minibatch of a buffer;
    at ratio 1 the gradient is REINFORCE's.

    Source: Ahmadian et al. 2024, "Back to Basics", eq. 4 and 8; Kool et al. 2019; docs/online.md.
    """

    group: ClassVar[int] = 4

    name: Literal["rloo"] = Field(default="rloo", description="whole answers against the mean of the others")
    average: Literal["tokens", "answers", "constant"] = Field(
        default="answers", description="with ratio=answer one number for each answer"
    )
    baseline: Literal["none", "mean", "leave_one_out"] = Field(
        default="leave_one_out", description="mean reward of the other answers to the prompt"
    )
    ratio: Literal["token", "answer"] = Field(default="answer", description="the whole answer is one action")
