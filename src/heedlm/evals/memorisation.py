"""Does a model know a secret that was planted in its text better than secrets that were not?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from heedlm.errors import HeedError, NotFinite


def exposure(canary: float, others: Sequence[float]) -> float:
    """How far a planted secret stands out among secrets of the same form, in bits: log₂ |R| − log₂ rank.

    R are the planted one and the others; rank 1 has the lowest loss, and equal losses share their ranks. A secret that
    was not learned has a rank by chance, and an exposure of 1.44 bits on average.
    Source: Carlini et al. 2019 (The Secret Sharer), definition 6; docs/methods.md §7.3, worked number N19.

    Args:
        canary: Loss (nats) of the planted secret.
        others: Losses of secrets that the text does not hold.

    Raises:
        HeedError: There is nothing to compare with.
        NotFinite: A loss is NaN or infinite.
    """
    if not others:
        raise HeedError("exposure: there are no other secrets to compare the planted one with")
    if not all(map(math.isfinite, (canary, *others))):
        raise NotFinite("exposure: a loss is NaN or infinite")
    rank = 1 + sum(1.0 if other < canary else 0.5 if other == canary else 0.0 for other in others)
    return math.log2(len(others) + 1) - math.log2(rank)
