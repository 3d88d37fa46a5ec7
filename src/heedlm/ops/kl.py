"""Estimates of KL(policy ‖ reference) from sampled tokens, and the controller that keeps it near a target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from heedlm.errors import NotFinite
from heedlm.ops.shapes import Float

# e^20 ≈ 5e8: far outside any sound policy, and far from overflow in float32.
_LOG_RATIO_LIMIT = 20.0


def k1(logps: Float[Tensor, "*S"], ref: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """log π − log π_ref per token (nats): unbiased, may be negative; the KL penalty inside PPO's reward.

    As a loss its gradient is not KL's (its expectation is 0); use `k2` there. Source: Schulman 2020,
    "Approximating KL divergence".
    """
    return logps - ref


def k2(logps: Float[Tensor, "*S"], ref: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """½ (log π − log π_ref)² per token (nats): biased, never negative; on-policy its gradient is KL's.

    Source: Schulman 2020, "Approximating KL divergence".
    """
    return 0.5 * (logps - ref).square()


def k3(logps: Float[Tensor, "*S"], ref: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """e^(−k) − 1 + k with k = log π − log π_ref, per token (nats): unbiased and never negative.

    Below k = −20 it is constant, so that it cannot overflow. As a loss its gradient is not KL's.
    Source: Schulman 2020, "Approximating KL divergence"; the KL term of GRPO (Shao et al. 2024, eq. 4).
    """
    k = (logps - ref).clamp(min=-_LOG_RATIO_LIMIT)
    return (-k).expm1() + k


@dataclass
class AdaptiveKl:
    """The KL coefficient β, raised while measured KL is above its target and lowered while below.

    Update: β ← β · (1 + clip(KL / target − 1, ±0.2) · n / horizon). Source: Ziegler et al. 2019, §2.2.

    Attributes:
        beta: The present coefficient.
        target: Wanted KL in nats, in the unit `update` is told it (a sequence, in the paper).
        horizon: Examples over which β may change by at most a fifth.

    Raises:
        ValueError: Any of them is not positive.
    """

    beta: float
    target: float = 6.0
    horizon: float = 10_000.0

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.target > 0 and self.horizon > 0):
            raise ValueError(f"beta, target and horizon must be positive: {self}")

    def update(self, kl: float, examples: int) -> float:
        """Take in the mean KL (nats) of `examples` rollouts and return the new β.

        Raises:
            NotFinite: `kl` is NaN or infinite; β is left as it was.
        """
        if not math.isfinite(kl):
            raise NotFinite(f"the KL controller was told a KL of {kl}; the log-probabilities are broken")
        error = min(max(kl / self.target - 1.0, -0.2), 0.2)
        self.beta *= 1.0 + error * examples / self.horizon
        return self.beta

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs to go on with the same β."""
        return {"beta": self.beta, "target": self.target, "horizon": self.horizon}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over a state that `state_dict` gave."""
        self.beta, self.target, self.horizon = state["beta"], state["target"], state["horizon"]
