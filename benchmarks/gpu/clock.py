"""A budget of time, shared out among parts that stop early, and the timing of one piece of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.gpu.limits import wait


class OutOfTime(Exception):
    """A piece of work was not begun, because it would not have ended in time."""


class Clock:
    """Time that is left.

    Args:
        until: When it ends, by `now`.
        outer: The clock that this one is a part of.
        now: Tells the time in seconds.
    """

    def __init__(self, until: float, outer: Clock | None = None, now: Callable[[], float] = time.perf_counter) -> None:
        self.until, self.outer, self.now = until, outer or self, now

    @property
    def left(self) -> float:
        """Seconds until the end; below zero after it."""
        return self.until - self.now()

    def part(self, share: float) -> Clock:
        """A clock for a share of what is left; what it does not use, later parts have."""
        return Clock(self.now() + share * max(self.left, 0.0), self, self.now)

    def need(self, seconds: float) -> None:
        """Raise unless so much time is left.

        Raises:
            OutOfTime: It is not.
        """
        if self.left < seconds or self.left <= 0:
            raise OutOfTime(f"{seconds:.0f} s needed, {max(self.left, 0.0):.0f} s left")


def timed(run: Callable[[], object], device: torch.device, now: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a run, until the device is done."""
    wait(device)
    began = now()
    run()
    wait(device)
    return now() - began


def repeated(
    run: Callable[[], object],
    clock: Clock,
    device: torch.device,
    *,
    repeats: int,
    warm: Sequence[Callable[[], object]],
    scale: float = 1.0,
) -> list[float]:
    """Seconds of each of up to `repeats` runs.

    The first may use the time of the part that this clock belongs to, the others only this clock's.

    Args:
        run: What to time.
        clock: When to stop.
        device: What it runs on.
        repeats: The most runs.
        warm: What to run beforehand; the last tells how long a run will take.
        scale: A run takes about so many times as long as the last of `warm`.

    Raises:
        OutOfTime: Not even one run would end in time.
    """
    clock.outer.need(0)
    estimate = 0.0
    for other in warm:
        estimate = scale * timed(other, device, clock.now)
    clock.outer.need(estimate)
    spent = [timed(run, device, clock.now)]
    while len(spent) < repeats and max(spent) < clock.left:
        spent.append(timed(run, device, clock.now))
    return spent
