"""Is this run well? Facts about stability, read from its numbers and said in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from heedlm.report.series import Series
from heedlm.report.source import Source
from heedlm.report.words import number, percent

Level = Literal["good", "note", "warn", "bad"]
_MARKS: dict[Level, str] = {"good": "✓", "note": "i", "warn": "!", "bad": "✕"}
_WORDS: dict[Level, str] = {"good": "well", "note": "note", "warn": "look at this", "bad": "wrong"}


@dataclass(frozen=True)
class Fact:
    """One sentence about the run's health."""

    level: Level
    text: str

    @property
    def mark(self) -> str:
        """A sign for the level, so that colour is not needed."""
        return _MARKS[self.level]

    @property
    def word(self) -> str:
        """The level in words, for screen readers."""
        return _WORDS[self.level]


def facts(source: Source, series: Mapping[str, Series]) -> list[Fact]:
    """What can be said of the run, worst first."""
    found = [
        *_status(source),
        *_finite(series),
        *_first_minibatch(series),
        *_drift(series),
        *_length(series),
        *_certainty(series),
        *_gaming(series),
        *_engine(series),
        *_guard(source),
        *_alarms(source, series),
        *_rows(source),
    ]
    order = ("bad", "warn", "note", "good")
    return sorted(found, key=lambda fact: order.index(fact.level))


def _status(source: Source) -> Iterator[Fact]:
    info = source.info
    if info.status == "failed":
        yield Fact("bad", f"The run failed: {info.reason or 'no reason was recorded'}.")
    elif info.status == "interrupted":
        yield Fact("warn", f"The run was interrupted ({info.reason or 'no reason was recorded'}).")
    elif info.status == "running":
        yield Fact("warn", "The run had not finished when this report was made (or was killed).")
    else:
        yield Fact("good", "The run finished.")
    if info.resumed:
        yield Fact("note", f"Resumed at step {', '.join(number(step) for step in info.resumed)}.")


def _finite(series: Mapping[str, Series]) -> Iterator[Fact]:
    bad = [each for each in series.values() if each.bad]
    for each in bad[:8]:
        yield Fact(
            "bad", f"{each.key} was NaN or infinite {each.bad} times, first at step {number(each.first_bad or 0)}."
        )
    if len(bad) > 8:
        yield Fact("bad", f"{len(bad) - 8} more metrics held NaN or infinite values.")
    if series and not bad:
        yield Fact("good", "Every logged number is finite.")


def _first_minibatch(series: Mapping[str, Series]) -> Iterator[Fact]:
    """Before the first update old and new policy are one (PITFALLS 3)."""
    ratio = series.get("first/ratio")
    if ratio is None or not ratio.values:
        return
    worst = max(abs(value - 1) for value in ratio.values)
    if worst <= 1e-4:
        yield Fact("good", "In each buffer's first minibatch the ratio is 1: sampler and trainer agree.")
    else:
        yield Fact("bad", f"In a buffer's first minibatch the ratio was off 1 by {number(worst)}: log-probs disagree.")


def _drift(series: Mapping[str, Series]) -> Iterator[Fact]:
    kl = series.get("kl/token_nats")
    if kl is None or not kl.values:
        return
    end = kl.end()
    if end >= 0.3:
        yield Fact("warn", f"KL ended at {number(end)} nats a token; small models were over-optimised above 0.3.")
    elif end < -0.02:
        yield Fact("bad", f"Mean KL is negative ({number(end)} nats a token): these are not the sampler's log-probs.")
    else:
        yield Fact("good", f"KL ended at {number(end)} nats a token.")


def _length(series: Mapping[str, Series]) -> Iterator[Fact]:
    cut, length = series.get("length/truncated"), series.get("length/mean")
    if cut is not None and cut.values:
        share = cut.end()
        text = f"{percent(share)} of the last answers were cut at the limit."
        yield Fact("bad" if share >= 0.5 else "warn" if share >= 0.2 else "good", text)
    if length is not None and length.values:
        start, end = length.start(), length.end()
        if end > 2 * start > 0:
            yield Fact("warn", f"Answers grew from {number(start)} to {number(end)} tokens.")
        elif end < start / 2:
            yield Fact("warn", f"Answers shrank from {number(start)} to {number(end)} tokens.")


def _certainty(series: Mapping[str, Series]) -> Iterator[Fact]:
    nll = series.get("nll/policy")
    if nll is not None and nll.values and nll.start() > 0:
        share = nll.end() / nll.start()
        if share <= 0.6:
            level: Level = "bad" if share <= 0.5 else "warn"
            yield Fact(level, f"The policy's loss on its own answers fell to {percent(share)} of where it began.")
    repeats = series.get("text/repetition_4")
    if repeats is not None and repeats.values and repeats.end() > max(0.1, 2 * repeats.start()):
        yield Fact("warn", f"{percent(repeats.end())} of four-word runs now repeat earlier ones.")


def _gaming(series: Mapping[str, Series]) -> Iterator[Fact]:
    """Reward up while the independent measure is down (docs/methods.md §4.4, S5)."""
    wins, reward = series.get("watch/win_rate"), series.get("watch/reward")
    if wins is None or not wins.values:
        return
    best = max(range(len(wins.values)), key=lambda index: wins.values[index])
    fall = wins.values[best] - wins.last
    if fall >= 0.1 and (reward is None or reward.last >= reward.values[min(best, len(reward.values) - 1)]):
        at = number(wins.steps[best])
        yield Fact("bad", f"The win rate by gold fell {100 * fall:.1f} points after step {at} while the reward held.")
    else:
        peak = f"{percent(wins.values[best])} at step {number(wins.steps[best])}"
        yield Fact("good", f"The win rate by gold ended at {percent(wins.last)}; its best was {peak}.")


def _engine(series: Mapping[str, Series]) -> Iterator[Fact]:
    gap = series.get("gap/engine_trainer")
    if gap is not None and gap.values and max(gap.values) > 0.01:
        yield Fact("warn", f"Sampler and trainer disagree by up to {number(max(gap.values))} nats a token.")


def _guard(source: Source) -> Iterator[Fact]:
    """What the collapse detector found; the section on stability tells the whole story."""
    record = source.record
    since = f" since step {number(record.since)}" if record.since is not None else ""
    if record.state == "collapsed":
        yield Fact("bad", f"The collapse detector says collapsed{since}.")
    elif record.state == "warn":
        yield Fact("warn", f"The collapse detector warns{since}.")
    elif record.watched and not record.told:
        yield Fact("good", "The collapse detector raised no alarm.")
    if record.rollbacks:
        times = f"{len(record.rollbacks)} times" if len(record.rollbacks) > 1 else "once"
        yield Fact("warn", f"The guard went back {times} after a collapse.")


def _alarms(source: Source, series: Mapping[str, Series]) -> Iterator[Fact]:
    for key, each in series.items():
        if key.startswith("alarm/") and any(each.values):
            first = next(step for step, value in zip(each.steps, each.values, strict=True) if value)
            yield Fact("warn", f"Alarm {key.removeprefix('alarm/')} was on, first at step {number(first)}.")
    alarms = source.results.get("alarms")
    if isinstance(alarms, list):
        for alarm in alarms[:20]:
            yield Fact("warn", f"Alarm: {alarm}")


def _rows(source: Source) -> Iterator[Fact]:
    for each in source.quarantined:
        rows = "1 row was" if each.total == 1 else f"{each.total} rows were"
        yield Fact("note", f"{rows} put aside from {each.role.replace('_', ' ')}; see below for lines and reasons.")
    unread = source.results.get("unread_verdicts")
    if isinstance(unread, int | float) and unread and math.isfinite(unread):
        yield Fact("warn", f"{number(unread)} verdicts of the judge could not be read and count as ties.")
