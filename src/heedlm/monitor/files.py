"""Logs read from disk: Heed's own, CSV, TensorBoard's, and the trainer state that transformers and TRL write."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from heedlm.errors import BadInput
from heedlm.monitor.columns import STEP, Columns, as_number, as_step, find, translate
from heedlm.monitor.history import WIN_RATE
from heedlm.monitor.tfevents import scalars
from heedlm.monitor.thresholds import Thresholds
from heedlm.runs import run_of
from heedlm.runs.files import read_lines

_EVENTS = "*tfevents*"
_KINDS = "a run folder, metrics.jsonl, a CSV, trainer_state.json, or a TensorBoard file or folder"


@dataclass(frozen=True)
class Log:
    """Rows under Heed's keys, each with `step`, and which name of the file each key was read from."""

    rows: list[dict[str, float]]
    columns: dict[str, str]


def read_log(path: str | Path, columns: Columns | None = None, length: float | None = None) -> list[dict[str, float]]:
    """The rows of `open_log`."""
    return open_log(path, columns, length).rows


def open_log(path: str | Path, columns: Columns | None = None, length: float | None = None) -> Log:
    """Read a log; neighbouring rows of one step become one row, steps may go back as after a rollback.

    Args:
        path: A run folder or its `metrics.jsonl`; a CSV; `trainer_state.json`; a TensorBoard file or folder.
        columns: Names that are not known already.
        length: Tokens an answer, where the log does not tell, to turn KL an answer into KL a token.

    Raises:
        BadInput: The file is missing, damaged, empty, or nothing in it is known.
    """
    path = Path(path)
    try:
        raw = _raw_rows(path)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (ValueError, csv.Error) as error:
        raise BadInput(f"{path}: is damaged or of another kind ({error}); give {_KINDS}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give {_KINDS}") from None
    if not raw:
        raise BadInput(f"{path}: holds no rows")
    found = find((name for row in raw for name in row), columns or Columns(), str(path))
    rows: list[dict[str, float]] = []
    for number, values in enumerate(raw, start=1):
        where = f"{path}: row {number}"
        step = as_number(values.get(found[STEP])) if STEP in found else float(number)
        if step is None:
            continue
        row = {**translate(values, found, length), STEP: as_step(step, where)}
        if row.get(WIN_RATE, 0.0) > 1:
            raise BadInput(f"{where}: win rate {row[WIN_RATE]:g}; it must be a share from 0 to 1")
        if rows and rows[-1][STEP] == row[STEP]:
            rows[-1] |= row
        else:
            rows.append(row)
    if not rows:
        raise BadInput(f"{path}: no row has a step; name its column with columns.step=NAME")
    return Log(rows, found)


def _raw_rows(path: Path) -> list[Mapping[str, Any]]:
    if path.is_dir():
        inside = [path / name for name in ("metrics.jsonl", "trainer_state.json") if (path / name).is_file()]
        return _raw_rows(inside[0]) if inside else _event_rows(sorted(path.rglob(_EVENTS)), path)
    if path.match(_EVENTS):
        return _event_rows([path], path)
    if path.suffix == ".jsonl" and path.is_file():
        return list(read_lines(path))
    if path.suffix == ".json":
        state = json.loads(path.read_text(encoding="utf-8-sig"))
        rows = state.get("log_history") if isinstance(state, dict) else state
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("no log_history in it")
        return rows
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        return [{str(name): value for name, value in row.items()} for row in csv.DictReader(file, delimiter=delimiter)]


def _event_rows(files: list[Path], path: Path) -> list[Mapping[str, Any]]:
    """One row a step; of a value that was written twice, as after a resume, the later counts."""
    folders = sorted({str(file.parent) for file in files})
    if len(folders) > 1:
        raise BadInput(f"{path}: holds the logs of several runs; give one of {', '.join(folders)}")
    if not files:
        raise BadInput(f"{path}: holds no log; give {_KINDS}")
    rows: dict[int, dict[str, Any]] = {}
    for file in files:
        for scalar in scalars(file):
            rows.setdefault(scalar.step, {STEP: scalar.step})[scalar.tag] = scalar.value
    return [rows[step] for step in sorted(rows)]


class RunSettings(NamedTuple):
    """What a run of Heed was watched with: longest answer (tokens), KL target (nats an answer), thresholds."""

    cap: int | None = None
    kl_target: float | None = None
    thresholds: Thresholds | None = None


def run_settings(path: str | Path) -> RunSettings:
    """Settings of the Heed run that a log lies in; None where there is no run or it has none.

    Raises:
        BadInput: The run's `config.json` is damaged.
    """
    run = run_of(path)
    file = run / "config.json" if run is not None else None
    if file is None or not file.is_file():
        return RunSettings()
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        own = settings.get("monitor")
        return RunSettings(
            settings.get("sampling", {}).get("max_new_tokens"),
            settings.get("kl", {}).get("target"),
            Thresholds.model_validate(own) if own is not None else None,
        )
    except (ValueError, AttributeError) as error:
        raise BadInput(
            f"{file}: is damaged ({str(error).splitlines()[0]}); give a copy of metrics.jsonl alone"
        ) from None
