"""Commands that were asked for in the browser: one at a time, in the order of asking, each a process of its own.

What is known of a job is in the database, in the run it fills and in its log, so that a server that is started again
finds everything as it is: a process by its number and the time it began, how it ended by the last line of its log.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.errors import BadInput, HeedError
from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.errors import Conflict, Refused
from heedlm.feedback.tables import events, jobs
from heedlm.runs import RunInfo, unused_name
from heedlm.runs.fingerprints import run_json
from heedlm.runs.launch import Process

State = Literal["waiting", "running", "done", "failed", "stopped"]
ENDED = ("done", "failed", "stopped")
MOST_WAITING = 50
_LOOK = 1.0  # seconds between looks at what runs
_LOG_END = 64_000  # bytes of a log that are read from its end


class Launcher(Protocol):
    """What starts `heed` commands as processes (runs/launch.py)."""

    def start(self, words: Sequence[str], log: Path) -> Process:
        """Start `heed WORDS`."""
        ...

    def running(self, process: Process) -> bool:
        """Whether it still runs."""
        ...

    def stop(self, process: Process) -> None:
        """Ask it to stop."""
        ...


@dataclass(frozen=True)
class Job:
    """A command and what became of it.

    Attributes:
        words: The command, without `heed`.
        upto: Newest label it may read.
        run: Run directory that it fills, relative to the folder of runs; None while there is none.
        note: Why it failed, or what it has led to.
    """

    id: str
    project: str | None
    by: str
    words: tuple[str, ...]
    upto: int | None
    state: State
    run: str | None
    note: str | None
    created: float
    ended: float | None
    process: Process | None


class Jobs:
    """The jobs of a feedback database.

    Args:
        database: Where they are kept.
        runs: Folder of the runs.
        launcher: What starts them; None: nothing can be started here.
        after: Called once with each job that is done; what it returns is kept as the job's note.
        at_once: How many may run at the same time.
    """

    def __init__(
        self,
        database: Database,
        runs: Path,
        launcher: Launcher | None,
        after: Callable[[Job], str | None] = lambda job: None,
        at_once: int = 1,
    ) -> None:
        self.database, self.runs, self.launcher = database, runs, launcher
        self._after, self._at_once = after, at_once
        self._turn, self._watching = threading.Lock(), threading.Lock()

    def add(
        self,
        by: User,
        words: Sequence[str],
        *,
        project: str | None = None,
        upto: int | None = None,
        run: str | None = None,
        name: str | None = None,
    ) -> Job:
        """Ask for a command; it starts when those before it have ended.

        Args:
            by: Who asks.
            words: The command, without `heed`.
            project: For which project.
            upto: Newest label it may read.
            run: The run that it goes on with, where there is one already.
            name: What its run is called; with a number where that is taken, by a run or by a job that has not ended.

        Raises:
            BadInput: Nothing can be started here.
            Conflict: Too many wait already.
        """
        if self.launcher is None:
            raise BadInput("this server starts no commands: heed serve does")
        now = self.database.now()
        row: dict[str, Any] = {"id": new_key(), "by": by.id, "project": project, "upto": upto, "run": run}
        with self.database.write() as connection:
            waiting = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state == "waiting")
            if (connection.execute(waiting).scalar() or 0) >= MOST_WAITING:
                raise Conflict(f"{MOST_WAITING} commands are waiting already: stop some first")
            command = [*words, *([] if name is None else [f"name={self._unused(connection, words[0], name)}"])]
            connection.execute(sa.insert(jobs).values(**row, command=command, state="waiting", created=now))
            log = {"at": now, "user": by.id, "what": "command asked for", "about": row["id"]}
            connection.execute(sa.insert(events).values(**log, detail=command))
        self.look()
        self.watch()
        return self.get(str(row["id"]))

    def _unused(self, connection: Connection, stage: str, name: str) -> str:
        """A name that neither a run nor a job which may still make one has."""
        asked = connection.execute(sa.select(jobs.c.command).where(jobs.c.state.not_in(ENDED))).scalars()
        given = {word[5:] for words in asked for word in words if word.startswith("name=")}
        return unused_name(self.runs, stage, name, given)

    def get(self, job: str) -> Job:
        """A job.

        Raises:
            Refused: There is none.
        """
        with self.database.read() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job)).first()
        if row is None:
            raise Refused("there is no such job")
        return _job(row)

    def of(self, project: str | None = None, limit: int = 50) -> list[Job]:
        """The jobs of a project, or all; newest first."""
        query = sa.select(jobs).order_by(jobs.c.created.desc(), jobs.c.id)
        if project is not None:
            query = query.where(jobs.c.project == project)
        with self.database.read() as connection:
            return [_job(row) for row in connection.execute(query.limit(limit))]

    def stop(self, by: User, job: str) -> Job:
        """Take back a job that waits, or ask one that runs to stop.

        Raises:
            Refused: There is no such job.
            Conflict: It has ended.
        """
        self.look()
        found = self.get(job)
        if found.state in ENDED:
            raise Conflict("this command has ended already")
        with self.database.write() as connection:
            waiting = sa.and_(jobs.c.id == job, jobs.c.state == "waiting")
            values = {"state": "stopped", "ended": self.database.now()}
            taken_back = connection.execute(sa.update(jobs).where(waiting).values(values)).rowcount
            log = {"at": self.database.now(), "user": by.id, "what": "command stopped", "about": job}
            connection.execute(sa.insert(events).values(log))
        if not taken_back and found.process is not None and self.launcher is not None:
            self.launcher.stop(found.process)
        return self.get(job)

    def resume(self, by: User, job: str) -> Job:
        """Ask for going on with the run of a job that was stopped or failed.

        Raises:
            Refused: There is no such job.
            Conflict: It goes on still, or made no run to go on with.
        """
        found = self.get(job)
        if found.state not in ("stopped", "failed") or found.run is None:
            raise Conflict("there is nothing to go on with")
        words = ["resume", str(self.runs / found.run)]
        return self.add(by, words, project=found.project, upto=found.upto, run=found.run)

    def log(self, job: str) -> Path:
        """Where a job's output goes."""
        return self.runs / ".jobs" / f"{job}.log"

    # ------------------------------------------------------------ looking after them

    def watch(self) -> None:
        """Look after the jobs in the background until all of them have ended."""
        if self.launcher is not None and self._watching.acquire(blocking=False):
            threading.Thread(target=self._watch, daemon=True, name="heed-jobs").start()

    def _watch(self) -> None:
        try:
            while self.look():
                time.sleep(_LOOK)
        except sa.exc.SQLAlchemyError:
            pass  # the database was closed: the server ends, and its jobs go on without it
        finally:
            self._watching.release()

    def look(self) -> bool:
        """Note which jobs have ended, start the next; returns whether any has not ended."""
        if self.launcher is None:
            return False
        with self._turn:
            open_ = self._open()
            for job in [job for job in open_ if job.state == "running"]:
                self._look_at(job)
            open_ = self._open()
            running = sum(job.state == "running" for job in open_)
            for job in [job for job in open_ if job.state == "waiting"][: max(0, self._at_once - running)]:
                self._start(job)
            return bool(self._open())

    def _open(self) -> list[Job]:
        query = sa.select(jobs).where(jobs.c.state.not_in(ENDED)).order_by(jobs.c.created, jobs.c.id)
        with self.database.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def _start(self, job: Job) -> None:
        assert self.launcher is not None
        self._set(job, state="running")  # first: better a job that seems killed than one that is started twice
        try:
            process = self.launcher.start(job.words, self.log(job.id))
        except OSError as error:
            self._set(job, state="failed", note=f"cannot be started: {error.strerror}", ended=self.database.now())
            return
        self._set(job, pid=process.pid, born=process.born)

    def _look_at(self, job: Job) -> None:
        assert self.launcher is not None
        alive = job.process is not None and self.launcher.running(job.process)
        if job.run is None and job.process is not None:
            found = run_of_process(self.runs, job.process.pid, job.created)
            if found is not None:
                self._set(job, run=found)
        if not alive:
            self._ended(self.get(job.id))

    def _ended(self, job: Job) -> None:
        said = last_word(self.log(job.id))
        run = job.run
        if run is None and isinstance(said.get("run"), str):
            run = _inside(self.runs, said["run"])
        status = str(said.get("status") or self._status(run))
        state: State = {"complete": "done", "interrupted": "stopped"}.get(status, "failed")  # type: ignore[assignment]
        note = said.get("error") or (None if state == "done" else "it was killed")
        if state == "done":
            try:
                note = self._after(Job(**{**job.__dict__, "run": run, "state": "done"}))
            except HeedError as error:
                note = str(error)
        self._set(job, state=state, run=run, note=note, ended=self.database.now())

    def _status(self, run: str | None) -> str:
        """How a run says it ended, where the log says nothing."""
        try:
            return str(run_json(self.runs / run).get("status")) if run is not None else "failed"
        except HeedError:
            return "failed"

    def _set(self, job: Job, **values: Any) -> None:
        with self.database.write() as connection:
            connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))


def run_of_process(folder: Path, pid: int, since: float) -> str | None:
    """The run that a process fills, relative to the folder of runs: the outermost where it is a chain of runs."""
    found = []
    for file in folder.rglob("run.json"):
        try:
            if file.stat().st_mtime < since - 1:
                continue
            info = RunInfo.model_validate(run_json(file.parent))
        except (OSError, ValueError, HeedError):
            continue  # being written, or gone again
        if info.platform.get("process") == pid:
            found.append(file.parent.relative_to(folder).as_posix())
    return min(found, key=lambda path: (path.count("/"), path), default=None)


def last_word(log: Path) -> dict[str, Any]:
    """The JSON object that a command printed last, which tells how it ended; empty if it was killed before."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_END))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and "status" in found:
                return found
    return {}


def _inside(folder: Path, run: str) -> str | None:
    path = Path(run).resolve()
    return path.relative_to(folder.resolve()).as_posix() if path.is_relative_to(folder.resolve()) else None


def _job(row: Any) -> Job:
    process = Process(row.pid, row.born or "") if row.pid is not None else None
    words = tuple(str(word) for word in row.command)
    rest = (row.upto, row.state, row.run, row.note, row.created, row.ended, process)
    return Job(row.id, row.project, row.by, words, *rest)
