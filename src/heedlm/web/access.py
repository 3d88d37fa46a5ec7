"""Who may call what. Every route names its roles, and one that does not is closed to everybody.

    router.get("/projects", openapi_extra=roles("owner", "manager"))

The check runs before every route of the application (`app.create_app`), and so does the one against forged requests:
no route can forget either. Whose object a key names is for the store to say (`feedback.errors.Refused`).
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from heedlm.errors import HeedError
from heedlm.feedback.accounts import ROLES, Accounts, Session, User
from heedlm.feedback.tokens import Tokens

COOKIE = "heed_session"
PUBLIC = "public"
API = "/v1/"  # for programs, which show a personal token
EVERYBODY = ROLES
_SAFE = {"GET", "HEAD", "OPTIONS"}


class LoginNeeded(HeedError):
    """Nobody is logged in."""


class Forbidden(HeedError):
    """Who is logged in may not do this."""


class FactorNeeded(Forbidden):
    """This site asks the role for a second factor, and the person has none yet."""


def roles(*names: str, without_factor: bool = False) -> dict[str, Any]:
    """For `openapi_extra`: the roles that may call a route; PUBLIC: anybody.

    Args:
        names: The roles.
        without_factor: Open also to people who have yet to set up the second factor that their role needs.
    """
    if not names or not set(names) <= {PUBLIC, *ROLES}:
        raise ValueError(f"unknown roles: {names}")
    return {"x-roles": list(names), "x-without-factor": without_factor}


def cookie_name(request: Request) -> str:
    """With HTTPS the cookie is bound to this host and its secure origin by its name."""
    return f"__Host-{COOKIE}" if request.app.state.site.https else COOKIE


async def guard(request: Request) -> None:
    """Let a request through, or not; runs before every route.

    Raises:
        LoginNeeded: The route is not public, and nobody is logged in.
        FactorNeeded: The site asks this role for a second factor, and there is none.
        Forbidden: The role is not among the route's, or the request was forged.
    """
    extra = getattr(request.scope.get("route"), "openapi_extra", None) or {}
    allowed = extra.get("x-roles", ())
    accounts: Accounts = request.app.state.accounts
    if request.url.path.startswith(API):
        session = await run_in_threadpool(_of_program, request)
    else:
        token = request.cookies.get(cookie_name(request))
        session = await run_in_threadpool(accounts.session, token) if token else None
    request.state.session = session
    if PUBLIC not in allowed:
        if session is None:
            raise LoginNeeded("please log in")
        needs_factor = session.user.role in request.app.state.site.second_factor and not extra.get("x-without-factor")
        if needs_factor and not await run_in_threadpool(accounts.second.has, session.user.id):
            raise FactorNeeded("set up a second factor first")
        if session.user.role not in allowed:
            raise Forbidden("this is not for your role")
    if request.method not in _SAFE and not request.url.path.startswith(API):
        await _not_forged(request, session)


def _of_program(request: Request) -> Session | None:
    """Whose program calls. Cookies count for nothing here, so no page can make a browser call in somebody's name."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    user = Tokens(request.app.state.database).user(token.strip()) if kind.lower() == "bearer" else None
    return Session(user, "") if user is not None else None


async def _not_forged(request: Request, session: Session | None) -> None:
    """A request that changes something comes from our own pages.

    Browsers say where a request comes from (`Sec-Fetch-Site`, `Origin`); a person who is logged in proves it by the
    token of their session too, in a header or a form field.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin", "none"):
        raise Forbidden("the request comes from another site")
    if origin is not None and origin != _own_origin(request):
        raise Forbidden("the request comes from another site")
    if session is None:
        return
    given = request.headers.get("x-csrf-token")
    if given is None and request.headers.get("content-type", "").startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        field = (await request.form()).get("csrf")
        given = field if isinstance(field, str) else None
    if given is None or not hmac.compare_digest(given.encode(), session.csrf.encode()):
        raise Forbidden("the page is out of date: reload it and try again")


def _own_origin(request: Request) -> str:
    scheme = "https" if request.app.state.site.https else request.url.scheme
    return f"{scheme}://{request.headers.get('host', '')}"


def logged_in(request: Request) -> Session:
    """Who is logged in; `guard` made sure that somebody is."""
    session: Session | None = request.state.session
    if session is None:
        raise LoginNeeded("please log in")
    return session


def current_user(request: Request) -> User:
    """The person who is logged in."""
    return logged_in(request).user


Me = Annotated[User, Depends(current_user)]
