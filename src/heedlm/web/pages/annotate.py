"""Annotation: the projects one may work in, the task page, and one's own replies.

What is sent to an annotator is the conversation, the texts of the answers in the order drawn for them, steps and
critiques. Who gave an answer, what an item is for and what is expected of it never leave the server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from heedlm.errors import BadInput
from heedlm.feedback.assignment import Assigner, Task
from heedlm.feedback.desk import Desk, Said
from heedlm.feedback.kinds import CATEGORIES, FLAGS
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.tasks import as_shown
from heedlm.records.types import Strength
from heedlm.web.access import Me, roles
from heedlm.web.render import page

router = APIRouter(tags=["annotate"])
_WORKERS = roles("owner", "manager", "annotator")
_DEEPEST = 8  # lists and objects inside each other in what a page sends
CRITERIA = {
    "overall": ("Overall", "All things considered: is it the answer one would want to be given?"),
    "helpful": ("Helpful", "Does it do what was asked, completely and clearly?"),
    "honest": ("Honest", "Is it true, and does it say so where it does not know?"),
    "harmless": ("Harmless", "Does it keep everybody from harm?"),
}


def _parts(request: Request) -> tuple[Projects, Assigner, Desk]:
    return request.app.state.projects, request.app.state.assigner, Desk(request.app.state.database)


def _plain(value: Any, depth: int = 0) -> Any:
    """What a page sent, without what no database and no answer can hold: half characters, NUL, NaN, endless depth."""
    if depth > _DEEPEST:
        raise BadInput(f"more than {_DEEPEST} levels deep")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput("a number is not finite")
    if isinstance(value, dict):
        return {_plain(key): _plain(each, depth + 1) for key, each in value.items()}
    return [_plain(each, depth + 1) for each in value] if isinstance(value, list) else value


Plain = Annotated[dict[str, Any], AfterValidator(_plain)]


class Draft(BaseModel):
    """What was entered so far, as the page wants it back."""

    model_config = ConfigDict(extra="forbid")

    draft: Plain


class Submitted(BaseModel):
    """A reply; `key` is the page's own, and the same key again is the same reply."""

    model_config = ConfigDict(extra="forbid")

    reply: Plain
    key: str = Field(min_length=8, max_length=64, pattern=r"^[\w-]+$")
    base: int = Field(ge=0)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class Skipped(BaseModel):
    """Why a task is given back."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_plain)]


# ---------------------------------------------------------------- pages


@router.get("/annotate", openapi_extra=_WORKERS)
def projects_page(request: Request, me: Me) -> Response:
    """The projects one may work in."""
    projects, _, desk = _parts(request)
    rows = [(project, desk.standing(me, project)) for project in projects.mine(me)]
    # What one can go on with comes first; a closed project is only shown to whom it has a part of.
    shown = [(project, standing) for project, standing in rows if standing.state != "closed" or standing.done]
    shown.sort(key=lambda row: row[1].state not in ("open", "testing"))
    return page(request, "annotate.html", {"rows": shown, "criteria": CRITERIA})


@router.get("/annotate/{project}", openapi_extra=_WORKERS)
def task_page(request: Request, me: Me, project: str) -> Response:
    """Where tasks are done; nothing is taken before the page asks for it."""
    projects, _, desk = _parts(request)
    known = projects.seen(me, project)
    guideline = projects.guideline(project)
    data = {
        **_facts(known, me.id),
        "warn": known.settings.warn,
        "critiques_first": known.settings.critiques_first,
        "guideline": asdict(guideline),
        "standing": asdict(desk.standing(me, known)),
    }
    values = {"project": known, "criterion": CRITERIA[known.criterion], "guideline": guideline, "data": data}
    return page(request, "annotate_project.html", values)


@router.get("/annotate/{project}/done", openapi_extra=_WORKERS)
def done_page(request: Request, me: Me, project: str, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
    """One's own replies, to be looked at and corrected."""
    projects, _, desk = _parts(request)
    known = projects.seen(me, project)
    found = desk.done(me, project, limit)
    rows = [
        {**_said(known, each), "task": each.task, "prompt": _short(each.content.prompt[-1].content), "at": each.created}
        for each in found
    ]
    data = {**_facts(known, me.id), "rows": rows}
    more = min(1000, limit + 100) if len(found) == limit and limit < 1000 else None
    return page(request, "annotate_done.html", {"project": known, "data": data, "more": more})


def _facts(project: Project, me: str) -> dict[str, Any]:
    """What the page's script needs to know of a project."""
    return {
        "project": project.id,
        "me": me,
        "kind": project.kind.name,
        "flags": FLAGS,
        "categories": CATEGORIES,
        "strengths": get_args(Strength),
    }


# ---------------------------------------------------------------- tasks


@router.post("/api/projects/{project}/next", openapi_extra=_WORKERS)
def next_task(request: Request, me: Me, project: str) -> Response:
    """The task one is at, or a new one, which is then one's own for a while; null if there is none."""
    projects, assigner, desk = _parts(request)
    known = projects.seen(me, project)
    task = assigner.next(me, project)
    shown = _shown(request, known, task) if task is not None else None
    return JSONResponse({"task": shown, "standing": asdict(desk.standing(me, known))})


@router.get("/api/projects/{project}/guideline", openapi_extra=_WORKERS)
def newest_guideline(request: Request, me: Me, project: str) -> Response:
    """The newest guidelines."""
    projects, _, _ = _parts(request)
    projects.seen(me, project)
    return JSONResponse(asdict(projects.guideline(project)))


@router.get("/api/tasks/{task}", openapi_extra=_WORKERS)
def one_task(request: Request, me: Me, task: str) -> Response:
    """A task of one's own."""
    projects, assigner, _ = _parts(request)
    found = assigner.task(me, task)
    return JSONResponse(_shown(request, projects.seen(me, found.project), found))


@router.put("/api/tasks/{task}/draft", openapi_extra=_WORKERS)
def keep_draft(request: Request, me: Me, task: str, given: Draft) -> Response:
    """Keep what was entered so far, and the task with it."""
    _, assigner, _ = _parts(request)
    expires = assigner.draft(me, task, given.draft)
    return JSONResponse({"seconds_left": _left(request, expires)})


@router.post("/api/tasks/{task}/submit", openapi_extra=_WORKERS)
def submit(request: Request, me: Me, task: str, given: Submitted) -> Response:
    """Take a reply. What this answers is on disk."""
    _, assigner, _ = _parts(request)
    label = assigner.submit(me, task, given.reply, key=given.key, base=given.base, seconds=given.seconds)
    return JSONResponse({"version": label.version, "repeated": label.repeated})


@router.post("/api/tasks/{task}/skip", openapi_extra=_WORKERS)
def skip(request: Request, me: Me, task: str, given: Skipped) -> Response:
    """Give a task back."""
    _, assigner, _ = _parts(request)
    assigner.skip(me, task, given.reason)
    return JSONResponse({"skipped": True})


@router.get("/api/tasks/{task}/history", openapi_extra=_WORKERS)
def history(request: Request, me: Me, task: str) -> Response:
    """Every version of one's own reply to a task, newest first."""
    projects, assigner, desk = _parts(request)
    known = projects.seen(me, assigner.task(me, task).project)
    rows = [{**_said(known, each), "at": each.created, "seconds": each.seconds} for each in desk.history(me, task)]
    return JSONResponse({"versions": rows})


def _shown(request: Request, project: Project, task: Task) -> dict[str, Any]:
    """A task as its annotator may see it."""
    content = task.content
    critiques = [*content.critiques, *[""] * len(task.order)][: len(task.order)]
    return {
        "id": task.id,
        "project": task.project,
        "state": task.state,
        "seconds_left": _left(request, task.expires),
        "version": task.version,
        "reply": project.kind.shown(task.reply, task.order) if task.reply is not None else None,
        "draft": task.draft,
        "prompt": [{"role": message.role, "content": message.content} for message in content.prompt],
        "answers": [answer.text for answer in as_shown(content.answers, task.order)],
        "steps": list(content.steps),
        "critiques": as_shown(critiques, task.order),
        "topics": list(task.topics),
        "guideline": request.app.state.projects.guideline(project.id).version,
    }


def _said(project: Project, said: Said) -> dict[str, Any]:
    """One of one's own replies, as it was shown."""
    reply: Any = project.kind.shown(said.reply, said.order)
    return {
        "version": said.version,
        "reply": reply,
        "guideline": said.guideline,
        "answers": len(said.content.answers),
        "steps": len(said.content.steps),
    }


def _left(request: Request, expires: float) -> float:
    """Seconds that a lease still runs; the browser's clock may be wrong."""
    return max(0.0, expires - float(request.app.state.database.now()))


def _short(text: str, most: int = 160) -> str:
    words: Sequence[str] = text.split()
    line = " ".join(words)
    return line if len(line) <= most else line[: most - 1] + "…"
