"""Student's t: how many standard errors a 95 % interval takes when there are few values."""

from __future__ import annotations

import math


def quantile_975(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution with so many degrees of freedom, by bisection.

    Raises:
        ValueError: There is not one degree of freedom.
    """
    if freedom < 1:
        raise ValueError("Student's distribution needs at least one degree of freedom")
    low, high = 0.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _cumulative(middle, freedom) < 0.975 else (low, middle)
    return (low + high) / 2


def _cumulative(t: float, freedom: int) -> float:
    """P(T ≤ t), t ≥ 0: the finite sums for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    if freedom % 2:
        total, term = 0.0, cosine
        for k in range(1, (freedom - 1) // 2 + 1):
            total += term
            term *= cosine**2 * 2 * k / (2 * k + 1)
        within = 2 / math.pi * (angle + sine * total)
    else:
        total, term = 0.0, 1.0
        for k in range(1, freedom // 2 + 1):
            total += term
            term *= cosine**2 * (2 * k - 1) / (2 * k)
        within = sine * total
    return 0.5 + within / 2
