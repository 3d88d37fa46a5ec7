"""Chat: conversations with models, answers as they are written, verdicts on them, consent, history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from heedlm.feedback.accounts import User
from heedlm.feedback.conversations import LONGEST, Begun, Conversation, Conversations, Said
from heedlm.feedback.errors import BadInput
from heedlm.feedback.verdicts import Verdicts
from heedlm.web.access import EVERYBODY, Me, roles
from heedlm.web.answering import Answering, Draft
from heedlm.web.render import page

router = APIRouter(tags=["chat"])
PAGE = 40  # conversations in a stretch of the history

Key = Annotated[str, Field(min_length=8, max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]


def _store(request: Request) -> Conversations:
    found: Conversations = request.app.state.conversations
    return found


def _verdicts(request: Request) -> Verdicts:
    return Verdicts(request.app.state.database)


def _answering(request: Request) -> Answering:
    found: Answering = request.app.state.answering
    return found


Store = Annotated[Conversations, Depends(_store)]
Judged = Annotated[Verdicts, Depends(_verdicts)]
Writers = Annotated[Answering, Depends(_answering)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


# ---------------------------------------------------------------- pages


@router.get("/chat", openapi_extra=roles(*EVERYBODY))
def new_chat(request: Request, me: Me, store: Store) -> Response:
    """A conversation that has not begun."""
    return _page(request, me, store, None)


@router.get("/chat/{conversation}", openapi_extra=roles(*EVERYBODY))
def chat(request: Request, me: Me, store: Store, judged: Judged, conversation: str) -> Response:
    """A conversation."""
    return _page(request, me, store, _everything(me, store, judged, conversation))


def _page(request: Request, me: User, store: Conversations, opened: dict[str, Any] | None) -> Response:
    data = {
        "opened": opened,
        "history": _history(store.mine(me, count=PAGE)),
        "page": PAGE,
        "models": list(request.app.state.services.models),
        "longest": LONGEST,
    }
    return page(request, "chat.html", {"data": data})


# ---------------------------------------------------------------- history


@router.get("/api/conversations", openapi_extra=roles(*EVERYBODY))
def history(
    me: Me,
    store: Store,
    search: Annotated[str, Query(max_length=200)] = "",
    skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """One's own conversations, the last used first."""
    return JSONResponse({"conversations": _history(store.mine(me, search, skip=skip, count=PAGE))})


class Opening(_Body):
    """A first question."""

    model: ModelName
    question: Text
    consent: bool = False


@router.post("/api/conversations", openapi_extra=roles(*EVERYBODY))
def start(me: Me, store: Store, judged: Judged, writers: Writers, asked: Opening) -> Response:
    """Begin a conversation; its answer is followed at `stream`."""
    writers.check(me.id, asked.model)
    made = store.start(me, asked.model, asked.question, consent=asked.consent)
    question = store.messages(me, made.id)[0]
    writers.begin(me.id, store.answer(me, made.id, question.id, asked.model))
    return JSONResponse(_everything(me, store, judged, made.id), 201)


@router.delete("/api/conversations", openapi_extra=roles(*EVERYBODY))
def delete_all(me: Me, store: Store, writers: Writers) -> Response:
    """Delete all of one's own conversations."""
    writers.stop_all(me.id)
    return JSONResponse({"deleted": store.delete_all(me)})


# ---------------------------------------------------------------- one conversation


@router.get("/api/conversations/{conversation}", openapi_extra=roles(*EVERYBODY))
def conversation_json(me: Me, store: Store, judged: Judged, conversation: str) -> Response:
    """All of a conversation: messages, and the verdicts that count."""
    return JSONResponse(_everything(me, store, judged, conversation))


class Change(_Body):
    """What is changed of a conversation."""

    title: str | None = Field(None, max_length=400)
    consent: bool | None = None


@router.patch("/api/conversations/{conversation}", openapi_extra=roles(*EVERYBODY))
def change(me: Me, store: Store, conversation: str, asked: Change) -> Response:
    """Rename it, or give or withdraw consent."""
    return JSONResponse(_told(store.change(me, conversation, title=asked.title, consent=asked.consent)))


@router.delete("/api/conversations/{conversation}", openapi_extra=roles(*EVERYBODY))
def delete(me: Me, store: Store, writers: Writers, conversation: str) -> Response:
    """Delete it, with all that was said and judged in it."""
    for said in store.messages(me, conversation):
        writers.stop(said.id)
    store.delete(me, conversation)
    return JSONResponse({"deleted": 1})


class Question(_Body):
    """A question: after an answer, or (`parent` that of an earlier question) in its place."""

    question: Text
    model: ModelName
    parent: str | None = Field(None, max_length=32)


@router.post("/api/conversations/{conversation}/questions", openapi_extra=roles(*EVERYBODY))
def ask(me: Me, store: Store, writers: Writers, conversation: str, asked: Question) -> Response:
    """Ask, and have it answered."""
    store.get(me, conversation)
    writers.check(me.id, asked.model)
    question = store.ask(me, conversation, asked.parent, asked.question)
    begun = store.answer(me, conversation, question.id, asked.model)
    writers.begin(me.id, begun)
    return JSONResponse({"messages": [vars(question), vars(begun.answer)]}, 201)


class Again(_Body):
    """Which model answers."""

    model: ModelName


@router.post("/api/conversations/{conversation}/messages/{message}/answers", openapi_extra=roles(*EVERYBODY))
def answer(me: Me, store: Store, writers: Writers, conversation: str, message: str, asked: Again) -> Response:
    """Have a question answered once more."""
    store.message(me, conversation, message)
    writers.check(me.id, asked.model)
    begun: Begun = store.answer(me, conversation, message, asked.model)
    writers.begin(me.id, begun)
    return JSONResponse({"messages": [vars(begun.answer)]}, 201)


@router.post("/api/conversations/{conversation}/messages/{message}/stop", openapi_extra=roles(*EVERYBODY))
def stop(me: Me, store: Store, writers: Writers, conversation: str, message: str) -> Response:
    """End an answer; what came is kept."""
    store.message(me, conversation, message)
    writers.stop(message)
    return JSONResponse({"message": vars(store.message(me, conversation, message))})


class Judgement(_Body):
    """A verdict on an answer: against an earlier one, or a thumb; `none` takes it back."""

    verdict: Literal["better", "worse", "same", "up", "down", "none"]
    key: Key
    against: str | None = Field(None, max_length=32)
    reason: str | None = Field(None, max_length=2000)


@router.post("/api/conversations/{conversation}/messages/{message}/verdicts", openapi_extra=roles(*EVERYBODY))
def judge(me: Me, judged: Judged, conversation: str, message: str, asked: Judgement) -> Response:
    """Say how good an answer is."""
    if asked.reason is not None and asked.verdict not in ("up", "down"):
        raise BadInput("reason: goes with a thumb")
    given = judged.give(me, conversation, message, asked.verdict, asked.key, against=asked.against, reason=asked.reason)
    return JSONResponse({"verdict": vars(given)}, 201)


# ---------------------------------------------------------------- answers as they are written


def _followed(me: Me, store: Store, writers: Writers, conversation: str, message: str) -> Draft | Said:
    """An answer that is being written, or what became of it."""
    store.message(me, conversation, message)
    # Asked for before the message is read again: it may end between the two.
    return writers.find(message) or store.message(me, conversation, message)


@router.get(
    "/api/conversations/{conversation}/messages/{message}/stream",
    openapi_extra=roles(*EVERYBODY),
    response_class=EventSourceResponse,
)
async def stream(followed: Annotated[Draft | Said, Depends(_followed)]) -> AsyncIterator[ServerSentEvent]:
    """An answer while it is written: `waiting`, `text` (all so far), `piece`, and at last `done` with the message."""
    if isinstance(followed, Said):
        yield ServerSentEvent(event="done", data=vars(followed))
        return
    async for event, what in followed.follow():
        yield ServerSentEvent(event=event, data=vars(what) if isinstance(what, Said) else what)


# ---------------------------------------------------------------- as JSON


def _told(made: Conversation) -> dict[str, Any]:
    return {name: value for name, value in vars(made).items() if name != "user"}


def _history(found: list[Conversation]) -> list[dict[str, Any]]:
    return [{"id": each.id, "title": each.title, "changed": each.changed} for each in found]


def _everything(me: User, store: Conversations, judged: Verdicts, conversation: str) -> dict[str, Any]:
    return {
        "conversation": _told(store.get(me, conversation)),
        "messages": [vars(said) for said in store.messages(me, conversation)],
        "verdicts": [vars(given) for given in judged.of(me, conversation)],
    }
