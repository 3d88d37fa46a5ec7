"""The members of a project: who they are, what they have done, how well, and what they may do."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from heedlm.feedback import overview
from heedlm.feedback.accounts import User
from heedlm.web.access import Me
from heedlm.web.pages.agreement import measurer, reason_in
from heedlm.web.pages.manage import MANAGERS, section, store
from heedlm.web.render import language, page

router = APIRouter(tags=["manage"])


class Member(BaseModel):
    """Whom to add."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    role: Literal["annotator", "manager"] = "annotator"


class Standing(BaseModel):
    """What a member may do; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["annotator", "manager"] | None = None
    qualified: bool | None = None


def _people(request: Request, me: User, project: str) -> list[dict[str, Any]]:
    """The members, each with counts, time, agreement, share of right answers to gold, and what is suspected."""
    projects = store(request)
    known = projects.managed(me, project)
    found = measurer(request).measure(known)
    counts = overview.counts(projects, project)
    tongue = language(request)
    suspected = {each.annotator: [reason_in(text, tongue) for text in each.reasons] for each in found.suspicions}
    with_others = {person.annotator: person.others for person in found.report.people}
    rows: list[dict[str, Any]] = []
    for person in projects.people(project):
        done: dict[str, int] = counts.get(person["id"], defaultdict(int))
        others, gold = with_others.get(person["id"]), found.gold.get(person["id"])
        rows.append(
            {
                **person,
                "done": done["done"],
                "open": done["leased"],
                "skipped": done["skipped"],
                "seconds": found.seconds.get(person["id"]),
                "agreement": None if others is None else others.share,
                "kappa": None if others is None else others.kappa,
                "gold": None if gold is None else gold.share,
                "flags": suspected.get(person["id"], []),
            }
        )
    return rows


@router.get("/projects/{project}/members", openapi_extra=MANAGERS)
def members_page(request: Request, me: Me, project: str) -> Response:
    """The members and how they do."""
    values = {**section(request, me, project, "members"), "people": _people(request, me, project)}
    return page(request, "project_members.html", values)


@router.get("/api/projects/{project}/members", openapi_extra=MANAGERS)
def members_json(request: Request, me: Me, project: str) -> Response:
    """The same as JSON."""
    return JSONResponse({"members": _people(request, me, project)})


@router.post("/api/projects/{project}/members", openapi_extra=MANAGERS)
def add(request: Request, me: Me, project: str, given: Member) -> Response:
    """Add a person who has an account, by name."""
    key = overview.add_by_name(store(request), me, project, given.name, given.role)
    return JSONResponse({"user": key, "role": given.role}, 201)


@router.patch("/api/projects/{project}/members/{user}", openapi_extra=MANAGERS)
def change(request: Request, me: Me, project: str, user: str, given: Standing) -> Response:
    """Another role in the project, or the word on the qualification test."""
    projects = store(request)
    overview.check_member(projects, me, project, user)
    if given.role is not None:
        projects.join(me, project, user, given.role)
    if "qualified" in given.model_fields_set:
        overview.set_qualified(projects, me, project, user, given.qualified)
    found = overview.check_member(projects, me, project, user)
    return JSONResponse({"user": user, "role": found["role"], "qualified": found["qualified"]})


@router.delete("/api/projects/{project}/members/{user}", openapi_extra=MANAGERS)
def remove(request: Request, me: Me, project: str, user: str) -> Response:
    """Take a person out; what they hold goes to others, what they said stays."""
    projects = store(request)
    overview.check_member(projects, me, project, user)
    projects.leave(me, project, user)
    request.app.state.assigner.release_all(project, user)
    return JSONResponse({"removed": user})
