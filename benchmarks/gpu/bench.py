"""What all parts share: the device, its limits, the model at hand, and the cells of the results."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.flops import Decoder
from benchmarks.gpu.clock import Clock, OutOfTime
from benchmarks.gpu.limits import Limits
from benchmarks.gpu.sizes import Size, Work
from benchmarks.stats import spread

UNMEASURED = "not yet measured"


@dataclass
class Cell:
    """One figure, planned before anything runs.

    Attributes:
        part: decode, training or ppo.
        size: The model's name.
        who: Who does the work, and how.
        batch: Rows at once; 0 where there is no such choice.
        state: "not yet measured", "measured" or "failed".
        why: What kept it from being measured.
        figures: What was found.
    """

    part: str
    size: str
    who: str
    batch: int = 0
    state: str = UNMEASURED
    why: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bench:
    """Where the cells are measured.

    Attributes:
        device: What everything runs on.
        limits: What it can do.
        work: How much of everything.
        seed: Of weights, prompts and sampling.
        held: A part's models, under what they are for; `forget` empties it.
    """

    device: torch.device
    limits: Limits
    work: Work
    seed: int = 0
    held: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made under this key; everything else is let go of first."""
        if key not in self.held:
            self.forget()
            self.held[key] = make()
        return self.held[key]

    def forget(self) -> None:
        """Give memory back to the device."""
        self.held.clear()
        if self.device.type == "cuda":  # memory there is too dear to wait for cycles to be found
            gc.collect()
            torch.cuda.empty_cache()

    def begin_peak(self) -> None:
        """Start looking for the most memory held."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gib(self) -> float | None:
        """The most memory (GiB) tensors have held since; unknown without a GPU."""
        if self.device.type != "cuda":
            return None
        return round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2)


def figures(seconds: Sequence[float], tokens: int, bound_seconds: float) -> dict[str, Any]:
    """Median and spread of some runs that made so many tokens each, beside the least time they could take."""
    found = spread(seconds)
    return {
        "runs_seconds": [round(s, 6) for s in seconds],
        "seconds": found.median,
        "seconds_low": found.low,
        "seconds_high": found.high,
        "tokens": tokens,
        "tokens_per_second": tokens / found.median,
        "bound_seconds": bound_seconds,
        "bound_tokens_per_second": tokens / bound_seconds,
        "share_of_bound": bound_seconds / found.median,
    }


def shape_of(size: Size) -> Decoder:
    """The size as `benchmarks.flops` counts it."""
    return Decoder.of(size.config())


Measure = Callable[[Bench, Size, Cell, Clock], dict[str, Any]]


def attempt(bench: Bench, measure: Measure, size: Size, cell: Cell, clock: Clock) -> None:
    """Measure a cell and write down what came of it; an error ends nothing but this cell."""
    try:
        clock.outer.need(0)
        bench.begin_peak()
        cell.figures = {**measure(bench, size, cell, clock), "peak_gib": bench.peak_gib()}
        cell.state = "measured"
    except OutOfTime as reason:
        cell.why = f"out of time: {reason}"
    except torch.OutOfMemoryError as error:
        cell.state, cell.why = "failed", f"out of memory: {_line(error)}"
    except Exception as error:  # noqa: BLE001  whatever one part does must not end the others
        cell.state, cell.why = "failed", f"{type(error).__name__}: {_line(error)}"
    if cell.state == "failed":
        bench.forget()


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
