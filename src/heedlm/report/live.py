"""A run as one screenful of text: progress, state with reasons, curves, and the newest sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from heedlm.progress import clock
from heedlm.report.alarms import stretches
from heedlm.report.following import Look
from heedlm.report.graph import ascii_signs, fit, graph, printable, strip, wrapped
from heedlm.report.panels import arrange
from heedlm.report.series import Series
from heedlm.report.words import number

Style = Literal["", "title", "soft", "good", "warn", "bad"]
FIRST = {
    "reward/mean": "Reward",
    "watch/win_rate": "Win rate",
    "kl/token_nats": "KL, nats a token",
    "length/mean": "Length, tokens",
    "perplexity/policy": "Perplexity",
    "length/truncated": "Cut at the limit",
    "entropy/mean": "Entropy, nats a token",
    "text/repetition_4": "Repeated runs of four words",
}
_STATES: dict[str, tuple[str, Style]] = {
    "healthy": ("healthy", "good"),
    "warn": ("WARNING", "warn"),
    "collapsed": ("COLLAPSED", "bad"),
}
_GRAPH = 4  # lines of a graph, its title not counted
_WIDE = 36  # cells that a graph should have at least
_SAMPLE = 5  # lines of the newest sample at most


class Line(NamedTuple):
    """One line, safe to print: control characters of whatever was read from the run are marks."""

    text: str
    style: Style = ""


def frame(look: Look, width: int, height: int, *, plain: bool = False) -> list[Line]:
    """What a look found, in at most `height` lines of at most `width` cells.

    Args:
        look: What was found.
        width: Cells of a line.
        height: Lines.
        plain: Draw with ASCII alone.
    """
    top = [*_progress(look, width), *_state(look, width)]
    bottom = list(_sample(look, width))
    room = height - len(top) - len(bottom)
    lines = [*top, *_graphs(look, width, room, plain), *bottom][:height]
    return [line._replace(text=_safe(line.text, width, plain).rstrip()) for line in lines]


def facts(look: Look) -> dict[str, Any]:
    """The same for programs, as JSON values."""
    record = look.record
    return {
        "watched": str(look.path),
        "stage": look.info.stage,
        "state_of_run": look.info.status,
        "ended": look.ended,
        "step": look.step,
        "steps": look.steps,
        "seconds": look.seconds,
        "seconds_left": look.seconds_left(),
        "state": record.state if record.watched else None,
        "since": record.since,
        "reasons": list(record.reasons),
        "off": list(record.off),
        "rollbacks": [
            {"at": each.at, "to": each.to, "reasons": list(each.reasons), "lr_scale": each.lr_scale}
            | {"kl_coef": each.kl_coef}
            for each in record.rollbacks
        ],
        "latest": {key: each.last for key, each in look.series.items() if each.values},
        "sample": dict(look.sample),
    }


def _safe(text: str, width: int, plain: bool) -> str:
    """A text of exactly `width` cells that the terminal can be shown."""
    return fit(ascii_signs(printable(text)) if plain else printable(text), width)


def _progress(look: Look, width: int) -> Iterator[Line]:
    yield Line(f"{look.info.stage}/{look.info.name}: {look.ended or look.info.status}", "title")
    if not look.series:
        yield Line(f"no numbers yet, {clock(look.silent)} since it last wrote" if not look.ended else "no numbers")
        return
    of = f" of {look.steps}" if look.steps else ""
    words = f"step {look.step:.0f}{of}, {clock(look.seconds)}"
    left = look.seconds_left()
    words += f", {clock(left)} left" if left is not None else ""
    if not look.ended and look.silent > 60:
        words += f", silent for {clock(look.silent)}"
    room = min(40, width - len(words) - 2)
    if look.steps and room >= 8:
        done = round(room * min(1.0, look.step / look.steps))
        words += "  " + "█" * done + "·" * (room - done)
    yield Line(words)


def _state(look: Look, width: int) -> Iterator[Line]:
    record = look.record
    if record.watched:
        name, style = _STATES[record.state]
        told = f" since step {number(record.since)}" if record.since is not None else ""
        told = told or ("" if record.told else f": no alarm in {look.step:.0f} steps")
        yield Line(f"{name}{told}", style)
        for reason in record.reasons:
            yield Line(f"  {reason}", style)
    for place, each in enumerate(record.rollbacks, start=1):
        settings = f" with {each.settings}" if each.settings else ""
        why = f": {'; '.join(each.reasons)}" if each.reasons else ""
        yield Line(f"rollback {place}: from step {number(each.at)} to {number(each.to)}{settings}{why}", "warn")
    found = stretches(record.changes, look.step)
    if found:
        begin, end = (number(step) for step in _span(look))
        yield Line(f"{begin} {strip(found, width - len(begin + end) - 2, _span(look))} {end}", "soft")
    yield from (Line(signal, "soft") for signal in record.off)


def _graphs(look: Look, width: int, room: int, plain: bool) -> Iterator[Line]:
    across = max(1, width // _WIDE)
    cells = (width - 2 * (across - 1)) // across
    blocks = [
        [title, *graph(series, cells, _GRAPH, _span(look), plain=plain)]
        for title, series in _chosen(look.series)[: across * max(0, room // (_GRAPH + 1))]
    ]
    for begin in range(0, len(blocks), across):
        group = blocks[begin : begin + across]
        for place, parts in enumerate(zip(*group, strict=True)):
            yield Line("  ".join(_safe(part, cells, plain) for part in parts), "title" if place == 0 else "")


def _chosen(series: Mapping[str, Series]) -> list[tuple[str, Series]]:
    """The curves in order of importance, each with its title and newest value."""
    found: dict[str, tuple[str, Series]] = {}
    for charts in arrange(series).values():
        for panel, values in charts:
            for line in panel.lines:
                full = panel.title if len(panel.lines) == 1 else f"{panel.title}: {line.label}"
                each = values[line.key]
                found[line.key] = (f"{FIRST.get(line.key, full)} {number(each.last)}", each)
    order = [key for key in FIRST if key in found]
    return [found[key] for key in [*order, *(key for key in found if key not in order)]]


def _sample(look: Look, width: int) -> Iterator[Line]:
    answer = look.sample.get("answer")
    if not isinstance(answer, str):
        return
    step = look.sample.get("step")
    scores = [
        f"{name} {number(value)}"
        for name in ("reward", "gold")
        if isinstance(value := look.sample.get(name), int | float)
    ]
    yield Line(", ".join([f"answer at step {step}", *scores]), "title")
    prompt = look.sample.get("prompt")
    if isinstance(prompt, str):
        yield from (Line(f"> {row}", "soft") for row in wrapped(printable(prompt), width - 2, 1))
    yield from (Line(row) for row in wrapped(printable(answer) or "(empty)", width, _SAMPLE - 2))


def _span(look: Look) -> tuple[float, float]:
    first = min((each.steps[0] for each in look.series.values() if each.steps), default=0.0)
    return first, max(first + 1, look.step)
