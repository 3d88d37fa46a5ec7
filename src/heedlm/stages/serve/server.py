"""The process that serves: one database, one port, models, and an end that loses nothing."""

from __future__ import annotations

import socket
import sys
import threading
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from heedlm.errors import BadInput
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.database import Database
from heedlm.feedback.erasure import finish
from heedlm.runs.launch import Launcher
from heedlm.stages.serve.models import load, load_all
from heedlm.web.app import create_app
from heedlm.web.pages.loop import jobs_of
from heedlm.web.services import Services, Site

if TYPE_CHECKING:
    from heedlm.stages.serve import Config

PATIENCE = 10  # seconds that requests under way have to end once the server is asked to stop


class Server(uvicorn.Server):
    """Ends answers that are being written when it is asked to stop, keeps them, and then leaves without complaint."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self.app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully at the first signal, at once at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True
        # Not in the handler itself: it runs between any two lines, perhaps while a lock is held.
        threading.Thread(target=self.app.state.answering.close, daemon=True).start()


def serve(config: Config) -> dict[str, Any]:
    """Serve until Ctrl-C or SIGTERM; see `run`."""
    database = Database(config.database)
    try:
        finish(database, config.runs)
        app = create_app(database, services(config), site(config))
        listening = uvicorn.Config(
            app,
            config.host,
            config.port,
            log_level="warning",
            access_log=False,  # addresses hold the tokens of invitations
            server_header=False,
            ws="none",
            lifespan="off",
            proxy_headers=bool(config.proxies),
            forwarded_allow_ips=list(config.proxies),
            timeout_graceful_shutdown=PATIENCE,
        )
        listener = listen(listening)
        jobs_of(app)
        port = int(listener.getsockname()[1])
        print(greeting(config, database, list(app.state.services.models), port), file=sys.stderr, flush=True)
        Server(listening, app).run([listener])
        app.state.answering.close()
        return {"served": f"{config.host}:{port}", "text": "stopped; nothing was lost"}
    finally:
        database.close()


def listen(config: uvicorn.Config) -> socket.socket:
    """The bound socket, whose connections send what they have at once.

    Without that (asyncio leaves it out for sockets it has not made itself) the head and the body of an answer are two
    packets, and the second waits up to 40 ms until the other side confirms the first.

    Raises:
        BadInput: The port is taken.
    """
    try:
        listener = config.bind_socket()
    except (SystemExit, OSError):
        raise BadInput(f"port={config.port}: cannot listen on {config.host}: taken, or not allowed") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # whom it accepts inherits this
    return listener


def greeting(config: Config, database: Database, models: list[str], port: int) -> str:
    """What is served where, and what is missing before people can use it."""
    here = f"[{config.host}]" if ":" in config.host else config.host
    address = f"http://{'localhost' if config.host in ('0.0.0.0', '::') else here}:{port}"
    lines = [f"serving on {address} (Ctrl-C stops it)", f"  database  {database}", f"  runs      {config.runs}"]
    lines.append(f"  chat      {', '.join(models) if models else 'no model yet: chat=RUN adds one'}")
    if not any(person["role"] == "owner" for person in Accounts(database).everybody()):
        lines.append(f"nobody can log in yet: make the first owner with: heed owner NAME database={database}")
    if config.host not in ("127.0.0.1", "localhost", "::1"):
        if not config.names:
            lines.append("others reach it only under names you give: names=heed.example.org")
        if not config.https:
            lines.append("passwords cross the network readable: put a proxy with HTTPS before it and set https=true")
    return "\n".join(lines)


def site(config: Config) -> Site:
    """Where and how the application is reached."""
    hosts = tuple(dict.fromkeys((*Site().hosts, *config.names, config.host)))
    return Site(
        hosts=tuple(h for h in hosts if h not in ("testserver", "0.0.0.0")),
        https=config.https,
        name=config.title,
        second_factor=config.second_factor,
    )


def services(config: Config) -> Services:
    """Models to talk to, runs to show, and what starts commands.

    Raises:
        BadInput: A model cannot be loaded.
    """
    return Services(
        runs=config.runs,
        models=load_all(config.chat, config.models),
        load=partial(load, manner=config.models),
        launcher=Launcher(),
    )
