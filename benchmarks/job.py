"""What one run is told, and what it reports: plain values that travel as JSON between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heedlm.ops.types import Rollouts


class Absent(Exception):
    """This contestant cannot run here; the message says why, and the results keep it."""


@dataclass(frozen=True)
class Job:
    """One run of one contestant.

    Attributes:
        case: Name of the case, which is the function that a side is asked for.
        side: Module of `benchmarks/sides` that knows this contestant.
        model: Name in `benchmarks/models.py`.
        precision: "float32" or "bfloat16", of the arithmetic.
        settings: Sizes of the workload, the same for every contestant.
        options: How this contestant is set up.
        seed: Seed of sampling and of random weights.
        threads: Threads of the arithmetic.
    """

    case: str
    side: str
    model: str
    precision: str = "float32"
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class Pass:
    """One timed pass: seconds, counted tokens (never padding), and the operations that they need at least."""

    seconds: float
    tokens: int
    flops: int


@dataclass(frozen=True)
class Outcome:
    """Timed passes after a warm-up, and whatever else is worth keeping.

    A case over a grid has points in place of passes: `at` says where, everything else is a figure.
    """

    passes: list[Pass] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)


def answered(prompts: list[int], answers: list[int], most: int) -> dict[str, float]:
    """What sampled answers were like: mean lengths in tokens and the share that was cut at the limit."""
    count = max(len(answers), 1)
    return {
        "prompt_tokens_mean": round(sum(prompts) / count, 1),
        "answer_tokens_mean": round(sum(answers) / count, 1),
        "answer_tokens_longest": max(answers, default=0),
        "cut_share": round(sum(length >= most for length in answers) / count, 3),
    }


def rollout_lengths(rollouts: Rollouts) -> tuple[list[int], list[int]]:
    """Tokens of each prompt and of each answer."""
    return rollouts.prompt_lengths.tolist(), rollouts.response_lengths.tolist()
