"""Curves and texts for a terminal: graphs of braille dots or plain characters, and words that cannot harm it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rich.cells import cell_len, chop_cells, set_cell_size

from heedlm.report.alarms import Stretch
from heedlm.report.charts import robust_range
from heedlm.report.series import Series
from heedlm.report.words import number

GUTTER = 9  # cells left of a graph, for the values at its top and bottom
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille character: by column, then by row
_JOINERS = "\u200c\u200d"  # invisible, but scripts and emoji are spelt with them
_ASCII = {
    "\u2212": "-", "\u202f": " ", "…": "...", "→": "->", "×": "x", "β": "beta", "·": ".", "│": "|", "┤": "+",
    "█": "#", "▒": "!", "⏎": " / ", "√": "sqrt",
}  # fmt: skip


def printable(text: str) -> str:
    """A text as one line that leaves the terminal alone: control characters become marks, line ends a sign.

    Answers of a model may hold anything, escape sequences and changes of the writing direction included.
    """
    return "".join(_printable(char) for char in text.replace("\r\n", "\n"))


def _printable(char: str) -> str:
    if char == "\n":
        return "⏎"
    if char == "\t":
        return " "
    # Control and format characters (direction marks are such), halves of pairs, and the two separators of lines.
    hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "\ufffd" if hidden and char not in _JOINERS else char


def ascii_signs(text: str) -> str:
    """The signs that Heed itself draws and writes with, as ASCII; other text stays."""
    return "".join(_ASCII.get(char, char) for char in text)


def wrapped(text: str, width: int, lines: int) -> list[str]:
    """A text in at most `lines` lines of `width` cells; the last ends in "…" where there was more."""
    rows = [""]
    for word in text.split(" "):
        for part in chop_cells(word, width) or [""]:
            joined = f"{rows[-1]} {part}" if rows[-1] else part
            if cell_len(joined) <= width:
                rows[-1] = joined
            else:
                rows.append(part)
    if len(rows) > lines:
        rows = [*rows[: lines - 1], fit(rows[lines - 1], width - 1).rstrip() + "…"]
    return rows


def fit(text: str, width: int) -> str:
    """A text cut or filled up to exactly `width` cells."""
    return set_cell_size(text, width)


def graph(series: Series, width: int, height: int, span: tuple[float, float], *, plain: bool = False) -> list[str]:
    """A curve in `height` lines of `width` cells, with the values at top and bottom in the gutter.

    Args:
        series: What to draw, at least one value.
        width: Cells, the gutter included.
        height: Lines.
        span: First and last step of the axis.
        plain: Draw with ASCII instead of braille dots.
    """
    across, down = (1, 1) if plain else (2, 4)
    low, high = robust_range(series.values, series.values)
    columns = _columns(series, (width - GUTTER) * across, span)
    rows = height * down
    # A curve that is flat, as far as its labels can tell, runs through the middle.
    spread = high - low if number(high) != number(low) else 0.0
    places = [
        None if ends is None else tuple(round((rows - 1) * ((high - v) / spread if spread > 0 else 0.5)) for v in ends)
        for ends in columns
    ]
    grid = [[False] * len(places) for _ in range(rows)]
    before: tuple[int, ...] | None = None
    for column, place in enumerate(places):
        if place is None:
            continue
        top, bottom = sorted(min(rows - 1, max(0, each)) for each in place)
        if before is not None:  # join it to its neighbour
            top, bottom = min(top, before[1] + 1), max(bottom, before[0] - 1)
        before = (top, bottom)
        for row in range(top, bottom + 1):
            grid[row][column] = True
    drawn = ["".join("*" if on else " " for on in row) for row in grid] if plain else _braille(grid)
    labels = {0: number(high), height - 1: number(low)} if spread > 0 else {height // 2: number(high)}
    return [
        f"{labels.get(row, ''):>{GUTTER - 2}} {'┤' if row in labels else '│'}{line}" for row, line in enumerate(drawn)
    ]


def strip(stretches: Sequence[Stretch], width: int, span: tuple[float, float]) -> str:
    """The steps as one line of `width` cells: "▒" where a run was in the state warn, "█" where it had collapsed."""
    cells = ["·"] * width
    for each in sorted(stretches, key=lambda each: each.state, reverse=True):  # collapses last: nothing hides them
        for cell in range(_place(each.start, width, span), _place(each.end, width, span) + 1):
            cells[cell] = "█" if each.state == "collapsed" else "▒"
    return "".join(cells)


def _columns(series: Series, count: int, span: tuple[float, float]) -> list[tuple[float, float] | None]:
    """Lowest and highest value of each column; between columns that have values they lie on a straight line."""
    found: list[tuple[float, float] | None] = [None] * count
    for step, value in zip(series.steps, series.values, strict=True):
        place = _place(step, count, span)
        low, high = found[place] or (value, value)
        found[place] = (min(low, value), max(high, value))
    last: int | None = None
    for place, ends in enumerate(list(found)):
        if ends is None:
            continue
        if last is not None:
            begin, finish = sum(found[last] or ends) / 2, sum(ends) / 2
            for between in range(last + 1, place):
                value = begin + (finish - begin) * (between - last) / (place - last)
                found[between] = (value, value)
        last = place
    return found


def _place(step: float, count: int, span: tuple[float, float]) -> int:
    share = (step - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.0
    return round(min(1.0, max(0.0, share)) * (count - 1))


def _braille(grid: Sequence[Sequence[bool]]) -> list[str]:
    lines = []
    for top in range(0, len(grid), 4):
        line = ""
        for left in range(0, len(grid[0]), 2):
            bits = sum(_DOTS[column][row] for column in range(2) for row in range(4) if grid[top + row][left + column])
            line += chr(0x2800 + bits) if bits else " "
        lines.append(line)
    return lines
