"""Runs: the list of all, one with its curves as they grow, several beside each other, and the reports."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from heedlm.feedback.errors import BadInput, Refused
from heedlm.report import Source, render
from heedlm.report.following import Look
from heedlm.report.headline import headline
from heedlm.report.live import FIRST
from heedlm.report.series import collect
from heedlm.report.shelf import Shelf, alarms, answers, card, curves
from heedlm.report.source import json_object, runs_below
from heedlm.runs import Run, lineage, models_that_saw
from heedlm.runs.lineage import Node
from heedlm.web.access import roles
from heedlm.web.render import page

router = APIRouter(tags=["runs"])
STAFF = roles("owner", "manager")
MOST = 6  # runs side by side
_POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]*)"')


def shelf(request: Request) -> Shelf:
    """The runs this application shows."""
    found: Shelf | None = getattr(request.app.state, "shelf", None)
    if found is None:
        found = request.app.state.shelf = Shelf(request.app.state.services.runs)
    return found


def _path(request: Request, key: str) -> Path:
    try:
        return shelf(request).path(key)
    except BadInput as error:
        raise Refused(str(error)) from None


# ---------------------------------------------------------------- the list


@router.get("/runs", openapi_extra=STAFF)
def runs_page(request: Request) -> Response:
    """All runs, newest first."""
    cards = shelf(request).cards()
    stages = sorted({card.stage for card in cards})
    return page(request, "runs.html", {"cards": cards, "stages": stages, "data": {"most": MOST}})


# ---------------------------------------------------------------- several


@router.get("/runs/compare", openapi_extra=STAFF)
def compare_page(request: Request, run: Annotated[list[str], Query(max_length=MOST)] = []) -> Response:  # noqa: B006
    """Several runs: their curves over each other, what they did differently, their answers side by side."""
    keys = list(dict.fromkeys(run))
    found = [_path(request, key) for key in keys]
    settings = [_flat(json_object(path / "config.json")) for path in found]
    names = sorted({name for each in settings for name in each})
    rows = [(name, [each.get(name, "–") for each in settings]) for name in names]
    differing = [row for row in rows if len(set(row[1])) > 1]
    cards = {card.key: card for card in shelf(request).cards()}
    values = {"keys": keys, "cards": [cards[key] for key in keys if key in cards], "differing": differing}
    return page(request, "run_compare.html", {**values, "data": {"runs": keys, "first": list(FIRST)}})


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


# ---------------------------------------------------------------- one


@router.get("/runs/{run:path}/report", openapi_extra=STAFF)
def report_page(request: Request, run: str) -> Response:
    """The run's report, whose own script and style run in a sandbox: without cookies, storage or network."""
    found = _path(request, run)
    text = render(Source.read(found))
    own = _POLICY.search(text)
    policy = f"sandbox allow-scripts; frame-ancestors 'none'; {own[1] if own else default_policy()}"
    # An opener policy and a sandbox do not go together, and a sandboxed page has no opener to be kept from.
    headers = {"content-security-policy": policy, "cross-origin-opener-policy": "unsafe-none"}
    return HTMLResponse(text, headers=headers)


def default_policy() -> str:
    """What a report may do that does not say itself: nothing."""
    return "default-src 'none'"


@router.get("/runs/{run:path}", openapi_extra=STAFF)
def run_page(request: Request, run: str) -> Response:
    """One run."""
    path = _path(request, run)
    look = shelf(request).look(run)
    values = {
        "key": run,
        "may_chat": request.app.state.services.load is not None and card(run, Run.open(path)).makes_policy,
        "run": Run.open(path),
        "told": _told(path),
        "parts": [{"key": f"{run}/{part.info.stage}/{part.name}", "run": part} for part in runs_below(path)],
        "tree": _branch(request, lineage(path)),
        "seen_by": _seen_by(request, path),
        "settings": _flat(json_object(path / "config.json")),
    }
    return page(request, "run.html", {**values, "data": {"run": run, "look": _look(look), "first": list(FIRST)}})


def _told(path: Path) -> dict[str, Any]:
    """The headline of the run's report."""
    source = Source.read(path)
    found = headline(source, collect(source.metrics))
    return {"sentence": found.sentence, "tiles": found.tiles}


def _branch(request: Request, node: Node) -> dict[str, Any]:
    """A lineage as the page draws it, with links to the runs of this folder."""
    folder = shelf(request).folder.resolve()
    place = Path(node.path).resolve()
    # An input may be a file within the run that made it.
    run = next((at for at in (place, *place.parents) if (at / "run.json").is_file()), None)
    key = (
        run.relative_to(folder).as_posix() if run is not None and run.is_relative_to(folder) and run != folder else None
    )
    labels = Run.open(run).info.results.get("labels") if run is not None and node.stage == "export" else None
    return {
        "role": node.role,
        "name": key or (f"{run.parent.name}/{run.name}" if run is not None else place.name),
        "key": key,
        "stage": node.stage,
        "status": node.status,
        "fingerprint": node.fingerprint.rpartition(":")[2][:12],
        "labels": labels,
        "sources": [_branch(request, source) for source in node.sources],
    }


def _seen_by(request: Request, path: Path) -> list[dict[str, Any]]:
    """The runs that were made from this one."""
    folder = shelf(request).folder
    found = []
    for each in models_that_saw(path, (folder,)):
        place = Path(each.path).resolve()
        if place.is_relative_to(folder.resolve()):
            key = place.relative_to(folder.resolve()).as_posix()
            found.append({"key": key, "role": each.role, "makes_model": each.makes_model})
    return found


# ---------------------------------------------------------------- numbers


@router.get("/api/runs/{run:path}/look", openapi_extra=STAFF)
def run_look(request: Request, run: str, since: str = "") -> Response:
    """What a run shows now; nothing but `same` if that is what the page has already."""
    _path(request, run)
    found = shelf(request).look(run)
    return JSONResponse({"same": True} if since == _mark(found) else _look(found))


@router.get("/api/runs/{run:path}/answers", openapi_extra=STAFF)
def run_answers(request: Request, run: str) -> Response:
    """What the run's model answered at its steps."""
    return JSONResponse(answers(Run.open(_path(request, run))))


def _mark(look: Look) -> str:
    """Differs as soon as a run has something new to show."""
    points = sum(len(each.values) for each in look.series.values())
    return f"{look.path} {look.ended} {look.step:g} {points} {len(look.record.changes)} {len(look.record.rollbacks)}"


def _look(look: Look) -> dict[str, Any]:
    record = look.record
    return {
        "mark": _mark(look),
        "status": look.info.status,
        "reason": look.info.reason,
        "ended": look.ended,
        "step": look.step,
        "steps": look.steps,
        "seconds": look.seconds,
        "left": look.seconds_left(),
        "silent": look.silent,
        "state": record.state if record.watched else "",
        "since": record.since,
        "reasons": list(record.reasons),
        "rollbacks": [{"at": each.at, "to": each.to, "reasons": list(each.reasons)} for each in record.rollbacks],
        "alarms": alarms(look),
        "panels": curves(look),
    }
