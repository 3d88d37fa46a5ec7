"""What a case is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """Somebody who runs a case.

    Attributes:
        group: What `--peers` chooses by: "heed", "transformers", "trl", "vllm".
        side: Module in `benchmarks/sides`.
        precision: Of the arithmetic.
        options: How it is set up: the fastest of `tried` that works.
        what: What it does, in words.
        tried: Other ways to set it up, for `--tune`.
        rounds: The most rounds it is asked for: one is enough for what is slow and far behind.
    """

    group: str
    side: str
    precision: str
    what: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tried: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rounds: int = 99


@dataclass(frozen=True)
class Workload:
    """Sizes of one thing to run; `quick` and `toy` replace some of them."""

    name: str
    model: str
    settings: Mapping[str, Any]
    quick: Mapping[str, Any]
    toy: Mapping[str, Any]

    def sized(self, how: str) -> dict[str, Any]:
        """The settings for "full", "quick" or "toy"."""
        return {**self.settings, **({} if how == "full" else self.quick if how == "quick" else self.toy)}


@dataclass(frozen=True)
class Goal:
    """A ratio that the case must show: the fastest of `of` beside the fastest of `to`."""

    name: str
    workload: str
    of: tuple[str, ...]
    to: tuple[str, ...]
    at_least: float


@dataclass(frozen=True)
class Case:
    """A benchmark.

    Attributes:
        name: Of the case, of its results, and of the function that each side has for it.
        what: What is measured, in words.
        unit: Of the figure; more is better.
        workloads: What is run.
        contestants: Who runs it.
        goals: What the figures must show.
        rounds: The most rounds that it needs; a grid repeats itself within its process.
    """

    name: str
    what: str
    unit: str
    workloads: tuple[Workload, ...]
    contestants: Mapping[str, Contestant]
    goals: tuple[Goal, ...] = ()
    rounds: int = 99
