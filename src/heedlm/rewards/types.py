"""What a reward source is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from heedlm.ops.types import Rollouts
from heedlm.records import Prompt


@dataclass(frozen=True)
class Episodes:
    """Answers to be scored: the prompts they answer, their texts, and their tokens as the policy made them."""

    prompts: Sequence[Prompt]
    texts: Sequence[str]
    rollouts: Rollouts


@dataclass(frozen=True)
class Reward:
    """Scores of a batch of answers.

    Attributes:
        total: (B,) reward of the whole answer, in the source's own units.
        parts: Named contributions, each (B,), for the logs.
        steps: (B, T) rewards given on single tokens on top of the total, or None.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    steps: Tensor | None = None
