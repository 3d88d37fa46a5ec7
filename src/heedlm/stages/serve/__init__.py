"""Serve: the web application for chat, annotation, management and runs, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from heedlm.config import Config as Settings
from heedlm.errors import BadInput
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.database import Database
from heedlm.feedback.erasure import finish
from heedlm.runs.launch import Launcher
from heedlm.web.app import create_app
from heedlm.web.pages.loop import jobs_of
from heedlm.web.services import Services, Site


class Config(Settings):
    """Settings of the application; nobody outside this machine reaches it unless `host` says so."""

    positional: ClassVar[str | None] = "database"

    database: str = Field("feedback.db", description="file of the feedback database, or postgresql://user@host/name")
    runs: Path = Field(Path("runs"), description="folder of the runs it shows and starts")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 lets the network in")
    port: int = Field(8321, ge=0, lt=65536, description="port to listen on; 0: any free one")
    names: tuple[str, ...] = Field((), description="names under which people reach it, beside localhost and `host`")
    https: bool = Field(False, description="it is reached through HTTPS, by a proxy before it: cookies go nowhere else")
    title: str = Field("Heed", max_length=60, description="name shown in the corner of every page")


def run(config: Config) -> dict[str, Any]:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        BadInput: The database cannot be opened, or the port is taken.
    """
    import uvicorn

    database = Database(config.database)
    try:
        if not any(person["role"] == "owner" for person in Accounts(database).everybody()):
            words = f"heed owner NAME database={config.database}"
            print(f"nobody can log in yet: make the first owner with: {words}", file=sys.stderr)
        finish(database, config.runs)
        app = create_app(database, services(config), site(config))
        jobs_of(app)
        listening = uvicorn.Config(
            app, config.host, config.port, log_level="warning", access_log=False, server_header=False
        )
        server = uvicorn.Server(listening)
        try:
            socket = listening.bind_socket()
        except (SystemExit, OSError):
            raise BadInput(f"port={config.port}: cannot listen on {config.host}: taken, or not allowed") from None
        port = socket.getsockname()[1]
        print(f"serving on http://{config.host}:{port} (Ctrl-C stops it)", file=sys.stderr, flush=True)
        server.run([socket])
        return {"served": f"{config.host}:{port}"}
    finally:
        database.close()


def site(config: Config) -> Site:
    """Where and how the application is reached."""
    hosts = tuple(dict.fromkeys((*Site().hosts, *config.names, config.host)))
    return Site(
        hosts=tuple(h for h in hosts if h not in ("testserver", "0.0.0.0")), https=config.https, name=config.title
    )


def services(config: Config) -> Services:
    """Models to talk to, runs to show."""
    return Services(runs=config.runs, launcher=Launcher())
