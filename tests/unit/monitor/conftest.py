"""Logs whose outcome is known: the piecewise-linear traces of N29, and noise to lay over them."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

KEYS = ("reward/mean", "length/mean", "nll/policy", "kl/token_nats")
FAILING = (
    [(0, 3), (400, 4.5), (480, 10), (1000, 15.5)],
    [(0, 100), (350, 180), (460, 510), (1000, 510)],
    [(0, 2.13), (450, 0.87), (1000, 0.66)],
    [(0, 0), (200, -0.006), (330, 0.01), (460, 0.1), (850, 0.175), (1000, 0.175)],
)
HEALTHY = (
    [(0, 0.75), (3000, 2.1)],
    [(0, 155), (700, 140), (2300, 228)],
    [(0, 2.84), (2300, 1.8), (10000, 2.11)],
    [(0, 0), (500, 0.058), (1500, 0.044)],
)
FALLING_WINS = {100 * place: rate / 100 for place, rate in enumerate((50, 52, 56, 63, 62, 45, 31, 29, 25, 27, 23))}
RISING_WINS = {step: 0.5 + 0.15 * min(step / 3000, 1) for step in range(0, 10_001, 100)}


def rows(lines: tuple, steps: int, wins: dict[int, float], noise: np.ndarray | None) -> Iterator[tuple[int, dict]]:
    """(step, row) from step 0 to the last; beyond its last point a line stays level."""
    columns = [np.interp(np.arange(steps + 1), *zip(*points, strict=True)) for points in lines]
    if noise is not None:
        columns[0] = columns[0] + noise
    for step in range(steps + 1):
        row = {key: float(column[step]) for key, column in zip(KEYS, columns, strict=True)} | {"reward/std": 2.5}
        yield step, row | ({"watch/win_rate": wins[step]} if step in wins else {})


def noise(steps: int, deviation: float, correlation: float, seed: int) -> np.ndarray:
    """Gaussian noise of a given deviation, each value correlated with the one before."""
    values = np.random.default_rng(seed).normal(size=steps + 1) * deviation
    for step in range(1, steps + 1):
        values[step] = correlation * values[step - 1] + np.sqrt(1 - correlation**2) * values[step]
    return values


@pytest.fixture
def traces() -> SimpleNamespace:
    """`failing()` and `healthy()`, each with noise on the reward if it is given, and `noise`."""
    return SimpleNamespace(
        cap=512,
        failing=lambda noise=None: rows(FAILING, 1000, FALLING_WINS, noise),
        healthy=lambda noise=None: rows(HEALTHY, 10_000, RISING_WINS, noise),
        noise=noise,
    )
