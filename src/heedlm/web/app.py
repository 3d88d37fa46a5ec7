"""The application: one function makes it, with everything that holds for all of its pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from heedlm import __version__
from heedlm.errors import HeedError
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.assignment import Assigner
from heedlm.feedback.conversations import Conversations
from heedlm.feedback.database import Database
from heedlm.feedback.errors import BadInput, Conflict, Refused, Throttled
from heedlm.feedback.projects import Projects
from heedlm.web import pages
from heedlm.web.access import API, FactorNeeded, Forbidden, LoginNeeded, guard
from heedlm.web.answering import Answering
from heedlm.web.limits import SmallBodies
from heedlm.web.pages import api_v1
from heedlm.web.render import page
from heedlm.web.services import Services, Site

# Nothing but this site's own files; no inline script or style; nothing may turn text into markup or script.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "object-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
_STATUS: dict[type[HeedError], int] = {
    LoginNeeded: 401,
    Forbidden: 403,
    Refused: 404,
    Conflict: 409,
    BadInput: 422,
    Throttled: 429,
}


def create_app(database: Database, services: Services | None = None, site: Site | None = None) -> FastAPI:
    """The application on a database.

    Args:
        database: Where people, tasks and labels are kept.
        services: Models to talk to, runs to show, what starts commands.
        site: Where and how it is reached.
    """
    site = site or Site()
    app = FastAPI(
        title="Heed",
        version=__version__,
        dependencies=[Depends(guard)],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.database, app.state.services, app.state.site = database, services or Services(), site
    app.state.accounts, app.state.projects = Accounts(database), Projects(database)
    app.state.assigner = Assigner(database)
    app.state.conversations = Conversations(database)
    app.state.conversations.abandon()
    app.state.answering = Answering(app.state.conversations, app.state.services)
    for router in pages.routers():
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_exception_handler(HeedError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(SmallBodies, biggest=site.biggest)
    app.add_middleware(
        TrustedHostMiddleware, allowed_hosts=[host.strip("[]") for host in site.hosts], www_redirect=False
    )
    app.middleware("http")(_headers)  # the outermost: what the others refuse carries the headers too
    return app


async def _headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    return _secured(request, await answer(request))


def _secured(request: Request, response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.app.state.site.https:
        response.headers.setdefault("strict-transport-security", "max-age=31536000; includeSubDomains")
    static = request.url.path.startswith("/static/")
    response.headers.setdefault("cache-control", "no-cache" if static else "no-store")
    return response


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def problem(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal, as a page for people and as JSON for scripts."""
    if request.url.path.startswith(API):
        return api_v1.refusal(status, message, headers)
    if _wants_page(request):
        return page(request, "problem.html", {"status": status, "message": message}, status=status, headers=headers)
    return JSONResponse({"error": {"message": message, "status": status}}, status, headers)


async def _told(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 401 and _wants_page(request) and request.method == "GET":
        return RedirectResponse(f"/login?next={request.url.path}", 303)
    if isinstance(error, FactorNeeded) and _wants_page(request) and request.method == "GET":
        return RedirectResponse("/account/second", 303)
    headers = {"retry-after": str(round(error.seconds))} if isinstance(error, Throttled) else None
    return problem(request, status, str(error), headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return problem(request, 422, f"{where}: {first['msg']}" if where else str(first["msg"]))


async def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "there is no such page", 405: "this cannot be done here"}
    return problem(request, error.status_code, words.get(error.status_code, error.detail))


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours: the log has the details, the page does not."""
    message = "something went wrong on our side; nothing you sent was half kept"
    return _secured(request, problem(request, 500, message))  # it does not come by `_headers`
