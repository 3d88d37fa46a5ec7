"""The erasure of a person's data: by the person, with their password, or by an owner, with the person's name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from heedlm.feedback.accounts import User
from heedlm.feedback.erasure import Erased, erase, history
from heedlm.feedback.errors import BadInput, Refused, Throttled
from heedlm.web.access import EVERYBODY, Me, cookie_name, roles
from heedlm.web.render import page

router = APIRouter(tags=["erasure"])


@router.get("/account/erase", openapi_extra=roles(*EVERYBODY))
def erase_me_page(request: Request, me: Me) -> Response:
    """What erasing oneself means."""
    return page(request, "erase.html", {"person": me, "own": True, "problem": None})


@router.post("/account/erase", openapi_extra=roles(*EVERYBODY))
def erase_me(request: Request, me: Me, password: Annotated[str, Form(max_length=2000)]) -> Response:
    """Erase oneself; the password is asked for again."""
    address = request.client.host if request.client else "unknown"
    try:
        request.app.state.accounts.check(me.name, password, address)
        done = erase(request.app.state.database, me, me.id, request.app.state.services.runs)
    except (Refused, Throttled, BadInput) as error:
        values = {"person": me, "own": True, "problem": str(error)}
        return page(request, "erase.html", values, status=429 if isinstance(error, Throttled) else 422)
    request.state.session = None
    response = page(request, "erased.html", {"done": done, "own": True})
    response.delete_cookie(cookie_name(request), path="/", secure=request.app.state.site.https, httponly=True)
    response.headers["clear-site-data"] = '"cache", "storage"'
    return response


@router.get("/people/{user}/erase", openapi_extra=roles("owner"))
def erase_page(request: Request, user: str) -> Response:
    """What erasing somebody means."""
    return page(request, "erase.html", {"person": _person(request, user), "own": False, "problem": None})


@router.post("/people/{user}/erase", openapi_extra=roles("owner"))
def erase_somebody(request: Request, me: Me, user: str, name: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Erase somebody; their name is typed, so that it is nobody else."""
    person = _person(request, user)
    if name.strip() != person.name:
        values = {"person": person, "own": False, "problem": "the name is another one"}
        return page(request, "erase.html", values, status=422)
    done = erase(request.app.state.database, me, user, request.app.state.services.runs)
    return page(request, "erased.html", {"done": done, "own": False})


@router.get("/erasures", openapi_extra=roles("owner"))
def erasures_page(request: Request) -> Response:
    """Everybody who was erased: how much went, and which models had seen it."""
    found = history(request.app.state.database)
    rows = [
        {"at": row["at"], "done": Erased(**{k: v for k, v in row["found"].items() if k in _ERASED})} for row in found
    ]
    return page(request, "erasures.html", {"rows": rows})


_ERASED = Erased.__dataclass_fields__


def _person(request: Request, user: str) -> User:
    accounts = request.app.state.accounts
    for person in accounts.everybody():
        if person["id"] == user:
            found: User = accounts.find(person["name"])
            return found
    raise Refused("there is no such person")
