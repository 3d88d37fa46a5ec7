"""The second factor of one's own account: setting it up, new recovery codes, removing it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from heedlm.feedback.accounts import User
from heedlm.feedback.errors import Refused, Throttled
from heedlm.feedback.second_factor import SecondFactors, address
from heedlm.web.access import EVERYBODY, Me, logged_in, roles
from heedlm.web.pages.account import confirm_password, status_of, told, wait
from heedlm.web.qr import qr_path
from heedlm.web.render import page

router = APIRouter(tags=["second factor"])
OPEN = roles(*EVERYBODY, without_factor=True)
Password = Annotated[str, Form(max_length=2000)]
Code = Annotated[str, Form(max_length=200)]


def _store(request: Request) -> SecondFactors:
    found: SecondFactors = request.app.state.accounts.second
    return found


def _state(request: Request, me: User, problem: str | None = None, **answer: Any) -> Response:
    values = {
        "on": _store(request).has(me.id),
        "left": _store(request).codes_left(me.id),
        "needed": me.role in request.app.state.site.second_factor,
        "problem": problem,
    }
    return page(request, "second_factor.html", values, **answer)


def _setup(request: Request, me: User, secret: str, problem: str | None = None, **answer: Any) -> Response:
    link = address(secret, me.name, request.app.state.site.name)
    size, path = qr_path(link)
    shown = " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))
    values = {"secret": shown, "link": link, "size": size, "picture": path, "problem": problem}
    return page(request, "second_factor_setup.html", values, **answer)


@router.get("/account/second", openapi_extra=OPEN)
def state_page(request: Request, me: Me) -> Response:
    """Whether one has a second factor, and what can be done."""
    return _state(request, me)


@router.post("/account/second", openapi_extra=OPEN)
def begin(request: Request, me: Me, password: Password) -> Response:
    """Make a secret and show it; it does not count yet."""
    try:
        confirm_password(request, me, password)
    except (Refused, Throttled) as error:
        return _state(request, me, told(request, error), status=status_of(error), headers=wait(error))
    return _setup(request, me, _store(request).begin(me.id))


@router.post("/account/second/confirm", openapi_extra=OPEN)
def confirm(request: Request, me: Me, code: Code) -> Response:
    """The first code: from now on one is asked for at each login; other sessions end."""
    try:
        codes = _store(request).confirm(me.id, code, logged_in(request).key)
    except (Refused, Throttled) as error:
        secret = _store(request).pending(me.id)
        if secret is None:
            return RedirectResponse("/account/second", 303)
        return _setup(request, me, secret, told(request, error), status=status_of(error), headers=wait(error))
    return page(request, "second_factor_codes.html", {"codes": codes})


@router.post("/account/second/codes", openapi_extra=roles(*EVERYBODY))
def new_codes(request: Request, me: Me, password: Password, code: Code) -> Response:
    """Ten new recovery codes instead of the old ones."""
    try:
        confirm_password(request, me, password)
        _store(request).check(me.id, code)
    except (Refused, Throttled) as error:
        return _state(request, me, told(request, error), status=status_of(error), headers=wait(error))
    return page(request, "second_factor_codes.html", {"codes": _store(request).new_codes(me.id)})


@router.post("/account/second/remove", openapi_extra=roles(*EVERYBODY))
def remove(request: Request, me: Me, password: Password, code: Code) -> Response:
    """Log in without a second factor again; other sessions end."""
    try:
        confirm_password(request, me, password)
        _store(request).check(me.id, code)
    except (Refused, Throttled) as error:
        return _state(request, me, told(request, error), status=status_of(error), headers=wait(error))
    _store(request).remove(me.id, me.id, logged_in(request).key)
    return RedirectResponse("/account/second", 303)
