"""What a report is made from: a run, the runs it grew from, and the evaluations made of it since."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from heedlm.errors import BadInput
from heedlm.report.alarms import Record
from heedlm.runs import Run, RunInfo
from heedlm.runs.fingerprints import run_of
from heedlm.runs.lineage import Node, lineage

_QUARANTINE_SHOWN = 50


@dataclass(frozen=True)
class Quarantined:
    """Rows that one input lost: how many, and the first of them with line, reason and excerpt."""

    role: str
    total: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """Everything the report of one run shows, read and not yet judged.

    Attributes:
        run: The run reported on.
        given: Its settings as given.
        settings: Its settings as run.
        subject: The run whose curves are shown: itself, the model an evaluation measured, or a chain's policy.
        metrics: The subject's numbers.
        samples: Answers: the run's own, else its evaluation's or its subject's.
        quarantined: Rows it lost, those of a chain's parts included.
        lineage: What it was made from.
        others: The runs it grew from and, for a chain, its parts; without the subject; oldest first.
        measured: The newest complete evaluation of it, if there is one.
    """

    run: Run
    given: dict[str, Any]
    settings: dict[str, Any]
    subject: Run
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    quarantined: list[Quarantined]
    lineage: Node
    others: list[Run]
    measured: Run | None

    @property
    def info(self) -> RunInfo:
        """The run's own record."""
        return self.run.info

    @property
    def results(self) -> dict[str, Any]:
        """The run's own results, completed by those of its evaluation."""
        return {**(self.measured.info.results if self.measured else {}), **self.run.info.results}

    @cached_property
    def record(self) -> Record:
        """What the collapse detector said of the run whose curves are shown, and what its guard did."""
        settings = json_object(self.subject.path / "config.json")
        return Record.read(self.subject.path, self.subject.info.results, settings)

    @classmethod
    def read(cls, path: str | Path) -> Source:
        """Read a run directory; what it lacks is left empty.

        Raises:
            BadInput: The folder is no run, or its `run.json` is damaged.
        """
        path = Path(path)
        if not path.exists():
            raise BadInput(f"{path}: no such run; give a run directory, such as runs/ppo/NAME")
        run = Run.open(path)
        parts = list(runs_below(path))
        measured = _measured(run, parts)
        tree = _tree(measured or parts[-1] if parts and not run.info.inputs else run)
        others = _distinct([*_ancestors(tree), *parts], without=run)
        subject = _subject(run, measured if parts else run, others)
        samples = run.read_samples() or (measured.read_samples() if measured and parts else [])
        return cls(
            run=run,
            given=_toml(path / "config.toml"),
            settings=json_object(path / "config.json"),
            subject=subject,
            metrics=subject.read_metrics(),
            samples=samples or subject.read_samples(),
            quarantined=[each for run_ in (run, *parts) for each in _quarantined(run_, named=run_ is not run)],
            lineage=tree,
            others=[each for each in others if each is not subject],
            measured=measured,
        )


def runs_below(path: Path) -> Iterator[Run]:
    """The runs a chain made inside its own directory, oldest first."""
    found = [run for run in map(_opened, sorted(path.glob("*/*/run.json"))) if run is not None]
    yield from sorted(found, key=lambda run: run.info.started)


def _opened(record: Path) -> Run | None:
    try:
        return Run.open(record.parent)
    except BadInput:
        return None  # one damaged run beside it must not keep a run from its report


def _measured(run: Run, parts: list[Run]) -> Run | None:
    """The newest complete evaluation that measured this run, or that a chain made."""
    if run.info.stage == "evaluate":
        return None
    name = f"{run.info.stage}/{run.name}"
    beside = map(_opened, sorted(run.path.absolute().parent.parent.glob("evaluate/*/run.json")))
    found = [part for part in parts if part.info.stage == "evaluate"]
    if not parts:
        subjects = ("model", "policy")
        of_run = [each for each in beside if each is not None]
        found = [o for o in of_run if any(i.run == name and i.role in subjects for i in o.info.inputs)]
    complete = [each for each in found if each.info.status == "complete"]
    return max(complete, key=lambda each: each.info.started) if complete else None


def _subject(run: Run, measurer: Run | None, others: list[Run]) -> Run:
    """The run whose curves tell the story of `run`."""
    if (run.path / "metrics.jsonl").exists():
        return run
    by_name = {f"{each.info.stage}/{each.name}": each for each in others}
    for item in measurer.info.inputs if measurer else ():
        if item.role in ("model", "policy") and item.run in by_name:
            return by_name[item.run]
    return run


def _distinct(runs: list[Run], without: Run) -> list[Run]:
    """Each run once, oldest first."""
    found = {run.path.resolve(): run for run in runs}
    found.pop(without.path.resolve(), None)
    return sorted(found.values(), key=lambda run: (run.info.started, run.path.name))


def _tree(run: Run) -> Node:
    """The run's lineage; its own inputs alone where a run further back is damaged."""
    try:
        return lineage(run)
    except BadInput:
        sources = tuple(Node(item.role, item.run or item.path, item.fingerprint) for item in run.info.inputs)
        return Node("", str(run.path), "", run.info.stage, run.info.status, run.info.seed, None, sources)


def _ancestors(tree: Node) -> Iterator[Run]:
    """The runs in a lineage."""
    seen: set[Path] = set()
    level = [tree]
    while level:
        for node in level:
            place = run_of(node.path) if node.stage is not None else None
            if place is not None and place.resolve() not in seen:
                seen.add(place.resolve())
                run = _opened(place / "run.json")
                if run is not None:
                    yield run
        level = [source for node in level for source in node.sources]


def _quarantined(run: Run, *, named: bool) -> Iterator[Quarantined]:
    for file in sorted(run.path.glob("quarantine*.jsonl")):
        rows, total = [], 0
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                total += 1
                if total <= _QUARANTINE_SHOWN:
                    rows.append(_row(line))
        role = file.stem.removeprefix("quarantine").strip("-_") or "rows"
        yield Quarantined(f"{role} of {run.info.stage}" if named else role, total, rows)


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    return row if isinstance(row, dict) else {"reason": "this record is torn", "excerpt": line[:160]}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
