"""Running mean and standard deviation of rewards, and the scale that reference scores are brought to."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from heedlm.errors import NotFinite
from heedlm.ops.masked import widen
from heedlm.ops.shapes import Bool, Float

# Below this a standard deviation is rounding noise: dividing by it would blow noise up.
_SMALLEST_STD = 1e-8


class RunningMoments:
    """Mean and standard deviation of every number seen so far, merged batch by batch in float64.

    Source: Chan et al. 1979 (parallel variance); used for reward normalisation as in MOSS-RLHF, §5.3.
    """

    def __init__(self) -> None:
        self.count = 0.0
        self.mean = 0.0
        self._squares = 0.0  # sum of squared deviations from the mean

    @property
    def std(self) -> float:
        """Unbiased standard deviation; 1 before there are two numbers."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 1.0

    def update(self, x: Float[Tensor, "*S"], mask: Bool[Tensor, "*S"] | None = None) -> None:
        """Take in a batch (its True cells, if a mask is given). An empty batch changes nothing.

        Raises:
            NotFinite: The batch holds NaN or infinity; the moments are left as they were.
        """
        batch = (x if mask is None else x[mask]).detach().double()
        if not batch.numel():
            return
        if not bool(batch.isfinite().all()):
            raise NotFinite("running moments were given NaN or infinite numbers")
        count, mean = batch.numel(), float(batch.mean())
        squares = float((batch - mean).square().sum())
        total, difference = self.count + count, mean - self.mean
        self._squares += squares + difference**2 * self.count * count / total
        self.mean += difference * count / total
        self.count = total

    def normalise(self, x: Float[Tensor, "*S"], clip: float | None = None) -> Float[Tensor, "*S"]:
        """(x − mean) / std, then clipped to ±`clip`: the mean is removed. A std of 0 divides by 1."""
        return _clipped((widen(x) - self.mean) / self._divisor, clip)

    def scale(self, x: Float[Tensor, "*S"], clip: float | None = None) -> Float[Tensor, "*S"]:
        """x / std, then clipped to ±`clip`: the mean is kept. A std of 0 divides by 1."""
        return _clipped(widen(x) / self._divisor, clip)

    @property
    def _divisor(self) -> float:
        return self.std if self.std > _SMALLEST_STD else 1.0

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs to go on with the same moments; plain numbers."""
        return {"count": self.count, "mean": self.mean, "squares": self._squares}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take over a state that `state_dict` gave."""
        self.count, self.mean, self._squares = state["count"], state["mean"], state["squares"]


def reference_affine(scores: Float[Tensor, "N"], mean: float = 0.0, std: float | None = 1.0) -> tuple[float, float]:
    """Gain and bias with which gain · score + bias has the given mean and std over reference answers.

    Args:
        scores: A reward model's scores (N,) of demonstrations or of the reference policy's samples.
        mean: Wanted mean.
        std: Wanted (population) standard deviation; None leaves the scale alone: gain 1.

    Returns:
        Gain and bias; constant scores keep gain 1. Source: bias alone, Stiennon et al. 2020; both, Ziegler
        et al. 2019, §2.2.

    Raises:
        ValueError: There are no scores.
        NotFinite: A score is NaN or infinite.
    """
    wide = scores.detach().double()
    if not wide.numel():
        raise ValueError("no reference scores to normalise by")
    if not bool(wide.isfinite().all()):
        raise NotFinite("reference scores are NaN or infinite")
    spread = float(wide.std(correction=0))
    gain = std / spread if std is not None and spread > _SMALLEST_STD else 1.0
    return gain, mean - gain * float(wide.mean())


def _clipped(x: Tensor, clip: float | None) -> Tensor:
    return x if clip is None else torch.clamp(x, -clip, clip)
