"""From raw scores to per-token rewards: missing EOS, normalising, clipping, and the KL penalty after them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from heedlm.config import Config
from heedlm.errors import NotFinite
from heedlm.ops.moments import RunningMoments


class Shaping(Config):
    """How scores become rewards (PPO-max, Zheng et al. 2023, section 5.3)."""

    scale: Literal["none", "scale", "normalise"] = Field(
        "normalise",
        description="none: raw scores; scale: divide by the running deviation; normalise: also subtract the mean",
    )
    clip: PositiveFloat | None = Field(5.0, description="scores are clipped to ± this after scaling; none: no clip")
    missing_eos: NonNegativeFloat = Field(
        1.0, description="penalty for an answer cut at the length limit, in running deviations of the score"
    )
    truncated: Literal["penalise", "mask"] = Field(
        "penalise", description="an answer cut at the length limit is penalised, or nothing is learned from it"
    )


class Shaper:
    """Shapes scores with running moments, which survive a resume.

    Args:
        shaping: Settings.
    """

    def __init__(self, shaping: Shaping) -> None:
        self.shaping = shaping
        self.moments = RunningMoments()

    def __call__(self, scores: Tensor, ended: Tensor) -> Tensor:
        """(B,) shaped scores.

        The moments are those of the raw scores; the penalty for a missing EOS enters before the clip, as a
        score's does, and the KL penalty comes after the clip (docs/methods.md §4.2).

        Args:
            scores: (B,) raw scores in reward units.
            ended: (B,) false where the answer was cut at the length limit.

        Raises:
            NotFinite: A score is NaN or infinite; the moments are left as they were.
        """
        if not bool(scores.isfinite().all()):
            place = int((~scores.isfinite()).nonzero()[0])
            raise NotFinite(
                f"the reward of answer {place + 1} of {len(scores)} in the buffer is {float(scores[place])}"
            )
        self.moments.update(scores)
        # Scores that are all alike have no deviation to speak of; a missing EOS must be felt all the same.
        deviation = self.moments.std if self.moments.std > 1e-8 else 1.0
        penalty = self.shaping.missing_eos if self.shaping.truncated == "penalise" else 0.0
        scores = scores - penalty * deviation * (~ended).to(scores.dtype)
        if self.shaping.scale == "normalise":
            return self.moments.normalise(scores, self.shaping.clip)
        if self.shaping.scale == "scale":
            return self.moments.scale(scores, self.shaping.clip)
        return scores if self.shaping.clip is None else scores.clamp(-self.shaping.clip, self.shaping.clip)

    def state_dict(self) -> dict[str, Any]:
        """The running moments."""
        return dict(self.moments.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.moments.load_state_dict(state)


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, beta: float, steps: Tensor | None = None) -> Tensor:
    """(B, T) reward of each response token: −β·k1 everywhere, plus the score on the last real token.

    Source: Ziegler et al. 2019, eq. 2, written per token as in docs/methods.md §4.1.

    Args:
        scores: (B,) shaped score of each answer.
        kl: (B, T) k1 estimate per token, log π − log π_ref (nats).
        mask: (B, T) true on response tokens.
        beta: KL coefficient, reward units a nat.
        steps: (B, T) rewards of single steps, if the source gives them.
    """
    rewards = torch.where(mask, -beta * kl, 0.0)
    if steps is not None:
        rewards = rewards + torch.where(mask, steps, 0.0)
    position = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, position, -1).max(dim=1).values
    rows = torch.nonzero(last >= 0).squeeze(1)
    rewards[rows, last[rows]] += scores[rows].to(rewards.dtype)
    return rewards
