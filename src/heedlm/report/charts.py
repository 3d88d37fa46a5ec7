"""Charts as plain SVG with text in HTML around it: crisp at every width, printed as seen, no library needed.

A plot is drawn on a grid of 1000 × 1000 that the browser stretches; lines keep their width when stretched. Words
and numbers stay outside the SVG, so they are never scaled. The same points go to the page as JSON, from which the
script shows values under the pointer; without the script the chart, its ranges and its table remain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedlm.report.overlay import Overlay, Zone
from heedlm.report.panels import Panel
from heedlm.report.series import Series, Thinned, thin
from heedlm.report.words import number

GRID = 1000
TABLE_ROWS = 11


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is (percent from the left or top) and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """One drawn line: SVG paths, its place in the palette, and the words of its legend."""

    label: str
    index: int
    line: str
    faint: str
    area: str
    dots: str
    start: str
    end: str


@dataclass(frozen=True)
class Chart:
    """All that the template needs to draw one chart and its table."""

    id: str
    title: str
    unit: str
    note: str
    summary: str
    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    band: str = ""
    level: float | None = None
    bad: str = ""
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    zones: list[Zone] = field(default_factory=list)
    backs: list[float] = field(default_factory=list)
    given_up: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Frame:
    """The ranges a plot shows."""

    left: float
    right: float
    bottom: float
    top: float

    def x(self, step: float) -> int:
        """Place of a step on the grid."""
        return round(GRID * (step - self.left) / (self.right - self.left))

    def y(self, value: float) -> int:
        """Place of a value on the grid, 0 at the top; values outside the frame stay at its edge."""
        return round(GRID * min(1.0, max(0.0, (self.top - value) / (self.top - self.bottom))))


def chart(id_: str, panel: Panel, series: Mapping[str, Series], overlay: Overlay | None = None) -> Chart:
    """The chart of a panel whose metrics are `series`; with an overlay on that one's axis and with its marks."""
    drawn = {line.key: thin(series[line.key]) for line in panel.lines}
    band = tuple(thin(series[key]) for key in panel.band) if panel.band else None
    past = [(i, thin(each[line.key])) for each in overlay.given_up for i, line in enumerate(panel.lines)
            if line.key in each] if overlay else []  # fmt: skip
    frame = _frame(panel, [*drawn.values(), *(each for _, each in past)], band, overlay)
    zones = overlay.zones() if overlay else []
    return Chart(
        id=id_,
        title=panel.title,
        unit=panel.unit,
        note=panel.note,
        summary=_summary(panel, series),
        curves=[_curve(line.label, i, drawn[line.key], frame) for i, line in enumerate(panel.lines)],
        x_ticks=[Tick(frame.x(at) / 10, text) for at, text in marks(frame.left, frame.right, 8 if overlay else 4)],
        y_ticks=[Tick(frame.y(at) / 10, text) for at, text in marks(frame.bottom, frame.top, 4 if overlay else 5)],
        band=_area(band[0].steps, band[0].low, band[1].high, frame) if band else "",
        level=frame.y(panel.level) if panel.level is not None else None,
        bad=_bad(series.values()),
        columns=["step", *(line.label for line in panel.lines)],
        rows=_table(panel, series),
        data=_data(panel, drawn, frame, zones),
        zones=zones,
        backs=[overlay.place(at) for at, _ in overlay.backs] if overlay else [],
        given_up=[(i, _path(each.steps, each.smooth or each.values, frame)) for i, each in past],
    )


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that span [low, high] with about `count` steps; the ends may reach beyond it."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def marks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Round numbers within [low, high], about `count` of them, with the decimals that tell them apart."""
    ticks = [tick for tick in nice_ticks(low, high, count) if low <= tick <= high]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) if ticks else 1.0
    decimals = next((d for d in range(7) if abs(round(step, d) - step) < 1e-3 * step), 7) if step else 0
    large = max(abs(low), abs(high)) >= 1e6 or 0 < step < 1e-5
    return [(tick, number(tick) if large else f"{tick:.{decimals}f}".replace("-", "\u2212")) for tick in ticks]


def _frame(panel: Panel, drawn: Sequence[Thinned], band: tuple[Thinned, ...] | None, overlay: Overlay | None) -> Frame:
    """Ranges that hold every curve with a little room. One wild value does not squash the rest."""
    steps = [step for each in drawn for step in each.steps]
    lows = [value for each in drawn for value in each.low]
    highs = [value for each in drawn for value in each.high]
    if band:
        lows, highs = lows + band[0].low, highs + band[1].high
    if panel.level is not None:
        lows, highs = [*lows, panel.level], [*highs, panel.level]
    low, high = robust_range(lows, highs)
    flat = high - low <= 1e-6 * max(abs(low), abs(high))
    room = (0.1 * abs(high) or 1.0) if flat else 0.06 * (high - low)
    left, right = (overlay.left, overlay.right) if overlay else (min(steps), max(steps))
    # A quantity that is never negative gets no room below zero.
    bottom = 0.0 if 0 <= low < room else low - room
    return Frame(left, right if right > left else left + 1, bottom, high + room)


def robust_range(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float]:
    """Range of the values; cut at five times the middle 90 % where a few reach far beyond it."""
    low, high = min(lows), max(highs)
    if len(highs) < 40:
        return low, high
    down, up = sorted(lows)[len(lows) // 20], sorted(highs)[len(highs) * 19 // 20]
    room = 5 * (up - down)
    return (max(low, down - room), min(high, up + room)) if room > 0 else (low, high)


def _curve(label: str, index: int, points: Thinned, frame: Frame) -> Curve:
    few = len(points.values) <= 30
    ranged = any(a < b for a, b in zip(points.low, points.high, strict=True))
    main = points.smooth or points.values
    return Curve(
        label=label,
        index=index,
        line=_path(points.steps, main, frame),
        faint=_path(points.steps, points.values, frame) if points.smooth else "",
        area=_area(points.steps, points.low, points.high, frame) if ranged else "",
        dots=" ".join(f"M{frame.x(s)} {frame.y(v)}h0" for s, v in zip(points.steps, main, strict=True)) if few else "",
        start=number(main[0]),
        end=number(main[-1]),
    )


def _path(steps: Sequence[float], values: Sequence[float], frame: Frame) -> str:
    points = [f"{frame.x(step)} {frame.y(value)}" for step, value in zip(steps, values, strict=True)]
    return "M" + "L".join(points)


def _area(steps: Sequence[float], low: Sequence[float], high: Sequence[float], frame: Frame) -> str:
    """A closed path from the high values there and the low values back."""
    count = min(len(steps), len(low), len(high))
    there = [f"{frame.x(steps[i])} {frame.y(high[i])}" for i in range(count)]
    back = [f"{frame.x(steps[i])} {frame.y(low[i])}" for i in reversed(range(count))]
    return "M" + "L".join(there + back) + "Z"


def _summary(panel: Panel, series: Mapping[str, Series]) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for line in panel.lines:
        each = series[line.key]
        first, last = each.steps[0], each.steps[-1]
        parts.append(
            f"{line.label}: {number(each.values[0])} at step {number(first)}, "
            f"{number(each.last)} at step {number(last)}, "
            f"lowest {number(min(each.values))}, highest {number(max(each.values))}"
        )
    unit = f" ({panel.unit})" if panel.unit else ""
    return f"{panel.title}{unit}. " + "; ".join(parts) + "."


def _table(panel: Panel, series: Mapping[str, Series]) -> list[list[str]]:
    """About TABLE_ROWS steps, first and last among them, with every curve's value there."""
    values = {line.key: dict(zip(series[line.key].steps, series[line.key].values, strict=True)) for line in panel.lines}
    # The sparsest curve chooses the steps: those are the rows where all have a value.
    steps = min((series[line.key].steps for line in panel.lines), key=len)
    count = min(TABLE_ROWS, len(steps))
    places = sorted({round(i * (len(steps) - 1) / max(1, count - 1)) for i in range(count)})
    rows = []
    for place in places:
        step = steps[place]
        cells = (values[line.key].get(step) for line in panel.lines)
        rows.append([number(step), *("–" if cell is None else number(cell, 4) for cell in cells)])
    return rows


def _data(panel: Panel, drawn: Mapping[str, Thinned], frame: Frame, zones: Sequence[Zone]) -> dict[str, Any]:
    """What the script needs to name the values under the pointer, and the alarms there."""
    return {
        "range": [frame.left, frame.right],
        "zones": [[zone.at, zone.at + zone.width, zone.text] for zone in zones],
        "unit": panel.unit,
        "curves": [
            {
                "label": line.label,
                "steps": drawn[line.key].steps,
                "text": [number(value, 4) for value in drawn[line.key].values],
                "y": [frame.y(value) for value in (drawn[line.key].smooth or drawn[line.key].values)],
            }
            for line in panel.lines
        ],
    }


def _bad(series: Any) -> str:
    total = sum(each.bad for each in series)
    return f"{total} value{'s' if total > 1 else ''} not finite" if total else ""
