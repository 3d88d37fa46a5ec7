"""Logging in and out, invitations, one's own account, and the people of the site."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from heedlm.feedback.accounts import ROLES, Accounts, Role
from heedlm.feedback.errors import BadInput, Refused, Throttled
from heedlm.web.access import COOKIE, EVERYBODY, PUBLIC, Me, cookie_name, roles
from heedlm.web.render import language, page

router = APIRouter(tags=["account"])
_HOME = {"owner": "/projects", "manager": "/projects", "annotator": "/annotate", "chat": "/chat"}
DEMOGRAPHICS = ("age", "gender", "first_language", "country", "education")


def _accounts(request: Request) -> Accounts:
    found: Accounts = request.app.state.accounts
    return found


@router.get("/", openapi_extra=roles(*EVERYBODY))
def home(me: Me) -> Response:
    """Everybody's first page."""
    return RedirectResponse(_HOME[me.role], 303)


@router.get("/healthz", openapi_extra=roles(PUBLIC))
def healthy(request: Request) -> Response:
    """Whether the database answers."""
    with request.app.state.database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    return JSONResponse({"status": "ok"})


@router.get("/login", openapi_extra=roles(PUBLIC))
def login_page(request: Request, next: str = "/") -> Response:
    """The form."""
    return page(request, "login.html", {"next": _own_path(next), "problem": None, "name": ""})


@router.post("/login", openapi_extra=roles(PUBLIC))
def login(
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=2000)],
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Open a session; the one that this browser had before is ended."""
    address = request.client.host if request.client else "unknown"
    try:
        token, session = _accounts(request).login(name, password, address)
    except (Refused, Throttled) as error:
        status = 429 if isinstance(error, Throttled) else 401
        wait = round(error.seconds) if isinstance(error, Throttled) else None
        headers = {"retry-after": str(wait)} if wait else {}
        values = {"next": _own_path(next), "problem": wait or True, "name": name}
        return page(request, "login.html", values, status=status, headers=headers)
    old = request.cookies.get(cookie_name(request))
    if old:
        _accounts(request).logout(old)
    target = _own_path(next)
    response = RedirectResponse(_HOME[session.user.role] if target == "/" else target, 303)
    secure = request.app.state.site.https
    response.set_cookie(cookie_name(request), token, httponly=True, samesite="lax", secure=secure, path="/")
    return response


@router.post("/logout", openapi_extra=roles(*EVERYBODY))
def logout(request: Request, me: Me, everywhere: Annotated[bool, Form()] = False) -> Response:
    """End this session, or all of this person's."""
    if everywhere:
        _accounts(request).logout_everywhere(me.id)
    else:
        _accounts(request).logout(request.cookies[cookie_name(request)])
    response = RedirectResponse("/login", 303)
    response.delete_cookie(cookie_name(request), path="/", secure=request.app.state.site.https, httponly=True)
    response.headers["clear-site-data"] = '"cache", "storage"'
    return response


@router.post("/language", openapi_extra=roles(PUBLIC))
def choose_language(request: Request, to: Annotated[str, Form()], next: Annotated[str, Form()] = "/") -> Response:
    """Another language: kept with the person if somebody is logged in, else in the browser."""
    response = RedirectResponse(_own_path(next), 303)
    if request.state.session is not None:
        _accounts(request).change(request.state.session.user.id, {"language": to})
    elif to in ("en", "zh"):
        response.set_cookie("heed_language", to, samesite="lax", httponly=True, secure=request.app.state.site.https)
    return response


# ---------------------------------------------------------------- invitations


@router.get("/join/{token}", openapi_extra=roles(PUBLIC))
def join_page(request: Request, token: str) -> Response:
    """What an invitation promises, and the form to take it up."""
    role = _accounts(request).invitation(token)
    values = {"role": role, "token": token, "problem": None, "name": ""}
    return page(request, "join.html", values, status=200 if role else 404)


@router.post("/join/{token}", openapi_extra=roles(PUBLIC))
def join(
    request: Request,
    token: str,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=2000)],
) -> Response:
    """Make the account."""
    try:
        _accounts(request).accept(token, name, password, language(request))
    except BadInput as error:
        role = _accounts(request).invitation(token)
        values = {"role": role, "token": token, "problem": str(error), "name": name}
        return page(request, "join.html", values, status=422)
    return RedirectResponse("/login", 303)


# ---------------------------------------------------------------- one's own account


@router.get("/account", openapi_extra=roles(*EVERYBODY))
def account_page(request: Request, me: Me) -> Response:
    """One's own account."""
    values = {"demographics": _accounts(request).demographics(me.id), "fields": DEMOGRAPHICS, "problem": None}
    return page(request, "account.html", values)


@router.post("/account", openapi_extra=roles(*EVERYBODY))
async def change_account(request: Request, me: Me) -> Response:
    """Keep what the form says."""
    form = await request.form()
    told = {name: str(form.get(name, "")).strip()[:200] for name in DEMOGRAPHICS}
    topics = [line.strip()[:100] for line in str(form.get("avoids", "")).splitlines() if line.strip()][:100]
    values: dict[str, Any] = {"avoids": topics, "demographics": {key: text for key, text in told.items() if text}}
    _accounts(request).change(me.id, values)
    return RedirectResponse("/account", 303)


@router.post("/account/password", openapi_extra=roles(*EVERYBODY))
def change_password(
    request: Request,
    me: Me,
    old: Annotated[str, Form(max_length=2000)],
    new: Annotated[str, Form(max_length=2000)],
) -> Response:
    """Another password; every session of this person ends."""
    try:
        _accounts(request).set_password(me.id, old, new)
    except (BadInput, Refused) as error:
        values = {
            "demographics": _accounts(request).demographics(me.id),
            "fields": DEMOGRAPHICS,
            "problem": str(error),
        }
        return page(request, "account.html", values, status=422)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE if not request.app.state.site.https else f"__Host-{COOKIE}", path="/")
    return response


# ---------------------------------------------------------------- people


@router.get("/people", openapi_extra=roles("owner"))
def people_page(request: Request, me: Me) -> Response:
    """Everybody, and invitations."""
    values = {"people": _accounts(request).everybody(), "roles": ROLES, "projects": _projects(request, me)}
    return page(request, "people.html", values)


def _projects(request: Request, me: Me) -> list[dict[str, str]]:
    return [{"id": project.id, "name": project.name} for project in request.app.state.projects.mine(me)]


class Invitation(BaseModel):
    """Whom to invite."""

    model_config = ConfigDict(extra="forbid")

    role: Role
    project: str | None = Field(None, max_length=32)
    group: str | None = Field(None, max_length=64)


@router.post("/api/invitations", openapi_extra=roles("owner", "manager"))
def invite(request: Request, me: Me, asked: Invitation) -> Response:
    """A link for one person."""
    if asked.project is not None:
        request.app.state.projects.managed(me, asked.project)
    elif me.role != "owner":
        raise BadInput("project: managers invite into a project of theirs")
    token = _accounts(request).invite(me, asked.role, asked.project, asked.group or None)
    return JSONResponse({"link": f"{request.base_url}join/{token}"}, 201)


class RoleGiven(BaseModel):
    """A person's new role."""

    model_config = ConfigDict(extra="forbid")

    role: Role


@router.put("/api/users/{user}/role", openapi_extra=roles("owner"))
def give_role(request: Request, me: Me, user: str, given: RoleGiven) -> Response:
    """Another role; the person has to log in again."""
    _accounts(request).set_role(me, user, given.role)
    return JSONResponse({"role": given.role})


class Access(BaseModel):
    """Whether a person may log in."""

    model_config = ConfigDict(extra="forbid")

    allowed: bool


@router.put("/api/users/{user}/access", openapi_extra=roles("owner"))
def give_access(request: Request, me: Me, user: str, given: Access) -> Response:
    """Shut a person out, or let them back in."""
    _accounts(request).disable(me, user, again=given.allowed)
    return JSONResponse({"allowed": given.allowed})


def _own_path(text: str) -> str:
    """A path of this site, never an address elsewhere."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and "\n" not in text and "\r" not in text
    return text if plain and "\\" not in text else "/"
