"""Progress on stderr: a bar with rate and time left on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_SECONDS = 2.0  # work shorter than this is not worth a word
LINE_SECONDS = 10.0  # between plain lines

_quiet = False


def set_quiet(quiet: bool = True) -> None:
    """Silence all bars and lines (`--quiet`)."""
    global _quiet
    _quiet = quiet


class Bar:
    """Counts work done.

    Args:
        title: What is going on.
        total: How much there is, None if unknown.
        unit: What is counted, such as "steps".
    """

    def __init__(self, title: str, total: int | None, unit: str, stream: TextIO) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0
        self.tokens = 0
        self._stream = stream
        self._since = time.monotonic()
        self._skipped = 0
        self._next_line = self._since + QUIET_SECONDS
        self._spoken = False
        self._rich: Progress | None = None
        self._task: TaskID | None = None
        self._facts = ""

    def advance(self, amount: int = 1, *, tokens: int = 0, **facts: float) -> None:
        """Count work done, tokens processed with it, and numbers worth showing beside the bar."""
        if self.done == 0 and tokens == 0 and amount > 1 and self.elapsed < 0.05:
            self._skipped = amount  # done by an earlier process: it must not flatter the rate
        self.done += amount
        self.tokens += tokens
        if facts:
            self._facts = " ".join(f"{name} {value:.4g}" for name, value in facts.items())
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=self.done, rate=self.rates())
        elif not _quiet and time.monotonic() >= self._next_line:
            self._line()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._since

    def seconds_left(self) -> float | None:
        """Seconds to go at the mean rate so far, None while unknown."""
        fresh = self.done - self._skipped
        if self.total is None or fresh <= 0:
            return None
        return max(self.total - self.done, 0) * self.elapsed / fresh

    def rates(self) -> str:
        """Units and tokens a second, and the facts given last."""
        seconds = max(self.elapsed, 1e-9)
        parts = [f"{short((self.done - self._skipped) / seconds)} {self.unit}/s"]
        if self.tokens:
            parts.append(f"{short(self.tokens / seconds)} tokens/s")
        return ", ".join([*parts, self._facts] if self._facts else parts)

    def _line(self) -> None:
        self._next_line = time.monotonic() + LINE_SECONDS
        self._spoken = True
        of = f"/{self.total}" if self.total is not None else ""
        left = self.seconds_left()
        rest = f", {clock(left)} left" if left is not None else ""
        print(f"{self.title}: {self.done}{of} {self.unit}, {self.rates()}{rest}", file=self._stream, flush=True)

    def _end(self) -> None:
        if self._spoken and not _quiet:
            done = f"{self.title}: {self.done} {self.unit} in {clock(self.elapsed)}, {self.rates()}"
            print(done, file=self._stream, flush=True)


@contextmanager
def progress(title: str, total: int | None = None, unit: str = "steps") -> Iterator[Bar]:
    """Show progress while the block runs.

    On a terminal a bar is drawn on stderr and left standing if it took longer than two seconds; elsewhere
    a plain line follows every ten seconds after the first two.
    """
    stream = sys.stderr
    bar = Bar(title, total, unit, stream)
    if _quiet or not stream.isatty():
        yield bar
        bar._end()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(file=stream), refresh_per_second=4) as shown:
        bar._rich = shown
        bar._task = shown.add_task(title, total=total, rate="")
        yield bar
        if bar.elapsed < QUIET_SECONDS:
            shown.remove_task(bar._task)


def short(number: float) -> str:
    """A rate in few digits: 0.012, 3.4, 210, 12.3k, 4.5M."""
    for limit, divisor, suffix in ((1e4, 1.0, ""), (1e6, 1e3, "k"), (float("inf"), 1e6, "M")):
        if abs(number) < limit:
            value = number / divisor
            return (f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}") + suffix
    return str(number)


def clock(seconds: float) -> str:
    """A duration as 0:07, 12:30 or 1:02:03."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
