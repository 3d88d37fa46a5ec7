"""How far people agree: figures, what they disagree on, who may not be reading, and deciding what is disputed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from heedlm.feedback import overview
from heedlm.feedback.accounts import User
from heedlm.feedback.adjudication import Adjudication
from heedlm.feedback.items import differing, one
from heedlm.feedback.kinds import CATEGORIES, FLAGS
from heedlm.feedback.measures import Measurer, Measures, item_of
from heedlm.feedback.tasks import Content, as_shown, shuffled
from heedlm.web.access import Me
from heedlm.web.pages.annotate import Plain
from heedlm.web.pages.items import reply_facts
from heedlm.web.pages.manage import MANAGERS, section, store
from heedlm.web.render import language, page
from heedlm.web.words import sentence_in

router = APIRouter(tags=["manage"])
SHOWN_PAIRS = 40

# What `feedback.quality` says of people, with its figures taken out, so that it can be said in other languages.
REASONS = (
    "too fast: {own} seconds a judgement (median), the others take {others}; the limit is {limit} of that",
    "constant: {what} in {times} of {n} judgements, the others say it in {usual} of theirs ({p})",
    "by place: chose the answer shown first in {hits} of {n} judgements, chance gives {chance} ({p})",
    "by place: chose the answer shown last in {hits} of {n} judgements, chance gives {chance} ({p})",
    "at chance: kappa {kappa} with the others over {n} comparisons (at most {most}), the median annotator has {usual}",
    "wrong on gold: right in {share} of {n} comparisons with gold items (at most {most}), the limit is {limit}",
)
# What somebody may say again and again, as the pages call it.
_TITLES = {
    **CATEGORIES,
    "up": "Good",
    "down": "Bad",
    "none": "Every step is right",
    "all answers equal": "all answers equal",
}


def reason_in(text: str, tongue: str) -> str:
    """A reason of `feedback.quality` in a language."""
    return sentence_in(text, REASONS, tongue, _TITLES)


def measurer(request: Request) -> Measurer:
    """What measures projects, one for the application, so that figures are computed once."""
    state = request.app.state
    if not hasattr(state, "measurer"):
        state.measurer = Measurer(state.database)
    found: Measurer = state.measurer
    return found


# ---------------------------------------------------------------- figures


def _figures(request: Request, me: User, project: str, source: str | None) -> dict[str, Any]:
    """The measures as JSON, people by name."""
    known = store(request).managed(me, project)
    found = measurer(request).measure(known, source)
    tongue = language(request)
    every = {person.annotator for person in found.report.people} | set(found.gold) | set(found.seconds)
    names = overview.names(store(request), every | {each.annotator for each in found.suspicions})
    report = found.report
    return {
        "labels": found.labels,
        "upto": found.upto,
        "overall": {kind: asdict(part) for kind, part in report.overall.items()},
        "groups": _by_kind(report.groups),
        "between_groups": [
            {"kind": kind, "first": one, "second": other, **asdict(line)}
            for kind, lines in report.between_groups.items()
            for one, other, line in lines
        ],
        "people": _people(found, names),
        "pairs": [
            {"kind": kind, "first": names[one], "second": names[other], **asdict(line)}
            for kind, lines in report.pairs.items()
            for one, other, line in lines
        ],
        "disagreements": [
            {"item": item_of(each.item), "part": each.item, "kind": each.kind, "share": each.share}
            for each in report.disagreements
        ],
        "position": None if found.position is None else asdict(found.position),
        "length": None if found.length is None else asdict(found.length),
        "suspicions": [
            {"name": names[each.annotator], "reasons": [reason_in(text, tongue) for text in each.reasons]}
            for each in found.suspicions
        ],
        "sources": found.sources,
        "source": found.source,
    }


def _by_kind(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: {kind: asdict(value) for kind, value in kinds.items()} for name, kinds in parts.items()}


def _people(found: Measures, names: dict[str, str]) -> list[dict[str, Any]]:
    rows = []
    for person in found.report.people:
        gold = found.gold.get(person.annotator)
        rows.append({
            **asdict(person),
            "user": person.annotator,
            "name": names[person.annotator],
            "gold": None if gold is None else asdict(gold),
            "seconds": found.seconds.get(person.annotator),
        })  # fmt: skip
    return rows


Source = Annotated[str | None, Query(max_length=64)]


@router.get("/projects/{project}/agreement", openapi_extra=MANAGERS)
def agreement_page(request: Request, me: Me, project: str, source: Source = None) -> Response:
    """The figures as tables and small charts."""
    values = section(request, me, project, "agreement")
    shown = _figures(request, me, project, source or None)
    keys = list(dict.fromkeys(each["item"] for each in shown["disagreements"]))
    items = differing(store(request), values["project"], keys)
    shown["pairs"] = sorted(shown["pairs"], key=lambda pair: -pair["compared"])
    disputed = [{**each, "said": items[each["item"]]} for each in shown["disagreements"] if each["item"] in items]
    values |= {"shown": shown, "disputed": disputed, "most_pairs": SHOWN_PAIRS}
    return page(request, "project_agreement.html", {**values, "data": reply_facts(values["project"])})


@router.get("/api/projects/{project}/agreement", openapi_extra=MANAGERS)
def agreement_json(request: Request, me: Me, project: str, source: Source = None) -> Response:
    """The same as JSON."""
    return JSONResponse(_figures(request, me, project, source or None))


# ---------------------------------------------------------------- deciding


@router.get("/projects/{project}/adjudication", openapi_extra=MANAGERS)
def queue_page(request: Request, me: Me, project: str) -> Response:
    """What people do not agree on, the worst first."""
    values = section(request, me, project, "adjudication")
    return page(
        request, "project_adjudication.html", {**values, "queue": Adjudication(store(request)).queue(me, project)}
    )


@router.get("/api/projects/{project}/adjudication", openapi_extra=MANAGERS)
def queue_json(request: Request, me: Me, project: str) -> Response:
    """The same as JSON."""
    rows = [
        {"item": each.item, "place": each.place, "agreement": each.agreement, "replies": each.replies}
        for each in Adjudication(store(request)).queue(me, project)
    ]
    return JSONResponse({"items": rows})


class Decision(BaseModel):
    """A manager's reply, by the places in which their page shows the answers."""

    model_config = ConfigDict(extra="forbid")

    reply: Plain


def task_of(content: Content, order: list[int], reply: Any = None) -> dict[str, Any]:
    """An item in the form in which the annotation page's parts draw it; who gave an answer is not told."""
    critiques = [*content.critiques, *[""] * len(order)][: len(order)]
    return {
        "prompt": [{"role": message.role, "content": message.content} for message in content.prompt],
        "answers": [answer.text for answer in as_shown(content.answers, order)],
        "steps": list(content.steps),
        "critiques": as_shown(critiques, order),
        "reply": reply,
    }


@router.get("/projects/{project}/items/{item}/decision", openapi_extra=MANAGERS)
def decision_page(request: Request, me: Me, project: str, item: str) -> Response:
    """One item to decide: answers without names in an order of one's own, and what people said of them."""
    values = section(request, me, project, "adjudication")
    kind, known = values["project"].kind, one(store(request), me, project, item)
    order = shuffled(len(known.item.content.answers), item, me.id)
    said = [(each, kind.shown(each.reply, order)) for each in known.said if each.counts]
    mine = next((reply for each, reply in said if each.decision), None)
    data = {**reply_facts(values["project"]), "task": task_of(known.item.content, order, mine)}
    data["send"] = {
        "path": f"/api/projects/{project}/items/{item}/decision",
        "then": f"/projects/{project}/adjudication",
    }
    values |= {"known": known, "said": said, "data": data, "flags": FLAGS}
    return page(request, "project_decision.html", values)


@router.post("/api/projects/{project}/items/{item}/decision", openapi_extra=MANAGERS)
def decide(request: Request, me: Me, project: str, item: str, given: Decision) -> Response:
    """Settle an item; the decision stands beside what people said, and exports prefer it."""
    known = one(store(request), me, project, item)
    order = shuffled(len(known.item.content.answers), item, me.id)
    seq = Adjudication(store(request)).decide(me, project, item, given.reply, order)
    return JSONResponse({"seq": seq}, 201)
