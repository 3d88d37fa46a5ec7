"""Pages out of templates, in the reader's language. Everything put into a template is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from heedlm.feedback.accounts import LANGUAGES
from heedlm.web.words import ZH, in_language

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def language(request: Request) -> str:
    """The language a page is shown in: the person's own, the one chosen in this browser, or the browser's."""
    session = getattr(request.state, "session", None)
    if session is not None:
        return str(session.user.language)
    chosen = request.cookies.get("heed_language") or request.headers.get("accept-language", "")[:2].lower()
    return chosen if chosen in LANGUAGES else "en"


def page(
    request: Request,
    template: str,
    values: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """A page. `data` among the values reaches the page's script as JSON."""
    tongue = language(request)
    session = getattr(request.state, "session", None)
    shown = {
        "data": None,
        **(values or {}),
        "_": lambda text, **more: in_language(text, tongue).format(**more) if more else in_language(text, tongue),
        "day": _day,
        "me": session.user if session else None,
        "csrf": session.csrf if session else "",
        "language": tongue,
        "languages": {"en": "English", "zh": "中文"},
        "site": request.app.state.site,
        "path": request.url.path,
        "script_words": ZH if tongue == "zh" else {},
    }
    return HTMLResponse(_ENVIRONMENT.get_template(template).render(shown), status, dict(headers or {}))


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
