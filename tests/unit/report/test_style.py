"""The style sheet: readable contrast in light and dark, and lines that differ by more than colour."""

from __future__ import annotations

import re
from importlib import resources

import pytest

CSS = (resources.files("heedlm.report") / "templates" / "report.css").read_text(encoding="utf-8")


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", block))


LIGHT = colours(CSS[: CSS.index("@media (prefers-color-scheme: dark)")])
DARK = LIGHT | colours(CSS[CSS.index("@media (prefers-color-scheme: dark)") : CSS.index("* { box-sizing")])


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    """WCAG 2.2 contrast ratio."""
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(scheme: dict[str, str]) -> None:
    for text in ("ink", "soft", "accent", "good", "warn", "bad"):
        for ground in ("paper", "card"):
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
    for line in ("k0", "k1", "k2", "k3"):
        assert contrast(scheme[line], scheme["paper"]) >= 3, line


def test_black_on_white_is_twenty_one() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)


def test_lines_differ_in_dash_too() -> None:
    dashes = re.findall(r"\.line\.k[123] \{ stroke-dasharray: ([^;]+);", CSS)
    assert len(set(dashes)) == 3
