"""A served application for browser tests: a real server on a free port, people, and visits by a real browser.

    def test_something(served, visit):
        served.person("ann")
        with visit("ann", "/annotate") as page: ...

`served` and `visit` are fixtures of tests/browser/conftest.py.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import uvicorn
from tests.web.conftest import PASSWORD, Home

from heedlm.feedback.database import Database
from heedlm.records import Message
from heedlm.web.access import COOKIE
from heedlm.web.app import create_app
from heedlm.web.services import Services, Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOTS = os.environ.get("HEED_SHOTS")  # folder that keeps the screenshots, to look at them


class Parrot:
    """A chat model that says which answer it gives to what, word by word."""

    def __init__(self, name: str = "parrot", pause: float = 0.0) -> None:
        self.name, self.pause = name, pause

    def reply(self, messages: Sequence[Message], seed: int) -> Iterator[str]:
        """An answer that differs by seed."""
        for word in f"{self.name} {seed} says: {messages[-1].content}".split(" "):
            time.sleep(self.pause)
            yield f"{word} "


@dataclass
class Served(Home):
    """An application, its people, and the address it is reached at."""

    url: str = ""

    def session(self, name: str) -> str:
        """The token of a new session of this person's."""
        token: str = self.state.accounts.login(name, PASSWORD, "127.0.0.1")[0]
        return token


@contextmanager
def serving(folder: Path, services: Services | None = None) -> Iterator[Served]:
    """An application on a database in `folder`, served on a free loopback port until the block ends."""
    database = Database(str(folder / "feedback.db"))
    models = {"parrot": Parrot(), "slow parrot": Parrot("slow parrot", 0.05)}
    app = create_app(database, services or Services(runs=folder / "runs", models=models), Site())
    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="warning", access_log=False, ws="none", lifespan="off")
    server, socket = uvicorn.Server(config), config.bind_socket()
    thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started, "the server did not start"
    try:
        made = Served(app, time.time, url=f"http://127.0.0.1:{socket.getsockname()[1]}")
        made.person("olga", "owner")
        yield made
    finally:
        server.should_exit = True
        thread.join(10)
        socket.close()
        database.close()


class Visit:
    """A browser of one person's; what its pages complained of is in `trouble`."""

    def __init__(
        self,
        browser: Browser,
        served: Served,
        name: str | None,
        *,
        width: int = 1280,
        height: int = 800,
        scheme: Literal["light", "dark"] = "light",
        bypass_csp: bool = False,
    ) -> None:
        self.served = served
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
            base_url=served.url,
            bypass_csp=bypass_csp,
        )
        self.context.set_default_timeout(15_000)
        if name is not None:
            self.context.add_cookies([{"name": COOKIE, "value": served.session(name), "url": served.url}])
        self.trouble: list[str] = []
        self.page: Page = self.tab()

    def tab(self, path: str | None = None) -> Page:
        """Another tab of the same browser."""
        page = self.context.new_page()
        page.on("console", lambda said: self.trouble.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("dialog", lambda dialog: (self.trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: self._asked(asked.url))
        if path is not None:
            page.goto(path)
        return page

    def _asked(self, url: str) -> None:
        if not url.startswith((self.served.url, "data:", "blob:")):
            self.trouble.append(f"asked for {url}")

    def axe(self, page: Page | None = None) -> list[str]:
        """What axe finds serious or critical on a page: the rule, where, and why."""
        page = page or self.page
        page.evaluate(_axe())
        found: list[dict[str, Any]] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            f"{each['id']}: {node['target']} {node['failureSummary']}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    def shot(self, name: str, *, whole: bool = True, page: Page | None = None) -> None:
        """A screenshot into the folder that HEED_SHOTS names; none without it."""
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            (page or self.page).screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=whole)

    def wide(self, page: Page | None = None) -> int:
        """By how many pixels the page is wider than its window; 0 unless something sticks out."""
        out: int = (page or self.page).evaluate("document.documentElement.scrollWidth - innerWidth")
        return max(0, out)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()


@cache
def _axe() -> str:
    import axe_core_python

    return (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
