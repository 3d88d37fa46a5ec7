"""A picture of several estimates with their intervals, one a line: plain SVG that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _WIDTH, _LINE, _TOP, _RIGHT = 150, 560, 30, 18, 150


@dataclass(frozen=True)
class Row:
    """An estimate: its name, a share with its interval, and the single values behind it."""

    name: str
    value: float
    low: float
    high: float
    singles: Sequence[float] = ()


def draw(rows: Sequence[Row], title: str, even: float = 0.5) -> str:
    """The picture; `even` is the share at which nothing is better than the other."""
    edges = [even, *(value for row in rows for value in (row.low, row.high, *row.singles))]
    first, last = max(0.0, min(edges) - 0.02), min(1.0, max(edges) + 0.02)
    height = _TOP + _LINE * len(rows) + 46

    def x(share: float) -> float:
        return round(_LEFT + _WIDTH * (min(max(share, first), last) - first) / (last - first), 1)

    bottom = _TOP + _LINE * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + _RIGHT} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14"><title>{escape(title)}</title>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<line x1="{x(even)}" x2="{x(even)}" y1="{_TOP}" y2="{bottom}" stroke="#888" stroke-dasharray="4 4"/>',
    ]
    step = next(size for size in (0.02, 0.05, 0.1, 0.2, 0.5) if (last - first) / size <= 8)
    for k in range(int(first / step) + 1, int(last / step + 1e-9) + 1):
        at = x(k * step)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{bottom}" y2="{bottom + 5}" stroke="#555"/>')
        parts.append(f'<text x="{at}" y="{bottom + 20}" text-anchor="middle" fill="#555">{100 * k * step:.0f}</text>')
    parts.append(f'<text x="{_LEFT + _WIDTH / 2}" y="{bottom + 40}" text-anchor="middle">{escape(title)}</text>')
    for place, row in enumerate(rows):
        y = _TOP + _LINE * place + _LINE / 2
        told = f"{100 * row.value:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 5}" text-anchor="end">{escape(row.name)}</text>')
        parts.append(
            f'<line x1="{x(row.low)}" x2="{x(row.high)}" y1="{y}" y2="{y}" stroke="#1f5f5b" stroke-width="3"/>'
        )
        parts += [f'<circle cx="{x(value)}" cy="{y}" r="3" fill="#1f5f5b" opacity="0.45"/>' for value in row.singles]
        parts.append(f'<circle cx="{x(row.value)}" cy="{y}" r="5.5" fill="#1f5f5b"/>')
        parts.append(f'<text x="{_LEFT + _WIDTH + 12}" y="{y + 5}">{told}</text>')
    return "\n".join([*parts, "</svg>", ""])
