"""Pictures for the documentation, in one look: matplotlib, from the extra `docs`, imported only when used.

Colours tell apart with every kind of colour vision (Okabe and Ito 2008); lines differ in dash as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from heedlm.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("-", "--", ":", "-.")

Points = tuple[Sequence[float], Sequence[float]]


def curves(
    path: str | Path,
    lines: Mapping[str, Points],
    *,
    x: str,
    y: str,
    title: str = "",
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    level: float | None = None,
    log_x: bool = False,
) -> Path:
    """Lines over a common axis; `bands` gives the low and high values around some of them.

    Raises:
        BadInput: matplotlib is not installed, or the file's kind is unknown.
    """
    with _figure(path, title, x, y) as axes:
        for place, (label, (xs, ys)) in enumerate(lines.items()):
            colour = PALETTE[place % len(PALETTE)]
            axes.plot(xs, ys, DASHES[place % len(DASHES)], color=colour, label=label)
            if bands and label in bands:
                low, high = bands[label]
                axes.fill_between(list(xs), list(low), list(high), color=colour, alpha=0.15, linewidth=0)
        if level is not None:
            axes.axhline(level, color="0.45", linewidth=0.9, linestyle=(0, (3, 3)))
        if log_x:
            axes.set_xscale("log")
        if len(lines) > 1:
            axes.legend(frameon=False)
    return Path(path)


def intervals(
    path: str | Path, rows: Sequence[tuple[str, float, float, float]], *, x: str, title: str = "", level: float = 0.5
) -> Path:
    """One row an estimate: (label, estimate, low, high), drawn against `level`, first row on top."""
    with _figure(path, title, x, "", height=0.55 * len(rows) + 1.2) as axes:
        for place, (_, estimate, low, high) in enumerate(reversed(rows)):
            axes.plot([low, high], [place, place], color=PALETTE[0], linewidth=5, alpha=0.4, solid_capstyle="butt")
            axes.plot([estimate], [place], "o", color=PALETTE[0])
        axes.axvline(level, color="0.45", linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_yticks(range(len(rows)), [row[0] for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
    return Path(path)


def over_optimisation(
    path: str | Path, kl: Sequence[float], proxy: Sequence[float], gold: Sequence[float], *, title: str = ""
) -> Path:
    """Proxy dashed and gold solid over √KL, the highest gold score marked (docs/methods.md §7.2)."""
    distance = [math.sqrt(max(0.0, value)) for value in kl]
    best = max(range(len(gold)), key=lambda index: gold[index])
    with _figure(path, title, "√KL from the start (√nats)", "score") as axes:
        axes.plot(distance, proxy, "--", color=PALETTE[1], label="proxy: the reward that is trained on")
        axes.plot(distance, gold, "-", color=PALETTE[0], label="gold: what is wanted")
        axes.plot([distance[best]], [gold[best]], "o", color=PALETTE[0])
        axes.annotate(
            "gold peak", (distance[best], gold[best]), xytext=(0, -16), textcoords="offset points", ha="center"
        )
        axes.legend(frameon=False)
    return Path(path)


def preference_loss(path: str | Path) -> Path:
    """The curve −log σ(Δ) from Δ = −5 to 5."""
    rows = preference_loss_table(0.1)
    lines = {"−log σ(Δ)": ([delta for delta, _ in rows], [loss for _, loss in rows])}
    return curves(path, lines, x="Δ: reward of the preferred answer minus the other's", y="loss (nats)")


def preference_loss_table(step: float = 1.0) -> list[tuple[float, float]]:
    """(Δ, −log σ(Δ)) for Δ from −5 to 5. Source: docs/methods.md §3.2."""
    count = round(10 / step)
    deltas = [-5 + 10 * index / count for index in range(count + 1)]
    return [(delta, max(-delta, 0.0) + math.log1p(math.exp(-abs(delta)))) for delta in deltas]


@contextmanager
def _figure(path: str | Path, title: str, x: str, y: str, height: float = 3.4) -> Iterator[Axes]:
    """Axes in the common look; the picture is saved when the block is left."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput("pictures need matplotlib: pip install heedlm[docs]") from None
    target = Path(path)
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise BadInput(f"{target}: a picture's name must end in .png, .svg or .pdf")
    with rc_context(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": "0.9",
            "axes.edgecolor": "0.6",
            "lines.linewidth": 1.8,
            "svg.hashsalt": "heed",
        }
    ):
        figure = Figure(figsize=(6.2, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if title:
            axes.set_title(title, loc="left", fontweight="bold")
        yield axes
        # No date in the file: the same numbers make the same bytes.
        figure.savefig(target, dpi=160, metadata={"Date": None} if target.suffix == ".svg" else {})
