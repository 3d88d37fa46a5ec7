"""The items of a project: adding them, finding them, what they are for, and which come first."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from heedlm.errors import BadInput
from heedlm.feedback import blind, selection
from heedlm.feedback.accounts import User
from heedlm.feedback.items import STATES, Known, Listed, State, every, listed, one, set_purpose
from heedlm.feedback.kinds import CATEGORIES, FLAGS
from heedlm.feedback.projects import Project
from heedlm.feedback.uploads import Uploaded, items_from
from heedlm.records.types import Strength
from heedlm.runs import find_data
from heedlm.web.access import Me
from heedlm.web.pages.annotate import Plain
from heedlm.web.pages.manage import MANAGERS, answered_run, section, store
from heedlm.web.render import page

router = APIRouter(tags=["manage"])
PAGE = 25
TOLD = 200  # rows set aside that are told one by one
_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".ndjson")
Purpose = Literal["ordinary", "gold", "qualification"]


def reply_facts(project: Project) -> dict[str, Any]:
    """What the scripts that show replies need to know of a project."""
    return {
        "kind": project.kind.name,
        "flags": FLAGS,
        "categories": CATEGORIES,
        "strengths": get_args(Strength),
        "critiques_first": project.settings.critiques_first,
    }


# ---------------------------------------------------------------- looking

Search = Annotated[str, Query(max_length=200)]
Which = Annotated[State | Literal[""], Query()]
Start = Annotated[int, Query(ge=0, le=10_000_000)]


def _summary(item: Listed) -> dict[str, Any]:
    return {**asdict(item), "content": item.content.model_dump(mode="json")}


@router.get("/projects/{project}/items", openapi_extra=MANAGERS)
def items_page(
    request: Request, me: Me, project: str, search: Search = "", state: Which = "", start: Start = 0
) -> Response:
    """The items, a page at a time; more can be added here."""
    values = section(request, me, project, "items")
    found, total = listed(
        store(request), me, project, search=search.strip(), state=state or None, start=start, count=PAGE
    )
    values |= {"items": found, "total": total, "start": start, "step": PAGE, "search": search, "state": state}
    values |= {"states": STATES, "runs": blind.answered_runs(request.app.state.services.runs)}
    return page(request, "project_items.html", values)


@router.get("/api/projects/{project}/items", openapi_extra=MANAGERS)
def items_json(
    request: Request,
    me: Me,
    project: str,
    search: Search = "",
    state: Which = "",
    start: Start = 0,
    count: Annotated[int, Query(ge=1, le=500)] = PAGE,
) -> Response:
    """The same as JSON."""
    found, total = listed(
        store(request), me, project, search=search.strip(), state=state or None, start=start, count=count
    )
    return JSONResponse({"total": total, "items": [_summary(item) for item in found]})


@router.get("/api/projects/{project}/answers.jsonl", openapi_extra=MANAGERS)
def answers_file(request: Request, me: Me, project: str) -> Response:
    """All items as a file of answers, for a stage to score; `id` is the item's."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in every(store(request), me, project))
    disposition = {"content-disposition": f'attachment; filename="answers-{project}.jsonl"'}
    return PlainTextResponse("".join(lines), media_type="application/jsonl", headers=disposition)


def _known(request: Request, me: User, project: str, item: str) -> tuple[Known, Project]:
    return one(store(request), me, project, item), store(request).managed(me, project)


@router.get("/projects/{project}/items/{item}", openapi_extra=MANAGERS)
def item_page(request: Request, me: Me, project: str, item: str) -> Response:
    """One item with everything said of it, and what it is for."""
    values = section(request, me, project, "items")
    known, _ = _known(request, me, project, item)
    content = known.item.content
    task = {
        "prompt": [turn.model_dump() for turn in content.prompt],
        "answers": [answer.text for answer in content.answers],
        "steps": list(content.steps),
        "critiques": [*content.critiques, *[""] * len(content.answers)][: len(content.answers)],
        "reply": known.expected,
    }
    send = {"path": f"/api/projects/{project}/items/{item}/purpose", "method": "PUT", "then": ""}
    data = {**reply_facts(values["project"]), "task": task, "send": send}
    return page(request, "project_item.html", {**values, "known": known, "data": data})


@router.get("/api/projects/{project}/items/{item}", openapi_extra=MANAGERS)
def item_json(request: Request, me: Me, project: str, item: str) -> Response:
    """The same as JSON."""
    known, _ = _known(request, me, project, item)
    return JSONResponse({**asdict(known), "item": _summary(known.item)})


class Meant(BaseModel):
    """What an item is for; gold and qualification need the right reply, by the answers' own order."""

    model_config = ConfigDict(extra="forbid")

    purpose: Purpose
    reply: Plain | None = None


@router.put("/api/projects/{project}/items/{item}/purpose", openapi_extra=MANAGERS)
def mean(request: Request, me: Me, project: str, item: str, given: Meant) -> Response:
    """Make an item a gold or qualification item, or an ordinary one."""
    set_purpose(store(request), me, project, item, given.purpose, given.reply)
    return JSONResponse({"purpose": given.purpose})


# ---------------------------------------------------------------- adding


@contextmanager
def _kept(file: UploadFile) -> Iterator[tuple[Path, str]]:
    """What was uploaded, as a file that is gone afterwards, and what to call it."""
    name = Path(file.filename or "").name[:200] or "file"
    ending = next((end for end in _ENDINGS if name.lower().removesuffix(".gz").endswith(end)), None)
    if ending is None:
        raise BadInput(f"{name}: must end in {', '.join(_ENDINGS)}, or in one of these and .gz")
    with tempfile.TemporaryDirectory(prefix="heed-upload-") as folder:
        path = Path(folder) / f"upload{ending}{'.gz' if name.lower().endswith('.gz') else ''}"
        with path.open("wb") as target:
            while piece := file.file.read(2**20):
                target.write(piece)
        yield path, name


def _added(request: Request, me: User, project: str, found: Uploaded, purpose: str, topics: list[str]) -> Response:
    tests = found.expected if purpose != "ordinary" else None
    new, there = store(request).add_items(me, project, found.contents, purpose=purpose, expected=tests, topics=topics)
    bad = [{"line": row.line, "reason": row.reason, "excerpt": row.excerpt} for row in found.bad[:TOLD]]
    return JSONResponse({"new": new, "there_already": there, "set_aside": len(found.bad), "bad": bad}, 201)


@router.post("/api/projects/{project}/items", openapi_extra=MANAGERS)
def upload(
    request: Request,
    me: Me,
    project: str,
    file: Annotated[UploadFile, File()],
    purpose: Annotated[Purpose, Form()] = "ordinary",
    topics: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Add the items that a file holds; rows that cannot be used are told, line by line."""
    known = store(request).managed(me, project)
    with _kept(file) as (path, name):
        found = items_from(path, known.kind, tests=purpose != "ordinary", name=name)
    return _added(request, me, project, found, purpose, _topics(topics))


def _topics(text: str) -> list[str]:
    return [topic.strip()[:100] for topic in text.replace("\n", ",").split(",") if topic.strip()][:20]


class FromRun(BaseModel):
    """A run whose answers become items."""

    model_config = ConfigDict(extra="forbid")

    run: str = Field(max_length=300)
    limit: int | None = Field(None, ge=1)
    topics: str = Field("", max_length=2000)


@router.post("/api/projects/{project}/items/from-run", openapi_extra=MANAGERS)
def add_from_run(request: Request, me: Me, project: str, given: FromRun) -> Response:
    """Add the answers of a run."""
    known = store(request).managed(me, project)
    path = find_data(answered_run(request, given.run), "answers")
    found = items_from(path, known.kind, name=given.run, limit=given.limit)
    return _added(request, me, project, found, "ordinary", _topics(given.topics))


# ---------------------------------------------------------------- what comes first


class Order(BaseModel):
    """By what rule items are put in order."""

    model_config = ConfigDict(extra="forbid")

    rule: selection.Rule
    source: str | None = Field(None, max_length=64)


@router.post("/api/projects/{project}/selection", openapi_extra=MANAGERS)
def put_in_order(request: Request, me: Me, project: str, given: Order) -> Response:
    """Ask the most uncertain or most disputed items first."""
    known = selection.prioritise(store(request), me, project, given.rule, given.source or None)
    return JSONResponse({"rule": given.rule, "items": known})


@router.post("/api/projects/{project}/scores", openapi_extra=MANAGERS)
def add_scores(
    request: Request,
    me: Me,
    project: str,
    file: Annotated[UploadFile, File()],
    source: Annotated[str, Form(min_length=1, max_length=64)],
) -> Response:
    """Keep a reward model's scores of the items' answers."""
    store(request).managed(me, project)
    with _kept(file) as (path, name):
        found = selection.read_scores(path, name)
    count = selection.store(store(request), me, project, source, found)
    return JSONResponse({"source": source, "items": count}, 201)
