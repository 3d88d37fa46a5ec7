"""From labels to models and back: exports, training, what became of it, and the next round."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from heedlm.errors import HeedError
from heedlm.feedback import training
from heedlm.feedback.accounts import User
from heedlm.feedback.errors import BadInput, Refused
from heedlm.feedback.export import CHAT, collect, exports, identity
from heedlm.feedback.interchange import Form as Columns
from heedlm.feedback.interchange import save
from heedlm.feedback.jobs import Job, Jobs
from heedlm.feedback.training import WAYS, Plan, add_answers
from heedlm.runs import models_that_saw
from heedlm.web.access import Me, roles
from heedlm.web.pages.manage import section
from heedlm.web.pages.runs import STAFF, shelf
from heedlm.web.render import language, page
from heedlm.web.words import sentence_in

router = APIRouter(tags=["loop"])
# What `feedback.jobs` and `feedback.training` note of a command, besides its own error.
NOTES = ("it was killed", "{n} new items, {known} were there already", "{n} new items")
_LOG_SHOWN = 16_000  # bytes of the end of a log


def jobs_of(app: FastAPI) -> Jobs:
    """The jobs of an application; those that an earlier server left are looked after from the first call on."""
    found: Jobs | None = getattr(app.state, "jobs", None)
    if found is None:
        state = app.state
        services, accounts, database = state.services, state.accounts, state.database

        def after(job: Job) -> str | None:
            people = [accounts.find(person["name"]) for person in accounts.everybody()]
            return add_answers(database, [user for user in people if user is not None], services.runs, job)

        found = state.jobs = Jobs(database, services.runs, services.launcher, after)
        found.watch()
    return found


def _subject(request: Request, me: User, project: str) -> tuple[str, str]:
    """Name and kind of a project of theirs, or of the chats, which are for owners.

    Raises:
        Refused: It is not there, or not for them.
    """
    if project == CHAT and me.role == "owner":
        return "chat", CHAT
    known = request.app.state.projects.managed(me, project)
    return known.name, known.kind.name


def _job(request: Request, me: User, job: str) -> Job:
    """A job of a project of theirs; owners see all.

    Raises:
        Refused: It is not there, or not for them.
    """
    found = jobs_of(request.app).get(job)
    if me.role != "owner":
        if found.project is None:
            raise Refused("there is no such job")
        request.app.state.projects.managed(me, found.project)
    return found


def _run(request: Request, key: str, what: Literal["policy", "reward"]) -> Path:
    """The folder of a run of the list that holds such a model."""
    for card in shelf(request).cards():
        if card.key == key and (card.makes_policy if what == "policy" else card.makes_reward):
            return shelf(request).path(key)
    raise BadInput(f"{key}: is no run with a {'model' if what == 'policy' else 'reward model'}")


# ---------------------------------------------------------------- training


@router.get("/projects/{project}/train", openapi_extra=STAFF)
def train_page(request: Request, me: Me, project: str) -> Response:
    """What this project's labels can train, what is training, and which labels made which model."""
    name, kind = _subject(request, me, project)
    database = request.app.state.database
    cards = shelf(request).cards()
    about = collect(database, project).lineage
    values = {
        "subject": project,
        "name": name,
        "ways": WAYS[kind],
        "about": about,
        # What went wrong can be trained on too, but is not offered first.
        "models": sorted((card for card in cards if card.makes_policy), key=lambda card: card.state == "collapsed"),
        "rewards": [card for card in cards if card.makes_reward],
        "made": _made(request, project),
        "may_start": request.app.state.services.launcher is not None,
        "is_chat": project == CHAT,
    }
    data: dict[str, Any] = {"project": project, "jobs": _jobs(request, project), "kind": kind}
    if project == CHAT:
        return page(request, "train_chat.html", {**values, "data": {**data, "fewest": 1, "most": 9}})
    known = request.app.state.projects.managed(me, project).kind
    data |= {"fewest": max(1, known.fewest), "most": max(1, known.most)}
    return page(request, "train.html", {**section(request, me, project, "train"), **values, "data": data})


def _made(request: Request, project: str) -> list[dict[str, Any]]:
    """Exports of the project, newest first, and the models that were made from each."""
    folder = shelf(request).folder
    found = []
    for run in exports(folder, identity(request.app.state.database)) if folder.is_dir() else []:
        about = run.info.results["labels"]
        if about["project"] == project:
            seen = [each for each in models_that_saw(run.path, (folder,)) if each.makes_model]
            keys = [Path(each.path).resolve().relative_to(folder.resolve()).as_posix() for each in seen]
            found.append(
                {"key": f"{run.info.stage}/{run.name}", "labels": about, "models": keys, "at": run.info.started}
            )
    return found[::-1]


class Wanted(BaseModel):
    """What to train."""

    model_config = ConfigDict(extra="forbid")

    way: training.Way
    model: str = Field(max_length=400)
    reward: str | None = Field(None, max_length=400)
    preset: Literal["tiny"] | None = "tiny"


@router.post("/api/projects/{project}/train", openapi_extra=STAFF)
def train(request: Request, me: Me, project: str, wanted: Wanted) -> Response:
    """Export the labels as they are now, and ask for the training."""
    _subject(request, me, project)
    reward = _run(request, wanted.reward, "reward") if wanted.reward else None
    plan = Plan(wanted.way, _run(request, wanted.model, "policy"), reward, wanted.preset)
    return JSONResponse(_shown(request, training.train(jobs_of(request.app), me, project, plan)), 201)


@router.get("/api/projects/{project}/jobs", openapi_extra=STAFF)
def project_jobs(request: Request, me: Me, project: str) -> Response:
    """The commands of a project and how far they are."""
    _subject(request, me, project)
    return JSONResponse(_jobs(request, project))


def _jobs(request: Request, project: str | None) -> list[dict[str, Any]]:
    jobs = jobs_of(request.app)
    listed = [job for job in jobs.of(limit=200) if job.project is None] if project == CHAT else jobs.of(project)
    return [_shown(request, job) for job in listed]


def _shown(request: Request, job: Job) -> dict[str, Any]:
    """A job as the page shows it; of one that runs, how far it is."""
    shown: dict[str, Any] = {
        "id": job.id,
        "words": [word for word in job.words if not word.startswith("out=")],
        "stage": job.words[0],
        "state": job.state,
        "run": job.run,
        "note": job.note and sentence_in(job.note, NOTES, language(request)),
        "created": job.created,
        "ended": job.ended,
        "upto": job.upto,
        "look": None,
        "policy": False,
    }
    if job.run is not None:
        try:
            look = shelf(request).look(job.run)
            newest = {key: each.last for key, each in look.series.items() if each.values}
            shown["look"] = {
                "step": look.step,
                "steps": look.steps,
                "seconds": look.seconds,
                "left": look.seconds_left(),
            }
            shown["look"] |= {"latest": {key: newest[key] for key in _SHOWN if key in newest}, "ended": look.ended}
            shown["look"]["state"] = look.record.state if look.record.watched else ""
        except HeedError:
            shown["run"] = None  # removed since, or not written yet
    if job.state == "done" and shown["run"] is not None:
        shown["policy"] = any(card.key == job.run and card.makes_policy for card in shelf(request).cards())
    return shown


_SHOWN = ("reward/mean", "watch/win_rate", "kl/token_nats", "loss/train", "loss/held_out", "accuracy/held_out")


@router.get("/jobs", openapi_extra=roles("owner"))
def jobs_page(request: Request) -> Response:
    """Every command that was asked for."""
    data = {"project": None, "jobs": _jobs(request, None), "fewest": 1, "most": 9, "kind": ""}
    return page(request, "train_jobs.html", {"data": data})


@router.get("/api/jobs", openapi_extra=roles("owner"))
def all_jobs(request: Request) -> Response:
    """All commands."""
    return JSONResponse(_jobs(request, None))


@router.get("/api/jobs/{job}", openapi_extra=STAFF)
def one_job(request: Request, me: Me, job: str) -> Response:
    """One command."""
    return JSONResponse(_shown(request, _job(request, me, job)))


@router.get("/api/jobs/{job}/log", openapi_extra=STAFF)
def job_log(request: Request, me: Me, job: str) -> Response:
    """The end of what a command has printed."""
    file = jobs_of(request.app).log(_job(request, me, job).id)
    if not file.is_file():
        return PlainTextResponse("")
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _LOG_SHOWN))
        return PlainTextResponse(log.read().decode("utf-8", "replace"))


@router.post("/api/jobs/{job}/stop", openapi_extra=STAFF)
def stop_job(request: Request, me: Me, job: str) -> Response:
    """Take back a command that waits; ask one that runs to save and stop."""
    found = _job(request, me, job)
    return JSONResponse(_shown(request, jobs_of(request.app).stop(me, found.id)))


@router.post("/api/jobs/{job}/resume", openapi_extra=STAFF)
def resume_job(request: Request, me: Me, job: str) -> Response:
    """Go on with what was stopped, from its newest checkpoint."""
    found = _job(request, me, job)
    return JSONResponse(_shown(request, jobs_of(request.app).resume(me, found.id)), 201)


class Round(BaseModel):
    """How much to ask next."""

    model_config = ConfigDict(extra="forbid")

    answers: int = Field(4, ge=1, le=9)
    limit: int = Field(100, ge=1, le=10_000)


@router.post("/api/jobs/{job}/next", openapi_extra=STAFF)
def next_round(request: Request, me: Me, job: str, asked: Round) -> Response:
    """New answers by the model of this job become new tasks of its project."""
    found = _job(request, me, job)
    if found.project is None or found.run is None:
        raise BadInput("this command made no model for a project")
    model = _run(request, found.run, "policy")
    preset = "tiny" if "tiny" in found.words or "preset=tiny" in found.words else None
    job_made = training.next_round(
        jobs_of(request.app), me, found.project, model, answers=asked.answers, limit=asked.limit, preset=preset
    )
    return JSONResponse(_shown(request, job_made), 201)


@router.post("/api/runs/{run:path}/chat", openapi_extra=STAFF)
def put_up_for_chat(request: Request, run: str) -> Response:
    """Load the model of a run, so that people can talk to it until the server stops."""
    if all(card.key != run for card in shelf(request).cards()):
        raise Refused("there is no such run")
    return JSONResponse({"model": request.app.state.services.offer(_run(request, run, "policy"))})


# ---------------------------------------------------------------- files


@router.get("/projects/{project}/export", openapi_extra=STAFF)
def export_file(
    request: Request, me: Me, project: str, form: Columns = "heed", names: bool = False, tests: bool = False
) -> Response:
    """The labels as a file of JSON lines, in Heed's columns or those of trainers."""
    name, _ = _subject(request, me, project)
    database = request.app.state.database
    found = collect(database, project, names=names, tests=tests)
    with tempfile.NamedTemporaryFile(suffix=".jsonl", delete=False) as file:
        target = Path(file.name)
    try:
        save(target, found.rows, form)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    with database.write() as connection:
        detail = {"upto": found.lineage.upto, "form": form, "names": names, "fingerprint": found.lineage.fingerprint}
        request.app.state.accounts.note(connection, me.id, "exported", project, detail)
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:40] or "labels"
    filename = f"{safe}-{found.lineage.upto}-{form}.jsonl"
    clean = BackgroundTask(target.unlink, missing_ok=True)
    return FileResponse(target, media_type="application/jsonl", filename=filename, background=clean)
