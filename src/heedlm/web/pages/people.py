"""The people of the site: invitations, roles, who may log in, and the way back for who forgot or lost something."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from heedlm.feedback import sessions
from heedlm.feedback.accounts import ROLES, Accounts, Role
from heedlm.feedback.errors import BadInput, Refused
from heedlm.web.access import Me, roles
from heedlm.web.render import page

router = APIRouter(tags=["people"])


def _accounts(request: Request) -> Accounts:
    found: Accounts = request.app.state.accounts
    return found


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


@router.post("/api/users/{user}/reset", openapi_extra=roles("owner"))
def make_reset_link(request: Request, me: Me, user: str) -> Response:
    """A link by which that person chooses a new password; nobody else gets to know it."""
    token = _accounts(request).reset_link(me, user)
    return JSONResponse({"link": f"{request.base_url}reset/{token}"}, 201)


@router.post("/api/users/{user}/logout", openapi_extra=roles("owner"))
def end_sessions(request: Request, me: Me, user: str) -> Response:
    """End every session of a person."""
    return JSONResponse({"ended": sessions.end_all(request.app.state.database, _somebody(request, user), me.id)})


@router.delete("/api/users/{user}/second", openapi_extra=roles("owner"))
def remove_second_factor(request: Request, me: Me, user: str) -> Response:
    """Remove the second factor of a person who has lost it; the person has to log in again."""
    return JSONResponse({"removed": _accounts(request).second.remove(_somebody(request, user), me.id)})


def _somebody(request: Request, user: str) -> str:
    if all(person["id"] != user for person in _accounts(request).everybody()):
        raise Refused("there is no such person")
    return user
