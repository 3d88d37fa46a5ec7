"""A server of its own process, and people who work through its tasks as fast as they may, over HTTP."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from heedlm.feedback.accounts import Accounts
from heedlm.feedback.database import Database
from heedlm.feedback.projects import Projects
from heedlm.feedback.tasks import Content
from heedlm.records.types import Answer, Message

HEED = (sys.executable, "-c", "import sys; from heedlm.cli import main; sys.exit(main())")
PASSWORD = "people who rank answers"


def prepare(url: str, people: int, items: int, overlap: int) -> str:
    """A database with an owner, annotators and a ranking project; returns the project's key."""
    database = Database(url)
    accounts, projects = Accounts(database), Projects(database)
    owner = accounts.create("owner", PASSWORD, "owner")
    project = projects.create(owner, "Load", "rank", overlap=overlap)
    contents = [
        Content(
            prompt=(Message(role="user", content=f"What do you think of number {number}?"),),
            answers=tuple(Answer(text=f"Number {number}, thought {k}. " * 20) for k in range(4)),
        )
        for number in range(items)
    ]
    projects.add_items(owner, project.id, contents)
    for number in range(people):
        person = accounts.create(f"person {number}", PASSWORD, "annotator")
        projects.join(owner, project.id, person.id)
    database.close()
    return project.id


@dataclass
class Server:
    """`heed serve` as a process on a port of its own."""

    url: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start and wait until it answers; returns the seconds this took."""
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        begun = time.monotonic()
        words = [*HEED, "serve", f"database={self.url}", f"port={self.port}", f"runs={self.folder / 'runs'}"]
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, env={**os.environ, **self.environment}, start_new_session=True
            )
        while time.monotonic() - begun < 60:
            try:
                if httpx.get(f"{self.base}/healthz", timeout=1).status_code == 200:
                    return time.monotonic() - begun
            except httpx.HTTPError:
                time.sleep(0.02)
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "serve.log").read_text()[-2000:])
        raise RuntimeError("the server does not answer")

    @property
    def base(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Signal 9."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)


@dataclass
class Person(threading.Thread):
    """Somebody who takes tasks and replies until told to stop; what was acknowledged is noted."""

    name_: str
    server: Server
    project: str
    halt: threading.Event
    think: float = 0.0
    acknowledged: dict[str, tuple[str, int, list[int]]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"next": [], "draft": [], "submit": []})
    repeats: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    broken: str = ""

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Log in, then work."""
        self.draw = random.Random(self.name_)
        with httpx.Client(timeout=20) as self.client:
            try:
                self._login()
                while not self.halt.is_set():
                    self._one()
            except Exception as error:  # noqa: BLE001 - told by whoever started this
                if not self.halt.is_set():
                    self.broken = f"{type(error).__name__}: {error}"

    def _login(self) -> None:
        form = {"name": self.name_, "password": PASSWORD}
        while not self.halt.is_set():
            try:
                answer = self.client.post(f"{self.server.base}/login", data=form)
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code == 303:
                break
            time.sleep(0.2)
        page = self._call("GET", "/annotate").text
        self.client.headers["x-csrf-token"] = page.split('name="csrf" content="')[1].split('"')[0]

    def _one(self) -> None:
        task = self._call("POST", f"/api/projects/{self.project}/next", what="next").json()["task"]
        if task is None:
            self.halt.wait(0.05)
            return
        self._wait()
        ranks = [1, 2, 3, 4]
        self.draw.shuffle(ranks)
        self._call("PUT", f"/api/tasks/{task['id']}/draft", {"draft": {"ranks": ranks}}, what="draft")
        self._wait()
        key = str(uuid.UUID(int=self.draw.getrandbits(128)))
        body = {"reply": {"ranks": ranks}, "key": key, "base": 0, "seconds": 1.0}
        answer = self._call("POST", f"/api/tasks/{task['id']}/submit", body, what="submit")
        if answer.status_code == 200:
            self.acknowledged[key] = (task["id"], answer.json()["version"], ranks)
            self.repeats += answer.json()["repeated"]

    def _wait(self) -> None:
        if self.think:
            self.halt.wait(self.draw.uniform(0.5, 1.5) * self.think)

    def _call(self, method: str, path: str, body: Any = None, what: str = "") -> httpx.Response:
        """Ask, and ask again with the same words while the server is away or broken."""
        while True:
            begun = time.monotonic()
            try:
                answer = self.client.request(method, self.server.base + path, json=body)
            except httpx.HTTPError:
                if self.halt.is_set():
                    raise
                time.sleep(0.02)
                continue
            if what and answer.status_code == 200:
                self.seconds[what].append(time.monotonic() - begun)
            if answer.status_code < 500:
                if answer.status_code != 200:
                    self.refused[answer.status_code] = self.refused.get(answer.status_code, 0) + 1
                return answer
            self.refused[answer.status_code] = self.refused.get(answer.status_code, 0) + 1
            if self.halt.is_set():
                return answer
            time.sleep(0.02)


def crowd(server: Server, project: str, people: int, think: float = 0.0) -> tuple[list[Person], threading.Event]:
    """So many people at work, and what makes them stop."""
    halt = threading.Event()
    found = [Person(f"person {number}", server, project, halt, think) for number in range(people)]
    for person in found:
        person.start()
    return found, halt


def audit(url: str, people: Sequence[Person], overlap: int) -> dict[str, Any]:
    """Whether every acknowledged label is there once, and the books agree."""
    import sqlalchemy as sa

    from heedlm.feedback.tables import assignments, items, labels

    database = Database(url)
    with database.read() as connection:
        rows = connection.execute(sa.select(labels)).all()
        states = connection.execute(
            sa.select(assignments.c.item, assignments.c.state, sa.func.count()).group_by(
                assignments.c.item, assignments.c.state
            )
        ).all()
        books = connection.execute(sa.select(items.c.id, items.c.taken, items.c.done)).all()
        sound = database.file is None or connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    database.close()
    counts: dict[str, dict[str, int]] = {}
    for item, state, count in states:
        counts.setdefault(item, {})[state] = count
    keys = [row.key for row in rows]
    said = {key: value for person in people for key, value in person.acknowledged.items()}
    kept = {row.key: row for row in rows}
    wrong = [
        key
        for key, (task, version, ranks) in said.items()
        if key in kept and (kept[key].assignment, kept[key].version) != (task, version)
    ]
    done = {item: found.get("done", 0) for item, found in counts.items()}
    return {
        "acknowledged": len(said),
        "labels": len(rows),
        "lost": len(set(said) - set(keys)),
        "duplicated": len(keys) - len(set(keys)) + len(rows) - len({(row.item, row.user, row.version) for row in rows}),
        "changed": len(wrong),
        "above_overlap": sum(value > overlap for value in done.values()),
        "books_wrong": sum(
            (row.taken, row.done)
            != (counts.get(row.id, {}).get("leased", 0) + done.get(row.id, 0), done.get(row.id, 0))
            for row in books
        ),
        "sound": sound,
    }
