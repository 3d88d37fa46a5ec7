"""Numbers as people write them, and values of unknown type as numbers."""

from __future__ import annotations

import math
from typing import Any


def number(value: float, digits: int = 3) -> str:
    """A number to `digits` significant digits, whole ones whole, with a true minus sign."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if value == int(value) and size < 1e7:
        text = f"{value:.0f}"
    elif size >= 1e7 or size < 10**-digits / 2:
        text = f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    else:
        decimals = digits - (len(str(int(size))) if size >= 1 else 0)
        text = f"{value:.{max(0, decimals)}f}"
    if size >= 10_000 and "e" not in text:
        text = f"{float(text):,.0f}".replace(",", "\u202f")
    return text.replace("-", "\u2212")


def percent(share: float) -> str:
    """A share as percent to one decimal, the sign kept on the same line as its number."""
    return f"{100 * share:.1f}\u202f%"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{number(seconds, 2)} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def count(value: float) -> str:
    """A large count in thousands, millions or billions."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return number(value)


def short(text: str, most: int) -> str:
    """A text of at most `most` characters, the last of them "…" where there was more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def as_number(value: Any) -> float | None:
    """The value if it is a number (a truth value is none), else None."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
