"""The report's section on stability: what happened on one time axis, what was noticed, and what the guard did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from heedlm.report.alarms import Change, Record, Rollback, Stretch, joined, stretches, worded
from heedlm.report.charts import Chart, chart
from heedlm.report.health import Fact
from heedlm.report.overlay import Overlay, Zone
from heedlm.report.panels import Line, Panel
from heedlm.report.series import Series, collect
from heedlm.report.source import Source
from heedlm.report.words import number, short
from heedlm.runs.files import read_lines

LISTED = 20  # alarms and rollbacks listed at most
REASON = 400  # characters of a reason that are shown
PANELS = (
    Panel("", "Reward", "reward units", (Line("reward/mean", "mean"),)),
    Panel(
        "",
        "Win rate over the start",
        "share",
        (Line("watch/win_rate", "independent"), Line("watch/win_rate_by_reward", "by training reward")),
        band=("watch/win_rate_low", "watch/win_rate_high"),
        level=0.5,
    ),
    Panel("", "Length", "tokens", (Line("length/mean", "mean"),)),
    # Beside the reference's, which grows without bound as a policy collapses, its own would be a flat line.
    Panel("", "Perplexity", "", (Line("perplexity/policy", "policy"),)),
    Panel("", "KL", "nats a token", (Line("kl/token_nats", "from the reference"),)),
)


@dataclass(frozen=True)
class Lane:
    """One try on the time axis: where it lies in percent, and its alarms."""

    name: str
    at: float
    width: float
    lost: bool
    zones: list[Zone]


@dataclass(frozen=True)
class Stability:
    """The section: sentences that tell the story, charts on one axis, and every alarm and rollback."""

    story: list[str]
    lanes: list[Lane]
    lanes_in_words: str
    charts: list[Chart]
    events: list[Fact]
    unlisted: int
    off: list[str]


def stability(source: Source, series: Mapping[str, Series]) -> Stability | None:
    """The section of a run that learns from a reward; None for one that does not and that no detector watched."""
    record = source.record
    known = {key: each for key, each in series.items() if each.values}
    if not record.watched and "reward/mean" not in known:
        return None
    steps = [step for each in known.values() for step in (each.steps[0], each.steps[-1])]
    last = max(steps, default=0.0)
    overlay = _overlay(record, min(steps, default=0.0), last)
    events = list(_events(record, overlay))
    return Stability(
        story=list(_story(record, last, source.subject.info.status)),
        lanes=_lanes(record, overlay, last),
        lanes_in_words=_in_words(record, last),
        charts=list(_charts(known, overlay)),
        events=events[:LISTED],
        unlisted=max(0, len(events) - LISTED),
        off=[short(each, REASON) for each in record.off],
    )


def _overlay(record: Record, first: float, last: float) -> Overlay:
    right = max([last, *(each.at for each in record.rollbacks), *(each.step for each in record.told)])
    return Overlay(
        left=first,
        right=right if right > first else first + 1,
        kept=stretches(record.changes, last),
        lost=[stretch for each in record.rollbacks for stretch in _lost(record, each)],
        backs=[(each.at, each.to) for each in record.rollbacks],
        given_up=[collect(read_lines(each.folder / "metrics.jsonl")) for each in record.rollbacks],
    )


def _lost(record: Record, back: Rollback) -> list[Stretch]:
    """The alarms of the steps that a rollback gave up."""
    return stretches([*record.carried(back.to), *back.changes], back.at)


def _charts(known: Mapping[str, Series], overlay: Overlay) -> Iterator[Chart]:
    past = [{key: each for key, each in series.items() if each.values} for series in overlay.given_up]
    for place, panel in enumerate(PANELS):
        lines = tuple(line for line in panel.lines if line.key in known)
        if lines:
            band = panel.band if panel.band and all(key in known for key in panel.band) else None
            shown = replace(panel, lines=lines, band=band)
            yield chart(f"s{place}", shown, {key: known[key] for key in sorted(shown.metrics())},
                        replace(overlay, given_up=past))  # fmt: skip


def _lanes(record: Record, overlay: Overlay, last: float) -> list[Lane]:
    """A lane for every try, if there is anything to tell."""
    if not record.told and not record.rollbacks:
        return []
    begins = [overlay.left, *(each.to for each in record.rollbacks)]
    ends = [*(each.at for each in record.rollbacks), last]
    lanes = []
    for place, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        back = record.rollbacks[place] if place < len(record.rollbacks) else None
        kept = _within(overlay.kept, begin, end if back is None else back.to)
        lost = [] if back is None else _lost(record, back)
        at = overlay.place(begin)
        zones = replace(overlay, kept=kept, lost=lost).zones()
        lanes.append(Lane(_try(place), at, round(overlay.place(end) - at, 2), back is not None, zones))
    return lanes


def _within(found: Sequence[Stretch], first: float, last: float) -> list[Stretch]:
    """The parts of stretches that lie between two steps."""
    cut = (replace(each, start=max(each.start, first), end=min(each.end, last)) for each in found)
    return [each for each in cut if each.start <= each.end]


def _in_words(record: Record, last: float) -> str:
    """The lanes for those who do not see them; the reasons are in the list below."""
    parts = [
        f"{_try(place)}: given up at step {number(each.at)} for step {number(each.to)}"
        for place, each in enumerate(record.rollbacks)
    ]
    return "; ".join([*parts, f"{_try(len(record.rollbacks))}: up to step {number(last)}, now {_now(record)}"])


def _events(record: Record, overlay: Overlay) -> Iterator[Fact]:
    """Every alarm and every rollback, in the order in which they happened."""
    found: list[tuple[int, float, Fact]] = []
    tries = len(record.rollbacks)
    first = min((each.to for each in record.rollbacks), default=0.0)
    for place, back in enumerate(record.rollbacks):
        changed = f" Training went on with {back.settings}." if back.settings else ""
        text = f"At step {number(back.at)} the guard went back to step {number(back.to)}.{changed}"
        found += [
            (place, each.start, _alarm(each, f", {_try(place)}")) for each in joined(_lost(record, back), overlay.gap)
        ]
        found.append((place, float("inf"), Fact("note", text)))
    for each in joined(overlay.kept, overlay.gap):
        if record.rollbacks and each.start <= first:
            found.append((0, each.start, _alarm(each, "")))
        else:
            found.append((tries, each.start, _alarm(each, f", {_try(tries)}" if tries else "")))
    for _, _, fact in sorted(found, key=lambda event: event[:2]):
        yield fact


def _alarm(each: Stretch, attempt: str) -> Fact:
    steps = f"Step {number(each.start)}" + (f" to {number(each.end)}" if each.end > each.start else "")
    what = "warning" if each.state == "warn" else "collapsed"
    what += f", {each.times} times" if each.times > 1 else ""
    why = f" {short('; '.join(each.reasons), REASON)}." if each.reasons else ""
    return Fact("warn" if each.state == "warn" else "bad", f"{steps}{attempt}: {what}.{why}")


def _story(record: Record, last: float, status: str) -> Iterator[str]:
    """State, first warning, collapse, and what the guard did, in plain words."""
    if not record.watched:
        yield "No collapse detector watched this run. Its log can be judged afterwards: heed monitor RUN."
        return
    if not record.told and not record.rollbacks:
        yield f"No alarm in {number(last)} steps: the run is {_now(record)}."
        return
    yield f"The run {'was' if status == 'running' else 'ended'} {_now(record)} at step {number(last)}."
    yield from _first(record.told, "warn", "The first warning came at")
    yield from _first(record.told, "collapsed", "Collapse was found at")
    for place, each in enumerate(record.rollbacks):
        again = "went back" if place == 0 else "went back again,"
        changed = f" and trained on with {each.settings}" if each.settings else " and trained on"
        yield f"The guard {again} from step {number(each.at)} to step {number(each.to)}{changed}."
    if record.rollbacks and not any(each.step > record.rollbacks[-1].to for each in record.changes):
        yield f"Since then there has been no alarm in {number(last - record.rollbacks[-1].to)} steps."
    elif record.state == "collapsed" and record.action == "off":
        yield "The guard was off, so training went on."
    elif record.state == "collapsed" and status == "failed":
        yield "Training was stopped there."


def _first(told: Sequence[Change], state: str, words: str) -> Iterator[str]:
    change = next((each for each in told if each.state == state), None)
    if change is not None:
        reasons = worded([change])
        why = f" ({short('; '.join(reasons), REASON)})" if reasons else ""
        yield f"{words} step {number(change.step)}{why}."


def _now(record: Record) -> str:
    return {"healthy": "healthy", "warn": "under warning", "collapsed": "collapsed"}[record.state]


def _try(place: int) -> str:
    return f"try {place + 1}"
