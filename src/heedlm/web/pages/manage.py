"""Projects: the list, making one, its overview, its guidelines and its settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from heedlm.errors import BadInput
from heedlm.evals import human
from heedlm.feedback import blind, overview
from heedlm.feedback.accounts import User
from heedlm.feedback.adjudication import Adjudication
from heedlm.feedback.kinds import FirstWrong, Pair, Rank, Rate, Thumbs, Write
from heedlm.feedback.projects import Project, Projects
from heedlm.records.types import Criterion
from heedlm.web.access import Me, roles
from heedlm.web.pages.annotate import CRITERIA
from heedlm.web.render import page

router = APIRouter(tags=["manage"])
MANAGERS = roles("owner", "manager")
_Kind = type[Rank | Pair | Rate | Thumbs | Write | FirstWrong]
_KINDS: tuple[_Kind, ...] = (Rank, Pair, Rate, Thumbs, Write, FirstWrong)
_NAMES: dict[_Kind, FieldInfo] = {kind: kind.model_fields["name"] for kind in _KINDS}
TITLES = {str(field.default): str(kind.title) for kind, field in _NAMES.items()}
DESCRIPTIONS = {str(field.default): str(field.description) for field in _NAMES.values()}


def store(request: Request) -> Projects:
    """The store of projects."""
    found: Projects = request.app.state.projects
    return found


def facts(project: Project) -> dict[str, Any]:
    """A project as JSON."""
    return {
        "id": project.id,
        "name": project.name,
        "kind": project.kind.name,
        "criterion": project.criterion,
        "overlap": project.overlap,
        "settings": project.settings.model_dump(mode="json"),
        "created": project.created,
        "closed": project.closed,
    }


def section(request: Request, me: User, project: str, tab: str) -> dict[str, Any]:
    """What every page of a project shows at its top; only for its managers."""
    known = store(request).managed(me, project)
    waiting = len(Adjudication(store(request)).queue(me, project))
    values = {"project": known, "title": TITLES[known.kind.name], "criterion": CRITERIA[known.criterion][0]}
    return {**values, "tab": tab, "waiting": waiting}


# ---------------------------------------------------------------- the list


def _mine(request: Request, me: User) -> list[Project]:
    projects = store(request)
    if me.role == "owner":
        return projects.mine(me)
    members = {project.id: projects.people(project.id) for project in projects.mine(me)}
    return [
        project
        for project in projects.mine(me)
        if any(person["id"] == me.id and person["role"] == "manager" for person in members[project.id])
    ]


@router.get("/projects", openapi_extra=MANAGERS)
def projects_page(request: Request, me: Me) -> Response:
    """The projects one manages."""
    rows = [(project, store(request).progress(project)) for project in _mine(request, me)]
    return page(request, "projects.html", {"rows": rows, "titles": TITLES, "criteria": CRITERIA})


@router.get("/api/projects", openapi_extra=MANAGERS)
def projects_list(request: Request, me: Me) -> Response:
    """The same as JSON."""
    rows = [{**facts(project), "progress": store(request).progress(project)} for project in _mine(request, me)]
    return JSONResponse({"projects": rows})


# ---------------------------------------------------------------- making


class NewProject(BaseModel):
    """What a project is to be."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=120)
    kind: str = Field(max_length=16)
    criterion: Criterion = "overall"
    overlap: int = Field(1, ge=1, le=100)
    settings: dict[str, Any] = Field(default_factory=dict, max_length=20)
    guideline: str = Field("", max_length=200_000)


class NewBlind(BaseModel):
    """Which two runs to compare blindly, as `stage/name`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=120)
    first: str = Field(max_length=300)
    second: str = Field(max_length=300)
    criterion: Criterion = "overall"
    overlap: int = Field(1, ge=1, le=100)
    guideline: str = Field("", max_length=200_000)
    limit: int | None = Field(None, ge=1)


@router.get("/projects/new", openapi_extra=MANAGERS)
def new_page(request: Request, me: Me) -> Response:
    """The forms to make one."""
    values = {
        "titles": TITLES,
        "descriptions": DESCRIPTIONS,
        "criteria": CRITERIA,
        "runs": blind.answered_runs(request.app.state.services.runs),
    }
    return page(request, "project_new.html", values)


@router.post("/api/projects", openapi_extra=MANAGERS)
def create(request: Request, me: Me, asked: NewProject) -> Response:
    """A new project, without items."""
    if asked.kind not in TITLES:
        raise BadInput(f"kind={asked.kind!r}: must be one of {', '.join(TITLES)}")
    made = store(request).create(
        me,
        asked.name,
        asked.kind,
        criterion=asked.criterion,
        overlap=asked.overlap,
        settings=asked.settings,
        guideline=asked.guideline,
    )
    return JSONResponse(facts(made), 201)


@router.post("/api/blind", openapi_extra=MANAGERS)
def compare_blindly(request: Request, me: Me, asked: NewBlind) -> Response:
    """A project that compares the answers of two runs."""
    made, told = blind.make(
        store(request),
        me,
        asked.name,
        answered_run(request, asked.first),
        answered_run(request, asked.second),
        overlap=asked.overlap,
        criterion=asked.criterion,
        guideline=asked.guideline,
        limit=asked.limit,
    )
    return JSONResponse({**facts(made), "blind": told}, 201)


def answered_run(request: Request, name: str) -> Path:
    """A run that holds answers, by its `stage/name`; nothing else in the file system.

    Raises:
        BadInput: There is no such run.
    """
    runs: Path = request.app.state.services.runs
    if name not in blind.answered_runs(runs):
        raise BadInput(f"{name}: is no run with answers (heed sample makes them)")
    return runs / name


# ---------------------------------------------------------------- overview


def _overview(request: Request, me: User, project: str) -> dict[str, Any]:
    projects = store(request)
    known = projects.managed(me, project)
    progress, pace = projects.progress(known), overview.pace(projects, project)
    left = max(0, progress["wanted"] - progress["given"])
    compared = blind.compared(projects, me, project)
    return {
        **facts(known),
        "progress": progress,
        "days": overview.days(projects, project),
        "seconds": pace,
        "hours_left": None if pace is None else left * pace / 3600,
        "demographics": overview.demographics(projects, project),
        "blind": compared,
        "human": _human(request, me, project) if compared else None,
    }


def _human(request: Request, me: User, project: str) -> dict[str, Any] | None:
    try:
        return human.count(blind.verdicts(store(request), me, project)).to_dict()
    except BadInput:
        return None


@router.get("/projects/{project}", openapi_extra=MANAGERS)
def overview_page(request: Request, me: Me, project: str) -> Response:
    """How a project stands."""
    values = {**section(request, me, project, "overview"), "shown": _overview(request, me, project)}
    return page(request, "project.html", values)


@router.get("/api/projects/{project}", openapi_extra=MANAGERS)
def overview_json(request: Request, me: Me, project: str) -> Response:
    """The same as JSON."""
    return JSONResponse(_overview(request, me, project))


@router.get("/api/projects/{project}/verdicts.jsonl", openapi_extra=MANAGERS)
def verdict_file(request: Request, me: Me, project: str) -> Response:
    """The verdicts of a blind comparison, for `heed evaluate human=FILE`."""
    text = "".join(blind.as_lines(blind.verdicts(store(request), me, project)))
    disposition = {"content-disposition": f'attachment; filename="verdicts-{project}.jsonl"'}
    return PlainTextResponse(text, media_type="application/jsonl", headers=disposition)


# ---------------------------------------------------------------- settings


class Changed(BaseModel):
    """What is to be different; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=120)
    overlap: int | None = Field(None, ge=1, le=100)
    settings: dict[str, Any] | None = Field(None, max_length=20)
    closed: bool | None = None


@router.get("/projects/{project}/settings", openapi_extra=MANAGERS)
def settings_page(request: Request, me: Me, project: str) -> Response:
    """How a project is run."""
    return page(request, "project_settings.html", section(request, me, project, "settings"))


@router.patch("/api/projects/{project}", openapi_extra=MANAGERS)
def change(request: Request, me: Me, project: str, given: Changed) -> Response:
    """Change name, overlap, settings; close or open it again."""
    values = {name: value for name, value in given.model_dump(exclude_unset=True).items() if value is not None}
    return JSONResponse(facts(store(request).change(me, project, values)))


# ---------------------------------------------------------------- guidelines


class Rules(BaseModel):
    """A new version of the guidelines."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=200_000)


@router.get("/projects/{project}/guidelines", openapi_extra=MANAGERS)
def guidelines_page(
    request: Request, me: Me, project: str, version: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """The guidelines, their versions, and what one of them changed."""
    values = section(request, me, project, "guidelines")
    versions = overview.versions(store(request), me, project)
    chosen = version if version is not None else versions[0].version
    values |= {"versions": versions, "chosen": chosen, "changes": overview.changes(versions, chosen)}
    return page(request, "project_guidelines.html", values)


@router.get("/api/projects/{project}/guidelines", openapi_extra=MANAGERS)
def guidelines_json(request: Request, me: Me, project: str) -> Response:
    """All versions of the guidelines, newest first."""
    return JSONResponse({"versions": [asdict(each) for each in overview.versions(store(request), me, project)]})


@router.post("/api/projects/{project}/guidelines", openapi_extra=MANAGERS)
def new_guidelines(request: Request, me: Me, project: str, given: Rules) -> Response:
    """A new version; replies keep the version they were given under."""
    text = given.text.replace("\r\n", "\n").replace("\0", "")
    return JSONResponse(asdict(store(request).guide(me, project, text)), 201)
