"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.gpu.bench import UNMEASURED
from benchmarks.gpu.ppo import PHASES

Cells = Sequence[dict[str, Any]]


def markdown(results: dict[str, Any]) -> str:
    """Tables of all parts; what was not reached or failed says so."""
    parts = {
        part: [cell for cell in results["cells"] if cell["part"] == part] for part in ("decode", "training", "ppo")
    }
    blocks = [_head(results)]
    for title, part, lines in (
        ("Decoding", "decode", _decode),
        ("Training", "training", _training),
        ("PPO", "ppo", _ppo),
    ):
        blocks.append(f"### {title}\n\n{lines(parts[part])}")
    return "\n\n".join(blocks + _notes(results)) + "\n"


def _head(results: dict[str, Any]) -> str:
    device, limits = results["device"], results["limits"]
    said = f"**{device['name']}**, torch {results['versions'].get('torch', '?')}"
    said += f", transformers {results['versions'].get('transformers', '?')}"
    if not limits:
        return f"{said}; limits {UNMEASURED}"
    said += f"; a large copy moves {limits['bandwidth'] / 1e9:,.0f} GB/s"
    said += f", a large bfloat16 product reaches {limits['flops'] / 1e12:,.1f} TFLOP/s"
    if limits["sheet_flops"]:
        said += f" (data sheet: {limits['sheet_bandwidth'] / 1e9:,.0f} and {limits['sheet_flops'] / 1e12:,.0f})"
    return said


def _decode(cells: Cells) -> str:
    head = ("size", "batch", "who", "tokens/s", "bound", "share", "peak GiB")
    return _table(head, ([c["size"], str(c["batch"]), c["who"], *_rate(c), _gib(c)] for c in cells))


def _training(cells: Cells) -> str:
    head = ("size", "who", "real tokens/s", "bound", "share of the product", "TFLOP/s", "of the data sheet", "peak GiB")

    def line(cell: dict[str, Any]) -> list[str]:
        found = cell["figures"]
        rate = f"{found['tflops']:,.1f}" if found else "–"
        sheet = f"{found['share_of_data_sheet']:.0%}" if found.get("share_of_data_sheet") else "–"
        return [cell["size"], cell["who"], *_rate(cell), rate, sheet, _gib(cell)]

    return _table(head, map(line, cells))


def _ppo(cells: Cells) -> str:
    head = ("size", "who", "completion tokens/s", "bound", "share", *(f"{name}, s" for name in PHASES), "peak GiB")

    def line(cell: dict[str, Any]) -> list[str]:
        phases = cell["figures"].get("phases", {})
        spent = [f"{phases[name]:.3g}" if name in phases else "–" for name in PHASES]
        return [cell["size"], cell["who"], *_rate(cell), *spent, _gib(cell)]

    return _table(head, map(line, cells))


def _rate(cell: dict[str, Any]) -> list[str]:
    """Tokens a second, the bound and the share of it; or the state."""
    found = cell["figures"]
    if not found:
        return ["out of memory" if cell["why"].startswith("out of memory") else cell["state"], "–", "–"]
    return [
        f"{found['tokens_per_second']:,.0f}",
        f"{found['bound_tokens_per_second']:,.0f}",
        f"{found['share_of_bound']:.1%}",
    ]


def _gib(cell: dict[str, Any]) -> str:
    peak = cell["figures"].get("peak_gib")
    return "–" if peak is None else f"{peak:,.1f}"


def _notes(results: dict[str, Any]) -> list[str]:
    """What a reader of the figures must know: how models were held, and why cells are empty."""
    notes = [f"- {note}" for note in results["notes"]]
    for cell in results["cells"]:
        name = " ".join(filter(None, (cell["size"], cell["part"], cell["who"], str(cell["batch"] or ""))))
        if cell["why"]:
            notes.append(f"- {name}: {cell['why']}")
        if cell["figures"].get("note"):
            notes.append(f"- {name}: {cell['figures']['note']}")
        if cell["figures"].get("packed") is False and not cell["who"].startswith("transformers"):
            notes.append(f"- {name}: packing did not pass its trial on this device, rows were padded")
    return ["\n".join(notes)] if notes else []


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
