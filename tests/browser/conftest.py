"""A real browser for tests; they are skipped, with the reason, where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher
from tests.browser.serving import Served, Visit, serving

from heedlm.feedback import accounts

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = Path(os.environ.get("HEED_CHROMIUM", "/usr/bin/chromium"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium, or set HEED_CHROMIUM")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The application on a free port, with a database of its own and one owner, olga."""
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    with serving(tmp_path) as made:
        yield made


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Callable[..., Visit]]:
    """`visit("ann", "/annotate", width=390)`: a browser in which ann is logged in, at that page."""
    made: list[Visit] = []

    def go(name: str | None = None, path: str | None = None, **more: object) -> Visit:
        found = Visit(browser, served, name, **more)  # type: ignore[arg-type]
        made.append(found)
        if path is not None:
            found.page.goto(path)
        return found

    yield go
    for each in made:
        each.context.close()
