"""Graphs for a terminal, cell by cell, and texts that cannot harm it."""

from __future__ import annotations

import math

import pytest
from rich.cells import cell_len

from heedlm.report.alarms import Stretch
from heedlm.report.graph import GUTTER, ascii_signs, fit, graph, printable, strip, wrapped
from heedlm.report.series import Series


def line(*values: float) -> Series:
    return Series("x", [float(step) for step in range(len(values))], list(values))


def test_a_rise_in_plain_signs() -> None:
    assert graph(line(1, 2, 3, 4), GUTTER + 4, 4, (0, 3), plain=True) == [
        "      4 ┤   *",
        "        │  * ",
        "        │ *  ",
        "      1 ┤*   ",
    ]


def test_a_rise_in_dots() -> None:
    assert graph(line(*range(8)), GUTTER + 4, 2, (0, 7)) == ["      7 ┤  ⡠⠊", "      0 ┤⡠⠊  "]


def test_a_jump_is_one_unbroken_line() -> None:
    drawn = graph(line(0, 0, 9, 9), GUTTER + 4, 4, (0, 3), plain=True)
    assert [row[GUTTER:] for row in drawn] == ["  **", "  * ", "  * ", "**  "]


def test_a_spike_among_thousands_is_not_lost() -> None:
    drawn = graph(line(*[1.0] * 30, 2.0, *[1.0] * 30), GUTTER + 6, 3, (0, 60), plain=True)
    assert drawn[0].count("*") == 1


def test_sparse_values_are_joined_and_the_axis_may_be_longer() -> None:
    series = Series("x", [0.0, 4.0], [0.0, 4.0])
    drawn = graph(series, GUTTER + 9, 3, (0, 8), plain=True)
    assert [row[GUTTER:] for row in drawn] == ["   **    ", "  *      ", "**       "]


def test_a_flat_curve_runs_through_the_middle() -> None:
    drawn = graph(line(0.2, 0.2 + 1e-9, 0.2), GUTTER + 3, 3, (0, 2), plain=True)
    assert [row[GUTTER:] for row in drawn] == ["   ", "***", "   "]
    assert drawn[1].startswith("  0.200 ┤")


def test_one_value_is_a_point() -> None:
    assert "".join(graph(line(5), GUTTER + 3, 3, (0, 1), plain=True)).count("*") == 1


@pytest.mark.parametrize("count", [1, 2, 3, 50, 3000])
@pytest.mark.parametrize("plain", [True, False])
def test_every_line_has_the_asked_width(count: int, plain: bool) -> None:
    series = line(*(math.sin(step / 9) * 1e4 for step in range(count)))
    drawn = graph(series, 41, 5, (0, count), plain=plain)
    assert len(drawn) == 5
    assert {cell_len(row) for row in drawn} == {41}


def test_states_on_the_steps() -> None:
    found = [Stretch(50, 80, "warn", ()), Stretch(80, 80, "collapsed", ())]
    assert strip(found, 11, (0, 100)) == "·····▒▒▒█··"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("two\nlines\r\nand\ttab", "two⏎lines⏎and tab"),
        ("\x1b[31mred\x1b]0;title\x07", "\ufffd[31mred\ufffd]0;title\ufffd"),
        ("\x9b2Jc1\x00\x7f", "\ufffd2Jc1\ufffd\ufffd"),
        ("\u202eright to left\u2066", "\ufffdright to left\ufffd"),
        ("a\u2028b\rc", "a\ufffdb\ufffdc"),
        ("\ud800", "\ufffd"),
        ("王奶奶 👩‍🌾 é", "王奶奶 👩‍🌾 é"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_wide_letters_count_twice() -> None:
    assert wrapped("王奶奶您一定很担心", 8, 5) == ["王奶奶您", "一定很担", "心"]
    assert fit("王奶", 3) == "王 "


def test_long_texts_are_cut_with_a_sign() -> None:
    assert wrapped("one two three four five six", 9, 2) == ["one two", "three…"]
    assert wrapped("", 9, 2) == [""]


def test_own_signs_have_plain_ones() -> None:
    assert ascii_signs("│┤█▒·−1 → β × 2…").isascii()
