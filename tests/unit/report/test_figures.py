"""Pictures for the documentation, and the −log σ curve's values."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedlm.errors import BadInput
from heedlm.report import figures


def test_preference_loss_from_minus_five_to_five() -> None:
    """−log σ(Δ): 5.006715 at −5, ln 2 at 0, .006715 at 5; Δ and −Δ differ by Δ."""
    table = dict(figures.preference_loss_table())
    assert len(table) == 11
    assert table[-5.0] == pytest.approx(5.006715, abs=1e-6)
    assert table[0.0] == pytest.approx(0.693147, abs=1e-6)
    assert table[1.0] == pytest.approx(0.313262, abs=1e-6)
    assert table[5.0] == pytest.approx(0.006715, abs=1e-6)
    assert all(table[-delta] - table[delta] == pytest.approx(delta) for delta in table)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures_are_written(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    made = [
        figures.curves(
            tmp_path / f"a.{suffix}",
            {"one": ([1, 2], [3, 4]), "two": ([1, 2], [2, 2])},
            x="step",
            y="loss",
            bands={"one": ([2, 3], [4, 5])},
            level=2.5,
            log_x=True,
        ),
        figures.intervals(tmp_path / f"b.{suffix}", [("PPO", 0.66, 0.62, 0.7), ("SFT", 0.5, 0.45, 0.55)], x="win rate"),
        figures.over_optimisation(tmp_path / f"c.{suffix}", [0, 1, 4], [0, 1, 2], [0, 0.8, 0.5], title="T"),
        figures.preference_loss(tmp_path / f"d.{suffix}"),
    ]
    assert all(path.stat().st_size > 1000 for path in made)


def test_the_same_numbers_make_the_same_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one, two = figures.preference_loss(tmp_path / "a.svg"), figures.preference_loss(tmp_path / "b.svg")
    assert one.read_bytes() == two.read_bytes()


def test_an_unknown_kind_of_picture_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(BadInput, match=r"must end in \.png, \.svg or \.pdf"):
        figures.preference_loss(tmp_path / "a.bmp")
