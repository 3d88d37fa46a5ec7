"""The run directory: what a stage was given, what came of it, and the numbers on the way."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from heedlm.config import StageConfig, config_hash, to_toml
from heedlm.errors import BadInput, HeedError, Interrupted
from heedlm.runs import signals
from heedlm.runs.files import flush_to_disk, keep_lines, read_lines, write_json, write_whole
from heedlm.runs.fingerprints import Input, check_unchanged, fingerprint, run_json, run_of
from heedlm.runs.info import (
    OutputInfo,
    RunInfo,
    Status,
    git_version,
    input_info,
    machine,
    now,
    peak_mib,
    versions,
)
from heedlm.runs.lock import Lock
from heedlm.runs.tensorboard import Events

_LOGS = ("metrics.jsonl", "samples.jsonl", "alarms.jsonl")


class Run:
    """One run directory, held by the process that fills it.

    Use it as a context: left normally it is complete, left by an exception it is failed or interrupted.
    """

    def __init__(self, path: Path, info: RunInfo, lock: Lock | None = None) -> None:
        self.path = path
        self.info = info
        self._lock = lock
        self._since = time.monotonic()
        self._seconds_before = info.seconds
        self._events: Events | None = None

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.path.name

    @classmethod
    def create(
        cls, stage: str, config: StageConfig, inputs: Sequence[Input] = (), argv: Sequence[str] | None = None
    ) -> Run:
        """Start a new run in `out/stage/name-hash`; `run.json` says `running` before anything else happens.

        Args:
            stage: Name of the stage.
            config: Its resolved settings.
            inputs: What it reads; all are fingerprinted now.
            argv: The command as typed; the process's own if not given.

        Raises:
            BadInput: If an input is missing, or the same settings and inputs have been run before.
        """
        prints = [fingerprint(item.path, item.role) for item in inputs]
        digest = config_hash(config, [stage, *(f"{i.role}={p}" for i, p in zip(inputs, prints, strict=True))])
        path = config.out / stage / f"{config.name or default_name(stage, inputs)}-{digest[:6]}"
        lock = _claim(path)
        info = RunInfo(
            stage=stage,
            name=path.name,
            status="running",
            argv=list(sys.argv if argv is None else argv),
            seed=config.seed,
            config_hash=digest,
            started=now(),
            versions=versions(),
            platform=machine(),
            git=git_version(),
            inputs=[input_info(i, p, path) for i, p in zip(inputs, prints, strict=True)],
        )
        run = cls(path, info, lock)
        run._save()
        write_whole(path / "config.toml", to_toml(config, only_given=True))
        write_json(path / "config.json", config.model_dump(mode="json"))
        run._events = Events(path / "tensorboard") if config.tensorboard else None
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run for reading.

        Raises:
            BadInput: If the path is no run, or its `run.json` is damaged.
        """
        path = Path(path)
        raw = run_json(path)
        try:
            return cls(path, RunInfo.model_validate(raw))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise BadInput(f"{path}/run.json: {where}: {fault['msg'].lower()}") from None

    @classmethod
    def resume(cls, path: str | Path) -> Run:
        """Take up a run that stopped, at its newest complete checkpoint.

        Numbers and samples logged after that checkpoint are dropped, so that the files end up as if
        nothing had happened, apart from times. Load the state from `checkpoints.newest(run)`.

        Raises:
            BadInput: If the run is complete or still running, or one of its inputs has changed.
        """
        from heedlm.runs import checkpoints

        run = cls.open(path)
        if run.info.status == "complete":
            raise BadInput(f"{path}: is complete already; start a new run with another name= or seed=")
        lock = Lock.take(run.path)
        if lock is None:
            raise BadInput(f"{path}: is still running in another process; stop that one first")
        check_unchanged(run.path, run.info.inputs)
        run._lock = lock
        run._events = Events(run.path / "tensorboard") if _wants_events(run.path) else None
        newest = checkpoints.newest(run)
        step = checkpoints.step_of(newest) if newest else 0
        run.truncate_metrics(step)
        run.info.status, run.info.reason, run.info.finished = "running", None, None
        run.info.outputs = []
        run.info.resumed.append(step)
        run._save()
        return run

    def metrics(self, step: int, values: Mapping[str, float], seconds: float | None = None) -> None:
        """Append one line of numbers; log a step's numbers before saving its checkpoint.

        NaN and infinities are kept as the strings "nan", "inf" and "-inf", since JSON has none.
        """
        numbers = {"seconds": round(self._elapsed() if seconds is None else seconds, 3)}
        numbers |= {key: float(value) for key, value in values.items()}
        known = {key: value if math.isfinite(value) else str(value) for key, value in numbers.items()}
        self._append("metrics.jsonl", {"step": step, **known})
        if self._events is not None:
            self._events.add(step, numbers)

    def samples(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append samples of this step, one line each."""
        for row in rows:
            self._append("samples.jsonl", {"step": step, **row})

    def alarm(self, step: int, facts: Mapping[str, Any]) -> None:
        """Append what the collapse detector says of this step."""
        self._append("alarms.jsonl", {"step": step, **facts})

    def abandon(self, step: int, attempt: int) -> None:
        """Going back to `step`: move the lines of later steps to `abandoned/<attempt>`, where they stay to be read."""
        folder = self.path / "abandoned" / str(attempt)
        folder.mkdir(parents=True, exist_ok=True)
        for name in _LOGS:
            later = [row for row in read_lines(self.path / name) if int(row.get("step", 0)) > step]
            write_whole(folder / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in later))
        self.truncate_metrics(step)

    def truncate_metrics(self, step: int) -> None:
        """Drop the numbers and samples of later steps, all of them at step 0, and lines torn by a crash."""
        for name in _LOGS:
            keep_lines(self.path / name, lambda row: 0 < step >= int(row.get("step", 0)))

    def read_metrics(self) -> list[dict[str, Any]]:
        """All lines of numbers, NaN and infinities as numbers again; a torn last line is left out."""
        rows = read_lines(self.path / "metrics.jsonl")
        special = ("nan", "inf", "-inf")
        return [{k: float(v) if v in special else v for k, v in row.items()} for row in rows]

    def read_samples(self) -> list[dict[str, Any]]:
        """All samples; a torn last line is left out."""
        return read_lines(self.path / "samples.jsonl")

    def add_output(self, role: str, path: Path, rows: int | None = None) -> None:
        """Record a file or folder this run has written, with its fingerprint; a later one replaces it."""
        relative = os.path.relpath(Path(path).absolute(), self.path.absolute())
        info = OutputInfo(role=role, path=relative, fingerprint=fingerprint(path), rows=rows)
        self.info.outputs = [item for item in self.info.outputs if item.role != role] + [info]
        self._save()

    def output(self, role: str) -> Path | None:
        """Where the output of this role lies, if the run has one."""
        return next((self.path / item.path for item in self.info.outputs if item.role == role), None)

    def note(self, **facts: Any) -> None:
        """Record facts (JSON values) under `results` in `run.json`."""
        self.info.results.update(json.loads(json.dumps(facts, default=str)))
        self._save()

    def finish(self, status: Status = "complete", reason: str | None = None) -> None:
        """Close the run: times, peak memory, and last of all its status."""
        self.info.status, self.info.reason = status, reason
        self.info.finished = now()
        self.info.seconds = round(self._elapsed(), 3)
        self.info.peak_mib = peak_mib()
        self._save()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        signals.forget()

    def fail(self, reason: str) -> None:
        """Close the run as failed."""
        self.finish("failed", reason)

    def flush(self) -> None:
        """Put the lines written so far on the disk."""
        for name in _LOGS:
            if (self.path / name).exists():
                with (self.path / name).open("a", encoding="utf-8") as file:
                    flush_to_disk(file)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.info.status != "running":
            return
        if error is None:
            self.finish()
        elif isinstance(error, Interrupted | KeyboardInterrupt):
            self.finish("interrupted", str(error) or "stopped by the user")
        else:
            self.fail(str(error) if isinstance(error, HeedError) else f"{type(error).__name__}: {error}")

    def _elapsed(self) -> float:
        return self._seconds_before + time.monotonic() - self._since

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _save(self) -> None:
        write_json(self.path / "run.json", self.info.model_dump(mode="json"))


def default_name(stage: str, inputs: Sequence[Input]) -> str:
    """A name from the first input: the run's own, or the file's or folder's."""
    if not inputs:
        return stage
    path = Path(inputs[0].path)
    run = run_of(path)
    if run is not None:
        return re.sub(r"-[0-9a-f]{6}$", "", run.name)
    stem = path.name.split(".")[0] if path.is_file() else path.name
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or stage


def _wants_events(path: Path) -> bool:
    """The run's setting `tensorboard`, which all stages have; their other settings are not known here."""
    try:
        return bool(json.loads((path / "config.json").read_text(encoding="utf-8")).get("tensorboard"))
    except (OSError, ValueError):
        return False  # the stage that reads all settings says what is wrong with them


def _claim(path: Path) -> Lock:
    """Make the run's directory ours, or say why it cannot be."""
    # Killed before its settings were written, a run has nothing to go on with: it is begun anew.
    begun = (path / "run.json").exists() and ((path / "config.json").exists() or Lock.held(path))
    if begun:
        status = Run.open(path).info.status
        if status == "complete":
            raise BadInput(f"{path}: the same settings and inputs have been run; give another name= or remove it")
        if Lock.held(path):
            raise BadInput(f"{path}: is running in another process; wait for it or give another name=")
        stopped = "was killed" if status == "running" else status
        raise BadInput(f"{path}: this run {stopped}; go on with: heed resume {path} (or remove it)")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path}: cannot be created ({error.strerror}); give another out=") from None
    if not (path / "run.json").exists() and any(not item.name.startswith(".") for item in path.iterdir()):
        raise BadInput(f"{path}: holds files but no run.json; remove it or give another name=")
    lock = Lock.take(path)
    if lock is None:
        raise BadInput(f"{path}: is being started by another process; give another name=")
    return lock
