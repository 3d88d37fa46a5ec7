"""Logging in and out, new accounts and passwords, one's own account and sessions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from heedlm.errors import HeedError
from heedlm.feedback import sessions
from heedlm.feedback.accounts import Accounts, Session, User
from heedlm.feedback.errors import BadInput, CodeNeeded, Refused, Throttled
from heedlm.web.access import EVERYBODY, PUBLIC, Me, cookie_name, logged_in, roles
from heedlm.web.render import language, page
from heedlm.web.words import in_language

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
    """Open a session, or ask for the code of the second factor."""
    target = _own_path(next)
    try:
        token, session = _accounts(request).login(name, password, address_of(request), browser_of(request))
    except CodeNeeded as error:
        return page(request, "login_code.html", {"next": target, "ticket": error.ticket, "problem": None})
    except (Refused, Throttled) as error:
        values = {"next": target, "problem": told(request, error), "name": name}
        return page(
            request, "login.html", values, status=401 if isinstance(error, Refused) else 429, headers=wait(error)
        )
    return entered(request, token, session, target)


@router.post("/login/code", openapi_extra=roles(PUBLIC))
def login_code(
    request: Request,
    ticket: Annotated[str, Form(max_length=200)],
    code: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form()] = "/",
) -> Response:
    """The second step: no session was opened before it."""
    target = _own_path(next)
    try:
        found = _accounts(request).login_with_code(ticket, code, address_of(request), browser_of(request))
    except (Refused, Throttled) as error:
        values = {"next": target, "ticket": ticket, "problem": told(request, error)}
        status = 401 if isinstance(error, Refused) else 429
        return page(request, "login_code.html", values, status=status, headers=wait(error))
    return entered(request, *found, target)


def entered(request: Request, token: str, session: Session, target: str) -> Response:
    """Somebody has logged in; the session that this browser had before is ended."""
    old = request.cookies.get(cookie_name(request))
    if old:
        _accounts(request).logout(old)
    response = RedirectResponse(_HOME[session.user.role] if target == "/" else target, 303)
    secure = request.app.state.site.https
    response.set_cookie(cookie_name(request), token, httponly=True, samesite="lax", secure=secure, path="/")
    return response


@router.post("/logout", openapi_extra=roles(*EVERYBODY, without_factor=True))
def logout(request: Request, me: Me, everywhere: Annotated[bool, Form()] = False) -> Response:
    """End this session, or all of this person's."""
    if everywhere:
        sessions.end_all(request.app.state.database, me.id, me.id)
    else:
        _accounts(request).logout(request.cookies[cookie_name(request)])
    return left(request)


def left(request: Request) -> Response:
    """To the login, with nothing of the person left in the browser."""
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


# ---------------------------------------------------------------- invitations and forgotten passwords


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
        values = {"role": role, "token": token, "problem": told(request, error), "name": name}
        return page(request, "join.html", values, status=422)
    return RedirectResponse("/login", 303)


@router.get("/reset/{token}", openapi_extra=roles(PUBLIC))
def reset_page(request: Request, token: str) -> Response:
    """The form for a new password, behind a link that an owner made."""
    name = _accounts(request).reset_for(token)
    return page(
        request, "reset.html", {"name": name, "token": token, "problem": None}, status=200 if name is not None else 404
    )


@router.post("/reset/{token}", openapi_extra=roles(PUBLIC))
def reset(request: Request, token: str, password: Annotated[str, Form(max_length=2000)]) -> Response:
    """Choose a new password; every session of that person ends."""
    try:
        _accounts(request).reset(token, password)
    except BadInput as error:
        values = {"name": _accounts(request).reset_for(token), "token": token, "problem": told(request, error)}
        return page(request, "reset.html", values, status=422)
    return RedirectResponse("/login", 303)


# ---------------------------------------------------------------- one's own account


def account(request: Request, me: User, problem: str | None = None, **answer: Any) -> Response:
    """The page of one's own account."""
    values = {
        "demographics": _accounts(request).demographics(me.id),
        "fields": DEMOGRAPHICS,
        "sessions": sessions.mine(request.app.state.database, me.id),
        "this": logged_in(request).key,
        "second_factor": _accounts(request).second.has(me.id),
        "problem": problem,
    }
    return page(request, "account.html", values, **answer)


@router.get("/account", openapi_extra=roles(*EVERYBODY))
def account_page(request: Request, me: Me) -> Response:
    """One's own account."""
    return account(request, me)


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
        confirm_password(request, me, old)
        _accounts(request).set_password(me.id, new)
    except (BadInput, Refused, Throttled) as error:
        return account(request, me, told(request, error), status=status_of(error), headers=wait(error))
    return left(request)


@router.post("/account/sessions", openapi_extra=roles(*EVERYBODY))
def end_sessions(
    request: Request,
    me: Me,
    password: Annotated[str, Form(max_length=2000)],
    which: Annotated[Literal["chosen", "others"], Form()],
    key: Annotated[list[str], Form(max_length=100)] = [],  # noqa: B006 (read only; FastAPI copies it)
) -> Response:
    """End some of one's own sessions, or all but this one."""
    database, this = request.app.state.database, logged_in(request).key
    try:
        confirm_password(request, me, password)
    except (Refused, Throttled) as error:
        return account(request, me, told(request, error), status=status_of(error), headers=wait(error))
    if which == "others":
        sessions.end_all(database, me.id, me.id, this)
    else:
        sessions.end(database, me.id, key)
    return left(request) if which == "chosen" and this in key else RedirectResponse("/account", 303)


# ---------------------------------------------------------------- what several pages need


def confirm_password(request: Request, me: User, password: str) -> None:
    """Make sure that it is the person who sits there.

    Raises:
        Throttled: Too many wrong passwords.
        Refused: The password is wrong.
    """
    try:
        _accounts(request).check(me.name, password, address_of(request))
    except Refused:
        raise Refused("the password is wrong") from None


def told(request: Request, error: HeedError) -> str:
    """What is wrong, in the reader's language."""
    tongue = language(request)
    if isinstance(error, Throttled):
        return in_language("Too many tries: wait {seconds} seconds.", tongue).format(seconds=round(error.seconds))
    return in_language(str(error), tongue)


def status_of(error: HeedError) -> int:
    """Of a form that is shown again."""
    return 429 if isinstance(error, Throttled) else 422


def wait(error: HeedError) -> dict[str, str]:
    """The header that says how long to wait, if that is what is wrong."""
    return {"retry-after": str(round(error.seconds))} if isinstance(error, Throttled) else {}


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


def browser_of(request: Request) -> str:
    """The browser's family and system, as it calls itself: enough to know one's own sessions by."""
    says = request.headers.get("user-agent", "")
    browsers = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
    systems = {"Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows", "Mac OS": "macOS"}
    named = [next((name for mark, name in marks.items() if mark in says), "") for marks in (browsers, systems)]
    named[1] = named[1] or ("Linux" if "Linux" in says else "")
    return ", ".join(name for name in named if name)


def _own_path(text: str) -> str:
    """A path of this site, never an address elsewhere."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and "\n" not in text and "\r" not in text
    return text if plain and "\\" not in text else "/"
