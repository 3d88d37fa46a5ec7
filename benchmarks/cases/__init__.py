"""The cases: what is run, by whom, at which sizes, and what it must show."""

from __future__ import annotations

from benchmarks.cases.alone import GROWTH, SHARED, TRAINING_MFU
from benchmarks.cases.base import Case, Contestant, Goal, Workload
from benchmarks.cases.peers import GENERATION, PAIR, REWARD, RL_STEP, SFT

CASES: dict[str, Case] = {
    case.name: case for case in (GENERATION, SFT, REWARD, PAIR, RL_STEP, SHARED, TRAINING_MFU, GROWTH)
}

__all__ = ["CASES", "Case", "Contestant", "Goal", "Workload"]
